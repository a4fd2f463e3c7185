"""Whether what is watched tells the truth: metrics that add up, the right alarms and no others, widgets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluice_core import metrics as catalogue

from sluice_harness.loadtest.check import Check
from sluice_harness.review.figures import figure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sluice_harness.loadtest.evidence import Evidence, MetricCount
    from sluice_harness.review.alarms import AlarmState

_ALARM = "ALARM"


def metrics(evidence: Evidence) -> Iterator[Check]:
    """Check each count: the metric's sum, the ledger's rows and, where there is one, the clients' number."""
    for count in evidence.stage.counts:
        yield _count(count)


def agrees(count: MetricCount) -> bool:
    """Whether a count is the same wherever it is taken; of what never happened there need be no metric."""
    if count.client is not None and count.client != count.ledger:
        return False
    return abs((count.summed or 0.0) - count.ledger) <= count.edge


def _count(count: MetricCount) -> Check:
    others = "the ledger has" if count.client is None else f"clients have {count.client:,}, the ledger has"
    what = "no data" if count.summed is None else f"the metric has {figure(count.summed)}"
    edge = f"; {count.edge} jobs of others at the window's ends may be on either side" if count.edge else ""
    # Clients' submissions are compared with the run's own jobs, the others with all that the window has.
    scope = "of this run" if count.name == catalogue.CLIENT_SUBMISSIONS.name else "in the window"
    return Check(
        "metrics",
        count.name,
        held=agrees(count),
        expected=f"{count.ledger:,}",
        measured="no data" if count.summed is None else figure(count.summed),
        detail=f"{what}, {others} {count.ledger:,} {scope}{edge}",
    )


def fired(evidence: Evidence) -> dict[str, AlarmState]:
    """Return the alarms that went to ALARM, by their names without prefix."""
    return {
        name: alarm
        for name, alarm in _by_name(evidence).items()
        if any(change.after == _ALARM for change in alarm.transitions)
    }


def in_alarm_before(evidence: Evidence) -> set[str]:
    """Return the alarms that were in ALARM already when the run began."""
    found = set()
    for name, alarm in _by_name(evidence).items():
        first = min(alarm.transitions, key=lambda change: change.at, default=None)
        if (first.before if first else alarm.state) == _ALARM:
            found.add(name)
    return found


def alarms(evidence: Evidence) -> Iterator[Check]:
    """Check that every expected alarm fired, and that none did that is neither expected nor allowed."""
    scenario, there = evidence.scenario, _by_name(evidence)
    seen = fired(evidence)
    for name in sorted(scenario.expected_alarms):
        alarm = there.get(name)
        state = alarm.state if alarm else "there is no such alarm"
        yield Check(
            "alarms",
            name,
            held=name in seen,
            expected="fires",
            measured="fired" if name in seen else f"did not fire: {state}",
            detail=alarm.reason if alarm and name not in seen else "",
        )
    wrong = sorted(seen.keys() - scenario.expected_alarms - scenario.allowed_alarms)
    allowed = sorted((seen.keys() & scenario.allowed_alarms) - scenario.expected_alarms)
    yield Check(
        "alarms",
        "no others",
        held=not wrong,
        expected="none",
        measured=", ".join(wrong) if wrong else "none",
        detail="; ".join(f"{name}: {_reason(seen[name])}" for name in wrong)
        or (f"fired, and may: {', '.join(allowed)}" if allowed else ""),
    )


def dashboard(evidence: Evidence) -> Iterator[Check]:
    """Check that every widget of the operations dashboard had data."""
    blind, widgets = evidence.stage.blind, evidence.stage.widgets
    yield Check(
        "dashboard",
        "widgets fed",
        held=not blind and widgets > 0,
        expected=f"{widgets} of {widgets}" if widgets else "some",
        measured=f"{widgets - len({title for title, _ in blind})} of {widgets}",
        detail="; ".join(f"{title}: {what}" for title, what in blind),
    )


def notes(evidence: Evidence) -> Iterator[str]:
    """Say which alarms were in ALARM before: nobody can see whether they would have fired."""
    if before := sorted(in_alarm_before(evidence)):
        yield f"In ALARM already when the run began, so that they could not fire: {', '.join(before)}."


def _by_name(evidence: Evidence) -> Mapping[str, AlarmState]:
    prefix = evidence.stage.prefix
    return {alarm.definition.name.removeprefix(prefix): alarm for alarm in evidence.stage.alarms}


def _reason(alarm: AlarmState) -> str:
    change = next(change for change in alarm.transitions if change.after == _ALARM)
    return change.reason
