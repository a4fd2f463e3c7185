"""What thresholds are about, measured: percentiles over the run's jobs, rates and shares.

Latencies count from the moment at which the schedule wanted a submission sent: a stage that makes its clients wait
does not get away with it (coordinated omission). What the queues and the work took is the ledger's, for jobs that
nobody followed have it, too.
"""

from __future__ import annotations

import re
import statistics
from typing import TYPE_CHECKING

from sluice_core.jobs import JobStatus

from sluice_harness.loadtest.evidence import BASELINE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sluice_harness.loadtest.evidence import ClientJob, Evidence

_PERCENTILE = re.compile(r"(?P<what>\w+)_p(?P<percent>\d\d)_ms")
_JOB_TIMES = "job: "


def percentile(values: Sequence[float], percent: int) -> float | None:
    """Return a percentile, interpolated linearly between the closest ranks; None of nothing."""
    if len(values) < 2:  # noqa: PLR2004 - quantiles need two points
        return values[0] if values else None
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def measure(name: str, evidence: Evidence) -> float | None:
    """Return the measured value of a threshold by its name; None if there is nothing to measure it by."""
    found = _PERCENTILE.fullmatch(name)
    if found:
        return percentile(_TIMES[found["what"]](evidence), int(found["percent"]))
    return _OTHERS[name](evidence)


def end_to_end_ms(jobs: Iterable[ClientJob]) -> list[float]:
    """Return how long followed jobs took that completed, to the answer that said so."""
    return [
        job.end_seen_at - job.intended_at
        for job in jobs
        if job.end_seen_at is not None and job.status is JobStatus.COMPLETED
    ]


def submit_ms(jobs: Iterable[ClientJob]) -> list[float]:
    """Return how long submissions took to their 202."""
    return [job.accepted_at - job.intended_at for job in jobs]


def _queue_wait(evidence: Evidence) -> list[float]:
    rows = evidence.stage.rows.values()
    return [float(row.started_at - row.submitted_at) for row in rows if row.started_at is not None]


def _run_time(evidence: Evidence) -> list[float]:
    return [
        float(row.ended_at - row.started_at)
        for row in evidence.stage.rows.values()
        if row.started_at is not None and row.ended_at is not None
    ]


def _visible(evidence: Evidence) -> list[float]:
    return [job.visible_ms for job in evidence.client.jobs if job.visible_ms is not None]


def _download(evidence: Evidence) -> list[float]:
    return [job.download_ms for job in evidence.client.jobs if job.download_ms is not None]


def _unexpected_answers_share(evidence: Evidence) -> float | None:
    """Return the failed share of all requests; what is told of jobs is no request."""
    if evidence.client.run is None:
        return None
    requests = [said for name, said in evidence.client.run.requests.items() if not name.startswith(_JOB_TIMES)]
    count = sum(said[0] for said in requests)
    return sum(said[1] for said in requests) / count if count else None


def _completions_per_s(evidence: Evidence) -> float | None:
    """Return the jobs completed per second, from the first submission to the last end."""
    ends = [row.ended_at for row in evidence.stage.rows.values() if row.status is JobStatus.COMPLETED]
    known = [end for end in ends if end is not None]
    return _per_second(len(known), [job.intended_at for job in evidence.client.jobs], known)


def _submissions_per_s(evidence: Evidence) -> float | None:
    """Return the submissions accepted per second, from the first's moment to the last's 202."""
    jobs = evidence.client.jobs
    return _per_second(len(jobs), [job.intended_at for job in jobs], [job.accepted_at for job in jobs])


def _per_second(count: int, starts: Sequence[float], ends: Sequence[float]) -> float | None:
    if not starts or not ends or max(ends) <= min(starts):
        return None
    return count * 1000 / (max(ends) - min(starts))


def quiet_p95_ms(evidence: Evidence, *, baseline: bool) -> float | None:
    """Return the quiet owners' end to end p95, in the baseline or under load."""
    return percentile(
        end_to_end_ms(job for job in evidence.client.jobs if job.is_quiet and (job.phase == BASELINE) == baseline),
        95,
    )


def quiet_service_p95_ms(evidence: Evidence, *, baseline: bool) -> float | None:
    """Return the same by the ledger: to the job's end, and not to the next time that its client asked."""
    rows = evidence.stage.rows
    return percentile(
        [
            end - job.intended_at
            for job in evidence.client.jobs
            if job.is_quiet
            and (job.phase == BASELINE) == baseline
            and job.key in rows
            and (end := rows[job.key].ended_at) is not None
        ],
        95,
    )


def _quiet_p95_ratio(evidence: Evidence) -> float | None:
    before, under = quiet_p95_ms(evidence, baseline=True), quiet_p95_ms(evidence, baseline=False)
    return under / before if before and under is not None else None


_TIMES = {
    "submit": lambda evidence: submit_ms(evidence.client.jobs),
    "visible": _visible,
    "queue_wait": _queue_wait,
    "run": _run_time,
    "end_to_end": lambda evidence: end_to_end_ms(evidence.client.jobs),
    "download": _download,
}
_OTHERS = {
    "unexpected_answers_share": _unexpected_answers_share,
    "completions_per_s": _completions_per_s,
    "submissions_per_s": _submissions_per_s,
    "quiet_p95_ratio": _quiet_p95_ratio,
}
