"""A deployed stage's description, read from its stacks where no deployment of ours has left one."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from botocore.stub import Stubber
from sluice_harness.deploy.describing import describe, read_outputs
from sluice_harness.deploy.target import Target, TargetError
from sluice_harness.description import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCOUNT, REGION = "123456789012", "eu-central-1"
DASHBOARDS = ("Operations", "Functions", "Load")
FUNCTIONS = ("Authorizer", "Processor", "BatchSimulator", "JobStatus", "CancelJob", "Sweeper", "EventPublisher")
QUEUES = ("RequestQueueUrl", "RequestDlqUrl", "WorkQueueUrl", "WorkDlqUrl")
OUTPUTS = {
    "auth": ("UserPoolId", "UserPoolClientId"),
    "ingestion": (
        *("ApiUrl", "ApiId", "JobTable", "ResultBucket", "EventBus", *QUEUES),
        *(f"{name}Function" for name in FUNCTIONS),
    ),
    "observability": ("AlarmTopicArn", "LoadLogGroup", *(f"{name}Dashboard" for name in DASHBOARDS)),
}
ALL = {name: f"the-{name}" for names in OUTPUTS.values() for name in names}


TARGET = Target(ACCOUNT, REGION, {"AWS_ACCESS_KEY_ID": "one", "AWS_SECRET_ACCESS_KEY": "two"})


@pytest.fixture
def cloudformation(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    """CloudFormation as botocore knows it: it answers what is put into it, in that order, and nothing else."""
    client = TARGET.client("cloudformation")
    monkeypatch.setattr(Target, "client", lambda _, service: {"cloudformation": client}[service])
    with Stubber(client) as stub:
        yield stub
        stub.assert_no_pending_responses()


def add_stack(cloudformation: Stubber, part: str) -> None:
    outputs = [{"OutputKey": name, "OutputValue": ALL[name]} for name in OUTPUTS[part]]
    stack = {"StackName": "a", "CreationTime": 0, "StackStatus": "CREATE_COMPLETE", "Outputs": outputs}
    asked = {"StackName": f"sluice-somebody-{part}"}
    cloudformation.add_response("describe_stacks", {"Stacks": [stack]}, asked)


def test_a_stage_is_described_from_its_stacks(cloudformation: Stubber) -> None:
    # Given the three stacks of a stage
    for part in OUTPUTS:
        add_stack(cloudformation, part)

    # When it is described
    stage = describe("somebody", TARGET, read_outputs("somebody", TARGET))

    # Then it says what they are, where they are, and knows no password
    assert (stage.stage, stage.account, stage.region, stage.endpointUrl) == ("somebody", ACCOUNT, REGION, None)
    assert (stage.apiUrl, stage.userPoolId) == ("the-ApiUrl", "the-UserPoolId")
    assert stage.queues.work.dlqUrl == "the-WorkDlqUrl"
    assert stage.functions.sweeper == "the-SweeperFunction"
    assert stage.dashboards == ["the-OperationsDashboard", "the-FunctionsDashboard", "the-LoadDashboard"]
    assert stage.users == []


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("ValidationError", r"no sluice-somebody-ingestion in account .* uvx nox -s deploy -- --stage somebody$"),
        ("AccessDenied", r"^sluice-somebody-ingestion cannot be read in account .*AccessDenied"),
    ],
)
def test_a_stack_that_is_not_there_or_may_not_be_read_is_named(
    cloudformation: Stubber, code: str, said: str
) -> None:
    # Given one stack of a stage, when CloudFormation refuses to tell of the next
    add_stack(cloudformation, "auth")
    cloudformation.add_client_error("describe_stacks", code, "it does not exist")

    # Then the message names it, and what to do
    with pytest.raises(TargetError, match=said):
        read_outputs("somebody", TARGET)


def test_a_stage_of_another_version_is_to_be_deployed_again() -> None:
    older = {name: value for name, value in ALL.items() if name != "LoadLogGroup"}
    with pytest.raises(TargetError, match=r"somebody has no output 'LoadLogGroup'.*deploy it again"):
        describe("somebody", TARGET, older)


def test_tests_of_a_stage_that_is_not_there_say_so_in_one_line() -> None:
    # When the tests of a deployed stage are run on one that nobody has described
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/deployed", "--stage", "nowhere"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    # Then none is begun, and one line says what to do
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stdout.strip() == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("ERROR: no stage describes itself in build/stages/nowhere.json")
    assert line.endswith("uvx nox -s describe -- --stage nowhere")
