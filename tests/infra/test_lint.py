"""cfn-lint finds nothing in any template of any stage; its rules come with it, so it needs no network."""

from __future__ import annotations

import socket

import pytest
from cfnlint import api  # type: ignore[import-untyped]
from cfnlint.config import ManualArgs  # type: ignore[import-untyped]
from infra.assemblies import Assembly

pytestmark = pytest.mark.xdist_group("infra")

IGNORED = {
    "W3005": "CDK itself lets a function depend on its role, which the reference to the role's ARN says already",
}


def findings(template: str) -> list[str]:
    """What the linter says of a template, the rules' informational level included."""
    config = ManualArgs(ignore_checks=list(IGNORED), include_checks=["I"], regions=["us-east-1"])
    return [str(finding) for finding in api.lint(template, config=config)]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("cfn-lint wants the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.usefixtures("offline")
def test_templates_are_clean(assembly: Assembly) -> None:
    # given every template of the stage
    assert len(assembly.template_files) >= 2

    for file in assembly.template_files:
        # then there is nothing to say of it
        assert findings(file.read_text()) == [], file.name


@pytest.mark.usefixtures("offline")
def test_a_broken_template_is_found() -> None:
    # given a queue with a property that SQS does not know
    template = '{"Resources": {"Q": {"Type": "AWS::SQS::Queue", "Properties": {"Visibility": 1}}}}'

    # then the linter says so
    assert [finding[:6] for finding in findings(template) if finding.startswith("[E")] == ["[E3002"]
