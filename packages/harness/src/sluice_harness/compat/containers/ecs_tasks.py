"""ECS tasks on Fargate run: their container is a process, and their states are told as events.

Without Docker, MiniStack's tasks are RUNNING at once and for ever and run nothing, RunTask knows no client token,
makes a cluster that does not exist, and nobody is told what becomes of a task.

A Fargate task is PROVISIONING, PENDING, RUNNING, and STOPPED in the end, with its container's exit code, a stop
code and a reason (Amazon ECS Developer Guide, "Amazon ECS task lifecycle", "Stopped tasks error messages"); each
change of its version is an event "ECS Task State Change" on the default bus, whose detail is the task (ibid.,
"Amazon ECS task state change events"). StopTask sends SIGTERM, and SIGKILL after the container's `stopTimeout`, 30
seconds if it has none (API Reference, "StopTask"). The same `clientToken` is the same tasks, and with another
request a conflict (ibid., "Ensuring idempotency"). A cluster is not deleted while tasks run in it (ibid.,
"DeleteCluster").

Closed in the engine's own store of tasks, so that DescribeTasks and ListTasks stay its. Of a definition's
containers there may be one; `AT_ONCE` of all tasks run at a time, and the others are PENDING.
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

from ministack.core.responses import error_response_json, json_response
from ministack.services import ecs, eventbridge
from ministack.services.cloudformation import provisioners

from sluice_harness.compat.containers.running import Container, Room, Specification
from sluice_harness.compat.patching import expect

if TYPE_CHECKING:
    from collections.abc import Iterator

Record = dict[str, Any]

AT_ONCE = 8
_MOST_TASKS = 10
_STOPPED = "STOPPED"

_room = Room(AT_ONCE)
_tasks: dict[str, Task] = {}
_requests: dict[str, tuple[str, list[str]]] = {}  # client token -> its request and its tasks
_one_request = threading.Lock()


class Task:
    """A task's life: it owns its container and writes the engine's record."""

    def __init__(self, record: Record, definition: Record) -> None:
        self._record = record
        self.cluster = record["clusterArn"].rpartition("/")[2]
        self._container = Container(_specification(record, definition), self)
        self._lock = threading.Lock()
        self._has_begun = False
        self._reason = ""

    def begin(self) -> None:
        """Take it from PROVISIONING to PENDING, and on as soon as there is room."""
        self._change(lastStatus="PENDING")
        _room.ask(1, self._run)

    def _run(self) -> None:
        with self._lock:
            self._has_begun = self._record["desiredStatus"] != _STOPPED
        if self._has_begun:
            self._container.run()

    def stop(self, reason: str) -> None:
        """Ask it to stop; one that still waits has stopped."""
        with self._lock:
            if self._record["desiredStatus"] == _STOPPED:
                return
            self._record["desiredStatus"], self._reason = _STOPPED, reason
            has_begun = self._has_begun
        self._change(stoppingAt=ecs.now_iso())
        if has_begun:
            self._container.stop()
        else:
            self._end("UserInitiated", reason)

    def has_started(self) -> None:
        """Its container runs."""
        now = ecs.now_iso()
        self._change(lastStatus="RUNNING", startedAt=now, pullStartedAt=now, pullStoppedAt=now)

    def has_not_started(self, reason: str) -> None:
        """Its container could not be started."""
        self._end("TaskFailedToStart", reason)

    def has_ended(self, exit_code: int) -> None:
        """Its container has ended, and so it ends."""
        self._record["containers"][0]["exitCode"] = exit_code
        if self._record["desiredStatus"] == _STOPPED:
            self._end("UserInitiated", self._reason)
        else:
            self._end("EssentialContainerExited", "Essential container in task exited")

    def _end(self, code: str, reason: str) -> None:
        now = ecs.now_iso()
        self._record.update(desiredStatus=_STOPPED, stopCode=code, stoppedReason=reason, executionStoppedAt=now)
        self._record["stoppingAt"] = self._record["stoppingAt"] or now
        self._change(lastStatus="DEPROVISIONING")
        self._change(lastStatus=_STOPPED, stoppedAt=ecs.now_iso())
        _tasks.pop(self._record["taskArn"], None)

    def _change(self, **values: Any) -> None:
        with self._lock:
            self._record.update(values, version=self._record["version"] + 1)
            container = "PENDING" if self._record["startedAt"] is None else "RUNNING"
            is_over = self._record["lastStatus"] in {"DEPROVISIONING", _STOPPED}
            self._record["containers"][0]["lastStatus"] = _STOPPED if is_over else container
            tell(self._record)


def apply() -> None:
    """Replace what starts and stops tasks."""
    run = expect(ecs, "_run_task", "data")
    expect(ecs, "_get_docker")
    expect(ecs, "_stop_task", "data")
    expect(ecs, "_sanitize", "obj")
    for name in ("_resolve_cluster_name", "_resolve_td_key"):
        expect(ecs, name, "ref")
    expect(ecs, "_resolve_task", "ref", "cluster_name")

    def run_task(data: Record) -> Any:
        for code, message in _complaints(data):
            return error_response_json(code, message, 400)
        token, request = data.get("clientToken"), json.dumps(data, sort_keys=True)
        with _one_request:
            if token in _requests:
                return _again(token, request)
            status, headers, body = run(data)
            made = [ecs._tasks[one["taskArn"]] for one in json.loads(body).get("tasks", [])]
            if token:
                _requests[token] = request, [record["taskArn"] for record in made]
        answer = [_provision(record) for record in made]
        return json_response({"tasks": answer, "failures": []}) if made else (status, headers, body)

    ecs._get_docker = lambda: None
    ecs._run_task = run_task
    ecs._stop_task = _stop_task
    ecs._ACTION_MAP.update(RunTask=run_task, StopTask=_stop_task)
    handlers = provisioners._RESOURCE_HANDLERS["AWS::ECS::Cluster"]
    delete = expect(provisioners, "_ecs_cluster_delete", "physical_id", "props")

    def delete_if_empty(physical_id: str, props: Record) -> None:
        if any(task.cluster == physical_id for task in list(_tasks.values())):
            raise ValueError("The Cluster cannot be deleted while Tasks are active.")
        delete(physical_id, props)

    handlers["delete"] = delete_if_empty


def _complaints(data: Record) -> Iterator[tuple[str, str]]:
    """Yield what AWS says to a request that it does not take."""
    definition = ecs._task_defs.get(ecs._resolve_td_key(data.get("taskDefinition", "")))
    if ecs._resolve_cluster_name(data.get("cluster", "default")) not in ecs._clusters:
        yield "ClusterNotFoundException", "Cluster not found."
    if definition is None:
        yield "ClientException", "TaskDefinition not found."
        return
    if definition["status"] != "ACTIVE":
        yield "ClientException", "TaskDefinition is inactive"
    if definition["networkMode"] == "awsvpc" and not data.get("networkConfiguration"):
        message = "Network Configuration must be provided when networkMode 'awsvpc' is specified."
        yield "InvalidParameterException", message
    if not 1 <= data.get("count", 1) <= _MOST_TASKS:
        yield "InvalidParameterException", f"count must be from 1 to {_MOST_TASKS}"
    if len(definition["containerDefinitions"]) > 1:
        yield "ClientException", "the local stage runs one container a task"


def _again(token: str, request: str) -> Any:
    before, arns = _requests[token]
    if request != before:
        message = "The RunTask request could not be processed due to conflicts: the clientToken is already in use."
        return error_response_json("ConflictException", message, 400)
    return json_response({"tasks": [ecs._sanitize(ecs._tasks[arn]) for arn in arns], "failures": []})


def _provision(record: Record) -> Record:
    """Take a task back to its beginning, where the engine has it RUNNING, and let it live."""
    definition = ecs._task_defs[ecs._resolve_td_key(record["taskDefinitionArn"])]
    nothing_yet = dict.fromkeys(("startedAt", "pullStartedAt", "pullStoppedAt", "stoppedReason", "stopCode"))
    record.update(
        nothing_yet, lastStatus="PROVISIONING", group=record["group"] or f"family:{definition['family']}"
    )
    record["startedBy"] = record["startedBy"] or None
    if record["launchType"] == "FARGATE":
        record["containerInstanceArn"] = None
    record["containers"][0]["lastStatus"] = "PENDING"
    answer: Record = ecs._sanitize(record)
    tell(record)
    task = _tasks[record["taskArn"]] = Task(record, definition)
    task.begin()
    return answer


def _stop_task(data: Record) -> Any:
    cluster = ecs._resolve_cluster_name(data.get("cluster", "default"))
    if cluster not in ecs._clusters:
        return error_response_json("ClusterNotFoundException", "Cluster not found.", 400)
    record = ecs._resolve_task(data.get("task", ""), cluster)
    if record is None:
        return error_response_json("InvalidParameterException", "The referenced task was not found.", 400)
    if task := _tasks.get(record["taskArn"]):
        task.stop(data.get("reason") or "Task stopped by user")
    return json_response({"task": ecs._sanitize(record)})


def _specification(record: Record, definition: Record) -> Specification:
    container = definition["containerDefinitions"][0]
    overrides = record["overrides"].get("containerOverrides", [])
    override: Record = next((one for one in overrides if one.get("name") == container["name"]), {})
    environment = [*container.get("environment", []), *override.get("environment", [])]
    task_id = record["taskArn"].rpartition("/")[2]
    options = (container.get("logConfiguration") or {}).get("options", {})
    log = None
    if "awslogs-group" in options:
        log = options["awslogs-group"], f"{options['awslogs-stream-prefix']}/{container['name']}/{task_id}"
    return Specification(
        task_id,
        container["image"],
        [*container.get("entryPoint", []), *(override.get("command") or container.get("command", []))],
        {one["name"]: one["value"] for one in environment},
        execution_role=definition["executionRoleArn"],
        role=definition["taskRoleArn"],
        log=log,
        stop_timeout_s=float(container.get("stopTimeout", 30)),
    )


def tell(record: Record) -> None:
    """Publish a task's state."""
    detail = {**ecs._sanitize(record), "updatedAt": ecs.now_iso()}
    entry = {
        "Source": "aws.ecs",
        "DetailType": "ECS Task State Change",
        "Detail": json.dumps(detail),
        "Resources": [record["taskArn"]],
    }
    eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)
