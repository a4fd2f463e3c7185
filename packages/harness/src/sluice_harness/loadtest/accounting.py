"""Whether every accepted job is accounted for: on record, ended once, as it should, and as its client saw it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluice_core.jobs import JobStatus

from sluice_harness.loadtest.check import Check, about_jobs, ids, named

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sluice_core.jobs import JobKey

    from sluice_harness.loadtest.evidence import Evidence


def jobs(evidence: Evidence) -> Iterator[Check]:
    """Check every job of the run, by the ledger, the queues and the bucket."""
    yield _drained(evidence)
    yield about_jobs("on record", "all", _unrecorded(evidence))
    yield about_jobs("ended", "all", _open(evidence))
    yield about_jobs("ended as expected", "all", _wrong_end(evidence))
    yield about_jobs("ended as its client saw", "all", _seen_otherwise(evidence))
    yield about_jobs("followed without complaint", "all", _complaints(evidence))
    yield _run_once(evidence)
    yield about_jobs("one result each", "all", _results(evidence))
    yield _dead_letters(evidence)


def _drained(evidence: Evidence) -> Check:
    left = {queue: count for queue, count in evidence.stage.left.items() if count}
    said = ", ".join(f"{count:,} in the {queue} queue" for queue, count in left.items())
    return Check(
        "jobs", "queues empty", held=not left, expected="0 messages", measured=said or "0 messages", detail=""
    )


def _unrecorded(evidence: Evidence) -> dict[JobKey, str]:
    rows = evidence.stage.rows
    return {job.key: "accepted, and not in the ledger" for job in evidence.client.jobs if job.key not in rows}


def _open(evidence: Evidence) -> dict[JobKey, str]:
    empty = not any(evidence.stage.left.values())
    why = "its message is in neither queue" if empty else "its queue has not drained"
    return {
        key: f"lost: still {row.status}, and {why}" if empty else f"still {row.status}; {why}"
        for key, row in evidence.stage.rows.items()
        if row.status.is_open
    }


def _wrong_end(evidence: Evidence) -> dict[JobKey, str]:
    rows = evidence.stage.rows
    found = {}
    for job in evidence.client.jobs:
        row = rows.get(job.key)
        if row is not None and not row.status.is_open and row.status is not job.expected:
            found[job.key] = f"{row.status}, not {job.expected}" + (f": {row.error.code}" if row.error else "")
    return found


def _seen_otherwise(evidence: Evidence) -> dict[JobKey, str]:
    """Return the jobs of which a client saw an end that the ledger does not have."""
    rows = evidence.stage.rows
    return {
        job.key: f"its client saw {job.status}, the ledger says {rows[job.key].status}"
        for job in evidence.client.jobs
        if job.status is not None
        and not job.status.is_open
        and job.key in rows
        and rows[job.key].status is not job.status
    }


def _complaints(evidence: Evidence) -> dict[JobKey, str]:
    return {job.key: job.complaint for job in evidence.client.jobs if job.complaint}


def _run_once(evidence: Evidence) -> Check:
    """Check attempts: more than one is right only if the one before was given back to be tried again."""
    again = {key: row.attempts for key, row in evidence.stage.rows.items() if row.attempts > 1}
    extra = sum(attempts - 1 for attempts in again.values())
    said = named({key: f"{attempts} attempts" for key, attempts in again.items()})
    return Check(
        "jobs",
        "run once",
        held=extra <= evidence.stage.retried,
        expected="1 attempt, or one more for each that was given back",
        measured=f"{extra} more attempts, {evidence.stage.retried} given back" if again else "1 attempt each",
        detail=said,
        jobs=ids(again) if extra > evidence.stage.retried else (),
    )


def _results(evidence: Evidence) -> dict[JobKey, str]:
    """Return the jobs that have not exactly the one object that they should have; a second is work done twice."""
    found = {}
    for key, row in evidence.stage.rows.items():
        there = evidence.stage.results.get(key, ())
        if row.status is JobStatus.COMPLETED:
            if row.result is None or row.result.object_key not in there:
                found[key] = "its result is not in the bucket"
            elif len(there) > 1:
                found[key] = f"its work was done {len(there)} times: {', '.join(there)}"
        elif there and not row.status.is_open:
            found[key] = f"{row.status}, and yet it has a result: {', '.join(there)}"
    return found


def _dead_letters(evidence: Evidence) -> Check:
    """Check that what was set aside is what had to be: our own malformed messages and no job."""
    letters = evidence.stage.letters
    of_jobs = {letter.key for letter in letters if letter.key is not None}
    ours = {queue: sum(one.is_ours for one in letters if one.queue == queue) for queue in ("request", "work")}
    parts = [f"{count} malformed in the {queue} queue's" for queue, count in ours.items() if count]
    parts += [f"{len(of_jobs)} of jobs"] if of_jobs else []
    return Check(
        "jobs",
        "dead letters",
        held=not of_jobs and all(count == evidence.malformed for count in ours.values()),
        expected=f"{evidence.malformed} malformed in each" if evidence.malformed else "none",
        measured=", ".join(parts) or "none",
        jobs=ids([key for key in of_jobs if key is not None]),
    )
