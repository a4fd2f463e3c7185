"""The package's script and what AWS answers: whose stack it is, what failed, and what cannot be set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest
from sluice_harness.local_stage import engine_api_url
from sluice_harness.package.parameters import PARAMETERS
from sluice_harness.yaml_text import dump

if TYPE_CHECKING:
    from pathlib import Path

# Answers what the test says, through the CLI's own query and text; what was asked of it is kept.
AWS = f"""#!{sys.executable}
import json, os, sys
import jmespath
from awscli.text import format_text

asked, query = sys.argv[1:], None
with open(os.environ["ASKED"], "a") as kept:
    kept.write(" ".join(" ".join(asked).split()) + "\\n")
with open(os.environ["ANSWERS"]) as file:
    answer = json.load(file).get(" ".join(asked[:2]), {{}})
if isinstance(answer, list):  # one before the deployment, one after it
    with open(os.environ["ASKED"]) as kept:
        answer = answer["cloudformation deploy" in kept.read()]
sys.stderr.write(answer.get("error", ""))
if "--query" in asked and "response" in answer:
    format_text(jmespath.search(asked[asked.index("--query") + 1], answer["response"]), sys.stdout)
sys.exit(answer.get("exit", 0))
"""
WHO = {"Account": "123456789012", "Arn": "arn:aws:iam::123456789012:user/ann"}
NO_STACK = {"exit": 255, "error": "Stack with id sluice-acme does not exist\n"}
REFUSED = "Failed to create the changeset: Reason: no such parameter value\n"
BUCKET = "sluice-code-123456789012-eu-central-1"
ENGINE = "http://127.0.0.1:4566"
CLOSED = ("put-public-access-block", "put-bucket-encryption", "put-bucket-policy")


class Script:
    """The script in a package's folder, on an AWS that answers as it is told."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.environment = {"AWS_REGION": "eu-central-1"}
        self.answers: dict[str, Any] = {
            "sts get-caller-identity": {"response": WHO},
            "cloudformation describe-stacks": NO_STACK,
        }
        script = resources.files("sluice_harness.package") / "deploy.sh"
        (folder / "deploy.sh").write_text(script.read_text())
        parameters = {one.name: {"Description": one.description, **one.rules} for one in PARAMETERS}
        resource = {"Queue": {"Type": "AWS::SQS::Queue"}}
        (folder / "template.yaml").write_text(dump({"Parameters": parameters, "Resources": resource}))
        (folder / "VERSION").write_text("1.2.3 lambda\n")
        (folder / "functions").mkdir()
        (folder / "functions" / "1.zip").touch()
        (folder / "bin").mkdir()
        (folder / "bin" / "aws").write_text(AWS)
        (folder / "bin" / "aws").chmod(0o755)

    def run(
        self, *arguments: str, yes: bool = True, stdin: int = subprocess.DEVNULL
    ) -> subprocess.CompletedProcess[str]:
        (self._folder / "answers.json").write_text(json.dumps(self.answers))
        environment = {
            "PATH": f"{self._folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "ASKED": str(self._folder / "asked"),
            "ANSWERS": str(self._folder / "answers.json"),
            **self.environment,
            "TMPDIR": str(self._folder),
        }
        command = ["bash", str(self._folder / "deploy.sh"), "--stage", "acme", *(["--yes"] if yes else [])]
        return subprocess.run(
            [*command, *arguments],
            cwd=self._folder,
            env=environment,
            stdin=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def asked(self, words: str) -> list[str]:
        """Return the commands that began with these words."""
        kept = self._folder / "asked"
        lines = kept.read_text().splitlines() if kept.exists() else []
        return [line for line in lines if line.startswith(words)]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


def a_stack(status: str = "CREATE_COMPLETE", **parameters: str) -> dict[str, Any]:
    listed = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
    told = {"ApiUrl": "https://a/", "ApiId": "a1", "JobTable": "jobs"}
    outputs = [{"OutputKey": key, "OutputValue": value} for key, value in told.items()]
    return {"response": {"Stacks": [{"StackStatus": status, "Parameters": listed, "Outputs": outputs}]}}


def event(number: int, of: str, status: str, reason: str | None = None) -> dict[str, str]:
    told = {"EventId": f"event-{number}", "LogicalResourceId": of, "ResourceStatus": status}
    return told if reason is None else {**told, "ResourceStatusReason": reason}


# What is set


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("LogDay=7", "--set LogDay: no parameter; there are "),
        ("logDays=7", "--set logDays: no parameter; there are "),
        ("Type=7", "--set Type: no parameter; there are "),
        ("Queue=7", "--set Queue: no parameter; there are "),
        ("LogDays", "--set wants PARAMETER=VALUE and not LogDays"),
        ("StageName=other", "a stage is named with --stage"),
        ("CodeBucket=other", "the bucket is named with --bucket"),
    ],
)
def test_what_cannot_be_set_is_refused_before_aws_is_asked(script: Script, setting: str, said: str) -> None:
    # When something is set that is no parameter, or that an option of its own says
    done = script.run("--set", "LogDays=7", "--set", setting)

    # Then that is said, in one line, and nothing was done
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert script.asked("") == []

    # And what can be set is listed
    if "there are" in said:
        names = [one.name for one in PARAMETERS if one.name not in ("StageName", "CodeBucket")]
        assert done.stderr.strip().endswith(f"there are {', '.join(names)}")


