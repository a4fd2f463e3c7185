"""Whether a stage keeps its promise: a job accepted with 202 ends in exactly one end state, its work applied once.

``sluice-ops audit`` names every job that breaks it, by what lies in the table, the queues and the bucket. It scans
the one and lists the other, which no function may; an operator's tool may.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sluice_core.executors import MAX_START_S
from sluice_core.jobs import JobKey, JobStatus

from sluice_harness.ops.evidence import Evidence
from sluice_harness.ops.letters import COMPLETION
from sluice_harness.ops.output import age, bar, say, show_json, show_table
from sluice_harness.ops.records import changed_at, gateway_time
from sluice_harness.ops.stage import Access, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Collection, Iterator

    from sluice_core.jobs import Job

    from sluice_harness.description import StageDescription
    from sluice_harness.ops.evidence import StoredObject
    from sluice_harness.ops.letters import Letter

Kind = Literal[
    "lost",
    "open",
    "unfinished-attempt",
    "missing-object",
    "unreadable-object",
    "applied-twice",
    "orphan-object",
    "unexplained-dead-letter",
    "malformed-dead-letter",
]
# Changes younger than this may be half done; SQS's counts, too, settle within a minute (Amazon SQS API Reference,
# "GetQueueAttributes").
_SETTLED_MS = 60_000
# It runs every minute; one run may miss a message that another reader hides.
_SWEEPERS_GRACE_MS = 120_000
# The reconciler stops what runs on, and settles it a minute later.
_RECONCILERS_GRACE_MS = 1_800_000
# Objects expire at midnight, rows some time after their moment: near it either may be first.
_EXPIRING_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One breach of the promise.

    Attributes
    ----------
    job : str or None
        ``<owner>#<jobId>``, or None where no job can be named.

    """

    kind: Kind
    job: str | None
    detail: str


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit found.

    Attributes
    ----------
    counts : dict
        How many jobs have which status.
    findings : list of Finding
        Every job that breaks the promise; none is what you want.
    dead_letters : set of (str, str)
        Owner and id of the jobs that have a dead letter.
    notes : list of str
        What could not be judged, and why.

    """

    counts: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    dead_letters: set[tuple[str, str]] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def audit(
    stage: StageDescription,
    accepted: Collection[tuple[str, str]] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> AuditReport:
    """Reconcile a stage's ledger, queues and results.

    Parameters
    ----------
    stage : StageDescription
        The stage to audit.
    accepted : collection of (str, str), optional
        Owner and id of jobs known to have been answered with 202, to find those that left no trace.
    progress : callable, optional
        Told in a few words what is being done.

    """
    evidence = Evidence(Access(stage), frozenset(JobKey(*one) for one in accepted or ()))
    evidence.look(progress)
    if suspicions := list(_judge(evidence)):
        progress("looking again at what seems wrong")
        suspects = {JobKey(*one.job.split("#", 1)) for one in suspicions if one.job is not None}
        strays = any(one.job is None and one.kind == "orphan-object" for one in suspicions)
        evidence.look_again(suspects, strays=strays)
    return AuditReport(
        counts=dict(sorted(Counter(str(job.status) for job in evidence.rows.values()).items())),
        findings=list(_judge(evidence)) if suspicions else [],
        dead_letters={(key.owner, key.job_id) for key in evidence.dead},
        notes=list(_notes(evidence)),
    )


def audit_stage(access: Access, options: argparse.Namespace) -> int:
    """Audit and print; 1 if there is a finding."""
    accepted = _read_accepted(options.accepted) if options.accepted else None
    with bar("auditing") as progress:
        report = audit(access.stage, accepted, progress.tell)
    if options.json:
        show_json({**asdict(report), "dead_letters": sorted(report.dead_letters)})
        return 1 if report.findings else 0
    show_table(("status", "jobs"), list(report.counts.items()))
    say("")
    if report.findings:
        show_table(
            ("finding", "job", "detail"), [(one.kind, one.job or "", one.detail) for one in report.findings]
        )
        say("")
    for note in report.notes:
        say(f"note: {note}")
    total = sum(report.counts.values())
    say(f"{total:,} jobs, {len(report.dead_letters):,} with a dead letter, {len(report.findings)} findings.")
    return 1 if report.findings else 0


def _judge(evidence: Evidence) -> Iterator[Finding]:
    for key in sorted(evidence.accepted - evidence.rows.keys() - evidence.dead, key=str):
        yield from _lost(evidence, key)
    for key, job in evidence.rows.items():
        if job.status.is_open:
            yield from _open(evidence, key, job)
        elif job.status is JobStatus.COMPLETED and job.expires_at * 1000 > evidence.now:
            yield from _result(evidence, key)
    for stored in (one for several in evidence.objects.values() for one in several):
        yield from _object(evidence, stored)
    for letter in evidence.letters:
        yield from _letter(evidence, letter)


def _lost(evidence: Evidence, key: JobKey) -> Iterator[Finding]:
    """Judge an accepted job that is neither on record nor a dead letter: its request may still be queued."""
    requests = evidence.queues["request"]
    made_at = gateway_time(key.job_id)
    if made_at is not None and made_at + requests.retention_ms < evidence.now:
        yield Finding("lost", str(key), f"no row, and no request waits {age(requests.retention_ms)}")
    elif not requests.messages and not evidence.unseen_letters.get("request"):
        yield Finding("lost", str(key), "no row, no dead letter, and the request queue is empty")


def _open(evidence: Evidence, key: JobKey, job: Job) -> Iterator[Finding]:
    """Judge an open job: whoever holds it, a message of it, or the sweeper by its dead letter, must end it."""
    work, requests = evidence.work_queue(job), evidence.queues["request"]
    if job.executing:
        yield from _executing(evidence, key, job)
        return
    free_since = max(changed_at(job), job.lease_until or 0)
    is_held = max(job.held_until, job.lease_until or 0) >= evidence.now
    if key in evidence.dead or any(evidence.unseen_letters.values()) or is_held:
        return
    idle_ms = evidence.now - free_since
    if job.status is JobStatus.RUNNING and not work.messages and idle_ms > work.visibility_ms:
        yield Finding(
            "unfinished-attempt",
            str(key),
            f"RUNNING, its lease lapsed {age(idle_ms)} ago, and its work queue is empty",
        )
    elif not work.messages and not requests.messages and idle_ms > _SETTLED_MS:
        yield Finding(
            "open", str(key), f"{job.status} for {age(idle_ms)} with no lease, and both queues are empty"
        )
    elif idle_ms > work.retention_ms + requests.retention_ms:
        yield Finding("open", str(key), f"{job.status} for {age(idle_ms)}, longer than its messages are kept")


def _executing(evidence: Evidence, key: JobKey, job: Job) -> Iterator[Finding]:
    """Judge a job that an external executor has: its end is told, or found by asking, or it is stopped at last."""
    limit = evidence.access.limits.get(job.executing)
    if limit is None:
        return
    if job.status.is_open and job.handle and not job.attempt:
        return  # it waits for its host, as long as that takes
    since, may_s = (job.started_at, limit.seconds) if job.attempt else (job.executing_since, MAX_START_S)
    age_ms = evidence.now - (since or 0)
    if age_ms > 1000 * may_s + _RECONCILERS_GRACE_MS:
        detail = f"{job.executing} has had it for {age(age_ms)}, and may for {age(1000 * may_s)}"
        yield Finding("unfinished-attempt", str(key), detail)


def _result(evidence: Evidence, key: JobKey) -> Iterator[Finding]:
    """Judge what a COMPLETED job has to show."""
    result = evidence.rows[key].result
    name = result.object_key if result else "?"
    fault = evidence.faults.get(key, "")
    if fault is None:
        yield Finding("missing-object", str(key), f"there is no {name}")
    elif fault:
        yield Finding("unreadable-object", str(key), f"{name}: {fault}")
    settled_before = evidence.now - _tidied_ms(evidence)
    found = [one for one in evidence.objects.get(key, []) if one.is_result]
    extra = [one for one in found if one.object_key != name and one.modified_at < settled_before]
    is_there = any(one.object_key == name for one in found)
    if extra and is_there and changed_at(evidence.rows[key]) < settled_before:
        yield Finding(
            "applied-twice", str(key), f"besides its result there is {', '.join(one.object_key for one in extra)}"
        )


def _object(evidence: Evidence, stored: StoredObject) -> Iterator[Finding]:
    """Judge an object by its job: an open one may yet complete with it, a COMPLETED one's others are its own."""
    if not stored.is_result:
        return
    job = evidence.rows.get(stored.job) if stored.job else None
    settled_at = max(stored.modified_at, changed_at(job) if job else 0)
    if _may_expire(evidence, stored) or settled_at + _tidied_ms(evidence) >= evidence.now:
        return
    if stored.job is None:
        yield Finding("orphan-object", None, f"{stored.object_key}: it lies where no result does")
    elif job is None:
        yield Finding("orphan-object", str(stored.job), f"{stored.object_key}: its job has no row")
    elif job.status in (JobStatus.FAILED, JobStatus.CANCELLED):
        yield Finding("orphan-object", str(stored.job), f"{stored.object_key}: its job is {job.status}")
    elif job.status is JobStatus.COMPLETED and evidence.faults.get(stored.job, "") is None:
        yield Finding("orphan-object", str(stored.job), f"{stored.object_key}: its job names another")


