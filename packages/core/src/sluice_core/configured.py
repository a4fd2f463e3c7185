"""The external executors of a stage, as its functions' environment says, and the events of all their services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sluice_core import batch_jobs, clients, ecs_tasks, step_functions
from sluice_core.executors import BATCH, ECS, STEP_FUNCTIONS
from sluice_core.requests import MalformedMessage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sluice_core.executors import Execution, ExternalExecutor

_READERS = {
    "Step Functions Execution Status Change": step_functions.read_event,
    "Batch Job State Change": batch_jobs.read_event,
    "ECS Task State Change": ecs_tasks.read_event,
}


def configured_executors(environment: Mapping[str, str]) -> dict[str, ExternalExecutor]:
    """Return the external executors that the stage has, by name; their clients are made when they are first used.

    Parameters
    ----------
    environment : Mapping
        ``STATE_MACHINE_ARN``, ``BATCH_JOB_QUEUE`` and ``ECS_CLUSTER`` tell which there are.

    Raises
    ------
    KeyError
        One of them has not all of its variables.

    """
    executors: dict[str, ExternalExecutor] = {}
    if environment.get("STATE_MACHINE_ARN"):
        executors[STEP_FUNCTIONS] = step_functions.StepFunctionsExecutor(
            clients.stepfunctions, environment["STATE_MACHINE_ARN"]
        )
    if environment.get("BATCH_JOB_QUEUE"):
        executors[BATCH] = batch_jobs.BatchExecutor(
            clients.batch, environment["BATCH_JOB_QUEUE"], environment["BATCH_JOB_DEFINITION"]
        )
    if environment.get("ECS_CLUSTER"):
        executors[ECS] = ecs_tasks.EcsExecutor(
            clients.ecs,
            cluster=environment["ECS_CLUSTER"],
            task_definition=environment["ECS_TASK_DEFINITION"],
            subnets=environment["ECS_SUBNETS"].split(","),
            security_group=environment["ECS_SECURITY_GROUP"],
        )
    return executors


def read_state_change(event: Mapping[str, Any]) -> Execution | None:
    """Return what an EventBridge event says of an execution; None if it is no end, or none of ours.

    Raises
    ------
    MalformedMessage
        It is no state change of these services.

    """
    try:
        return _READERS[event["detail-type"]](event["detail"])
    except (KeyError, TypeError, AttributeError) as error:
        raise MalformedMessage("not a state change of an executor's service") from error
