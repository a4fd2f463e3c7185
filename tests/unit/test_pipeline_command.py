"""``nox -s pipeline``: what it shows before it asks, and what it leaves alone. The CDK CLI is played here."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import boto3
import pytest
from moto import mock_aws
from sluice_harness import cdk_cli
from sluice_harness.cdk_cli import CdkError
from sluice_harness.deploy import pipeline, removal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    Run = Callable[..., str]

CONNECTION = "arn:aws:codeconnections:eu-central-1:123456789012:connection/0b7f"
IN_AWS = ("--repository", "ann/sluice", "--connection", CONNECTION)
ON_GITHUB = ("--repository", "ann/sluice", "--github")


@dataclass
class Cdk:
    """What stands in for the CDK CLI: it says what it was told to do."""

    folder: Path
    synthesized: dict[str, Mapping[str, str]] = field(default_factory=dict)
    did: list[str] = field(default_factory=list)
    deployed: list[str] = field(default_factory=list)

    def synthesize_app(self, name: str, context: Mapping[str, str], _output: Path) -> Path:
        self.synthesized[name] = context
        return self.folder

    def diff(self, *_: object) -> str:
        self.did.append("diff")
        return "[+] AWS::IAM::Role"

    def deploy(self, *_: object) -> dict[str, str]:
        self.did.append("deploy")
        return {"StagingRoleArn": "arn:one"}

    def destroy(self, *_: object, **__: object) -> None:
        self.did.append("destroy")


@pytest.fixture
def cdk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cdk:
    played = Cdk(tmp_path)
    for name in ("synthesize_app", "diff", "deploy"):
        monkeypatch.setattr(cdk_cli, name, getattr(played, name))
    monkeypatch.setattr(removal, "destroy", played.destroy)
    monkeypatch.setattr(removal, "stacks", lambda *_: played.deployed)
    return played


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A bootstrapped account, and credentials for it."""
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    with mock_aws():
        monkeypatch.setenv("AWS_REGION", "eu-central-1")
        boto3.client("ssm", region_name="eu-central-1").put_parameter(
            Name="/cdk-bootstrap/hnb659fds/version", Value="30", Type="String"
        )
        yield


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["pipeline", *arguments])
        pipeline.main()
        return capsys.readouterr().out

    return run


def test_templates_need_no_account(cdk: Cdk, run: Run) -> None:
    assert run("--synth", *IN_AWS, "--branch", "trunk").strip() == str(cdk.folder)
    assert cdk.synthesized == {
        "pipeline": {"repository": "ann/sluice", "branch": "trunk", "connection": CONNECTION}
    }
    assert cdk.did == []


@pytest.mark.usefixtures("account")
def test_a_deployment_shows_where_and_what_before_it_does_it(cdk: Cdk, run: Run) -> None:
    # when roles for GitHub are deployed to an account of production's own
    said = run("--deploy", *ON_GITHUB, "--stages", "prod", "--provider-exists", "--yes")

    # then account, region and changes come first, then what is to be done with what was made
    shown = ["account 123456789012, region eu-central-1", "1 AWS::IAM::Role", "StagingRoleArn: arn:one"]
    places = [said.index(one) for one in [*shown, "AWS_ROLE_ARN and AWS_REGION=eu-central-1"]]
    assert places == sorted(places)
    assert cdk.synthesized["github"] == {"repository": "ann/sluice", "stages": "prod", "provider": "exists"}
    assert cdk.did == ["diff", "deploy"]


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize("what", [IN_AWS, ON_GITHUB])
def test_where_nobody_can_be_asked_nothing_is_deployed(
    cdk: Cdk, run: Run, what: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    with pytest.raises(SystemExit, match=r"^error: nobody can be asked here: run it in a terminal, or with --yes"):
        run("--deploy", *what)
    assert cdk.did == ["diff"]


@pytest.mark.usefixtures("account")
def test_a_difference_is_shown_and_nothing_else_is_done(cdk: Cdk, run: Run) -> None:
    assert "sluice-pipeline: compared with account 123456789012" in run("--diff", *IN_AWS)
    assert cdk.did == ["diff"]


@pytest.mark.usefixtures("account")
def test_what_is_not_there_is_not_deleted(cdk: Cdk, run: Run) -> None:
    with pytest.raises(SystemExit, match=r"^error: there is no sluice-github in account 123456789012"):
        run("--destroy", *ON_GITHUB, "--yes")
    assert cdk.did == []


@pytest.mark.usefixtures("account")
def test_what_is_there_is_deleted_and_the_stages_stay(cdk: Cdk, run: Run) -> None:
    # given the pipeline's stack
    cdk.deployed = ["sluice-pipeline"]

    # when it is to be deleted, then that and nothing else is
    assert "the stages that it deployed stay" in run("--destroy", *IN_AWS, "--yes")
    assert cdk.did == ["destroy"]


@pytest.mark.usefixtures("account")
def test_a_wrong_parameter_ends_in_its_own_words(cdk: Cdk, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Path:
        raise CdkError("cdk synth ended with 1:\nerror: repository must be owner/name, not 'x'\n  at python")

    monkeypatch.setattr(cdk_cli, "synthesize_app", refuse)
    with pytest.raises(SystemExit, match=r"^error: repository must be owner/name, not 'x'$"):
        run("--deploy", *IN_AWS, "--yes")
    assert cdk.did == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--deploy", "--repository", "ann/sluice"), "one of the arguments --connection --github is required"),
        (("--repository", "ann/sluice", "--github"), "one of the arguments --synth --diff --deploy --destroy"),
        (("--deploy", *IN_AWS, "--github"), "--github: not allowed with argument --connection"),
    ],
)
def test_a_command_line_that_is_not_clear_is_refused(
    arguments: tuple[str, ...], said: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(*arguments)
    assert said in capsys.readouterr().err