def _may_expire(evidence: Evidence, stored: StoredObject) -> bool:
    """Whether an object is so old that its job's row may have expired before it; rows count from submission."""
    if evidence.expiry_ms is None:
        return False
    made_at = gateway_time(stored.job.job_id) if stored.job else None
    since = min(stored.modified_at, made_at or stored.modified_at)
    return since + evidence.expiry_ms < evidence.now + _EXPIRING_MS


def _letter(evidence: Evidence, letter: Letter) -> Iterator[Finding]:
    """Judge a dead letter: its job must be FAILED, or the sweeper is about to see to that.

    The end of an execution says nothing of its job, which is judged by itself.
    """
    name = f"message {letter.message.message_id} of the {letter.queue} queue"
    if letter.key is None:
        yield Finding("malformed-dead-letter", None, f"{name}: {letter.complaint}")
        return
    if letter.queue == COMPLETION:
        return
    job = evidence.rows.get(letter.key)
    if job is None or job.status.is_open:
        # When it became a dead letter nobody knows, only that it was hidden before, for its queue's visibility.
        known = (letter.message.sent_at, letter.first_received_at if job is None else changed_at(job))
        lease = job.lease_until or 0 if job else 0
        dead_since = max(*known, lease) + evidence.queues[letter.queue].visibility_ms
        held_until = job.held_until if job else 0
        if max(dead_since, held_until) + _SWEEPERS_GRACE_MS >= evidence.now:
            return
    if job is None or job.status is not JobStatus.FAILED:
        state = f"its job is {job.status}" if job else "its job has no row"
        yield Finding("unexplained-dead-letter", str(letter.key), f"{name}: {state}")


