"""What is synthesized already is not synthesized again, and the CDK gets nothing that names an account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sluice_harness import cdk_cli

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The arguments of each call of the CDK CLI, which does nothing."""
    calls: list[tuple[str, ...]] = []

    def run(*arguments: str, environment: Mapping[str, str]) -> str:
        assert not environment
        calls.append(arguments)
        return ""

    monkeypatch.setattr(cdk_cli, "_run", run)
    return calls


def test_an_assembly_that_is_there_is_taken(
    said: list[tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a folder with one stage's assembly
    made = tmp_path / "assemblies" / "local"
    made.mkdir(parents=True)
    monkeypatch.setenv(cdk_cli.ASSEMBLIES, str(made.parent))

    # when that stage is to be synthesized, then it is that
    output = tmp_path / "output"
    assert (cdk_cli.synthesize("local", output), said) == (made, [])

    # and another stage is synthesized
    assert cdk_cli.synthesize("dev", output) == output
    assert len(said) == 1
    assert "stage=dev" in said[0]


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"CDK_DEFAULT_ACCOUNT": "111122223333", "AWS_PROFILE": "prod"}, {}),
        ({"CDK_VALIDATION": "false"}, {"CDK_VALIDATION": "false"}),
    ],
)
def test_nothing_that_names_an_account_is_handed_on(
    settings: dict[str, str], kept: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    handed_on = cdk_cli._environment()
    assert {name: handed_on[name] for name in settings if name in handed_on} == kept


def test_what_cannot_be_synthesized_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # given a stage with a wrong setting, of which the CLI says more than the app
    said = "error: stage ann: result_days must be more than 0, not 0\npython -m app: exited with error 1"

    def run(*_: str, environment: Mapping[str, str]) -> str:  # noqa: ARG001 - the real one's
        raise cdk_cli.CdkError(f"cdk synth ended with 1:\n{said}")

    monkeypatch.setattr(cdk_cli, "_run", run)

    # then it is the app's word alone
    with pytest.raises(cdk_cli.CdkError) as refused:
        cdk_cli.synthesize("ann", tmp_path)
    assert str(refused.value) == "stage ann: result_days must be more than 0, not 0"