# Whose stack it is


@pytest.mark.parametrize(
    ("stack", "way"),
    [
        (a_stack(), ()),
        (a_stack(), ("--delete",)),
        (a_stack(StageName="prod"), ("--delete",)),
        (a_stack("REVIEW_IN_PROGRESS", StageName="b"), ()),
    ],
)
def test_another_s_stack_is_left_alone(script: Script, stack: dict[str, Any], way: tuple[str, ...]) -> None:
    # Given a stack of the stage's name that is none of this package's stages, as the CDK app's sluice-pipeline
    script.answers["cloudformation describe-stacks"] = stack

    # When a stage of this name is deployed or deleted, then it is refused, and nothing was changed
    done = script.run(*way)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the stack sluice-acme is there and is no stage of this package")
    assert len(script.asked("")) == 2, script.asked("")


@pytest.mark.parametrize(
    "stack",
    [
        NO_STACK,
        a_stack("UPDATE_COMPLETE", StageName="acme", LogDays="7"),
        {"response": {"Stacks": [{"StackStatus": "REVIEW_IN_PROGRESS"}]}},
    ],
)
def test_one_s_own_stack_is_deployed_to(script: Script, stack: dict[str, Any]) -> None:
    # Given no stack, the stage's, or what a refused first change set has left
    script.answers["cloudformation describe-stacks"] = stack
    script.answers["cloudformation deploy"] = {"exit": 1}

    # Then the stage is deployed, with what is set
    script.run("--set", "LogDays=7", "--set", "AlarmEmail=ann@example.com")
    (deployed,) = script.asked("cloudformation deploy")
    assert deployed.endswith(f"StageName=acme CodeBucket={BUCKET} LogDays=7 AlarmEmail=ann@example.com")


def test_a_stack_that_cannot_be_looked_up_is_not_taken_for_none(script: Script) -> None:
    script.answers["cloudformation describe-stacks"] = {"exit": 254, "error": "Warning\n\nAccessDenied: no\n\n"}
    done = script.run()
    assert done.stderr == "error: the stack sluice-acme cannot be looked up: AccessDenied: no\n"
    assert len(script.asked("")) == 2


def test_what_the_cli_warns_of_is_no_part_of_its_answer(script: Script) -> None:
    # Given a CLI that warns beside each answer
    script.answers["sts get-caller-identity"]["error"] = "PythonDeprecationWarning: too old\n"
    script.answers["cloudformation describe-stacks"] = {**a_stack(StageName="acme"), "error": "Warning: old\n"}

    # Then account and stack are still those of the answers
    done = script.run()
    assert done.returncode == 0, done.stderr
    assert "acme: to be deployed to account 123456789012, region eu-central-1" in done.stdout


# What failed


