"""A deployment takes away no executor that a job type uses, or that has jobs."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from sluice_core import LIVE_ALIAS
from sluice_core.rows import EXECUTION_INDEX
from sluice_harness import cdk_cli, description
from sluice_harness.deploy import __main__ as deploying
from sluice_harness.deploy.draining import executing, refuse_to_lose_jobs
from sluice_harness.deploy.target import Target, TargetError
from sluice_harness.deploy.terminal import Refused
from sluice_harness.ops.__main__ import main as sluice_ops

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STACK, REGION = "sluice-ann-ingestion", "eu-central-1"


@dataclass(frozen=True)
class Account(Target):
    """An account with one stage at most: queues and table in moto, its stack and its processor as told."""

    stacks: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        clients: dict[str, Any] = {"cloudformation": self, "lambda": self}
        return clients.get(service) or boto3.client(service, REGION)  # type: ignore[call-overload]

    def describe_stacks(self, *, StackName: str) -> Any:  # noqa: N803 - boto3's
        if StackName not in self.stacks:
            raise ClientError({"Error": {"Code": "ValidationError"}}, "DescribeStacks")
        return {"Stacks": [{"Outputs": self.stacks[StackName]}]}

    def get_function_configuration(self, *, FunctionName: str) -> Any:  # noqa: N803
        assert FunctionName == f"processor:{LIVE_ALIAS}"
        return {"Environment": {"Variables": self.variables}}

    def deploy(self, *executors: str, told: str = "") -> None:
        """Have a stage with these executors, whose processor is told so of its job types."""
        sqs = boto3.client("sqs", REGION)
        names = [f"{executor.title()}{kind}" for executor in executors for kind in ("Queue", "Dlq")]
        outputs = {f"{name}Url": sqs.create_queue(QueueName=name)["QueueUrl"] for name in names}
        outputs |= {"JobTable": "jobs", "ProcessorFunction": "processor"}
        boto3.client("dynamodb", REGION).create_table(TableName="jobs", **JOBS)
        self.stacks[STACK] = [{"OutputKey": name, "OutputValue": value} for name, value in outputs.items()]
        self.variables.update({"EXECUTORS": told} if told else {})


JOBS: Any = {
    "BillingMode": "PAY_PER_REQUEST",
    "AttributeDefinitions": [
        {"AttributeName": name, "AttributeType": kind}
        for name, kind in (("jobKey", "S"), ("executing", "S"), ("executingSince", "N"))
    ],
    "KeySchema": [{"AttributeName": "jobKey", "KeyType": "HASH"}],
    "GlobalSecondaryIndexes": [
        {
            "IndexName": EXECUTION_INDEX,
            "KeySchema": [
                {"AttributeName": "executing", "KeyType": "HASH"},
                {"AttributeName": "executingSince", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        }
    ],
}


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield Account("123456789012", REGION, {})


def assembly(folder: Path, *executors: str) -> Path:
    """A stage that is to have these executors."""
    outputs = {f"{executor.title()}QueueUrl": {"Value": "it"} for executor in executors}
    (folder / f"{STACK}.template.json").write_text(json.dumps({"Outputs": {"ApiUrl": {"Value": "it"}, **outputs}}))
    return folder


def send(queue: str) -> None:
    sqs = boto3.client("sqs", REGION)
    sqs.send_message(QueueUrl=sqs.get_queue_url(QueueName=queue)["QueueUrl"], MessageBody="{}")


def test_a_first_deployment_loses_nothing(account: Account, tmp_path: Path) -> None:
    refuse_to_lose_jobs("ann", assembly(tmp_path), account)


def test_an_executor_that_stays_may_be_busy(account: Account, tmp_path: Path) -> None:
    account.deploy("batch", told="report=batch")
    send("BatchQueue")
    refuse_to_lose_jobs("ann", assembly(tmp_path, "batch"), account)


def test_an_executor_goes_once_it_has_drained(account: Account, tmp_path: Path) -> None:
    # given a stage whose job types use another executor than the two, with jobs of the one
    account.deploy("batch", "ecs", told="report=ecs")
    send("EcsQueue")

    # then the other goes
    refuse_to_lose_jobs("ann", assembly(tmp_path, "ecs"), account)


def test_an_executor_that_a_job_type_uses_stays(account: Account, tmp_path: Path) -> None:
    # given a stage that has nothing to do, but is told to start jobs there
    account.deploy("batch", told="report=batch,video=lambda")

    # then the executor stays: what comes while it is deployed would be lost
    with pytest.raises(Refused, match=r"ann would lose jobs of batch: report may be .*draining=\(\"batch\",\)"):
        refuse_to_lose_jobs("ann", assembly(tmp_path), account)


def test_who_is_refused_is_told_commands_that_show_what_there_is(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # given an executor with a message, of a stage that nothing describes here
    monkeypatch.setattr(description, "_STAGES", tmp_path / "nothing")
    account.deploy("batch")
    send("BatchQueue")
    with pytest.raises(Refused) as refused:
        refuse_to_lose_jobs("ann", assembly(tmp_path), account)

    # then there are such commands, for that executor and stage
    commands = re.findall(r"`uv run --no-sync sluice-ops ([^`]+)`", str(refused.value))
    assert [command.split()[0] for command in commands] == ["executions", "dlq"]
    for command in commands:
        assert "batch" in command
        assert sluice_ops(shlex.split(command)) == 2
        assert "build/stages/ann.json" in capsys.readouterr().err


@pytest.mark.parametrize(("queue", "what"), [("BatchQueue", "1 queued"), ("BatchDlq", "1 dead letters")])
def test_an_executor_with_messages_stays(queue: str, what: str, account: Account, tmp_path: Path) -> None:
    account.deploy("batch")
    send(queue)
    with pytest.raises(Refused, match=f"jobs of batch: {what}. Deploy it"):
        refuse_to_lose_jobs("ann", assembly(tmp_path), account)


def test_a_comparison_says_what_a_deployment_would_be_refused_for(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # given a stage that is to lose an executor, and how its templates differ
    monkeypatch.setattr(description, "_STAGES", tmp_path / "nothing")
    monkeypatch.setattr(deploying, "in_aws", lambda: account)
    monkeypatch.setattr(cdk_cli, "synthesize", lambda *_, **__: assembly(tmp_path))
    monkeypatch.setattr(cdk_cli, "diff", lambda *_: "[-] AWS::SQS::Queue Batch/Queue BatchQueue1 destroy")
    monkeypatch.setattr("sys.argv", ["nox", "diff", "--stage", "ann"])
    account.deploy("batch")

    # when they are compared while it has nothing to do, then they differ, and that is all
    deploying.main()
    assert capsys.readouterr().out.splitlines()[-1] == "0 new, 0 changed, 1 removed"

    # when it has, then the comparison ends with what keeps it from being deployed
    send("BatchQueue")
    deploying.main()
    said = capsys.readouterr().out.splitlines()
    assert said[-2] == "0 new, 0 changed, 1 removed"
    assert said[-1].startswith("deploy refuses this as it is: ann would lose jobs of batch: 1 queued. Deploy it")


def test_an_executor_with_executions_stays(account: Account, tmp_path: Path) -> None:
    # given a stage with a job in a container, and one that is over
    account.deploy("batch", "ecs")
    table = boto3.resource("dynamodb", REGION).Table("jobs")
    table.put_item(Item={"jobKey": "one", "executing": "ecs", "executingSince": 1})
    table.put_item(Item={"jobKey": "two"})

    # then the executor stays that has one
    with pytest.raises(Refused, match=r"jobs of ecs: 1 executing\. Deploy it"):
        refuse_to_lose_jobs("ann", assembly(tmp_path), account)
    refuse_to_lose_jobs("ann", assembly(tmp_path, "ecs"), account)


def test_what_a_deletion_will_stop_is_counted_by_executor(account: Account) -> None:
    # given a stage with three executors, two of which have jobs
    account.deploy("stepfunctions", "batch", "ecs")
    table = boto3.resource("dynamodb", REGION).Table("jobs")
    for number, executor in enumerate(("ecs", "batch", "ecs")):
        table.put_item(Item={"jobKey": str(number), "executing": executor, "executingSince": number})

    # then these are counted
    assert executing("ann", account) == {"batch": 1, "ecs": 2}

    # and nothing is, once a deletion that then failed has come as far as the table, or the stack
    table.delete()
    assert executing("ann", account) == {}
    account.stacks.clear()
    assert executing("ann", account) == {}


def test_a_stack_that_may_not_be_read_is_not_taken_for_none(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given credentials that may not see stacks
    def refuse(_: Account, **__: object) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied"}}, "DescribeStacks")

    monkeypatch.setattr(Account, "describe_stacks", refuse)

    # then that is said
    with pytest.raises(TargetError, match=f"{STACK} does not say .*: .*AccessDenied.*docs/deploying"):
        refuse_to_lose_jobs("ann", assembly(tmp_path), account)
    with pytest.raises(TargetError, match=f"{STACK} does not say .*: .*AccessDenied.*docs/deploying"):
        executing("ann", account)
