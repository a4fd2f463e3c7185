"""An alarm as the review shows it: its condition, its series against its threshold, its history, its drill."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sluice_harness.cloudwatch.definitions import CompositeAlarm, MetricAlarm
from sluice_harness.cloudwatch.expressions import UnsupportedExpression
from sluice_harness.review.panels import metric_text
from sluice_harness.review.window import spoken

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sluice_harness.cloudwatch.definitions import Query, Series
    from sluice_harness.review.series import SeriesReader, Wanted
    from sluice_harness.review.window import Window

# What `sluice_infra.observability_stack` writes into each alarm's description.
_DESCRIPTION = re.compile(r"(?P<means>.*) Severity: (?P<severity>\w+)\. Runbook: (?P<runbook>\S+)", re.DOTALL)
_SIGNS = {
    "GreaterThanOrEqualToThreshold": "≥",
    "GreaterThanThreshold": ">",
    "LessThanThreshold": "<",
    "LessThanOrEqualToThreshold": "≤",
}
CRITICAL, WARNING = "critical", "warning"


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of an alarm's state, at an epoch second of the stage's time."""

    at: float
    before: str
    after: str
    reason: str


@dataclass(frozen=True, slots=True)
class Span:
    """How long an alarm was in a state; `start` and `end` are epoch seconds."""

    state: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Drill:
    """What `nox -s drill` found of an alarm; real seconds, None for what did not happen; `what` was broken.

    Attributes
    ----------
    ok_awaited : bool
        Whether it was waited for until it was OK again; a window of six hours takes longer than a drill.

    """

    fired: bool
    alarm_after_s: float | None
    ok_after_s: float | None
    notified: bool
    what: str
    ok_awaited: bool = True


@dataclass(frozen=True, slots=True)
class AlarmState:
    """An alarm as DescribeAlarms gives it: its definition, and its state since when and why."""

    definition: MetricAlarm | CompositeAlarm
    state: str
    since: float
    reason: str
    transitions: tuple[Transition, ...] = ()


@dataclass(frozen=True, slots=True)
class AlarmReport:
    """All that the page says of an alarm.

    Attributes
    ----------
    name : str
        Without the stage's prefix.
    condition : str
        When it fires, in words and signs.
    runbook : str
        The page's name, without folder and extension; empty if it has none.
    series : Series
        What is compared with the threshold.
    start : int
        From where on the series was read: before the window, if the alarm looks back further.

    """

    name: str
    alarm: AlarmState
    means: str
    severity: str
    runbook: str
    condition: str
    watched: list[str]
    series: Series
    start: int
    spans: list[Span]
    problem: str = ""
    drill: Drill | None = None
    children: list[str] = field(default_factory=list)

    @property
    def metric(self) -> MetricAlarm | None:
        """The definition of a metric alarm; None of a composite."""
        return self.alarm.definition if isinstance(self.alarm.definition, MetricAlarm) else None

    @property
    def is_proven(self) -> bool:
        """Whether in its drill the alarm did all that it is there for."""
        if self.drill is None:
            return False
        told = self.drill.notified or not self.alarm.definition.alarm_actions
        is_over = self.drill.ok_after_s is not None or not self.drill.ok_awaited
        return self.drill.fired and told and is_over

    @property
    def fired(self) -> int:
        """How often it went to ALARM in the window."""
        return sum(change.after == "ALARM" for change in self.alarm.transitions)


def wanted(alarm: AlarmState, window: Window) -> Iterator[Wanted]:
    """Yield the series that an alarm needs."""
    if isinstance(alarm.definition, MetricAlarm):
        for stat in alarm.definition.stats:
            yield stat, series_start(alarm.definition, window), window.end


def series_start(alarm: MetricAlarm, window: Window) -> int:
    """Return from where on an alarm's series is read: whole periods up to the window's end."""
    return window.end - -(-window.seconds // alarm.period) * alarm.period


def report(
    alarm: AlarmState, window: Window, reader: SeriesReader, prefix: str, drills: Mapping[str, Drill]
) -> AlarmReport:
    """Return all there is to say of an alarm in a window; ``prefix`` is what its stage's alarms begin with."""
    definition = alarm.definition
    name = definition.name.removeprefix(prefix)
    told = _DESCRIPTION.fullmatch(definition.description.strip())
    common = AlarmReport(
        name=name,
        alarm=alarm,
        means=told["means"] if told else definition.description,
        # What does not say how bad it is, is not taken lightly.
        severity=told["severity"] if told and told["severity"] in (CRITICAL, WARNING) else CRITICAL,
        runbook=told["runbook"].rpartition("/")[2].removesuffix(".md") if told else "",
        condition="",
        watched=[],
        series={},
        start=window.start,
        spans=spans(alarm, window),
        drill=drills.get(name),
    )
    if isinstance(definition, CompositeAlarm):
        children = [child.removeprefix(prefix) for child in definition.children]
        return replace(common, condition=_rule(definition, prefix), children=children)
    start = series_start(definition, window)
    problem, series = "", {}
    try:
        found = reader.evaluate(definition.queries, definition.period, start, window.end)
        series = found[definition.watched.id]
    except UnsupportedExpression as error:
        problem = str(error)
    return replace(
        common,
        condition=_condition(definition),
        watched=[_query_text(query) for query in definition.queries],
        series=series,
        start=start,
        problem=problem,
    )


def spans(alarm: AlarmState, window: Window) -> list[Span]:
    """Return the states of an alarm over a window, oldest first, without gaps."""
    changes = sorted(alarm.transitions, key=lambda change: change.at)
    inside = [change for change in changes if window.start <= change.at < window.end]
    state, start = (inside[0].before if inside else alarm.state), float(window.start)
    found = []
    for change in inside:
        found.append(Span(state, start, change.at))
        state, start = change.after, change.at
    found.append(Span(state, start, float(window.end)))
    return [span for span in found if span.end > span.start]


def _condition(alarm: MetricAlarm) -> str:
    watched = alarm.watched
    what = f"{watched.stat.metric.name} {watched.stat.stat}" if watched.stat else "the expression"
    many = f"{alarm.datapoints_to_alarm} of {alarm.evaluation_periods} periods of {spoken(alarm.period)}"
    return (
        f"{what} {_SIGNS[alarm.comparison]} {alarm.threshold:g} for {many}; "
        f"missing data: {alarm.treat_missing_data}"
    )


def _rule(alarm: CompositeAlarm, prefix: str) -> str:
    """Return a composite's rule in words if it is one list, else as it is."""
    text = alarm.rule.text.replace(prefix, "")
    words = set(re.sub(r'"[^"]*"', "", text).replace("(", " ").replace(")", " ").split())
    if words <= {"ALARM", "OR"}:
        text = "fires while any of these does"
    elif words <= {"ALARM", "AND"}:
        text = "fires while all of these do"
    if not alarm.suppressor:
        return text
    return f"{text}; notifies nobody while {alarm.suppressor.removeprefix(prefix)} is in ALARM"


def _query_text(query: Query) -> str:
    if query.stat is None:
        return f"{query.id} = {query.expression}"
    return f"{query.id} = {metric_text(query.stat.metric)} {query.stat.stat}"
