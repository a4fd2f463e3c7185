"""Calls of ECS, Batch and Lambda need a grant on what they are about, and on nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from stage.conformance.callers import Caller, grant
from stage.conformance.functions import create_function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stage.conformance.conftest import Engine
    from stage.conformance.containers import Site

    Grant = dict[str, Any]

ARN = "arn:aws:{}:us-east-1:000000000000:{}"


@pytest.fixture(scope="module")
def caller(engine: Engine) -> Caller:
    return Caller(engine)


def grants_of_ecs(site: Site) -> dict[str, Grant]:
    """What it takes to run, stop, describe and list tasks of the one definition in the one cluster."""
    cluster = site.names["Cluster"]
    here = {"ArnEquals": {"ecs:cluster": ARN.format("ecs", f"cluster/{cluster}")}}
    tasks = ARN.format("ecs", f"task/{cluster}/*")
    roles = [f"arn:aws:iam::000000000000:role/{site.names[name]}" for name in ("TaskRole", "ExecutionRole")]
    passed = {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}
    return {
        "ecs:RunTask": grant("ecs:RunTask", site.names["TaskDefinition"], **here),
        "iam:PassRole task": grant("iam:PassRole", roles[0], **passed),
        "iam:PassRole execution": grant("iam:PassRole", roles[1], **passed),
        "ecs:StopTask": grant("ecs:StopTask", tasks, **here),
        "ecs:DescribeTasks": grant("ecs:DescribeTasks", tasks),
        "ecs:ListTasks": grant("ecs:ListTasks", "*", **here),
    }


def use_ecs(site: Site, client: Any) -> None:
    cluster = site.names["Cluster"]
    (task,) = site.try_to_run("pass", client)["tasks"]
    client.describe_tasks(cluster=cluster, tasks=[task["taskArn"], task["taskArn"].rpartition("/")[2]])
    client.list_tasks(cluster=cluster)
    client.stop_task(cluster=cluster, task=task["taskArn"])


def grants_of_batch(site: Site) -> dict[str, Grant]:
    """What it takes to submit, end, describe and list jobs of the one definition in the one queue."""
    return {
        "batch:SubmitJob queue": grant("batch:SubmitJob", site.names["JobQueue"]),
        "batch:SubmitJob definition": grant("batch:SubmitJob", site.names["JobDefinition"]),
        "batch:TerminateJob": grant("batch:TerminateJob", ARN.format("batch", "job/*")),
        "batch:DescribeJobs": grant("batch:DescribeJobs", "*"),
        "batch:ListJobs": grant("batch:ListJobs", "*"),
    }


def use_batch(site: Site, client: Any) -> None:
    job = site.submit("pass", client)
    client.describe_jobs(jobs=[job])
    client.list_jobs(jobQueue=site.names["JobQueue"])
    client.terminate_job(jobId=job, reason="enough")


CASES: list[tuple[str, str]] = [
    *(("ecs", name) for name in (
        "ecs:RunTask", "iam:PassRole task", "iam:PassRole execution", "ecs:StopTask", "ecs:DescribeTasks",
        "ecs:ListTasks",
    )),
    *(("batch", name) for name in (
        "batch:SubmitJob queue", "batch:SubmitJob definition", "batch:TerminateJob", "batch:DescribeJobs",
        "batch:ListJobs",
    )),
]  # fmt: skip
GRANTS: dict[str, Callable[[Site], dict[str, Grant]]] = {"ecs": grants_of_ecs, "batch": grants_of_batch}
USES: dict[str, Callable[[Site, Any], None]] = {"ecs": use_ecs, "batch": use_batch}


@pytest.mark.parametrize("service", ["ecs", "batch"])
def test_these_grants_are_enough(site: Site, caller: Caller, service: str) -> None:
    # given
    caller.may(*GRANTS[service](site).values())

    # then
    USES[service](site, caller.client(service))


@pytest.mark.parametrize(("service", "missing"), CASES)
def test_each_grant_is_needed(site: Site, caller: Caller, service: str, missing: str) -> None:
    # given all but one
    grants = GRANTS[service](site)
    del grants[missing]
    caller.may(*grants.values())

    # when
    with pytest.raises(ClientError) as caught:
        USES[service](site, caller.client(service))

    # then
    assert caught.value.response["Error"]["Code"] == "AccessDeniedException"
    assert missing.partition(" ")[0] in caught.value.response["Error"]["Message"]


def test_a_grant_in_another_cluster_does_not_count(site: Site, caller: Caller) -> None:
    # given
    elsewhere = {"ArnEquals": {"ecs:cluster": ARN.format("ecs", "cluster/another")}}
    grants = grants_of_ecs(site)
    grants["ecs:RunTask"]["Condition"] = elsewhere
    caller.may(*grants.values())

    # then
    with pytest.raises(ClientError, match="ecs:RunTask"):
        site.try_to_run("pass", caller.client("ecs"))


def test_a_function_is_invoked_by_its_qualifier_wherever_the_call_has_it(engine: Engine, caller: Caller) -> None:
    # given a caller who may invoke a function through its alias
    name = create_function(engine, "def handler(event, context): return event")
    client = engine.client("lambda")
    version = client.publish_version(FunctionName=name)["Version"]
    alias = client.create_alias(FunctionName=name, Name="live", FunctionVersion=version)["AliasArn"]
    caller.may(grant("lambda:InvokeFunction", alias))

    # then each way to name it is allowed, later invocation or not, and the function by itself is not
    theirs = caller.client("lambda")
    for call in ways(name, alias):
        assert theirs.invoke(**call)["StatusCode"] == 200
        assert theirs.invoke(**call, InvocationType="Event")["StatusCode"] == 202
    with pytest.raises(ClientError, match="lambda:InvokeFunction"):
        theirs.invoke(FunctionName=name, InvocationType="Event")


def ways(name: str, alias: str) -> Iterator[dict[str, str]]:
    yield {"FunctionName": alias}
    yield {"FunctionName": f"{name}:live"}
    yield {"FunctionName": name, "Qualifier": "live"}
