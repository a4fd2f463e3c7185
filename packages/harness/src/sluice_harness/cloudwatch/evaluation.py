"""What the points of a metric make of its alarm.

An alarm that fires here and not in the account would be worse than none. So this follows "Evaluating an alarm",
"Configuring how CloudWatch alarms treat missing data" and "Percentile-based alarms and low data samples" in
CloudWatch's guide; where the prose leaves a choice, the tables there decide, and tests hold them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sluice_harness.cloudwatch.definitions import MissingData, State
from sluice_harness.cloudwatch.statistics import required_samples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sluice_harness.cloudwatch.definitions import MetricAlarm, Series

# CloudWatch retrieves "a higher number of data points" than N, and does not say how many; its example has 5 for 3.
EXTRA_PERIODS: Final = 2
# "Alarms that evaluate metrics in the AWS/DynamoDB namespace always ignore missing data" (PutMetricAlarm).
_IGNORES_MISSING: Final = "AWS/DynamoDB"
_MINUTE: Final = 60


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an evaluation came to.

    Attributes
    ----------
    state : State or None
        The alarm's state, or None if it keeps the one it is in.
    evaluated : tuple of (int, float)
        The points that decided, newest first: when each period starts, and its value.
    missing : int
        How many missing points were filled in for N to be evaluated.
    treatment : MissingData
        How those were treated.

    """

    state: State | None
    evaluated: tuple[tuple[int, float], ...]
    missing: int
    treatment: MissingData


def last_minute(now: float) -> int:
    """Return when the last full minute ended, in epoch seconds."""
    return math.floor(now / _MINUTE) * _MINUTE


def evaluation_range(alarm: MetricAlarm, now: float) -> range:
    """Return when each period in an alarm's evaluation range starts, in epoch seconds, oldest first.

    The last one ends with the last full minute, so an hour is the last sixty minutes, whenever that is.
    """
    end = last_minute(now)
    periods = alarm.evaluation_periods + EXTRA_PERIODS
    return range(end - periods * alarm.period, end, alarm.period)


def evaluate(alarm: MetricAlarm, series: Series, starts: Sequence[int], samples: Series) -> Verdict:
    """Evaluate an alarm.

    Parameters
    ----------
    alarm : MetricAlarm
        Its definition.
    series : Series
        The result of its queries.
    starts : Sequence[int]
        Its evaluation range.
    samples : Series
        How many samples each point stands for; asked for only where `counts_samples` says so.

    """
    treatment = treatment_of(alarm)
    points = [(start, series[start]) for start in reversed(starts) if start in series][: alarm.evaluation_periods]
    state = decide(
        [
            alarm.comparison.breached(series[start], alarm.threshold) if start in series else None
            for start in starts
        ],
        alarm.datapoints_to_alarm,
        alarm.evaluation_periods,
        treatment,
    )
    if counts_samples(alarm):
        required = required_samples(alarm.watched.stat.stat) if alarm.watched.stat else 0
        if any(samples.get(start, 0) < required for start, _value in points):
            state = None
    return Verdict(state, tuple(points), alarm.evaluation_periods - len(points), treatment)


def decide(
    breaching: Sequence[bool | None], datapoints_to_alarm: int, evaluation_periods: int, treatment: MissingData
) -> State | None:
    """Return the state that points make, or None to keep the one there is.

    Parameters
    ----------
    breaching : Sequence of bool or None
        For each period of the evaluation range, oldest first, whether its point breaches; None if it is missing.
    datapoints_to_alarm, evaluation_periods : int
        M and N.
    treatment : MissingData
        What stands in for missing points, if fewer than N are there.

    """
    there = [point for point in breaching if point is not None][-evaluation_periods:]
    missing = evaluation_periods - len(there)
    bad = sum(there) + (missing if treatment is MissingData.BREACHING else 0)
    if bad >= datapoints_to_alarm:
        return State.ALARM
    # A point within the threshold is enough to be OK: the rows "0 - - - -" and "0 - X - -" (2 of 3).
    if not missing or not all(there) or treatment in (MissingData.BREACHING, MissingData.NOT_BREACHING):
        return State.OK
    if treatment is MissingData.IGNORE:
        return None
    # "Avoiding premature transitions": an alarm does not wait for ever for the points that would confirm it.
    oldest = next((index for index, point in enumerate(breaching) if point), len(breaching))
    return State.ALARM if len(breaching) - oldest >= datapoints_to_alarm else State.INSUFFICIENT_DATA


def treatment_of(alarm: MetricAlarm) -> MissingData:
    """Return how an alarm treats missing points: as it says, but ``ignore`` if it reads a metric of DynamoDB's."""
    if any(stat.metric.namespace == _IGNORES_MISSING for stat in alarm.stats):
        return MissingData.IGNORE
    return alarm.treat_missing_data


def counts_samples(alarm: MetricAlarm) -> bool:
    """Return whether an alarm keeps its state while a point that it evaluates stands for too few samples."""
    stat = alarm.watched.stat
    return not alarm.evaluate_low_samples and stat is not None and required_samples(stat.stat) > 0
