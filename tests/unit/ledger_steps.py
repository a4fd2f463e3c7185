"""One job's ways through the ledger, one function per change, for the ledger's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sluice_core.executors import BATCH, LAMBDA
from sluice_core.jobs import Job, JobError, JobStatus, StoredResult
from sluice_core.ledger import Attempt, Outcome, Start, Write
from unit.lambda_events import job
from unit.lambda_events import row as row_of

if TYPE_CHECKING:
    from sluice_core.ledger import JobLedger

NOW = 1_790_000_000_000
LEASE_END = NOW + 60_000
ENDED = NOW + 1_000
HELD_UNTIL = NOW + 90_000
RESULT = StoredResult("results/ann/j/1.json", "application/json; charset=utf-8", 1234)
ERROR = JobError("BAD_STATION", "No station „Ö“.")
OPERATORS = JobError("ABORTED", "An operator ended this job.")
LOST = JobError("WORKER_LOST", "The worker vanished.")

WRITTEN = Write(Outcome.WRITTEN)
JOB = job("the-job", at=NOW - 5_000)
MINE = Attempt(JOB.key, "attempt-mine")
OTHER = Attempt(JOB.key, "attempt-other")
REQUEST_ID = "the-invocation-s-request-id"
FIRST = Start(JOB.key, "start-1", BATCH)
SECOND = Start(JOB.key, "start-2", BATCH, after="start-1")
HANDLE = "the-batch-job-s-id"


def outcomes(writes: list[Write]) -> list[str]:
    return [write.outcome.value for write in writes]


def row(ledger: JobLedger) -> Job:
    return row_of(ledger, JOB)


def record(ledger: JobLedger) -> list[Write]:
    return ledger.record([JOB])


def claim(ledger: JobLedger, attempt: Attempt = MINE, now_ms: int = NOW) -> list[Write]:
    return ledger.claim([attempt], now_ms, now_ms + 60_000, REQUEST_ID)


def renew(ledger: JobLedger, attempt: Attempt = MINE, lease_until_ms: int = LEASE_END + 60_000) -> list[Write]:
    return ledger.renew([attempt], lease_until_ms)


def complete(ledger: JobLedger, attempt: Attempt = MINE, now_ms: int = ENDED) -> list[Write]:
    return ledger.complete([(attempt, RESULT)], now_ms)


def fail(ledger: JobLedger, attempt: Attempt = MINE, now_ms: int = ENDED) -> list[Write]:
    return ledger.fail([(attempt, ERROR)], now_ms)


def release(ledger: JobLedger, attempt: Attempt = MINE) -> list[Write]:
    return ledger.release([attempt])


def cancel(ledger: JobLedger, now_ms: int = ENDED) -> list[Write]:
    return [ledger.cancel(JOB.key, now_ms)]


def abort(ledger: JobLedger, now_ms: int = ENDED) -> list[Write]:
    return [ledger.abort(JOB.key, OPERATORS, now_ms)]


def expire(ledger: JobLedger, now_ms: int = ENDED) -> list[Write]:
    return ledger.expire([JOB.key], LOST, now_ms)


def reopen(ledger: JobLedger, seen: Job, held_until_ms: int = HELD_UNTIL) -> list[Write]:
    return [ledger.reopen(seen, NOW + 2_000, held_until_ms)]


def begin(ledger: JobLedger, start: Start = FIRST, now_ms: int = NOW) -> list[Write]:
    return ledger.begin([start], now_ms)


def note(ledger: JobLedger, start: Start = FIRST) -> list[Write]:
    return ledger.note_handles([(start, HANDLE)], NOW)


def claim_started(ledger: JobLedger, attempt: Attempt = MINE, now_ms: int = NOW) -> list[Write]:
    """Claim the job as what was started first."""
    return [ledger.claim_started(attempt, FIRST.token, now_ms, now_ms + 60_000)]


def fail_started(ledger: JobLedger, start: Start = FIRST, now_ms: int = ENDED) -> list[Write]:
    return ledger.fail_started([(start, ERROR)], now_ms)


def close(ledger: JobLedger, start: Start = FIRST) -> list[Write]:
    return ledger.close([start])


def begun(ledger: JobLedger) -> Job:
    """Bring the job to its first start and return it as it is then."""
    record(ledger)
    begin(ledger)
    return row(ledger)


def failed(ledger: JobLedger) -> Job:
    """Bring the job to its failure and return it as it is then."""
    record(ledger)
    claim(ledger)
    fail(ledger)
    return row(ledger)


def a_row(status: JobStatus, **fields: Any) -> Job:
    """Return the job's row as it should be, in this state."""
    new = {"lease_until": 0, "attempts": 0, "executor": LAMBDA}
    return Job(JOB.key, "scripted", status, NOW - 5_000, JOB.digest, **{**new, **fields})


def a_claimed_row(attempt: Attempt = MINE, status: JobStatus = JobStatus.RUNNING, **fields: Any) -> Job:
    """Return the row after one claim, unless told otherwise."""
    claimed = {
        "attempts": 1,
        "attempt": attempt.token,
        "lease_until": LEASE_END,
        "started_at": NOW,
        "handle": REQUEST_ID,
    }
    return a_row(status, **{**claimed, **fields})


def a_begun_row(start: Start = FIRST, status: JobStatus = JobStatus.SUBMITTED, **fields: Any) -> Job:
    """Return the row after a start was begun, unless told otherwise."""
    begun = {
        "executor": start.executor,
        "start_token": start.token,
        "starts": 1,
        "executing": start.executor,
        "executing_since": NOW,
    }
    return a_row(status, **{**begun, **fields})


SUBMITTED_ROW = a_row(JobStatus.SUBMITTED)
RUNNING_ROW = a_claimed_row()
COMPLETED_ROW = a_claimed_row(status=JobStatus.COMPLETED, ended_at=ENDED, result=RESULT)
FAILED_ROW = a_claimed_row(status=JobStatus.FAILED, ended_at=ENDED, error=ERROR)
CANCELLED_ROW = a_claimed_row(status=JobStatus.CANCELLED, ended_at=ENDED)
