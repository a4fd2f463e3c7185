"""Metrics, queries and alarms as CloudWatch defines them.

The review reads the alarms of a synthesized template, the local stage those of a stack and an account those of
DescribeAlarms: three sources of one shape. Read once into these, the rest need not know which it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sluice_harness.cloudwatch import composites, expressions, statistics
from sluice_harness.cloudwatch.properties import Properties, UnsupportedAlarm

if TYPE_CHECKING:
    from collections.abc import Mapping

Series = dict[int, float]
"""The epoch second at which a period starts -> its value; a period without data has no entry."""

_MINUTE: Final = 60
_Enum = TypeVar("_Enum", bound=StrEnum)


class State(StrEnum):
    """The state of an alarm."""

    OK = "OK"
    ALARM = "ALARM"
    INSUFFICIENT_DATA = "INSUFFICIENT_DATA"


class MissingData(StrEnum):
    """What stands in for points that are missing."""

    MISSING = "missing"
    IGNORE = "ignore"
    BREACHING = "breaching"
    NOT_BREACHING = "notBreaching"


class Comparison(StrEnum):
    """How a point breaches a threshold."""

    GREATER_OR_EQUAL = "GreaterThanOrEqualToThreshold"
    GREATER = "GreaterThanThreshold"
    LESS = "LessThanThreshold"
    LESS_OR_EQUAL = "LessThanOrEqualToThreshold"

    def breached(self, value: float, threshold: float) -> bool:
        """Return whether a value breaches a threshold."""
        if self is Comparison.GREATER_OR_EQUAL:
            return value >= threshold
        if self is Comparison.GREATER:
            return value > threshold
        return value < threshold if self is Comparison.LESS else value <= threshold


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: its namespace, its name, and its dimensions sorted by name."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class MetricStat:
    """A statistic of a metric over periods of so many seconds, of samples of one unit if one is named."""

    metric: Metric
    stat: str
    period: int
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """One entry of GetMetricData's ``MetricDataQueries``: a statistic or an expression, never both.

    Attributes
    ----------
    period : int or None
        An expression's own period in seconds, if it states one.
    returns : bool
        Whether it is a result (``ReturnData``), or only an operand of other expressions.

    """

    id: str
    label: str = ""
    stat: MetricStat | None = None
    expression: str | None = None
    period: int | None = None
    returns: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """What metric and composite alarms have in common; ``arn`` is empty where nobody has given it one."""

    name: str
    description: str = ""
    arn: str = ""
    actions_enabled: bool = True
    alarm_actions: tuple[str, ...] = ()
    ok_actions: tuple[str, ...] = ()
    insufficient_data_actions: tuple[str, ...] = ()

    def actions(self, state: State) -> tuple[str, ...]:
        """Return the ARNs to notify of a state; none if actions are disabled."""
        if not self.actions_enabled:
            return ()
        if state is State.ALARM:
            return self.alarm_actions
        return self.ok_actions if state is State.OK else self.insufficient_data_actions


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricAlarm(Alarm):
    """An alarm on a metric, or on the result of metric math.

    Attributes
    ----------
    queries : tuple of Query
        All that it reads; exactly one returns.
    period : int
        Seconds, a multiple of 60.
    evaluation_periods, datapoints_to_alarm : int
        N and M.
    evaluate_low_samples : bool
        Whether a percentile of too few samples is evaluated, or keeps the state.
    math : bool
        Whether it was defined by ``Metrics``, and so is told of in notifications.

    """

    queries: tuple[Query, ...]
    period: int
    threshold: float
    comparison: Comparison
    evaluation_periods: int
    datapoints_to_alarm: int
    treat_missing_data: MissingData = MissingData.MISSING
    evaluate_low_samples: bool = True
    math: bool = False

    @property
    def watched(self) -> Query:
        """The query whose result is compared with the threshold."""
        return next(query for query in self.queries if query.returns)

    @property
    def stats(self) -> list[MetricStat]:
        """What has to be fetched to evaluate it, its expressions apart."""
        return [query.stat for query in self.queries if query.stat is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompositeAlarm(Alarm):
    """An alarm on the states of other alarms.

    Attributes
    ----------
    suppressor : str
        The name of the alarm that suppresses its actions, or empty.
    wait_period, extension_period : int
        Seconds.

    """

    rule: composites.Rule
    suppressor: str = ""
    wait_period: int = 0
    extension_period: int = 0

    @property
    def children(self) -> tuple[str, ...]:
        """The names of the alarms in its rule, each once, in their order there."""
        return self.rule.children


def read_alarm(properties: Mapping[str, Any]) -> MetricAlarm | CompositeAlarm:
    """Read an alarm from CloudFormation's properties or from an entry of DescribeAlarms.

    Raises
    ------
    UnsupportedAlarm
        If it is malformed or asks for what is not evaluated here: anomaly detection, other accounts, PromQL,
        periods below a minute. It names the alarm, as do errors of its expressions, statistics and rule.

    """
    name = properties.get("AlarmName")
    if not isinstance(name, str) or not name:
        raise UnsupportedAlarm(f"AlarmName is {name!r} where a name should be")
    source = Properties(name, properties)
    common: dict[str, Any] = {
        "name": name,
        "description": source.text("AlarmDescription", ""),
        "arn": source.text("AlarmArn", ""),
        "actions_enabled": source.flag("ActionsEnabled", default=True),
        "alarm_actions": source.texts("AlarmActions"),
        "ok_actions": source.texts("OKActions"),
        "insufficient_data_actions": source.texts("InsufficientDataActions"),
    }
    return _composite(source, common) if "AlarmRule" in source else _metric_alarm(source, common)


def _composite(source: Properties, common: dict[str, Any]) -> CompositeAlarm:
    try:
        rule = composites.parse(source.text("AlarmRule"))
    except composites.UnsupportedRule as error:
        raise source.error(f"AlarmRule: {error}") from error
    if "ActionsSuppressor" not in source:
        return CompositeAlarm(**common, rule=rule)
    return CompositeAlarm(
        **common,
        rule=rule,
        suppressor=composites.name_in(source.text("ActionsSuppressor")),
        wait_period=source.integer("ActionsSuppressorWaitPeriod"),
        extension_period=source.integer("ActionsSuppressorExtensionPeriod"),
    )


def _metric_alarm(source: Properties, common: dict[str, Any]) -> MetricAlarm:
    source.refuse("ThresholdMetricId", "EvaluationCriteria", "EvaluationInterval")
    queries = _queries(source) if "Metrics" in source else (_simple(source),)
    evaluation_periods = source.integer("EvaluationPeriods")
    datapoints_to_alarm = source.integer("DatapointsToAlarm", evaluation_periods)
    if not 1 <= datapoints_to_alarm <= evaluation_periods:
        raise source.error(f"{datapoints_to_alarm} of {evaluation_periods} datapoints cannot be")
    return MetricAlarm(
        **common,
        queries=queries,
        period=_period(source, queries),
        threshold=source.number("Threshold"),
        comparison=_member(source, "ComparisonOperator", Comparison),
        evaluation_periods=evaluation_periods,
        datapoints_to_alarm=datapoints_to_alarm,
        treat_missing_data=_member(source, "TreatMissingData", MissingData, MissingData.MISSING),
        evaluate_low_samples=_evaluates_low_samples(source),
        math="Metrics" in source,
    )


def _simple(source: Properties) -> Query:
    if "MetricName" not in source:
        raise source.error("it has neither MetricName nor Metrics nor AlarmRule")
    if ("Statistic" in source) == ("ExtendedStatistic" in source):
        raise source.error("it needs one of Statistic and ExtendedStatistic")
    stat = source.text("Statistic" if "Statistic" in source else "ExtendedStatistic")
    return Query("m1", stat=_stat(source, source, stat))


def _queries(source: Properties) -> tuple[Query, ...]:
    queries = tuple(_query(part) for part in source.parts("Metrics"))
    results = [query.id for query in queries if query.returns]
    if len(results) != 1:
        raise source.error(f"exactly one of its Metrics may return data, not {results}")
    if len({query.id for query in queries}) < len(queries):
        raise source.error("two of its Metrics have one Id")
    try:
        expressions.check(queries)
    except expressions.UnsupportedExpression as error:
        raise source.error(str(error)) from error
    return queries


def _query(part: Properties) -> Query:
    part.refuse("AccountId")
    query_id, label = part.text("Id"), part.text("Label", "")
    returns = part.flag("ReturnData", default=True)
    if "Expression" in part:
        period = part.integer("Period") if "Period" in part else None
        return Query(query_id, label, None, part.text("Expression"), period, returns)
    stat = part.part("MetricStat")
    return Query(query_id, label, _stat(stat.part("Metric"), stat, stat.text("Stat")), None, None, returns)


def _stat(metric: Properties, stat: Properties, name: str) -> MetricStat:
    try:
        statistics.check_statistic(name)
    except statistics.UnsupportedStatistic as error:
        raise stat.error(str(error)) from error
    dimensions = sorted((one.text("Name"), one.text("Value")) for one in metric.parts("Dimensions"))
    unit = stat.text("Unit") if "Unit" in stat else None
    return MetricStat(
        Metric(metric.text("Namespace"), metric.text("MetricName"), tuple(dimensions)),
        name,
        stat.integer("Period"),
        unit,
    )


def _period(source: Properties, queries: tuple[Query, ...]) -> int:
    """Return the one period of all: "Each metric must be using the same period" (alarms on math expressions)."""
    periods = {query.stat.period if query.stat else query.period for query in queries} - {None}
    if len(periods) != 1:
        raise source.error(f"its metrics need one period, not {sorted(map(str, periods))}")
    period = periods.pop()
    if not period or period % _MINUTE:
        raise source.error(f"a period of {period} s is not supported, only multiples of {_MINUTE} s")
    return period


def _evaluates_low_samples(source: Properties) -> bool:
    choice = source.text("EvaluateLowSampleCountPercentile", "evaluate") or "evaluate"
    if choice not in ("evaluate", "ignore"):
        raise source.error(f"EvaluateLowSampleCountPercentile is {choice!r}, not evaluate or ignore")
    return choice == "evaluate"


def _member(source: Properties, name: str, members: type[_Enum], default: _Enum | None = None) -> _Enum:
    value = source.text(name, default)
    try:
        return members(value)
    except ValueError:
        raise source.error(f"{name} {value!r} is not supported, only {', '.join(members)}") from None
