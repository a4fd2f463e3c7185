"""Why an alarm changed its state, in CloudWatch's words.

An SRE reads the reason in the notification before anything else, and tools parse its data ("StateReason" and
"StateReasonData" of DescribeAlarms, "Alarm events and EventBridge").
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sluice_harness.cloudwatch.definitions import Comparison, MissingData, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sluice_harness.cloudwatch.definitions import CompositeAlarm, MetricAlarm
    from sluice_harness.cloudwatch.evaluation import Verdict

CREATED: Final = "Unchecked: Initial alarm creation"
_PHRASES: Final = {
    Comparison.GREATER_OR_EQUAL: "greater than or equal to",
    Comparison.GREATER: "greater than",
    Comparison.LESS: "less than",
    Comparison.LESS_OR_EQUAL: "less than or equal to",
}
_TREATED_AS: Final = {
    MissingData.BREACHING: "Breaching",
    MissingData.NOT_BREACHING: "NonBreaching",
    MissingData.MISSING: "Missing",
    MissingData.IGNORE: "Ignored",
}


def timestamp(at: float) -> str:
    """Return an epoch second as alarms' JSON has it, such as ``2026-11-24T15:00:00.000+0000``."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "+0000")


def metric_reason(alarm: MetricAlarm, verdict: Verdict, new: State) -> str:
    """Return the reason for a metric alarm's new state."""
    if new is State.INSUFFICIENT_DATA:
        return f"Insufficient Data: {_count(verdict.missing, 'datapoint')} {_be(verdict.missing)} unknown."
    parts = [
        _points(alarm, verdict, new) if verdict.evaluated else _nothing(verdict),
        _filled(verdict) if verdict.missing else "",
    ]
    return f"Threshold Crossed: {' and '.join(filter(None, parts))}."


def metric_reason_data(alarm: MetricAlarm, verdict: Verdict, now: float) -> dict[str, Any]:
    """Return what a metric alarm's state was decided by."""
    stat = alarm.watched.stat
    return {
        "version": "1.0",
        "queryDate": timestamp(now),
        **({"startDate": timestamp(verdict.evaluated[-1][0])} if verdict.evaluated else {}),
        **({"unit": stat.unit} if stat and stat.unit else {}),
        **({"statistic": stat.stat} if stat else {}),
        "period": alarm.period,
        "recentDatapoints": [value for _start, value in reversed(verdict.evaluated)],
        "threshold": alarm.threshold,
        "evaluatedDatapoints": [
            {"timestamp": timestamp(start), "value": value} for start, value in verdict.evaluated
        ],
    }


def composite_reason(alarm: CompositeAlarm, new: State, child: tuple[str, State, float] | None) -> str:
    """Return the reason for a composite alarm's new state.

    Parameters
    ----------
    alarm : CompositeAlarm
        Its definition.
    new : State
        Its new state.
    child : tuple of str, State and float, or None
        The alarm that changed: its ARN or name, its state and when it changed, in epoch seconds.

    """
    if child is None:
        return f"{alarm.arn or alarm.name} was created and its alarm rule evaluates to {new}"
    name, state, at = child
    return f"{name} transitioned to {state} at {datetime.fromtimestamp(at, UTC):%A %d %B, %Y %H:%M:%S} UTC"


def composite_reason_data(children: Sequence[tuple[str, State, float]]) -> dict[str, Any]:
    """Return the alarms that made a composite alarm change, as `composite_reason` takes them."""
    return {
        "triggeringAlarms": [
            {"arn": name, "state": {"value": str(state), "timestamp": timestamp(at)}}
            for name, state, at in children
        ]
    }


def _points(alarm: MetricAlarm, verdict: Verdict, new: State) -> str:
    alarming = new is State.ALARM
    points = [
        (start, value)
        for start, value in verdict.evaluated
        if alarm.comparison.breached(value, alarm.threshold) is alarming
    ]
    if not points:
        return ""  # the missing ones alone made it so
    listed = ", ".join(
        f"{value} ({datetime.fromtimestamp(start, UTC):%d/%m/%y %H:%M:%S})" for start, value in points
    )
    needed, change = alarm.datapoints_to_alarm, "OK -> ALARM"
    if not alarming:
        needed, change = alarm.evaluation_periods - needed + 1, "ALARM -> OK"
    return (
        f"{len(points)} out of the last {len(verdict.evaluated)} datapoints [{listed}] "
        f"{_be(len(points))} {'' if alarming else 'not '}{_PHRASES[alarm.comparison]} "
        f"the threshold ({alarm.threshold}) (minimum {_count(needed, 'datapoint')} for {change} transition)"
    )


def _nothing(verdict: Verdict) -> str:
    return f"no datapoints were received for {_count(verdict.missing, 'period')}"


def _filled(verdict: Verdict) -> str:
    treated = f"{_be(verdict.missing)} treated as [{_TREATED_AS[verdict.treatment]}]"
    return f"{_count(verdict.missing, 'missing datapoint')} {treated}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _be(number: int) -> str:
    return "was" if number == 1 else "were"
