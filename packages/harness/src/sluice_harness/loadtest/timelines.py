"""A run over time, as the report's charts have it: all on one axis of real time, in buckets of whole seconds.

Completions, the backlog and its age are the ledger's, which knows every job's moments; latencies are the clients'.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sluice_core.jobs import JobStatus

from sluice_harness.loadtest.measures import percentile
from sluice_harness.review.charts import finite, new_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sluice_harness.loadtest.evidence import Evidence

    Timed = tuple[float, float]
    """A moment in epoch ms, and a value."""
    Points = list[tuple[int, float | None]]

# More buckets than these are more than a chart has room for.
_MOST_BUCKETS = 180
_MS = 1000
_LONG_MS = 5_000
_PERCENTS = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Axis:
    """The time shown, in epoch seconds, and how many of them each bucket has."""

    start: int
    end: int
    bucket: int

    @classmethod
    def of(cls, evidence: Evidence) -> Axis:
        """Return the axis from the first submission to the last that is known of the run."""
        jobs, window = evidence.client.jobs, evidence.stage.window
        start = min((job.intended_at / _MS for job in jobs), default=window.real_start)
        changes = (change.at for alarm in evidence.stage.alarms for change in alarm.transitions)
        fired = [window.real(at) for at in changes]
        ends = [(row.ended_at or 0) / _MS for row in evidence.stage.rows.values()]
        end = max([start + 1, *ends, *fired, *((job.end_seen_at or job.accepted_at) / _MS for job in jobs)])
        first, last = math.floor(start), math.ceil(end)
        return cls(first, last, max(1, -(-(last - first) // _MOST_BUCKETS)))

    @property
    def starts(self) -> range:
        """When each bucket starts."""
        return range(self.start, self.end, self.bucket)

    def sort(self, values: Iterable[Timed]) -> list[list[float]]:
        """Return the values of each bucket; those before or after all of them are left out."""
        found: list[list[float]] = [[] for _ in self.starts]
        for at, value in values:
            index = math.floor((at / _MS - self.start) / self.bucket)
            if 0 <= index < len(found):
                found[index].append(value)
        return found


def timelines(evidence: Evidence, axis: Axis) -> dict[str, Any]:
    """Return every chart's data by its name; one without anything to show is left out."""
    charts = {
        "rates": rates(evidence, axis),
        "backlog": backlog(evidence, axis),
        "submit": latencies(
            axis, [(job.accepted_at, job.accepted_at - job.intended_at) for job in evidence.client.jobs]
        ),
        "end-to-end": latencies(
            axis,
            [
                (job.end_seen_at, job.end_seen_at - job.intended_at)
                for job in evidence.client.jobs
                if job.end_seen_at is not None and job.status is JobStatus.COMPLETED
            ],
        ),
        "service": latencies(
            axis,
            [
                (row.ended_at, row.ended_at - row.submitted_at)
                for row in evidence.stage.rows.values()
                if row.ended_at is not None
            ],
        ),
        "owners": owners(evidence, axis),
        "errors": errors(evidence, axis),
    }
    return {name: chart for name, chart in charts.items() if any(line["points"] for line in chart["lines"])}


def rates(evidence: Evidence, axis: Axis) -> dict[str, Any]:
    """Return arrivals and ends a second."""
    rows = evidence.stage.rows.values()
    lines = [_rate(axis, "accepted", [job.accepted_at for job in evidence.client.jobs])]
    for status in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED):
        ends = [row.ended_at for row in rows if row.status is status and row.ended_at is not None]
        if ends or status is JobStatus.COMPLETED:
            lines.append(_rate(axis, status.lower(), ends))
    return _chart(axis, lines, "a second")


