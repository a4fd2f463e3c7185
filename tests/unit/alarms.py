"""Alarms for tests, and a source of series that is as simple as can be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sluice_harness.cloudwatch.definitions import CompositeAlarm, MetricAlarm, read_alarm
from sluice_harness.cloudwatch.statistics import Distribution

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sluice_harness.cloudwatch.definitions import MetricStat, Series

# 24 November 2026, 15:00:00 UTC: a full hour.
NOW = 1795532400
ALARM_TOPIC = "arn:aws:sns:us-east-1:123456789012:alarms"
OK_TOPIC = "arn:aws:sns:us-east-1:123456789012:mended"
UNKNOWN_TOPIC = "arn:aws:sns:us-east-1:123456789012:unknown"
ACTIONS = {"AlarmActions": [ALARM_TOPIC], "OKActions": [OK_TOPIC], "InsufficientDataActions": [UNKNOWN_TOPIC]}


def properties(name: str = "errors", **changes: Any) -> dict[str, Any]:
    """Return an alarm's properties; what is changed to None is left out."""
    usual: dict[str, Any] = {
        "AlarmName": name,
        "Namespace": "Sluice",
        "MetricName": "Errors",
        "Dimensions": [{"Name": "Stage", "Value": "unit"}],
        "Statistic": "Sum",
        "Period": 60,
        "EvaluationPeriods": 3,
        "Threshold": 0.0,
        "ComparisonOperator": "GreaterThanThreshold",
        **ACTIONS,
    }
    return {key: value for key, value in (usual | changes).items() if value is not None}


def metric_alarm(name: str = "errors", **changes: Any) -> MetricAlarm:
    alarm = read_alarm(properties(name, **changes))
    assert isinstance(alarm, MetricAlarm)
    return alarm


def math_alarm(name: str = "rate", *, metrics: list[dict[str, Any]], **changes: Any) -> MetricAlarm:
    left_out = dict.fromkeys(("Namespace", "MetricName", "Dimensions", "Statistic", "Period"))
    return metric_alarm(name, Metrics=metrics, **left_out, **changes)


def stat_entry(
    query_id: str, metric: str, *, namespace: str = "Sluice", stat: str = "Sum", **more: Any
) -> dict[str, Any]:
    """Return an entry of ``Metrics`` that is an operand."""
    name = {"Namespace": namespace, "MetricName": metric, "Dimensions": []}
    return {"Id": query_id, "MetricStat": {"Metric": name, "Period": 60, "Stat": stat}, "ReturnData": False} | more


def composite(name: str, rule: str, **changes: Any) -> CompositeAlarm:
    alarm = read_alarm({"AlarmName": name, "AlarmRule": rule, **ACTIONS, **changes})
    assert isinstance(alarm, CompositeAlarm)
    return alarm


@dataclass
class Samples:
    """A source that keeps every sample, and aggregates them as it is asked.

    Attributes
    ----------
    calls : list
        What was fetched: how many statistics, since when and until when.

    """

    samples: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    calls: list[tuple[int, int, int]] = field(default_factory=list)

    def add(self, at: int, *values: float, metric: str = "Errors") -> None:
        self.samples.setdefault(metric, []).extend((at, value) for value in values)

    def fetch(self, stats: Sequence[MetricStat], start: int, end: int) -> list[Series]:
        self.calls.append((len(stats), start, end))
        return [self._series(stat, start, end) for stat in stats]

    def _series(self, stat: MetricStat, start: int, end: int) -> Series:
        periods: dict[int, Distribution] = {}
        for at, value in self.samples.get(stat.metric.name, []):
            if start <= at < end:
                since = start + (at - start) // stat.period * stat.period
                periods.setdefault(since, Distribution()).add(value)
        points = {since: samples.statistic(stat.stat) for since, samples in periods.items()}
        return {since: value for since, value in points.items() if value is not None}
