"""Batch jobs on Fargate run: their container is a process, and their states are told as events.

MiniStack's jobs have SUCCEEDED as they are submitted, and run nothing.

A job is RUNNABLE until its compute environment has as many vCPUs free (`maxvCpus`), STARTING, RUNNING, and then
SUCCEEDED or FAILED by its container's exit code (AWS Batch User Guide, "Job states"); each change but the
submission is an event "Batch Job State Change" on the default bus, whose detail is the job ("Batch job state
change events"). TerminateJob ends it as FAILED with the reason given; so does its `attemptDurationSeconds` ("Job
timeouts"): SIGTERM, and SIGKILL after 30 seconds. A container knows its job by `AWS_BATCH_JOB_ID` and others ("AWS
Batch job environment variables"). How a job that timed out says so is not documented; it is what Batch's console
shows.

Closed beside the engine's job queues and definitions; `batch_api` has the calls. A job has one attempt.
"""

from __future__ import annotations

import copy
import json
import threading
from typing import Any

from ministack.core.responses import get_account_id, get_region, new_uuid
from ministack.services import batch, eventbridge

from sluice_harness.compat import timers
from sluice_harness.compat.containers.running import Container, Room, Specification

Record = dict[str, Any]

ENDED = frozenset({"SUCCEEDED", "FAILED"})
TIMED_OUT = "Job attempt duration exceeded timeout"
# Where a job's output goes if its definition does not say.
LOG_GROUP = "/aws/batch/job"
_EXITED = "Essential container in task exited"

jobs: dict[str, Job] = {}
_rooms: dict[str, Room] = {}  # by compute environment
_rooms_lock = threading.Lock()


class Job:
    """A job's life: it owns its container and its record, which is a JobDetail of the API."""

    def __init__(self, request: Record, queue: Record, definition: Record) -> None:
        self.record = _new_record(request, queue, definition)
        self.record["container"] = container = _merged(request, definition)
        order = min(queue["computeEnvironmentOrder"], key=lambda one: one["order"])
        self._environment = batch._compute_environment_name_from_ref(order["computeEnvironment"])[0]
        self._container = Container(_specification(self.record, container, queue, self._environment), self)
        self._lock = threading.Lock()
        self._has_begun = False
        self._reason = ""

    def begin(self) -> None:
        """Let it run as soon as there is room for it."""
        self._change("RUNNABLE")
        needs = {one["type"]: one["value"] for one in self.record["container"]["resourceRequirements"]}
        room_of(self._environment).ask(float(needs["VCPU"]), self._run)

    def terminate(self, reason: str) -> None:
        """End it for this reason; one that still waits has failed."""
        with self._lock:
            if self.record["status"] in ENDED or self._reason:
                return
            self._reason, has_begun = reason, self._has_begun
        if has_begun:
            self._container.stop()
        else:
            self._change("FAILED", statusReason=reason, stoppedAt=batch._now_ms())

    def _run(self) -> None:
        with self._lock:
            self._has_begun = not self._reason
        if self._has_begun:
            self._change("STARTING")
            self._container.run()

    def has_started(self) -> None:
        """Its container runs."""
        self._change("RUNNING", startedAt=batch._now_ms())
        if seconds := (self.record.get("timeout") or {}).get("attemptDurationSeconds"):
            timers.after(float(seconds), lambda: self.terminate(TIMED_OUT))

    def has_not_started(self, reason: str) -> None:
        """Its container could not be started."""
        self.record["container"]["reason"] = reason
        self._end("FAILED", reason)

    def has_ended(self, exit_code: int) -> None:
        """Its container has ended, and so has the job."""
        self.record["container"]["exitCode"] = exit_code
        is_failed = exit_code != 0 or bool(self._reason)
        self._end("FAILED" if is_failed else "SUCCEEDED", self._reason or _EXITED)

    def _end(self, status: str, reason: str) -> None:
        now = batch._now_ms()
        container = {name: self.record["container"].get(name) for name in _OF_ATTEMPTS}
        attempt = {"startedAt": self.record.get("startedAt"), "stoppedAt": now, "statusReason": reason}
        kept = {name: value for name, value in container.items() if value is not None}
        self.record["attempts"] = [{"container": kept, **attempt}]
        self._change(status, statusReason=reason, stoppedAt=now)

    def _change(self, status: str, **values: Any) -> None:
        with self._lock:
            self.record.update(values, status=status)
            detail = json.dumps(self.record)
        entry = {
            "Source": "aws.batch",
            "DetailType": "Batch Job State Change",
            "Detail": detail,
            "Resources": [self.record["jobArn"]],
        }
        eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)


_OF_ATTEMPTS = ("exitCode", "reason", "logStreamName", "taskArn")


def room_of(environment: str) -> Room:
    """Return the room of a compute environment; a changed `maxvCpus` counts at once."""
    with _rooms_lock:
        room = _rooms.setdefault(environment, Room(0))
        room.limit = float(batch._compute_envs[environment]["computeResources"]["maxvCpus"])
        return room


def _new_record(request: Record, queue: Record, definition: Record) -> Record:
    job_id = new_uuid()
    arn = batch._job_arn(job_id)
    return {
        "jobArn": arn,
        "jobName": request["jobName"],
        "jobId": job_id,
        "jobQueue": queue["jobQueueArn"],
        "status": "SUBMITTED",
        "attempts": [],
        "createdAt": batch._now_ms(),
        "retryStrategy": {"attempts": 1, "evaluateOnExit": []},
        "dependsOn": [],
        "jobDefinition": definition["jobDefinitionArn"],
        "parameters": request.get("parameters", {}),
        "tags": {**request.get("tags", {}), "resourceArn": arn},
        "propagateTags": False,
        "platformCapabilities": definition.get("platformCapabilities", []),
        "eksAttempts": [],
        **({"timeout": timeout} if (timeout := request.get("timeout") or definition.get("timeout")) else {}),
    }


def _merged(request: Record, definition: Record) -> Record:
    """Return a job's container: that of the definition, with what the request has in its place."""
    container: Record = copy.deepcopy(definition["containerProperties"])
    overrides = request.get("containerOverrides", {})
    for kind, key in (("environment", "name"), ("resourceRequirements", "type")):
        merged = {one[key]: one for one in [*container.get(kind, []), *overrides.get(kind, [])]}
        container[kind] = list(merged.values())
    container["command"] = overrides.get("command") or container.get("command", [])
    return container


def _specification(record: Record, container: Record, queue: Record, environment: str) -> Specification:
    task_id = new_uuid().replace("-", "")
    cluster = f"arn:aws:ecs:{get_region()}:{get_account_id()}:task/AWSBatch-{environment}"
    options = (container.get("logConfiguration") or {}).get("options", {})
    prefix = options.get("awslogs-stream-prefix") or record["jobDefinition"].rpartition("/")[2].partition(":")[0]
    container["logStreamName"] = f"{prefix}/default/{task_id}"
    container["taskArn"] = f"{cluster}/{task_id}"
    variables = {
        "AWS_BATCH_JOB_ID": record["jobId"],
        "AWS_BATCH_JOB_ATTEMPT": "1",
        "AWS_BATCH_JQ_NAME": queue["jobQueueName"],
        "AWS_BATCH_CE_NAME": environment,
    }
    return Specification(
        task_id,
        container["image"],
        container["command"],
        {one["name"]: one["value"] for one in container["environment"]} | variables,
        execution_role=container["executionRoleArn"],
        role=container.get("jobRoleArn", ""),
        log=(options.get("awslogs-group", LOG_GROUP), container["logStreamName"]),
    )
