"""What is wrong, or not to be seen, by severity: the review's first page."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from sluice_harness.cloudwatch.definitions import State
from sluice_harness.review.alarms import CRITICAL
from sluice_harness.review.panels import Panel
from sluice_harness.review.widgets import AlarmWidget, TextWidget

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sluice_harness.review.alarms import AlarmReport, Drill
    from sluice_harness.review.logs import LogResult
    from sluice_harness.review.objectives import Objective
    from sluice_harness.review.widgets import Widget


class Severity(StrEnum):
    """From the worst on."""

    CRITICAL = "critical"
    WARNING = "warning"
    NOTICE = "notice"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding; `anchor` is where on the page it is to be seen."""

    severity: Severity
    title: str
    detail: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Item:
    """One widget of a dashboard, filled with data if it takes any, and where on the page it is."""

    anchor: str
    content: Widget | Panel


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A dashboard with its data."""

    name: str
    items: list[Item]


def findings(
    dashboards: Sequence[Dashboard],
    alarms: Sequence[AlarmReport],
    objectives: Sequence[Objective],
    logs: Sequence[LogResult],
    runbooks: Mapping[str, str],
) -> list[Finding]:
    """Return all findings, the worst first."""
    found = [
        *_of_alarms(alarms),
        *_of_objectives(objectives),
        *of_dashboards(dashboards, {alarm.alarm.definition.arn for alarm in alarms}),
        *_of_drills(alarms),
        *_of_runbooks(alarms, runbooks),
        *_of_logs(logs),
    ]
    return sorted(found, key=lambda finding: list(Severity).index(finding.severity))


def _of_alarms(alarms: Sequence[AlarmReport]) -> Iterator[Finding]:
    if not alarms:
        yield Finding(Severity.CRITICAL, "There are no alarms", "Nobody is told of anything.", "alarms")
    for alarm in alarms:
        anchor = alarm_anchor(alarm.name)
        if alarm.problem:
            yield Finding(Severity.WARNING, f"Alarm {alarm.name} could not be computed", alarm.problem, anchor)
        if alarm.alarm.state == State.ALARM:
            severity = Severity.CRITICAL if alarm.severity == CRITICAL else Severity.WARNING
            yield Finding(severity, f"{alarm.name} is in ALARM", alarm.means, anchor)
    unknown = [alarm.name for alarm in alarms if alarm.alarm.state == State.INSUFFICIENT_DATA]
    if unknown:
        title = f"{_alarms(unknown)} not enough data to tell"
        yield Finding(Severity.WARNING, title, ", ".join(unknown), _anchor(unknown))
    fired = [alarm.name for alarm in alarms if alarm.fired and alarm.alarm.state == State.OK]
    if fired:
        title = f"{_alarms(fired)} fired, and {'is' if len(fired) == 1 else 'are'} OK again"
        yield Finding(Severity.NOTICE, title, ", ".join(fired), _anchor(fired))


def _alarms(names: Sequence[str]) -> str:
    return "One alarm has" if len(names) == 1 else f"{len(names)} alarms have"


def _anchor(names: Sequence[str]) -> str:
    return alarm_anchor(names[0]) if len(names) == 1 else "alarms"


def _of_objectives(objectives: Sequence[Objective]) -> Iterator[Finding]:
    for objective in objectives:
        anchor = f"objective-{objective.name}"
        if objective.rate is None:
            yield Finding(
                Severity.NOTICE, f"Nothing came for the {objective.name} objective", objective.means, anchor
            )
        elif objective.rate > 1:
            spent = f"The window spent {objective.rate:.1f} times the budget of its own length."
            yield Finding(Severity.WARNING, f"The {objective.name} objective is missed", spent, anchor)


def of_dashboards(dashboards: Sequence[Dashboard], arns: set[str]) -> Iterator[Finding]:
    """Yield what is not to be seen on dashboards; `arns` are those of the alarms that there are."""
    if not dashboards:
        yield Finding(Severity.WARNING, "There are no dashboards", "There is nothing to look at.", "dashboards")
    for dashboard in dashboards:
        for item in dashboard.items:
            yield from _of_item(dashboard.name, item, arns)


def _of_item(dashboard: str, item: Item, arns: set[str]) -> Iterator[Finding]:
    content = item.content
    match content:
        case Panel():
            yield from _of_panel(f"{dashboard}: {content.widget.title or 'untitled'}", content, item.anchor)
        case AlarmWidget():
            unknown = [arn.rpartition(":")[2] for arn in content.arns if arn not in arns]
            if unknown:
                title = f"{dashboard}: {content.title or 'alarms'} names alarms that are not there"
                yield Finding(Severity.WARNING, title, ", ".join(unknown), item.anchor)
        case TextWidget():
            return
        case _:
            title = f"{dashboard}: {content.title or 'a widget'} could not be drawn"
            yield Finding(Severity.WARNING, title, content.problem, item.anchor)


def _of_panel(title: str, panel: Panel, anchor: str) -> Iterator[Finding]:
    if panel.problem:
        yield Finding(Severity.WARNING, f"{title} could not be drawn", panel.problem, anchor)
    elif panel.is_empty and (panel.missing or not panel.absences):
        missing = ", ".join(absence.metric for absence in panel.missing) or "Its expressions give no value."
        yield Finding(Severity.WARNING, f"{title} has no data", missing, anchor)
    elif panel.missing:
        missing = ", ".join(absence.metric for absence in panel.missing)
        yield Finding(Severity.NOTICE, f"{title} has metrics without data", missing, anchor)


def _of_drills(alarms: Sequence[AlarmReport]) -> Iterator[Finding]:
    drilled = [alarm for alarm in alarms if alarm.drill]
    untried = [alarm.name for alarm in alarms if not alarm.drill]
    if drilled and untried:
        title = f"The last drill left out {len(untried)} of {len(alarms)} alarms"
        yield Finding(Severity.WARNING, title, f"Nobody knows whether these fire: {', '.join(untried)}", "alarms")
    for alarm in drilled:
        if alarm.drill and not alarm.is_proven:
            title = f"{alarm.name} failed its drill"
            yield Finding(Severity.WARNING, title, _outcome(alarm.drill), alarm_anchor(alarm.name))


def _outcome(drill: Drill) -> str:
    if not drill.fired:
        return f"It did not fire when {drill.what}."
    if drill.ok_after_s is None:
        return f"It fired when {drill.what}, but was not OK again when that was mended."
    return f"It fired when {drill.what}, but its subscriber was not told."


def _of_runbooks(alarms: Sequence[AlarmReport], runbooks: Mapping[str, str]) -> Iterator[Finding]:
    pages = dict.fromkeys(alarm.runbook for alarm in alarms if alarm.runbook not in runbooks)
    if pages:
        missing = ", ".join(page or "(none named)" for page in pages)
        title = f"{len(pages)} runbooks are missing" if len(pages) > 1 else "A runbook is missing"
        yield Finding(Severity.WARNING, title, missing, "alarms")


def _of_logs(logs: Sequence[LogResult]) -> Iterator[Finding]:
    for result in logs:
        if result.problem:
            title = f"The log query {result.query.name} failed"
            yield Finding(Severity.WARNING, title, result.problem, f"query-{result.query.name}")


def alarm_anchor(name: str) -> str:
    """Return where on the page an alarm is."""
    return f"alarm-{name}"
