"""State changes as the executors' services publish them on the default event bus, one for each way to end.

Their members are those of the documented examples, and those which the examples lack and the documented type has:

* Step Functions: Developer Guide, "EventBridge for Step Functions execution status changes" (cw-events). Its
  examples have neither ``error`` nor ``cause``, though "the detail section provides the same information as the
  DescribeExecution API", which has both. So events are recorded with the two, and `without_cause` takes them away.
* AWS Batch: User Guide, "Job state change events" (batch_job_events): "the detail section resembles the JobDetail
  object". Its example is of a job that is RUNNABLE; ``statusReason``, ``exitCode``, ``attempts``, ``isCancelled``
  and ``isTerminated`` are as API Reference, "JobDetail" has them. Reasons are from "Automated job retries"
  (``Host EC2*``, ``Task failed to start``); that of a timeout is on no page of AWS's, but in public reports.
* Amazon ECS: Developer Guide, "Amazon ECS task state change events" (ecs_task_events): "the detail section below
  resembles the Task object". Its example is of a task that is RUNNING; ``stopCode`` with its values and
  ``exitCode`` are as API Reference, "Task" and "Container" have them. ``stoppedReason`` is free text, here from
  "Stopped tasks error codes" or made up; only that of a user's stop is read.

`test_configured` holds each of them against botocore's model of the type that its detail resembles.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sluice_core.executors import BATCH, CANCELLED, ECS, STEP_FUNCTIONS, TIMED_OUT, Execution, ExecutionState
from sluice_core.jobs import JobError, JobKey, StoredResult
from unit.lambda_events import ANN

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY = JobKey(ANN, "5f0c7d1e9a3b4c2d")
START_TOKEN = "19f0a2b3c4d0123456789"
REGION, ACCOUNT = "us-east-1", "123456789012"
STATE_MACHINE = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:work"
JOB_QUEUE = f"arn:aws:batch:{REGION}:{ACCOUNT}:job-queue/work"
CLUSTER = f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/jobs"
# Of what an executor's events are, and by which handle, where a test names no other.
SOURCES = {STEP_FUNCTIONS: STATE_MACHINE, BATCH: JOB_QUEUE, ECS: CLUSTER}
HANDLES = {
    STEP_FUNCTIONS: f"arn:aws:states:{REGION}:{ACCOUNT}:execution:work:{START_TOKEN}",
    BATCH: "4c7599ae-0a82-49aa-ba5a-4727fcce14a8",
    ECS: f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/jobs/c13b4cb40f1f4fe4a2971f76ae5a47ad",
}
RESULT = StoredResult(f"results/{KEY.owner}/{KEY.job_id}/{START_TOKEN}.json", "application/json", 321)
REFUSED = JobError("NO_SUCH_STATION", "There is no such station; name another.")
SECRET = "Traceback: /opt/secret.py"  # must reach no client

_STARTED_MS, _STOPPED_MS = 1_790_000_000_000, 1_790_000_060_000
_STARTED, _STOPPED = "2026-09-21T14:13:20.000Z", "2026-09-21T14:14:20.000Z"
_EXITED = "Essential container in task exited"


@dataclass(frozen=True)
class Change:
    """One state change: what of the event tells it, and as what it is to be read.

    Attributes
    ----------
    members : Mapping
        Of the event's detail; a container's ``exitCode`` stands beside the others here.

    """

    members: Mapping[str, Any]
    state: ExecutionState
    error: JobError | None = None
    result: StoredResult | None = None
    gave_up: bool = False


def output(result: StoredResult) -> str:
    """Return a workflow's output."""
    return json.dumps({"objectKey": result.object_key, "contentType": result.content_type, "size": result.size})


def lambda_cause(message: str, error_type: str) -> str:
    """Return what Lambda says of a function's error: the cause with which a workflow fails."""
    return json.dumps({"errorMessage": message, "errorType": error_type, "stackTrace": [SECRET]})


