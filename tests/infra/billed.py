"""What is billed by the month, and how the pages on money are read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sluice_core import metrics

if TYPE_CHECKING:
    from infra.assemblies import Assembly

# Nothing sends these on a stage that has `lambda` only.
OF_EXECUTORS = {
    metrics.EXECUTIONS_RUNNING,
    metrics.EXECUTIONS_NOT_STARTED,
    metrics.COMPLETIONS_DROPPED,
    metrics.COMPLETIONS_RECONCILED,
    metrics.JOBS_FAILED_TIMED_OUT,
    metrics.JOBS_FAILED_STOPPED,
    metrics.JOBS_FAILED_NOT_STARTED,
    metrics.EXTERNAL_END_TO_END,
}


def table(text: str, header: str) -> dict[str, list[str]]:
    """The rows of the table whose header begins so, by their first cell."""
    found = re.search(rf"^\| {re.escape(header)} .*\n\|[-|]+\n((?:\|.*\n)+)", text, flags=re.MULTILINE)
    assert found, header
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()]
    return {row[0]: row[1:] for row in rows}


def number(text: str) -> float:
    """A figure, with or without commas; an empty cell is nothing."""
    return float(text.replace(",", "") or 0)


def metrics_in_alarms(assembly: Assembly) -> int:
    """How many metrics alarms read, by which they are billed."""
    alarms = assembly.of_type("CloudWatch::Alarm").values()
    return sum(sum("MetricStat" in one for one in alarm.get("Metrics", [{"MetricStat": {}}])) for alarm in alarms)


def metrics_of_executors(*, executors: int, job_types: int) -> int:
    """How many metrics of ours external executors add, and their job types beyond what each job type has."""
    by_executor = sum(one.by_executor for one in OF_EXECUTORS)
    # By job type, ExternalEndToEnd is in the place of EndToEnd.
    by_type = sum(one.by_job_type for one in OF_EXECUTORS - {metrics.EXTERNAL_END_TO_END})
    return by_executor * executors + by_type * job_types + len(OF_EXECUTORS) - by_executor