def test_a_failure_s_cause_comes_first(script: Script) -> None:
    # Given a stack with failures of a former run and of this one, the newest first, as CloudFormation tells them
    script.answers["cloudformation describe-stacks"] = a_stack(StageName="acme")
    script.answers["cloudformation deploy"] = {"exit": 255, "error": "Failed to create/update the stack\n"}
    former = [event(2, "Old", "UPDATE_FAILED", "a former reason"), event(1, "Old", "UPDATE_IN_PROGRESS")]
    ours = [
        event(9, "Result", "DELETE_FAILED", "it is not empty"),
        event(8, "Table", "UPDATE_FAILED", "Resource update cancelled"),
        event(7, "Queue", "CREATE_FAILED", "Resource creation cancelled"),
        event(6, "Alias", "UPDATE_FAILED", "alarms have been activated"),
        event(5, "Alias", "UPDATE_IN_PROGRESS"),
    ]
    script.answers["cloudformation describe-stack-events"] = [
        {"response": {"StackEvents": former}},
        {"response": {"StackEvents": [*ours, *former]}},
    ]

    # When the deployment fails
    done = script.run()

    # Then the cause is told first, and neither what was broken off because of it nor what failed before
    assert done.returncode == 1
    said, *causes = done.stderr.partition("error: ")[0].splitlines()
    assert said == "Failed to create/update the stack"
    assert causes == ["Alias: alarms have been activated", "Result: it is not empty"]
    assert "error: sluice-acme was not deployed, and CloudFormation takes back what it began" in done.stderr


def test_the_first_five_failures_are_told(script: Script) -> None:
    script.answers["cloudformation deploy"] = {"exit": 255}
    failures = [event(number, f"Of{number}", "CREATE_FAILED", "why") for number in range(9, 0, -1)]
    script.answers["cloudformation describe-stack-events"] = {"response": {"StackEvents": failures}}
    done = script.run()
    assert done.stderr.splitlines()[:5] == [f"Of{number}: why" for number in range(1, 6)]
    assert "Of6" not in done.stderr


def test_a_refused_change_set_is_told_without_former_failures(script: Script) -> None:
    # Given a stack that failed before, and a change set that is refused
    script.answers["cloudformation describe-stacks"] = a_stack(StageName="acme")
    script.answers["cloudformation deploy"] = {"exit": 255, "error": REFUSED}
    former = [event(2, "Old", "UPDATE_FAILED", "a former reason")]
    script.answers["cloudformation describe-stack-events"] = {"response": {"StackEvents": former}}

    # Then its reason is told and nothing else
    next_step = "error: sluice-acme was not deployed; mend what is said above and run this again\n"
    assert script.run().stderr == f"{REFUSED}{next_step}"


# The bucket


@pytest.mark.parametrize("there", [True, False])
def test_the_bucket_is_closed_at_each_run(script: Script, there: bool) -> None:
    # Given the bucket for code, made by a run that may have been broken off before it was closed, or no bucket
    script.answers["s3api head-bucket"] = {"exit": 0 if there else 254}
    script.answers["cloudformation deploy"] = {"exit": 1}

    # When a stage is deployed, then it is made if it is not there, and closed either way
    script.run()
    assert len(script.asked("s3api create-bucket")) == (0 if there else 1)
    for setting in CLOSED:
        (asked,) = script.asked(f"s3api {setting}")
        assert f"--bucket {BUCKET} --expected-bucket-owner 123456789012" in asked


def test_a_bucket_of_one_s_own_is_neither_made_nor_changed(script: Script) -> None:
    script.answers["s3api head-object"] = {"exit": 254}
    script.answers["cloudformation deploy"] = {"exit": 1}
    script.run("--bucket", "mine")
    used = [line.split()[1] for line in script.asked("s3api")]
    assert used == ["head-object", "put-object"]
    assert all("--bucket mine" in line for line in script.asked("s3api"))


def test_nothing_but_the_outputs_is_left(script: Script, tmp_path: Path) -> None:
    script.answers["cloudformation describe-stacks"] = a_stack(StageName="acme")
    before = {path.name for path in tmp_path.iterdir()}
    assert script.run().returncode == 0
    assert {path.name for path in tmp_path.iterdir()} - before == {"asked", "answers.json", "sluice-acme.json"}
    assert json.loads((tmp_path / "sluice-acme.json").read_text())["ApiUrl"] == "https://a/"