_OPEN, _SUCCEEDED, _FAILED = ExecutionState.OPEN, ExecutionState.SUCCEEDED, ExecutionState.FAILED
_OVERDUE, _STOPPED_BY_SOMEBODY, _LOST = ExecutionState.TIMED_OUT, ExecutionState.STOPPED, ExecutionState.LOST
_REFUSAL = lambda_cause(json.dumps({"code": REFUSED.code, "message": REFUSED.message}), "WorkRefused")
_CRASH = lambda_cause(SECRET, "OSError")
_SLOW = lambda_cause("Task timed out after 900.00 seconds", "Sandbox.Timedout")

CHANGES: Mapping[str, Mapping[str, Change]] = {
    STEP_FUNCTIONS: {
        "running": Change({"status": "RUNNING", "stopDate": None}, _OPEN),
        "succeeded": Change({"status": "SUCCEEDED", "output": output(RESULT)}, _SUCCEEDED, result=RESULT),
        "not wanted": Change({"status": "SUCCEEDED", "output": '{"wanted": false}'}, _SUCCEEDED),
        "refused": Change({"status": "FAILED", "error": "WorkRefused", "cause": _REFUSAL}, _FAILED, REFUSED),
        "failed": Change(
            {"status": "FAILED", "error": "OSError", "cause": lambda_cause(SECRET, "OSError")}, _FAILED
        ),
        "timed out": Change({"status": "TIMED_OUT"}, _OVERDUE),
        "a state timed out": Change({"status": "FAILED", "error": "States.Timeout", "cause": ""}, _OVERDUE),
        "a step timed out": Change({"status": "FAILED", "error": "Sandbox.Timedout", "cause": _SLOW}, _OVERDUE),
        "stopped": Change({"status": "ABORTED", "cause": "by an operator"}, _STOPPED_BY_SOMEBODY),
        "cancelled": Change({"status": "ABORTED", "cause": CANCELLED}, _STOPPED_BY_SOMEBODY),
        "overdue": Change({"status": "ABORTED", "cause": TIMED_OUT}, _OVERDUE),
    },
    BATCH: {
        # Its type demands `startedAt`, and no page says what that is before there is a start.
        "waiting": Change({"status": "RUNNABLE", "startedAt": 0}, _OPEN),
        "running": Change({"status": "RUNNING"}, _OPEN),
        "succeeded": Change({"status": "SUCCEEDED", "statusReason": _EXITED, "exitCode": 0}, _SUCCEEDED),
        "gave up": Change({"status": "FAILED", "statusReason": _EXITED, "exitCode": 75}, _LOST, gave_up=True),
        "crashed": Change({"status": "FAILED", "statusReason": _EXITED, "exitCode": 137}, _LOST),
        "host lost": Change({"status": "FAILED", "statusReason": "Host EC2 (instance i-0a1b) terminated."}, _LOST),
        "not started": Change({"status": "FAILED", "statusReason": "Task failed to start"}, _LOST),
        "timed out": Change(
            {"status": "FAILED", "statusReason": "Job attempt duration exceeded timeout", "exitCode": 75}, _OVERDUE
        ),
        "stopped": Change(
            {"status": "FAILED", "statusReason": "by an operator", "exitCode": 75, "isTerminated": True},
            _STOPPED_BY_SOMEBODY,
        ),
        "stopped before it ran": Change(
            {"status": "FAILED", "statusReason": "by an operator", "isCancelled": True}, _STOPPED_BY_SOMEBODY
        ),
        "cancelled": Change(
            {"status": "FAILED", "statusReason": CANCELLED, "exitCode": 143, "isTerminated": True},
            _STOPPED_BY_SOMEBODY,
        ),
        "overdue": Change(
            {"status": "FAILED", "statusReason": TIMED_OUT, "exitCode": 75, "isTerminated": True}, _OVERDUE
        ),
    },
    ECS: {
        "waiting": Change({"lastStatus": "PENDING", "startedAt": None, "stoppedAt": None}, _OPEN),
        "running": Change({"lastStatus": "RUNNING", "desiredStatus": "RUNNING"}, _OPEN),
        "stopping": Change({"lastStatus": "DEPROVISIONING", "exitCode": 0}, _OPEN),
        "succeeded": Change(
            {"stopCode": "EssentialContainerExited", "stoppedReason": _EXITED, "exitCode": 0}, _SUCCEEDED
        ),
        "gave up": Change(
            {"stopCode": "EssentialContainerExited", "stoppedReason": _EXITED, "exitCode": 75}, _LOST, gave_up=True
        ),
        "crashed": Change(
            {"stopCode": "EssentialContainerExited", "stoppedReason": _EXITED, "exitCode": 137}, _LOST
        ),
        "host lost": Change(
            {"stopCode": "InfrastructureHealth", "stoppedReason": "Infrastructure health check failed"}, _LOST
        ),
        "spot": Change({"stopCode": "SpotInterruption", "stoppedReason": "Spot interruption"}, _LOST),
        "retired": Change(
            {"stopCode": "TerminationNotice", "stoppedReason": "Maintenance", "exitCode": 75}, _LOST, gave_up=True
        ),
        "not started": Change(
            {"stopCode": "TaskFailedToStart", "stoppedReason": "CannotPullContainerError: ref pull failed"}, _LOST
        ),
        "stopped": Change(
            {"stopCode": "UserInitiated", "stoppedReason": "Task stopped by user", "exitCode": 75},
            _STOPPED_BY_SOMEBODY,
        ),
        "stopped before it ran": Change(
            {"stopCode": "UserInitiated", "stoppedReason": "by an operator"}, _STOPPED_BY_SOMEBODY
        ),
        "cancelled": Change(
            {"stopCode": "UserInitiated", "stoppedReason": CANCELLED, "exitCode": 143}, _STOPPED_BY_SOMEBODY
        ),
        "overdue": Change({"stopCode": "UserInitiated", "stoppedReason": TIMED_OUT, "exitCode": 75}, _OVERDUE),
        "stopped too late": Change(
            {"stopCode": "UserInitiated", "stoppedReason": CANCELLED, "exitCode": 0}, _SUCCEEDED
        ),
    },
}