def _tidied_ms(evidence: Evidence) -> int:
    """Return within which time what a dead attempt stored is deleted: its job's message may come again."""
    return _SETTLED_MS + max(one.visibility_ms if one.messages else 0 for one in evidence.work_queues.values())


def _is_left_over(evidence: Evidence, stored: StoredObject) -> bool:
    """Whether an object is of no use to its job any more, and nobody is about to delete it."""
    job = evidence.rows.get(stored.job) if stored.job else None
    is_over = job is None or not (job.status.is_open or job.executing)
    return not stored.is_result and is_over and stored.modified_at + _tidied_ms(evidence) < evidence.now


def _notes(evidence: Evidence) -> Iterator[str]:
    for name, state in evidence.queues.items():
        if state.messages:
            yield (
                f"the {name} queue holds about {state.messages:,} messages, and whose they are cannot be seen; "
                "jobs that may be among them are not judged, so audit again when it is empty"
            )
    for name, unseen in evidence.unseen_letters.items():
        if unseen:
            yield f"{unseen:,} dead letters of the {name} queue were hidden by another reader; audit again"
    if executing := Counter(job.executing for job in evidence.rows.values() if job.executing):
        said = ", ".join(f"{count:,} on {executor}" for executor, count in sorted(executing.items()))
        yield f"executions are not yet known to be over: {said}; `sluice-ops executions` lists them"
    if kept := sum(_is_left_over(evidence, one) for several in evidence.objects.values() for one in several):
        yield f"{kept:,} inputs and drafts of jobs that have ended are there; the bucket's lifecycle deletes them"


def _read_accepted(path: Path) -> list[tuple[str, str]]:
    """Read a file of accepted jobs: owner and id, one job a line."""
    try:
        lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    for number, parts in enumerate(lines, start=1):
        if len(parts) != 2:  # noqa: PLR2004 - an owner and an id
            raise UsageError(
                f"{path}, job {number}: not an owner and an id with a space between: {' '.join(parts)}"
            )
    return [(owner, job_id) for owner, job_id in lines]
