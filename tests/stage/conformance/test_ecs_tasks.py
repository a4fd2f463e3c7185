"""Tasks of ECS run as processes of this machine, and tell what becomes of them."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from stage.conformance.functions import eventually, unique
from stage.conformance.test_worker_processes import alive

if TYPE_CHECKING:
    from pathlib import Path

    from stage.conformance.containers import Site

SAY = """
import boto3, json, os, sys
caller = boto3.client("sts").get_caller_identity()["Arn"]
try:
    boto3.client("sqs").list_queues()
    may = "everything"
except Exception as error:
    may = error.response["Error"]["Code"]
print(json.dumps({"caller": caller, "may": may, "input": sys.stdin.read(), "place": os.getcwd(),
                  "environment": dict(os.environ)}))
sys.exit(7)
"""
STUBBORN = """
import os, pathlib, signal, time
signal.signal(signal.SIGTERM, lambda *_: pathlib.Path(mark + ".asked").touch())
pathlib.Path(mark).write_text(str(os.getpid()))
time.sleep(60)
time.sleep(60)
"""
OBEDIENT = """
import os, pathlib, signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
pathlib.Path(mark).write_text(f"{os.getpid()} {child.pid}")
time.sleep(60)
"""
OF_AWS = {
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV", "AWS_ENDPOINT_URL",
}  # fmt: skip
OF_PROCESSES = {"PATH", "LANG", "LC_ALL", "LC_CTYPE", "HOME", "TMPDIR", "PYTHONUNBUFFERED"}


def marked(code: str, mark: Path) -> str:
    """This code, which makes a mark when it runs."""
    return f"mark = {str(mark)!r}\n{code}"


def written(mark: Path) -> list[int]:
    """Wait for a mark and return the processes that it names."""
    assert eventually(lambda: mark.exists() and mark.read_text())
    return [int(one) for one in mark.read_text().split()]


def stop(site: Site, task: str, **request: Any) -> None:
    site.engine.client("ecs").stop_task(cluster=site.names["Cluster"], task=task, **request)


def test_a_task_runs_its_command_with_its_environment_as_its_role(site: Site) -> None:
    # when
    task = site.run(SAY, startedBy="me")
    ended = site.becomes(site.task, task, "STOPPED")

    # then it has the override's environment over the definition's, and AWS's, and nothing of the engine's
    task_id = task.rpartition("/")[2]
    said = json.loads(site.output(f"job/job/{task_id}")[0])
    environment = said["environment"]
    assert environment.keys() - OF_PROCESSES == {"CODE", "FROM", "KEPT", *OF_AWS}
    assert (environment["FROM"], environment["KEPT"]) == ("override", "yes")
    assert environment["AWS_ENDPOINT_URL"] == site.engine.url

    # and acts as the task's role, which may do what it may
    assert said["caller"].endswith(f"assumed-role/{site.names['TaskRole']}/{task_id}")
    assert said["may"] == "AccessDenied"
    assert (said["input"], environment["HOME"]) == ("", said["place"])

    # and how it has ended is in the task
    assert (ended["stopCode"], ended["stoppedReason"]) == (
        "EssentialContainerExited",
        "Essential container in task exited",
    )
    assert (ended["containers"][0]["exitCode"], ended["startedBy"]) == (7, "me")
    assert ended["createdAt"] <= ended["startedAt"] <= ended["stoppedAt"]


def test_each_change_of_a_task_is_an_event(site: Site) -> None:
    # when
    task = site.run("raise SystemExit(0)")

    # then
    told = [event["detail"] for event in site.told(task, 5)]
    states = ["PROVISIONING", "PENDING", "RUNNING", "DEPROVISIONING", "STOPPED"]
    assert sorted(detail["version"] for detail in told) == [1, 2, 3, 4, 5]
    assert [detail["lastStatus"] for detail in sorted(told, key=lambda detail: detail["version"])] == states

    # and the last is the task, its times as text (Amazon ECS Developer Guide, "Task state change events")
    event = next(event for event in site.told(task, 5) if event["detail"]["lastStatus"] == "STOPPED")
    assert (event["source"], event["detail-type"]) == ("aws.ecs", "ECS Task State Change")
    detail = event["detail"]
    assert (detail["taskArn"], detail["clusterArn"].rpartition("/")[2]) == (task, site.names["Cluster"])
    assert detail["taskDefinitionArn"] == site.names["TaskDefinition"]
    assert (detail["desiredStatus"], detail["launchType"]) == ("STOPPED", "FARGATE")
    assert detail["group"] == f"family:{detail['taskDefinitionArn'].rpartition('/')[2].partition(':')[0]}"
    (container,) = detail["containers"]
    assert (container["name"], container["lastStatus"], container["exitCode"]) == ("job", "STOPPED", 0)
    assert detail["createdAt"].endswith("Z")
    assert detail["overrides"]["containerOverrides"][0]["name"] == "job"


def test_a_stopped_task_ends_in_its_own_way_and_takes_its_children_along(site: Site, tmp_path: Path) -> None:
    # given
    task = site.run(marked(OBEDIENT, tmp_path / "mark"))
    process, child = written(tmp_path / "mark")

    # when
    stop(site, task, reason="no longer wanted")

    # then
    ended = site.becomes(site.task, task, "STOPPED")
    assert (ended["stopCode"], ended["stoppedReason"]) == ("UserInitiated", "no longer wanted")
    assert ended["containers"][0]["exitCode"] == 75
    assert eventually(lambda: not alive(process) and not alive(child))


def test_a_task_that_does_not_end_is_ended_after_its_stop_timeout(site: Site, tmp_path: Path) -> None:
    # given
    task = site.run(marked(STUBBORN, tmp_path / "mark"))
    written(tmp_path / "mark")

    # when
    stop(site, task)

    # then it was asked first, and then had the two seconds of its definition
    ended = site.becomes(site.task, task, "STOPPED")
    assert (tmp_path / "mark.asked").exists()
    assert ended["containers"][0]["exitCode"] == 137
    assert 1.5 <= (ended["stoppedAt"] - ended["stoppingAt"]).total_seconds() <= 6


def test_a_killed_task_has_stopped_with_137(site: Site, tmp_path: Path) -> None:
    # given
    task = site.run(marked(OBEDIENT, tmp_path / "mark"))
    process, child = written(tmp_path / "mark")

    # when
    os.kill(process, signal.SIGKILL)

    # then
    ended = site.becomes(site.task, task, "STOPPED")
    assert (ended["stopCode"], ended["containers"][0]["exitCode"]) == ("EssentialContainerExited", 137)
    assert eventually(lambda: not alive(child))


def test_a_task_for_which_there_is_no_room_waits_and_can_be_stopped(site: Site, tmp_path: Path) -> None:
    # given as many tasks as run at once, and two more
    ecs = site.engine.client("ecs")
    running = [site.run(marked(OBEDIENT, tmp_path / f"mark{number}")) for number in range(8)]
    for number in range(8):
        written(tmp_path / f"mark{number}")
    waiting = [site.run("print('at last')") for _ in range(2)]
    assert {site.task(task)["lastStatus"] for task in waiting} == {"PENDING"}

    # when one of these is stopped, and then there is room
    stop(site, waiting[0])
    never = site.task(waiting[0])
    for task in running:
        stop(site, task)

    # then that one has never run, and the other one does
    assert (never["lastStatus"], never["stopCode"]) == ("STOPPED", "UserInitiated")
    assert site.becomes(site.task, waiting[1], "STOPPED")["containers"][0]["exitCode"] == 0
    assert site.task(waiting[0]) == never
    assert "exitCode" not in never["containers"][0]
    listed = ecs.list_tasks(cluster=site.names["Cluster"], desiredStatus="STOPPED")["taskArns"]
    assert {*running, *waiting} <= set(listed)


def test_the_same_client_token_is_the_same_task(site: Site) -> None:
    # given
    token = unique("token")
    first = site.run("pass", clientToken=token)

    # when
    again = site.run("pass", clientToken=token)
    with pytest.raises(ClientError) as caught:
        site.run("print('another')", clientToken=token)

    # then
    assert again == first
    assert caught.value.response["Error"]["Code"] == "ConflictException"


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"cluster": "none"}, "ClusterNotFoundException"),
        ({"taskDefinition": "none"}, "ClientException"),
        ({"networkConfiguration": {}}, "InvalidParameterException"),
        ({"count": 11}, "InvalidParameterException"),
    ],
)
def test_a_request_that_aws_refuses_runs_nothing(site: Site, request_: dict[str, Any], code: str) -> None:
    with pytest.raises(ClientError) as caught:
        site.run("pass", **request_)
    assert caught.value.response["Error"]["Code"] == code


def test_a_command_that_is_not_pythons_does_not_start(site: Site) -> None:
    # when
    overrides = {"containerOverrides": [{"name": "job", "command": ["sh", "-c", "true"]}]}
    task = site.run("", overrides=overrides)

    # then
    ended = site.becomes(site.task, task, "STOPPED")
    assert ended["stopCode"] == "TaskFailedToStart"
    assert "runs python" in ended["stoppedReason"]
    assert "startedAt" not in ended


def test_a_cluster_in_which_a_task_runs_is_not_deleted(site: Site, tmp_path: Path) -> None:
    # given a stack of one cluster, and a task in it
    client, stack = site.engine.client("cloudformation"), unique("stack")
    template = {"Resources": {"Cluster": {"Type": "AWS::ECS::Cluster", "Properties": {"ClusterName": stack}}}}
    client.create_stack(StackName=stack, TemplateBody=json.dumps(template))
    assert eventually(lambda: site.state_of(stack) == "CREATE_COMPLETE")
    task = site.run(marked(OBEDIENT, tmp_path / "mark"), cluster=stack)
    written(tmp_path / "mark")

    # when
    client.delete_stack(StackName=stack)

    # then it is deleted only when the task has stopped
    assert eventually(lambda: site.state_of(stack) == "DELETE_FAILED")
    ecs = site.engine.client("ecs")
    ecs.stop_task(cluster=stack, task=task)
    assert eventually(lambda: site.task(task, stack)["lastStatus"] == "STOPPED")
    client.delete_stack(StackName=stack)
    assert eventually(lambda: site.state_of(stack) == "")


def test_nothing_else_in_the_network_is_lost(site: Site) -> None:
    # then its flow log is there, and cannot be delivered by a role that may not
    ec2 = site.engine.client("ec2")
    (log,) = ec2.describe_flow_logs(FlowLogIds=[site.names["FlowLog"]])["FlowLogs"]
    assert (log["ResourceId"], log["DeliverLogsStatus"]) == (site.names["Vpc"], "FAILED")

    # and a rule by itself is in its group
    (group,) = ec2.describe_security_groups(GroupIds=[site.names["Group"]])["SecurityGroups"]
    ways = [rule for rule in group["IpPermissionsEgress"] if rule.get("FromPort") == 443]
    assert [pair["GroupId"] for rule in ways for pair in rule["UserIdGroupPairs"]] == [site.names["Group"]]