def state_change(
    executor: str,
    change: str,
    *,
    key: JobKey = KEY,
    start_token: str = START_TOKEN,
    handle: str = "",
    source: str = "",
    **members: Any,
) -> dict[str, Any]:
    """Return the EventBridge event of one of the `CHANGES`.

    Parameters
    ----------
    handle : str
        The execution's ARN, the Batch job's id or the task's ARN.
    source : str
        The ARN of the state machine, the job queue or the cluster: that by which rules choose.
    members : Any
        Of the detail, in place of the recorded ones; a container's ``exitCode`` among them.

    """
    handle, source = handle or HANDLES[executor], source or SOURCES[executor]
    origin, detail_type, detail, resource = {
        STEP_FUNCTIONS: ("aws.states", "Step Functions Execution Status Change", _workflow, handle),
        BATCH: ("aws.batch", "Batch Job State Change", _batch_job, _job_arn(handle)),
        ECS: ("aws.ecs", "ECS Task State Change", _task, handle),
    }[executor]
    return {
        "version": "0",
        "id": "315c1398-40ff-a850-213b-158f73e60175",
        "detail-type": detail_type,
        "source": origin,
        "account": ACCOUNT,
        "time": "2026-09-21T14:14:21Z",
        "region": REGION,
        "resources": [resource],
        "detail": detail(key, start_token, handle, source, {**CHANGES[executor][change].members, **members}),
    }


