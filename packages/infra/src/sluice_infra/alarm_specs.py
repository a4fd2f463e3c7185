"""What an alarm is here: a row of data, with metrics' dimensions given by placeholder.

The placeholders are those of the dashboards; `observability_stack` fills both.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from sluice_core.metrics import NAMESPACE, STAGE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sluice_core.metrics import Metric

MINUTE, HOUR = 60, 3_600


class Severity(StrEnum):
    """How bad it is: someone is woken, or someone looks at it in working hours."""

    CRITICAL = "critical"
    WARNING = "warning"


class Missing(StrEnum):
    """What a period without data counts as (CloudWatch's TreatMissingData)."""

    BREACHING = "breaching"
    NOT_BREACHING = "notBreaching"
    IGNORE = "ignore"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Series:
    """One metric's statistic; dimensions' values may be ``${Placeholders}``."""

    namespace: str
    name: str
    stat: str
    dimensions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmSpec:
    """One alarm.

    Attributes
    ----------
    name : str
        Unique within a stage.
    runbook : str
        The page in ``docs/runbooks``; alarms of one kind share one.
    means : str
        What it says when it fires, in a sentence.
    series : mapping of str to Series
        By id; without an expression there is one.
    expression : str
        Metric math over the ids (CloudWatch User Guide, "Using metric math").
    threshold : float
        In the metric's own unit, or the expression's.
    m, n : int
        Fires when m of the last n periods breach.
    notifies : bool
        Whether it acts by itself. One window of a burn rate does not: both together do.

    """

    name: str
    runbook: str
    severity: Severity
    means: str
    series: Mapping[str, Series]
    expression: str = ""
    comparison: str = "GreaterThanThreshold"
    threshold: float = 0
    m: int = 1
    n: int = 1
    period_s: int = MINUTE
    missing: Missing = Missing.NOT_BREACHING
    notifies: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CompositeSpec:
    """An alarm of alarms: fires while all, or any, of its children do."""

    name: str
    runbook: str
    severity: Severity
    means: str
    children: tuple[str, ...]
    needs_all: bool = False
    suppressed_by: str = ""


def own(metric: Metric, stat: str) -> Series:
    """Return one of our own metrics, over all job types."""
    return Series(NAMESPACE, metric.name, stat, {STAGE: "${Stage}"})


def of_function(function: str, name: str, stat: str) -> Series:
    """Return a metric of one function."""
    return Series("AWS/Lambda", name, stat, {"FunctionName": f"${{{function_placeholder(function)}}}"})


def function_placeholder(function: str) -> str:
    """Return the placeholder of a function's name: ``batch-simulator`` is ``BatchSimulatorFunction``."""
    return "".join(part.capitalize() for part in function.split("-")) + "Function"


def of_mapping(placeholder: str, name: str, stat: str) -> Series:
    """Return a metric of one event-source mapping."""
    return Series("AWS/Lambda", name, stat, {"EventSourceMappingUUID": f"${{{placeholder}}}"})


def of_queue(placeholder: str, name: str, stat: str) -> Series:
    """Return a metric of one queue."""
    return Series("AWS/SQS", name, stat, {"QueueName": f"${{{placeholder}}}"})


def of_api(name: str, stat: str) -> Series:
    """Return a metric of the API."""
    # A REST API's dimensions; ApiId belongs to HTTP APIs and would watch nothing.
    return Series("AWS/ApiGateway", name, stat, {"ApiName": "${ApiName}", "Stage": "${Stage}"})
