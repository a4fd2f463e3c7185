"""Fills a dashboard's widgets with data, and says of what has none why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sluice_harness.cloudwatch.expressions import UnsupportedExpression, parse
from sluice_harness.review.absences import appears_when

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sluice_harness.cloudwatch.definitions import Metric, Query, Series
    from sluice_harness.description import Functions
    from sluice_harness.review.series import SeriesReader, Wanted
    from sluice_harness.review.widgets import Line, MetricWidget
    from sluice_harness.review.window import Window


@dataclass(frozen=True, slots=True)
class Absence:
    """A metric without data.

    Attributes
    ----------
    when : str
        What has to happen before it has some; empty if it should have some.

    """

    metric: str
    when: str


@dataclass(frozen=True, slots=True)
class DrawnLine:
    """A visible line with its points, a period of seconds apart; `absence` says why there are none."""

    line: Line
    period: int
    points: Series
    absence: Absence | None


@dataclass(frozen=True, slots=True)
class Panel:
    """A metric widget with its data.

    Attributes
    ----------
    absences : list of Absence
        Of all its metrics, hidden operands too.
    problem : str
        Why it could not be computed.

    """

    widget: MetricWidget
    period: int
    lines: list[DrawnLine]
    absences: list[Absence]
    problem: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(line.points for line in self.lines)

    @property
    def missing(self) -> list[Absence]:
        """Those absences that are a finding."""
        return [absence for absence in self.absences if not absence.when]


def wanted(widget: MetricWidget, window: Window) -> Iterator[Wanted]:
    """Yield the series that a widget needs."""
    for query in _queries(widget, window):
        if query.stat is not None:
            yield query.stat, window.start, window.end


def draw(widget: MetricWidget, window: Window, reader: SeriesReader, functions: Functions) -> Panel:
    """Return a widget with its data in a window."""
    queries = _queries(widget, window)
    period = _period(widget, window, widget.period)
    absences = {
        query.id: Absence(metric_text(query.stat.metric), appears_when(query.stat.metric, functions))
        for query in queries
        if query.stat is not None and not reader.read(query.stat, window.start, window.end)
    }
    try:
        series = reader.evaluate(queries, period, window.start, window.end)
    except UnsupportedExpression as error:
        return Panel(widget, period, [], list(absences.values()), str(error))
    lines = [
        _drawn(line, query.stat.period if query.stat else period, series[query.id], absences)
        for line, query in zip(widget.lines, queries, strict=True)
        if query.returns
    ]
    return Panel(widget, period, lines, list(absences.values()))


def _drawn(line: Line, period: int, points: Series, absences: dict[str, Absence]) -> DrawnLine:
    return DrawnLine(line, period, points, None if points else _absence(line.query, absences))


def metric_text(metric: Metric) -> str:
    """Return a metric as a person writes it: ``AWS/SQS NumberOfMessagesSent (QueueName=work)``."""
    dimensions = ", ".join(f"{name}={value}" for name, value in metric.dimensions)
    return f"{metric.namespace} {metric.name}" + (f" ({dimensions})" if dimensions else "")


def _absence(query: Query, absences: dict[str, Absence]) -> Absence:
    """Return why a line is empty: for an expression, because of those of its operands that are."""
    if query.expression is None:
        return absences[query.id]
    operands = [absences[name] for name in parse(query.expression).names if name in absences]
    causes = [absence for absence in operands if not absence.when] or operands
    if not causes:
        return Absence(query.expression, "its operands give a value")
    return Absence(query.expression, causes[0].when)


def _queries(widget: MetricWidget, window: Window) -> list[Query]:
    return [_over(line.query, widget, window) for line in widget.lines]


def _over(query: Query, widget: MetricWidget, window: Window) -> Query:
    if query.stat is None:
        return query
    return replace(query, stat=replace(query.stat, period=_period(widget, window, query.stat.period)))


def _period(widget: MetricWidget, window: Window, wanted: int) -> int:
    return window.seconds if widget.whole_range else window.period(wanted)