def without_cause(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return a workflow's event with no more members than the documented examples have."""
    detail = {name: value for name, value in event["detail"].items() if name not in ("error", "cause")}
    return {**event, "detail": detail}


def bus_entry(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry of PutEvents by which a test puts an event on the default bus in its service's stead."""
    return {
        "Source": event["source"],
        "DetailType": event["detail-type"],
        "Detail": json.dumps(event["detail"]),
        "Resources": event["resources"],
    }


def as_read(executor: str, change: str) -> Execution:
    """Return as what one of the `CHANGES` is to be read."""
    one = CHANGES[executor][change]
    began_at = (one.members.get("startedAt", _STARTED_MS) or None) if one.state is _OPEN else None
    return Execution(KEY, START_TOKEN, HANDLES[executor], one.state, one.error, one.result, one.gave_up, began_at)


def _workflow(
    key: JobKey, start_token: str, handle: str, source: str, members: Mapping[str, Any]
) -> dict[str, Any]:
    job = {"owner": key.owner, "jobId": key.job_id, "startToken": start_token}
    return {
        "executionArn": handle,
        "stateMachineArn": source,
        "name": start_token,
        "startDate": _STARTED_MS,
        "stopDate": _STOPPED_MS,
        "input": json.dumps(job),
        "inputDetails": {"included": True},
        "output": None,
        "outputDetails": {"included": True} if "output" in members else None,
        "error": None,
        "cause": None,
        **members,
    }


def _batch_job(
    key: JobKey, start_token: str, handle: str, source: str, members: Mapping[str, Any]
) -> dict[str, Any]:
    ended, container = _ended(members)
    reason = {"statusReason": ended["statusReason"]} if "statusReason" in ended else {}
    attempt = {"container": container, "startedAt": _STARTED_MS, "stoppedAt": _STOPPED_MS, **reason}
    return {
        "jobArn": _job_arn(handle),
        "jobName": start_token,
        "jobId": handle,
        "jobQueue": source,
        "attempts": [attempt] if container else [],
        "createdAt": _STARTED_MS,
        "startedAt": _STARTED_MS,
        "stoppedAt": _STOPPED_MS,
        "retryStrategy": {"attempts": 1, "evaluateOnExit": []},
        "dependsOn": [],
        "jobDefinition": f"arn:aws:batch:{REGION}:{ACCOUNT}:job-definition/work:3",
        "parameters": {},
        "container": {
            "image": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/work@sha256:{'0' * 64}",
            "command": [],
            "environment": [{"name": "JOB_TABLE", "value": "jobs"}, *_variables(key, start_token)],
            "resourceRequirements": [{"value": "1", "type": "VCPU"}, {"value": "2048", "type": "MEMORY"}],
            **container,
        },
        "platformCapabilities": ["FARGATE"],
        "isCancelled": False,
        "isTerminated": False,
        **ended,
    }


def _task(key: JobKey, start_token: str, handle: str, source: str, members: Mapping[str, Any]) -> dict[str, Any]:
    ended, container = _ended(members)
    return {
        "availabilityZone": f"{REGION}a",
        "clusterArn": source,
        "containers": [
            {"name": "sidecar", "lastStatus": "STOPPED", "taskArn": handle, "exitCode": 3},
            {"name": "job", "lastStatus": "STOPPED", "taskArn": handle, **container},
        ],
        "createdAt": _STARTED,
        "startedAt": _STARTED,
        "stoppedAt": _STOPPED,
        "launchType": "FARGATE",
        "cpu": "1024",
        "memory": "2048",
        "desiredStatus": "STOPPED",
        "group": "family:work",
        "lastStatus": "STOPPED",
        "overrides": {
            "containerOverrides": [
                {"name": "job", "environment": _variables(key, start_token)},
                {"name": "sidecar"},
            ]
        },
        "startedBy": start_token,
        "taskArn": handle,
        "taskDefinitionArn": f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/work:3",
        "version": 6,
        "platformVersion": "1.4.0",
        **ended,
    }


def _ended(members: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part a container's members from the others."""
    container = {name: value for name, value in members.items() if name == "exitCode"}
    return {name: value for name, value in members.items() if name != "exitCode"}, container


def _variables(key: JobKey, start_token: str) -> list[dict[str, str]]:
    values = {"SLUICE_OWNER": key.owner, "SLUICE_JOB_ID": key.job_id, "SLUICE_START_TOKEN": start_token}
    return [{"name": name, "value": value} for name, value in values.items()]


def _job_arn(job_id: str) -> str:
    return f"arn:aws:batch:{REGION}:{ACCOUNT}:job/{job_id}"
