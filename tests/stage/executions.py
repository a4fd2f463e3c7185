"""What a stage's external executors are at, by its tables and metrics, and how a test steers them."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sluice_core.slots import Slots
from sluice_harness import live_functions
from stage.running import until

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from stage.running import RunningStage


def settings(stage: RunningStage, function: str) -> Mapping[str, str]:
    """Return the environment variables of a function as it is invoked."""
    answer = stage.client("lambda").get_function_configuration(FunctionName=live_functions.live(function))
    variables: Mapping[str, str] = answer["Environment"]["Variables"]
    return variables


def cap(stage: RunningStage, executor: str) -> int:
    """Return how many executions may run at once."""
    return int(settings(stage, stage.description.functions.starter)[f"{executor.upper()}_MAX_RUNNING"])


def slots(stage: RunningStage) -> Slots:
    return Slots(stage.client("dynamodb"), stage.description.executors.slotsTable)


@contextlib.contextmanager
def full(stage: RunningStage, executor: str) -> Iterator[None]:
    """Hold all of an executor's slots, so that its jobs wait in their queue; then have them started."""
    size = cap(stage, executor)

    def take() -> list[str]:
        return slots(stage).take(executor, size, size, now_ms())

    taken = until(lambda: held if len(held := take()) == size else slots(stage).free(executor, held), "free slots")
    try:
        yield
    finally:
        slots(stage).free(executor, taken)
        wake(stage, executor)


def wake(stage: RunningStage, executor: str) -> None:
    """Have the starter look after an executor now, not within the minute."""
    starter = live_functions.live(stage.description.functions.starter)
    payload = json.dumps({"executor": executor})
    stage.client("lambda").invoke(FunctionName=starter, InvocationType="Event", Payload=payload)


def reconcile(stage: RunningStage) -> None:
    """Run the reconciler now, not within the minute."""
    reconciler = live_functions.live(stage.description.functions.reconciler)
    answer = stage.client("lambda").invoke(FunctionName=reconciler, Payload=b"{}")
    assert "FunctionError" not in answer, answer["Payload"].read()


def rows_of(stage: RunningStage, owner: str) -> dict[str, dict[str, Any]]:
    """Return the rows of an owner's jobs by job id."""
    pages = (
        stage.client("dynamodb")
        .get_paginator("scan")
        .paginate(
            TableName=stage.description.jobTable,
            FilterExpression="begins_with(jobKey, :owner)",
            ExpressionAttributeValues={":owner": {"S": f"{owner}#"}},
        )
    )
    return {row["jobKey"]["S"].partition("#")[2]: row for page in pages for row in page["Items"]}


def total(stage: RunningStage, metric: str, statistic: str = "Sum", **others: str) -> float:
    """Return what CloudWatch has of one of Sluice's metrics: the sum, or the most, of the last two hours."""
    now = datetime.now(UTC)
    dimensions = {"Stage": stage.description.stage, **others}
    answer = stage.client("cloudwatch").get_metric_statistics(
        Namespace="Sluice",
        MetricName=metric,
        Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
        StartTime=now - timedelta(hours=2),
        EndTime=now + timedelta(minutes=2),
        Period=3_600,
        Statistics=[statistic],
    )
    values = [point[statistic] for point in answer["Datapoints"]]
    return sum(values) if statistic == "Sum" else max(values, default=0)


def assert_counted_once(stage: RunningStage, job_type: str, job_ids: Collection[str]) -> None:
    """Wait until jobs are counted, and see that none is twice: whatever else of their type was done before."""
    # there is a line with each count
    lines = until(
        lambda: found if (found := _completions(stage, job_type)).keys() >= {*job_ids} else None,
        "each is counted",
    )
    assert {job_id: lines[job_id] for job_id in job_ids} == dict.fromkeys(job_ids, 1)
    # and CloudWatch has as many as there are lines
    until(lambda: total(stage, "JobsCompleted", JobType=job_type) == lines.total(), f"{lines.total()} are counted")


def _completions(stage: RunningStage, job_type: str) -> Counter[str]:
    """Return how often each job of a type has been reported as completed."""
    functions = stage.description.functions
    counting = (functions.completion, functions.reconciler, functions.starter, functions.batchSimulator)
    lines = (json.loads(line) for name in counting for line in stage.log_lines(name) if '"completed"' in line)
    return Counter(line["jobId"] for line in lines if line["jobType"] == job_type)


def now_ms() -> int:
    return time.time_ns() // 1_000_000