# What is told of a stage


def test_a_stage_is_told_as_json(script: Script, tmp_path: Path) -> None:
    script.answers["cloudformation describe-stacks"] = a_stack(StageName="acme")
    assert "ApiUrl\thttps://a/\n" in script.run().stdout
    place = {"Stage": "acme", "Account": "123456789012", "Region": "eu-central-1"}
    told = {"ApiId": "a1", "ApiUrl": "https://a/", "JobTable": "jobs"}
    assert json.loads((tmp_path / "sluice-acme.json").read_text()) == {**place, **told}


@pytest.mark.parametrize(
    ("region", "left"), [("eu-central-1", False), ("eu-west-1", True)], ids=["its own", "another's"]
)
def test_with_the_stage_goes_what_told_of_it(script: Script, tmp_path: Path, region: str, left: bool) -> None:
    # Given a stage, and what was written of it or of its namesake elsewhere
    script.answers["cloudformation describe-stacks"] = a_stack(StageName="acme")
    assert script.run("--outputs", "told.json").returncode == 0

    # When it is deleted, then that is gone, or is left to whom it belongs
    script.environment = {"AWS_REGION": region}
    done = script.run("--outputs", "told.json", "--delete")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "told.json").exists() == left
    assert script.run("--delete").returncode == 0  # and none need be there


# On this machine, and not


@pytest.mark.parametrize("endpoint", [f"{ENGINE}/", "http://localhost:4566"])
def test_of_a_local_stage_the_api_s_address_is_told_that_answers(
    script: Script, tmp_path: Path, endpoint: str
) -> None:
    script.environment["AWS_ENDPOINT_URL"] = endpoint
    script.answers["cloudformation describe-stacks"] = a_stack(StageName="acme")
    told = script.run().stdout
    expected = f"{engine_api_url(endpoint.rstrip('/'), 'a1', 'acme')}/"
    assert f"ApiUrl\t{expected}\n" in told
    assert json.loads((tmp_path / "sluice-acme.json").read_text())["ApiUrl"] == expected


def test_elsewhere_it_is_told_as_it_is(script: Script) -> None:
    script.environment["AWS_ENDPOINT_URL"] = "https://localhost.example.com"
    script.answers["cloudformation describe-stacks"] = a_stack(StageName="acme")
    assert "ApiUrl\thttps://a/\n" in script.run().stdout


@pytest.mark.parametrize(
    ("endpoint", "asked"),
    [
        ("", "Deploy acme? It costs money from then on [y/N] "),
        (ENGINE, f"Deploy acme to {ENGINE}, on this machine? [y/N] "),
    ],
)
def test_what_costs_money_is_asked_as_such(script: Script, endpoint: str, asked: str) -> None:
    # Given somebody at a terminal who says no
    script.environment["AWS_ENDPOINT_URL"] = endpoint
    ours, its = os.openpty()
    os.write(ours, b"n\n")

    # When a stage is deployed, then they are asked, and nothing was changed
    done = script.run(yes=False, stdin=its)
    os.close(ours)
    os.close(its)
    assert done.stderr == f"{asked}error: nothing was changed\n"
    assert script.asked("cloudformation deploy") == []


@pytest.mark.parametrize(("endpoint", "deploys"), [("", False), (ENGINE, True)])
def test_functions_for_this_machine_are_not_deployed_to_aws(
    script: Script, tmp_path: Path, endpoint: str, deploys: bool
) -> None:
    (tmp_path / "VERSION").write_text("1.2.3 host\n")
    script.environment["AWS_ENDPOINT_URL"] = endpoint
    script.answers["cloudformation describe-stacks"] = a_stack(StageName="acme")
    done = script.run()
    assert bool(script.asked("cloudformation deploy")) == deploys
    assert bool(script.asked("s3api")) == deploys
    assert ("error: this package is for a local stage" in done.stderr) != deploys
