"""Writes a verdict as one HTML file, to be opened offline; see `sluice_harness.review.document`."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sluice_core.jobs import JobStatus

from sluice_harness.loadtest.evidence import errors_by_kind
from sluice_harness.loadtest.measures import measure
from sluice_harness.loadtest.observed import fired
from sluice_harness.loadtest.timelines import Axis, timelines
from sluice_harness.review import document, figures
from sluice_harness.review.alarms import spans
from sluice_harness.review.window import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sluice_harness.loadtest.evidence import Evidence
    from sluice_harness.loadtest.verdict import Verdict
    from sluice_harness.review.alarms import Span

_TEMPLATE = Path(__file__).with_name("report.html.j2")
_CHARTS = {
    "rates": ("Arrivals and completions", "accepted by clients, ended by the ledger"),
    "backlog": ("Backlog and its age", "jobs that were submitted and had not ended"),
    "submit": ("Submit latency", "from when the schedule wanted it sent, to the 202"),
    "end-to-end": (
        "End to end, as clients saw it",
        "to the answer that said COMPLETED: clients ask each second at most",
    ),
    "service": ("End to end, by the ledger", "from the gateway to the job's end, whoever asked"),
    "owners": ("Quiet owners beside the noisy one", "from when the schedule wanted it sent, to the job's end"),
    "errors": ("Errors by kind", "requests that failed"),
}


@dataclass(frozen=True, slots=True)
class Bars:
    """An alarm's states over the time shown, in real seconds."""

    name: str
    role: str
    spans: list[Span]


def render(evidence: Evidence, verdict: Verdict, made_at: float) -> str:
    """Return the page; `made_at` is an epoch second.

    Raises
    ------
    NpmError
        ECharts is not there and cannot be installed.

    """
    axis = Axis.of(evidence)
    charts = timelines(evidence, axis)
    return document.render(
        _TEMPLATE,
        charts,
        {},
        evidence=evidence,
        verdict=verdict,
        groups=[(name, list(checks)) for name, checks in itertools.groupby(verdict.checks, lambda one: one.group)],
        tiles=list(_tiles(evidence)),
        axis=axis,
        titles={name: titles for name, titles in _CHARTS.items() if name in charts},
        lines=charts,
        bars=_bars(evidence, axis),
        errors=errors_by_kind(evidence.client.seconds).most_common(),
        made_at=made_at,
    )


def write(evidence: Evidence, verdict: Verdict, path: Path, made_at: float) -> None:
    """Write the page to a file."""
    path.write_text(render(evidence, verdict, made_at))


def _tiles(evidence: Evidence) -> Iterator[tuple[str, str]]:
    rows = evidence.stage.rows.values()
    yield "accepted", f"{len(evidence.client.jobs):,}"
    for status in (JobStatus.COMPLETED, JobStatus.FAILED):
        yield status.lower(), f"{sum(row.status is status for row in rows):,}"
    yield "completed a second", figures.figure(measure("completions_per_s", evidence), 3)
    for name, label in (("submit_p95_ms", "submit p95"), ("end_to_end_p95_ms", "end to end p95")):
        yield label, figures.duration(measure(name, evidence))


def _bars(evidence: Evidence, axis: Axis) -> list[Bars]:
    """Return the alarms that fired or had to, those that had to first."""
    clock, scenario, seen = evidence.stage.window.clock, evidence.scenario, fired(evidence)
    window = Window(int(clock.at(axis.start)), int(clock.at(axis.end)), clock)
    found = []
    for alarm in evidence.stage.alarms:
        name = alarm.definition.name.removeprefix(evidence.stage.prefix)
        if name in seen or name in scenario.expected_alarms:
            role = (
                "expected"
                if name in scenario.expected_alarms
                else "allowed"
                if name in scenario.allowed_alarms
                else "not expected"
            )
            found.append(Bars(name, role, spans(alarm, window)))
    return sorted(found, key=lambda bars: (bars.role != "expected", bars.role == "allowed", bars.name))
