"""The executors' services as their clients see them: by botocore's models, by moto, and on a line that fails."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.config import Config
from botocore.stub import Stubber
from moto import mock_aws
from sluice_core.executors import BATCH
from sluice_core.jobs import JobKey, Submission
from unit.state_changes import KEY, REGION, START_TOKEN, state_change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from botocore.session import Session

# What a start comes with; its parameters hold what must not leave core.
SUBMISSION = Submission(KEY, "weather-workflow", {"secret": "s3cr3t"}, 1_790_000_000_000, start_token=START_TOKEN)
_DATES = ("startDate", "stopDate", "createdAt", "startedAt", "stoppedAt")
VARIABLES = [
    {"name": "SLUICE_OWNER", "value": KEY.owner},
    {"name": "SLUICE_JOB_ID", "value": KEY.job_id},
    {"name": "SLUICE_START_TOKEN", "value": START_TOKEN},
]


@cache
def session() -> Session:
    """Return one session for all clients, which reads each service's model once."""
    return botocore.session.get_session()


def client(service: str) -> Any:
    """Return a client that asks once: botocore holds each request, and a stub each answer, against its model."""
    return session().create_client(
        service,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"mode": "standard", "total_max_attempts": 1}),
    )


@contextmanager
def stubbed(service: str) -> Iterator[Stubber]:
    """Answer in a service's stead; each answer that is made ready must be asked for, and nothing else."""
    with Stubber(client(service)) as stub:
        yield stub
        stub.assert_no_pending_responses()


def maker(stub: Stubber) -> Callable[[], Any]:
    """Return what an executor makes its client with."""
    return lambda: stub.client


def submissions(*tokens: str) -> list[Submission]:
    """Return a job for each start."""
    return [
        Submission(JobKey(KEY.owner, f"job-{token}".ljust(16, "-")), "weather-batch", {}, 1, start_token=token)
        for token in tokens
    ]


def described(executor: str, change: str, **members: Any) -> dict[str, Any]:
    """Return a state change's detail as the API has it: without nulls, and, but for Batch, with dates."""
    event = state_change(executor, change, **members)
    detail = {name: value for name, value in event["detail"].items() if value is not None}
    if executor == BATCH:
        return detail
    return {**detail, **{name: _date(detail[name]) for name in detail if name in _DATES}}


def _date(time: str | int) -> datetime:
    """Return the time that an event has as a text in ECS, and as a number in Step Functions."""
    return datetime.fromisoformat(time) if isinstance(time, str) else datetime.fromtimestamp(time / 1000, UTC)


@contextmanager
def moto() -> Iterator[None]:
    """Let moto stand in for AWS; it runs no containers."""
    with mock_aws(config={"batch": {"use_docker": False}}):
        yield


def make_state_machine() -> str:
    """Make a state machine of moto's and return its ARN."""
    definition = {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 60, "End": True}}}
    answer = client("stepfunctions").create_state_machine(
        name="work", definition=json.dumps(definition), roleArn="arn:aws:iam::123456789012:role/work"
    )
    arn: str = answer["stateMachineArn"]
    return arn


def make_job_queue() -> tuple[str, str]:
    """Make a job queue and a job definition of moto's and return their ARNs."""
    trust = {"Version": "2012-10-17", "Statement": []}
    role = client("iam").create_role(RoleName="batch", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    batch = client("batch")
    environment = batch.create_compute_environment(
        computeEnvironmentName="work", type="UNMANAGED", state="ENABLED", serviceRole=role
    )["computeEnvironmentArn"]
    queue = batch.create_job_queue(
        jobQueueName="work",
        state="ENABLED",
        priority=1,
        computeEnvironmentOrder=[{"order": 1, "computeEnvironment": environment}],
    )["jobQueueArn"]
    definition = batch.register_job_definition(
        jobDefinitionName="work",
        type="container",
        containerProperties={"image": "work", "vcpus": 1, "memory": 512, "command": []},
    )["jobDefinitionArn"]
    return queue, definition


def make_cluster() -> tuple[str, str, str]:
    """Make a cluster and a task definition of moto's and return their ARNs, and the id of a subnet."""
    subnet = client("ec2").describe_subnets(MaxResults=5)["Subnets"][0]["SubnetId"]
    ecs = client("ecs")
    cluster = ecs.create_cluster(clusterName="work")["cluster"]["clusterArn"]
    definition = ecs.register_task_definition(
        family="work",
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu="256",
        memory="512",
        containerDefinitions=[{"name": "job", "image": "work", "memory": 512, "essential": True}],
    )["taskDefinition"]["taskDefinitionArn"]
    return cluster, definition, subnet
