"""Reads a dashboard's JSON into widgets.

As much of it as an SRE is likely to paste from the console: metrics over time and as single values, alarms, text.
What is not drawn here is kept as a widget with a problem, which the review names, never left out.
Source: CloudWatch API reference, "Dashboard body structure and syntax".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sluice_harness.cloudwatch.definitions import Metric, MetricStat, Query
from sluice_harness.cloudwatch.expressions import UnsupportedExpression
from sluice_harness.cloudwatch.statistics import UnsupportedStatistic, check_statistic
from sluice_harness.review.search import Search
from sluice_harness.review.window import MINUTE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    ListMetrics = Callable[[str, str], Sequence[Metric]]

_VIEWS = ("timeSeries", "singleValue")
# The console's default, in seconds.
_PERIOD = 300
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


class UnsupportedWidget(ValueError):  # noqa: N818 - it tells what a widget is
    """A widget that is malformed, or of a kind that is not drawn here."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a widget is on the grid of 24 columns; zero-based."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Line:
    """One metric or expression of a widget; `query.returns` says whether it is drawn."""

    query: Query
    label: str
    colour: str
    right: bool


@dataclass(frozen=True, slots=True)
class Axis:
    """A vertical axis; None is for the data to say."""

    label: str = ""
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """A horizontal annotation."""

    label: str
    value: float
    colour: str
    right: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Widget:
    """What all widgets have; one of this class itself is one that cannot be drawn.

    Attributes
    ----------
    problem : str
        Why not.

    """

    place: Place
    title: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextWidget(Widget):
    """Markdown."""

    markdown: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmWidget(Widget):
    """The states of alarms, by ARN."""

    arns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricWidget(Widget):
    """Metrics over time, or as single values.

    Attributes
    ----------
    period : int
        Seconds; that of its expressions.
    whole_range : bool
        Whether its one period is all of the time shown (``setPeriodToTimeRange``).

    """

    lines: tuple[Line, ...]
    period: int
    single_value: bool = False
    whole_range: bool = False
    stacked: bool = False
    left: Axis = Axis()
    right: Axis = Axis()
    rules: tuple[Rule, ...] = ()


def read_widgets(body: Mapping[str, Any], list_metrics: ListMetrics) -> list[Widget]:
    """Return a dashboard's widgets from the top left to the bottom right.

    Parameters
    ----------
    body : Mapping
        What GetDashboard returns, parsed.
    list_metrics : callable
        Returns the metrics of a namespace and name, for ``SEARCH``.

    """
    widgets = [_read(widget, list_metrics) for widget in body.get("widgets", [])]
    return sorted(widgets, key=lambda widget: (widget.place.y, widget.place.x))


def _read(widget: Mapping[str, Any], list_metrics: ListMetrics) -> Widget:
    properties = widget.get("properties", {})
    # The console's defaults of a widget without a size.
    place = Place(widget.get("x", 0), widget.get("y", 0), widget.get("width", 6), widget.get("height", 6))
    title = properties.get("title", "")
    try:
        match widget["type"]:
            case "text":
                return TextWidget(place=place, markdown=properties["markdown"])
            case "alarm":
                return AlarmWidget(place=place, title=title, arns=tuple(properties["alarms"]))
            case "metric":
                return _metric_widget(place, title, properties, list_metrics)
            case kind:
                return Widget(place=place, title=title, problem=f"widgets of type {kind} are not drawn here")
    except (UnsupportedWidget, UnsupportedStatistic, UnsupportedExpression) as error:
        return Widget(place=place, title=title, problem=str(error))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        return Widget(place=place, title=title, problem=f"malformed: {error!r}")


def _metric_widget(
    place: Place,
    title: str,
    properties: Mapping[str, Any],
    list_metrics: ListMetrics,
) -> MetricWidget:
    view = properties.get("view", "timeSeries")
    if view not in _VIEWS:
        raise UnsupportedWidget(f"the view {view} is not drawn here, only {' and '.join(_VIEWS)}")
    axes = properties.get("yAxis", {})
    return MetricWidget(
        place=place,
        title=title,
        lines=tuple(_lines(properties, list_metrics)),
        period=_period(properties),
        single_value=view == "singleValue",
        whole_range=view == "singleValue" and properties.get("setPeriodToTimeRange", False),
        stacked=properties.get("stacked", False),
        left=_axis(axes.get("left", {})),
        right=_axis(axes.get("right", {})),
        rules=tuple(_rules(properties.get("annotations", {}))),
    )