def backlog(evidence: Evidence, axis: Axis) -> dict[str, Any]:
    """Return how many jobs had been submitted and not ended, and how long the oldest of those had been waiting."""
    spans = sorted((row.submitted_at, row.ended_at or math.inf) for row in evidence.stage.rows.values())
    submitted, ended = [span[0] for span in spans], sorted(span[1] for span in spans)
    open_: Points = []
    oldest: Points = []
    first = 0  # of the jobs by submission, the first that may be open
    for second in axis.starts:
        now = _MS * second
        while first < len(spans) and spans[first][1] <= now:
            first += 1
        open_.append((now, float(bisect.bisect_right(submitted, now) - bisect.bisect_right(ended, now))))
        age_ms = now - spans[first][0] if first < len(spans) else 0
        oldest.append((now, finite(max(0.0, age_ms / _MS))))
    lines = [new_line("open jobs", open_), new_line("age of the oldest", oldest, right=True)]
    return {**_chart(axis, lines, "jobs"), "right": {"label": "s"}}


def latencies(axis: Axis, values: Sequence[Timed]) -> dict[str, Any]:
    """Return percentiles of what ended in each bucket."""
    return _in_unit(axis, [(f"p{percent}", values, percent) for percent in _PERCENTS])


def owners(evidence: Evidence, axis: Axis) -> dict[str, Any]:
    """Return the quiet owners' p95 and the noisy one's, by the ledger; nothing without a noisy one."""
    wanted: list[tuple[str, Sequence[Timed], int]] = []
    if evidence.scenario.noisy_share is not None:
        rows = evidence.stage.rows
        for label, is_quiet in (("quiet owners, p95", True), ("noisy owner, p95", False)):
            values = [
                (ended_at, ended_at - job.intended_at)
                for job in evidence.client.jobs
                if job.is_quiet == is_quiet and job.key in rows and (ended_at := rows[job.key].ended_at)
            ]
            wanted.append((label, values, 95))
    return _in_unit(axis, wanted)


def errors(evidence: Evidence, axis: Axis) -> dict[str, Any]:
    """Return the requests that failed, a second, by kind."""
    kinds = sorted({kind for second in evidence.client.seconds for kind in second.errors})
    lines = [
        _summed(axis, kind, [(_MS * one.at, one.errors.get(kind, 0)) for one in evidence.client.seconds])
        for kind in kinds
    ]
    return {**_chart(axis, lines, "a second"), "stacked": True}


def _rate(axis: Axis, label: str, moments: Iterable[float]) -> dict[str, Any]:
    return _summed(axis, label, [(at, 1.0) for at in moments])


def _summed(axis: Axis, label: str, values: Iterable[Timed]) -> dict[str, Any]:
    buckets = axis.sort(values)
    return new_line(
        label,
        [
            (_MS * start, finite(sum(bucket) / axis.bucket))
            for start, bucket in zip(axis.starts, buckets, strict=True)
        ],
    )


def _in_unit(axis: Axis, wanted: Sequence[tuple[str, Sequence[Timed], int]]) -> dict[str, Any]:
    """Return a chart of percentiles, each of values in ms, in the unit that suits the longest."""
    longest = max((value for _, values, _ in wanted for _, value in values), default=0.0)
    unit, size = ("s", _MS) if longest > _LONG_MS else ("ms", 1)
    lines = [
        _percentile(axis, label, [(at, value / size) for at, value in values], percent)
        for label, values, percent in wanted
    ]
    return _chart(axis, lines, unit)


def _percentile(axis: Axis, label: str, values: Sequence[Timed], percent: int) -> dict[str, Any]:
    """Return a line of one percentile, with nothing where nothing ended."""
    buckets = zip(axis.starts, axis.sort(values), strict=True) if values else ()
    return new_line(label, [(_MS * start, finite(percentile(bucket, percent))) for start, bucket in buckets])


def _chart(axis: Axis, lines: list[dict[str, Any]], label: str) -> dict[str, Any]:
    return {
        "start": _MS * axis.start,
        "end": _MS * axis.end,
        "seconds": True,
        "lines": lines,
        "left": {"label": label},
    }
