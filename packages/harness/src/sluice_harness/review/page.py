"""Writes the review as one HTML file; see `document`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sluice_harness import consoles
from sluice_harness.ops.output import age
from sluice_harness.review import costs, document, figures, markdown
from sluice_harness.review.alarms import CRITICAL
from sluice_harness.review.charts import COUNTING, alarm_chart, objective_chart, panel_chart
from sluice_harness.review.findings import Severity, alarm_anchor
from sluice_harness.review.panels import Panel
from sluice_harness.review.widgets import AlarmWidget, TextWidget

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sluice_harness.review.alarms import AlarmReport
    from sluice_harness.review.findings import Dashboard
    from sluice_harness.review.panels import DrawnLine
    from sluice_harness.review.review import Review

_TEMPLATE = document.HERE / "page.html.j2"
_STATES = ("ALARM", "INSUFFICIENT_DATA", "OK")
# More of a log query's rows than these nobody reads on a page.
_MOST_ROWS = 100


@dataclass(frozen=True, slots=True)
class Group:
    """The alarms that share a runbook."""

    runbook: str
    alarms: list[AlarmReport]


def render(review: Review) -> str:
    """Return the page.

    Raises
    ------
    NpmError
        ECharts is not there and cannot be installed.

    """
    return document.render(
        _TEMPLATE,
        _charts(review),
        {
            "markdown": lambda text: markdown.render(text, review.runbooks),
            "reading": _reading,
            "console": lambda job: consoles.page(review.stage, job),
            "command": lambda job: consoles.command(review.stage, job),
            "since": lambda job: age(1_000 * review.made_at - (job.executing_since or job.submitted_at)),
        },
        review=review,
        verdict=_verdict(review),
        counts=Counter(str(finding.severity) for finding in review.findings),
        states=Counter(report.alarm.state for report in review.alarms),
        groups=_groups(review.alarms),
        by_arn={report.alarm.definition.arn: report for report in review.alarms},
        quiet=_quiet(review.dashboards),
        kind=_kind,
        anchor=alarm_anchor,
        total=costs.total,
        most_rows=_MOST_ROWS,
    )


def write(review: Review, path: Path) -> None:
    """Write the page to a file."""
    html = render(review)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html)


def _charts(review: Review) -> dict[str, Any]:
    """Return the data of every chart by the anchor of what it belongs to."""
    found: dict[str, Any] = {}
    for objective in review.objectives:
        if objective.left:
            found[f"objective-{objective.name}"] = objective_chart(objective, review.window)
    for dashboard in review.dashboards:
        for item in dashboard.items:
            if _kind(item.content) == "chart":
                assert isinstance(item.content, Panel)  # noqa: S101 - its kind says so
                found[item.anchor] = panel_chart(item.content, review.window)
    for report in review.alarms:
        chart = alarm_chart(report, review.window)
        if chart:
            found[alarm_anchor(report.name)] = chart
    return found


def _kind(content: object) -> str:
    """Return how the template shows a widget."""
    match content:
        case TextWidget():
            return "text"
        case AlarmWidget():
            return "alarms"
        case Panel():
            if content.widget.single_value:
                return "values"
            return "nothing" if content.is_empty else "chart"
        case _:
            return "problem"


def _reading(line: DrawnLine) -> str:
    """Return a line in one number: what was counted adds up, of everything else the most."""
    if not line.points:
        return figures.NOTHING
    stat = line.line.query.stat
    if stat and stat.stat in COUNTING:
        return f"Σ {figures.figure(sum(line.points.values()))}"
    return f"max {figures.figure(max(line.points.values()))}"


def _verdict(review: Review) -> tuple[str, str]:
    """Return how bad it is, and that in words."""
    counts = Counter(finding.severity for finding in review.findings)
    for severity in (Severity.CRITICAL, Severity.WARNING):
        if counts[severity]:
            said = ", ".join(_counted(counts[one], one) for one in Severity if counts[one])
            return str(severity), said
    return "ok", "nothing critical, no warnings"


def _counted(count: int, severity: Severity) -> str:
    plural = "s" if count > 1 and severity is not Severity.CRITICAL else ""
    return f"{count} {severity}{plural}"


def _groups(alarms: Sequence[AlarmReport]) -> list[Group]:
    """Return the alarms by runbook, those that fire first, then those that matter most."""
    pages = dict.fromkeys(report.runbook for report in alarms)
    groups = [Group(page, [report for report in alarms if report.runbook == page]) for page in pages]
    return sorted(groups, key=lambda group: (*min(map(_rank, group.alarms)), group.runbook))


def _rank(report: AlarmReport) -> tuple[int, bool]:
    return _STATES.index(report.alarm.state), report.severity != CRITICAL


def _quiet(dashboards: Sequence[Dashboard]) -> list[tuple[str, str]]:
    """Return the metrics that had no reason to appear, each with that reason, once."""
    panels = [item.content for board in dashboards for item in board.items if isinstance(item.content, Panel)]
    found = {absence.metric: absence.when for panel in panels for absence in panel.absences if absence.when}
    return sorted(found.items())
