"""What `charts.js` draws: each chart as plain data, times in milliseconds as it wants them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from sluice_harness.review.figures import figure

# Statistics of which a period without data has counted nothing.
COUNTING = ("Sum", "SampleCount")

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sluice_harness.cloudwatch.definitions import Series
    from sluice_harness.review.alarms import AlarmReport
    from sluice_harness.review.objectives import Objective
    from sluice_harness.review.panels import DrawnLine, Panel
    from sluice_harness.review.widgets import Axis
    from sluice_harness.review.window import Window

    Points = list[tuple[int, float | None]]


def panel_chart(panel: Panel, window: Window) -> dict[str, Any]:
    """Return a metric widget's chart; a line without points keeps its place, so that colours fit the legend."""
    widget = panel.widget
    starts = window.starts(panel.period)
    lines = [
        new_line(
            drawn.line.label,
            _on_grid(drawn, starts) if widget.stacked else _with_gaps(drawn.points, drawn.period),
            colour=drawn.line.colour,
            right=drawn.line.right,
        )
        for drawn in panel.lines
    ]
    rules = [
        {"label": rule.label, "value": rule.value, "colour": rule.colour, "right": rule.right}
        for rule in widget.rules
    ]
    has_right = any(line.line.right for line in panel.lines)
    return _chart(
        window,
        lines=lines,
        rules=rules,
        left=_axis(widget.left),
        stacked=widget.stacked,
        **({"right": _axis(widget.right)} if has_right else {}),
    )


def alarm_chart(report: AlarmReport, window: Window) -> dict[str, Any] | None:
    """Return an alarm's series as steps, each as long as its period, with the threshold; None of a composite."""
    alarm = report.metric
    if alarm is None:
        return None
    points: Points = []
    for start, value in sorted(report.series.items()):
        # Earlier periods than the window's are evaluated, but not shown.
        if points and points[-1][0] < _ms(start):
            points.append((points[-1][0], None))
        if start + alarm.period > window.start:
            begin = max(start, window.start)
            points += [(_ms(begin), finite(value)), (_ms(start + alarm.period), finite(value))]
    above = alarm.comparison.startswith("Greater")
    rule = {"label": figure(alarm.threshold), "value": alarm.threshold, "breach": "above" if above else "below"}
    return _chart(window, lines=[new_line(report.name, points)], rules=[rule], left={"label": ""}, steps=True)


def objective_chart(objective: Objective, window: Window) -> dict[str, Any]:
    """Return how an objective's error budget was spent, in percent of the window's own."""
    points = [(_ms(at), finite(100 * left)) for at, left in sorted(objective.left.items())]
    start: Points = [(_ms(window.start), 100.0)]
    line = new_line("budget left", [*start, *points] if points else [])
    overspent = any(left < 0 for left in objective.left.values())
    axis = {"label": "% left", **({} if overspent else {"max": 100, "interval": 50})}
    return _chart(window, lines=[line], left=axis, area=True)


def _chart(window: Window, **parts: Any) -> dict[str, Any]:
    return {"start": _ms(window.start), "end": _ms(window.end), **parts}


def new_line(label: str, points: Points, *, colour: str = "", right: bool = False) -> dict[str, Any]:
    """Return a line; points are epoch ms and values, None where there is a gap."""
    return {"label": label, "points": points, "colour": colour, "right": right}


def _axis(axis: Axis) -> dict[str, Any]:
    return {"label": axis.label, "min": axis.minimum, "max": axis.maximum}


def _with_gaps(series: Series, period: int) -> Points:
    """Return the points, with an empty one where at least one is missing: nothing is drawn through it."""
    points: Points = []
    before: int | None = None
    for at, value in sorted(series.items()):
        if before is not None and at > before + period:
            points.append((_ms(before + period), None))
        points.append((_ms(at), finite(value)))
        before = at
    return points


def _on_grid(drawn: DrawnLine, starts: Sequence[int]) -> Points:
    """Return a point for each period, since only those at one time are stacked; nothing counted is zero."""
    stat = drawn.line.query.stat
    nothing = 0.0 if drawn.points and stat and stat.stat in COUNTING else None
    return [(_ms(start), finite(drawn.points.get(start, nothing))) for start in starts]


def _ms(seconds: float) -> int:
    return round(1_000 * seconds)


def finite(value: float | None) -> float | None:
    """Return a value as charts take it, which is not infinite."""
    # Six digits are more than a chart shows, and much less than a float takes.
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None
