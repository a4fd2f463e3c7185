"""``sluice-ops job show`` and ``job fail``: one job, seen and ended by an operator."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from sluice_core.executors import LAMBDA
from sluice_core.jobs import JobError, JobKey
from sluice_core.ledger import Outcome

from sluice_harness.consoles import command, owner_command, page
from sluice_harness.ops.letters import read_all
from sluice_harness.ops.output import bar, iso, moment, say, show_fields, show_json
from sluice_harness.ops.stage import Failure, UsageError

if TYPE_CHECKING:
    import argparse

    from sluice_core.jobs import Job

    from sluice_harness.ops.letters import Letter, Reading
    from sluice_harness.ops.stage import Access


def show_job(access: Access, options: argparse.Namespace) -> int:
    """Print a job's row and where its message is, if that is a dead-letter queue."""
    with bar("reading the dead-letter queues"):
        readings = read_all(access)
    letters = [one for reading in readings for one in reading.letters if one.key and one.key.job_id == options.id]
    key = JobKey(options.owner or _owner(access, letters, options.id), options.id)
    letters = [letter for letter in letters if letter.key == key]
    job = access.ledger.get(key)
    if job is None and not letters:
        raise Failure(f"owner {key.owner} has no job {key.job_id} on record; look at the id and the owner again")
    if options.json:
        places = [{"queue": one.queue, "messageId": one.message.message_id} for one in letters]
        described = {**describe(job), **dict(_where(access, job))} if job else None
        show_json({"owner": key.owner, "jobId": key.job_id, "job": described, "deadLetters": places})
        return 0
    now = time.time_ns() // 1_000_000
    known: list[tuple[str, object]] = [("job", key.job_id), ("owner", key.owner), ("row", "none")]
    if job:
        known = [*fields(job, now), *_where(access, job)]
    show_fields([*known, *(("dead letter", _place(letter)) for letter in letters), *_unseen(readings)])
    return 0


def fail_job(access: Access, options: argparse.Namespace) -> int:
    """End an open job FAILED, whoever works on it."""
    key = JobKey(options.owner, options.id)
    job = access.ledger.get(key)
    if job is None:
        raise Failure(f"owner {key.owner} has no job {key.job_id} on record; look at the id and the owner again")
    if not job.status.is_open:
        raise Failure(f"job {key.job_id} has ended: it is {job.status}, and an end is for good")
    if not options.yes:
        say(
            f"job {key.job_id} is {job.status}; it would end FAILED with {options.code}, "
            f"and its client would read: {options.message}"
        )
        say(f"Nothing has been changed. To do it: {options.again} --yes")
        return 0
    now = time.time_ns() // 1_000_000
    write = access.ledger.abort(key, JobError(options.code, options.message), now)
    if write.outcome is Outcome.UNAVAILABLE:
        raise Failure(f"the job table did not answer; see what became of it: sluice-ops job show {key.job_id}")
    if not write.is_written:
        raise Failure(f"job {key.job_id} has ended meanwhile: it is {write.job.status if write.job else 'gone'}")
    say(f"job {key.job_id} is FAILED; a message of it that comes is dropped, and so is a result that is under way")
    return _tidy(access, key)


def fields(job: Job, now: int) -> list[tuple[str, object]]:
    """Return a job's row as an operator reads it."""
    result = job.result
    return [
        ("job", job.key.job_id),
        ("owner", job.key.owner),
        ("type", job.job_type),
        ("status", job.status),
        ("submitted", moment(job.submitted_at, now)),
        ("last started", moment(job.started_at, now)),
        ("ended", moment(job.ended_at, now)),
        ("error", f"{job.error.code}: {job.error.message}" if job.error else None),
        ("result", f"{result.object_key} ({result.content_type}, {result.size:,} bytes)" if result else None),
        ("attempts", f"{job.attempts}, the last {job.attempt}" if job.attempt else job.attempts),
        ("executor", job.executor),
        ("handle", job.handle),
        ("starts", f"{job.starts}, the last {job.start_token}" if job.start_token else None),
        ("executing since", moment(job.executing_since, now)),
        ("lease until", moment(job.lease_until, now) if job.status.is_open else None),
        ("held until", moment(job.held_until, now) if job.status.is_open else None),
        *(
            ("brought back", f"from {end.error.code}: {end.error.message}, ended {moment(end.ended_at, now)}")
            for end in job.history
        ),
        *(
            ("conflict", f"request {one.request_id} asked for something else, {moment(one.submitted_at, now)}")
            for one in job.conflicts
        ),
        ("row expires", moment(job.expires_at * 1000, now)),
    ]


def describe(job: Job) -> dict[str, Any]:
    """Return a job's row for machines."""
    return {
        "type": job.job_type,
        "status": str(job.status),
        "submittedAt": iso(job.submitted_at),
        "startedAt": iso(job.started_at),
        "endedAt": iso(job.ended_at),
        "error": {"code": job.error.code, "message": job.error.message} if job.error else None,
        "result": job.result
        and {"key": job.result.object_key, "contentType": job.result.content_type, "bytes": job.result.size},
        "attempts": job.attempts,
        "attempt": job.attempt,
        "executor": job.executor or None,
        "handle": job.handle or None,
        "starts": job.starts,
        "startToken": job.start_token or None,
        "executingSince": iso(job.executing_since),
        "leaseUntil": iso(job.lease_until),
        "heldUntil": iso(job.held_until),
        "history": [
            {"endedAt": iso(end.ended_at), "code": end.error.code, "message": end.error.message}
            for end in job.history
        ],
        "conflicts": [
            {"submittedAt": iso(one.submitted_at), "requestId": one.request_id} for one in job.conflicts
        ],
        "expiresAt": iso(job.expires_at * 1000),
    }


def _where(access: Access, job: Job) -> list[tuple[str, str]]:
    """Return where what runs a job, or ran it, is to be seen."""
    log_group = access.worker_logs if job.executor == LAMBDA and job.handle else ""
    return [
        ("console", page(access.stage, job, log_group)),
        ("command", command(access.stage, job, log_group)),
    ]


def _owner(access: Access, letters: list[Letter], job_id: str) -> str:
    """Return whose job it is, by its dead letters: the same id may be several owners'."""
    owners = sorted({letter.key.owner for letter in letters if letter.key})
    if len(owners) == 1:
        return owners[0]
    found = f"several owners have a dead letter of a job {job_id}: {', '.join(owners)}" if owners else ""
    raise UsageError(
        f"{found or f'no dead letter is of a job {job_id}, and ids are scoped to owners'}; "
        "say whose job it is: --owner SUB, the user's sub in Cognito. `nox -s local` prints it, "
        "`sluice-ops executions` lists it with each job, and of a user NAME this tells it, after "
        "`. docs/runbooks/shell.sh STAGE`:\n"
        f"  {owner_command(access.stage)}"
    )


def _place(letter: Letter) -> str:
    return f"message {letter.message.message_id}, meant for the {letter.queue} queue"


def _unseen(readings: list[Reading]) -> list[tuple[str, object]]:
    return [
        ("not seen", f"{reading.unseen} dead letters of the {reading.queue} queue, hidden by another reader")
        for reading in readings
        if reading.unseen
    ]


def _tidy(access: Access, key: JobKey) -> int:
    """Delete what attempts that died have stored; those that live delete their own."""
    try:
        if deleted := access.results.delete_leftovers(key, access.ledger):
            say(f"{deleted} objects that its attempts had stored are deleted")
    except (ClientError, BotoCoreError) as error:
        say(
            f"its attempts' objects could not be looked for ({type(error).__name__}); `sluice-ops audit` names any"
        )
        return 1
    return 0
