"""Whether a chaos run kept the promise: what its clients saw, against the ledger, the queues and the bucket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sluice_core.jobs import JobStatus

from sluice_harness.chaos.plan import Role

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sluice_core.jobs import Job

    from sluice_harness.chaos.traffic import Trace
    from sluice_harness.ops.audit import AuditReport

_CANCELLED, _CONFLICT = 200, 409
_ENDS = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)


@dataclass(frozen=True, slots=True)
class Offence:
    """A job that breaks the promise, and how."""

    job: str
    what: str


def judge(
    traces: Sequence[Trace], jobs: Mapping[tuple[str, str], Job], report: AuditReport, *, drained: bool
) -> Sequence[Offence]:
    """Return every breach: none means that nothing was lost and nothing done twice."""
    undrained = [] if drained else [Offence("-", "not drained in time: what follows may only need longer")]
    return [
        *undrained,
        *(Offence(_name(trace), what) for trace in traces for what in _breaches(trace, jobs.get(trace.key))),
        *(Offence(finding.job or "-", f"{finding.kind}: {finding.detail}") for finding in report.findings),
        *(Offence("-", f"not judged: {note}") for note in report.notes),
        *_sums(traces, report),
        *_dead_letters(traces, report),
    ]


def _breaches(trace: Trace, job: Job | None) -> Iterator[str]:
    """Say what is wrong with one job's end."""
    if trace.complaint:
        yield trace.complaint
    if not trace.accepted:
        yield "its submission was never answered with 202"
        return
    if job is None:
        yield "it was accepted and is not on record"
        return
    expected = _expected(trace)
    if job.status not in expected:
        yield f"it ended {job.status}, not {' or '.join(sorted(expected))} ({trace.job.role})"


def _expected(trace: Trace) -> set[JobStatus]:
    """Return in what a job may end."""
    if trace.job.is_poison:
        return {JobStatus.FAILED}
    if trace.job.role is not Role.CANCELLED:
        return {JobStatus.COMPLETED}
    if trace.cancel_answer == _CANCELLED:
        return {JobStatus.CANCELLED}
    if trace.cancel_answer == _CONFLICT and not trace.cancel_repeated:
        return {JobStatus.COMPLETED}
    return {JobStatus.COMPLETED, JobStatus.CANCELLED}


def _sums(traces: Sequence[Trace], report: AuditReport) -> Iterator[Offence]:
    accepted = sum(trace.accepted for trace in traces)
    ended = sum(report.counts.get(status, 0) for status in _ENDS)
    if accepted != ended:
        yield Offence("-", f"{accepted} jobs were accepted and {ended} have ended")


def _dead_letters(traces: Sequence[Trace], report: AuditReport) -> Iterator[Offence]:
    """Compare the dead-letter queues with the poison jobs: they must be the same, exactly."""
    names = {trace.key: _name(trace) for trace in traces}
    poison = {trace.key for trace in traces if trace.job.is_poison and trace.accepted}
    for key in sorted(poison - report.dead_letters):
        yield Offence(names[key], "it is poison and in no dead-letter queue")
    for key in sorted(report.dead_letters - poison):
        yield Offence(names.get(key, "#".join(key)), "it is in a dead-letter queue and no poison")


def _name(trace: Trace) -> str:
    return f"{trace.job.token} (owner {trace.owner})"
