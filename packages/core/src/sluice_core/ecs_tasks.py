"""The ``ecs`` executor: one task on Fargate a job, of the stage's task definition and in its cluster.

Facts are from the Amazon ECS API Reference ("RunTask", "StopTask", "DescribeTasks", "Task", "Ensuring
idempotency") and the Developer Guide ("Amazon ECS task state change events", "Amazon ECS API failure reasons",
"Amazon ECS service event messages", "Stopped tasks error codes").
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from sluice_core.executors import CONTAINER, Execution, ExecutionState, Retry, Started
from sluice_core.external import (
    TRY_AGAIN,
    as_told,
    epoch_ms,
    error_code,
    failed_start,
    in_hundreds,
    job_environment,
    read_environment,
    stopped_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_ecs.type_defs import FailureTypeDef, NetworkConfigurationTypeDef

    from sluice_core.executors import StartResult
    from sluice_core.jobs import Submission


class EcsExecutor:
    """Starts, stops and looks at tasks in one cluster.

    A task's client token is its start token, so that a start that is repeated starts nothing (for 24 hours). The
    container reads the job's parameters from S3, and so none is too large.

    Parameters
    ----------
    client : Callable
        Makes the client, on first use: it costs a cold start.
    cluster, task_definition : str
        The ARNs, or the names.
    subnets : sequence of str
        Ids; without a way to the internet they need the endpoints of what the container talks to.
    security_group : str
        Its id.

    """

    def __init__(
        self,
        client: Callable[[], ECSClient],
        *,
        cluster: str,
        task_definition: str,
        subnets: Sequence[str],
        security_group: str,
    ) -> None:
        self._client = client
        self._cluster = cluster
        self._task_definition = task_definition
        self._network: NetworkConfigurationTypeDef = {
            "awsvpcConfiguration": {
                "subnets": subnets,
                "securityGroups": [security_group],
                "assignPublicIp": "DISABLED",
            }
        }

    @cached_property
    def _ecs(self) -> ECSClient:
        return self._client()

    def start(self, submissions: Sequence[Submission]) -> list[StartResult]:
        """Run a task for each job; a repeated start finds the one that is there, ended or not."""
        return [self._start(one) for one in submissions]

    def _start(self, submission: Submission) -> StartResult:
        try:
            answer = self._ecs.run_task(
                cluster=self._cluster,
                taskDefinition=self._task_definition,
                launchType="FARGATE",
                count=1,
                clientToken=submission.start_token,
                startedBy=submission.start_token,
                networkConfiguration=self._network,
                overrides={
                    "containerOverrides": [{"name": CONTAINER, "environment": job_environment(submission)}]
                },
            )
        except (ClientError, BotoCoreError) as error:
            # The first try's request was another: the stage was deployed in between.
            if tasks := _tasks_of_token(error):
                return Started(tasks[0])
            return failed_start(error)
        if answer["tasks"]:
            return Started(answer["tasks"][0]["taskArn"])
        return _not_placed(answer["failures"])

    def stop(self, handle: str, reason: str) -> None:
        """Stop a task; one that has ended, or that there is not, is as it should be.

        Raises
        ------
        botocore.exceptions.ClientError
            ECS refused; it may run on.

        """
        try:
            self._ecs.stop_task(cluster=self._cluster, task=handle, reason=reason)
        except ClientError as error:
            if error_code(error) != "InvalidParameterException":  # "The referenced task was not found."
                raise

    def look(self, handles: Sequence[str]) -> dict[str, Execution | None]:
        """Ask how tasks stand, 100 in a call; None for those that ECS has forgotten, an hour after their end.

        Raises
        ------
        botocore.exceptions.ClientError
            ECS refused; ask again later.

        """
        found: dict[str, Execution | None] = dict.fromkeys(handles)
        for some in in_hundreds(handles):
            for task in self._ecs.describe_tasks(cluster=self._cluster, tasks=some)["tasks"]:
                found[task["taskArn"]] = _read(task)
        return found


def read_event(detail: Mapping[str, Any]) -> Execution | None:
    """Return what a state change says; None if it is no end, or of a task that we did not run.

    Raises
    ------
    KeyError
        It has not the members that each state change has.

    """
    execution = _read(detail)
    return None if execution is None or execution.state is ExecutionState.OPEN else execution


def _tasks_of_token(error: ClientError | BotoCoreError) -> list[str]:
    """Return the tasks of a client token that came with another request before."""
    if error_code(error) != "ConflictException" or not isinstance(error, ClientError):
        return []
    tasks: list[str] = error.response.get("resourceIds", [])  # type: ignore[assignment]
    return tasks


def _not_placed(failures: Sequence[FailureTypeDef]) -> Retry:
    """Give ECS's reason for running no task: there is no room, or what the task asks for is not there yet."""
    reason = failures[0].get("reason", "") if failures else ""
    return Retry(reason or "no task")


def _read(task: Mapping[str, Any]) -> Execution | None:
    """Read one of DescribeTasks's tasks, or an event's detail, which resembles it."""
    overrides = task.get("overrides", {}).get("containerOverrides", [])
    job = read_environment(_ours(overrides).get("environment", []))
    if job is None:
        return None
    key, start_token = job
    container = _ours(task.get("containers", []))
    exit_code = container.get("exitCode")  # none if it never came up
    state = _state(task, exit_code)
    gave_up = state is ExecutionState.LOST and exit_code == TRY_AGAIN
    began_at = epoch_ms(task.get("startedAt")) if state is ExecutionState.OPEN else None
    why = as_told(exit_code, container.get("reason"), task.get("stopCode"), task.get("stoppedReason"))
    return Execution(key, start_token, task["taskArn"], state, gave_up=gave_up, began_at=began_at, why=why)


def _ours(containers: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return next((one for one in containers if one.get("name") == CONTAINER), {})


def _state(task: Mapping[str, Any], exit_code: int | None) -> ExecutionState:
    """Tell why a task ended.

    Whoever stops it, its container may have ended by itself in time. Spot, maintenance, a bad host and a failed
    start have stop codes of their own, and mean the same for the job.
    """
    if task["lastStatus"] != "STOPPED":
        return ExecutionState.OPEN
    if exit_code == 0:
        return ExecutionState.SUCCEEDED
    if task.get("stopCode") == "UserInitiated":
        return stopped_for(task.get("stoppedReason") or "")
    return ExecutionState.LOST