def _axis(settings: Mapping[str, Any]) -> Axis:
    return Axis(settings.get("label", ""), settings.get("min"), settings.get("max"))


def _rules(annotations: Mapping[str, Any]) -> Iterator[Rule]:
    others = annotations.keys() - {"horizontal"}
    if others:
        raise UnsupportedWidget(f"{', '.join(sorted(others))} annotations are not drawn here")
    for rule in annotations.get("horizontal", []):
        if not isinstance(rule, dict):
            raise UnsupportedWidget("bands between annotations are not drawn here")
        colour, right = _colour(rule), rule.get("yAxis") == "right"
        yield Rule(rule.get("label", ""), float(rule["value"]), colour, right)


def _lines(properties: Mapping[str, Any], list_metrics: ListMetrics) -> Iterator[Line]:
    previous: list[str] = []
    for number, entry in enumerate(properties["metrics"]):
        parts = [part for part in entry if isinstance(part, str)]
        settings = next((part for part in entry if isinstance(part, dict)), {})
        identifier = settings.get("id", f"line{number}")
        if "expression" in settings:
            yield from _expression(identifier, settings, properties, list_metrics)
            continue
        previous = _repeated(parts, previous)
        metric = _metric(previous)
        label = settings.get("label") or metric.name
        yield _line(identifier, label, settings, _stat(metric, settings, properties), None)


def _expression(
    identifier: str,
    settings: Mapping[str, Any],
    properties: Mapping[str, Any],
    list_metrics: ListMetrics,
) -> Iterator[Line]:
    search = Search.read(settings["expression"])
    if search is None:
        label = settings.get("label") or settings["expression"]
        yield _line(identifier, label, settings, None, settings["expression"])
        return
    found = search.matches(list_metrics(search.namespace, search.name))
    chosen = {"stat": search.stat, **({"period": search.period} if search.period else {})}
    for number, metric in enumerate(found):
        label = " ".join(filter(None, [settings.get("label", ""), search.label(metric)]))
        yield _line(f"{identifier}{number}", label, settings, _stat(metric, chosen, properties), None)
    if not found:
        # Kept as a line, so that a search that finds nothing is seen to find nothing.
        nothing = MetricStat(search.pattern, search.stat, _period(properties))
        yield _line(identifier, settings.get("label") or search.name, settings, nothing, None)


def _line(
    identifier: str, label: str, settings: Mapping[str, Any], stat: MetricStat | None, expression: str | None
) -> Line:
    visible = settings.get("visible", True)
    query = Query(identifier, label, stat, expression, settings.get("period"), visible)
    return Line(query, label, _colour(settings), settings.get("yAxis") == "right")


def _stat(metric: Metric, settings: Mapping[str, Any], properties: Mapping[str, Any]) -> MetricStat:
    stat = settings.get("stat", properties.get("stat", "Average"))
    check_statistic(stat)
    return MetricStat(metric, stat, _period({**properties, **settings}))


def _period(settings: Mapping[str, Any]) -> int:
    period = int(settings.get("period", _PERIOD))
    if period % MINUTE or not period:
        raise UnsupportedWidget(f"a period of {period} s is not drawn here, only whole minutes")
    return period


def _repeated(parts: Sequence[str], previous: Sequence[str]) -> list[str]:
    """Fill in what an entry has from the one before: ``.`` is the same part, ``...`` all that are not given."""
    if "..." in parts:
        at = parts.index("...")
        after = parts[at + 1 :]
        parts = [*parts[:at], *previous[at : len(previous) - len(after)], *after]
    return [previous[index] if part == "." else part for index, part in enumerate(parts)]


def _metric(parts: Sequence[str]) -> Metric:
    namespace, name, *rest = parts
    if len(rest) % 2:
        raise UnsupportedWidget(f"{name} has a dimension without a value")
    return Metric(namespace, name, tuple(sorted(zip(rest[::2], rest[1::2], strict=True))))


def _colour(settings: Mapping[str, Any]) -> str:
    """Return a colour that is one, since it goes into the page's style."""
    colour = settings.get("color", "")
    return colour if _COLOUR.fullmatch(colour) else ""
