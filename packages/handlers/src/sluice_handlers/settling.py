"""Settling: what becomes of a job whose execution is over, whether an event said so or somebody asked.

Any step may be repeated, and a process may die between any two. So a row's execution is closed after all else has
been done, and its slot is freed after that: until it is closed, the row is in the index of executions and the
reconciler comes back to it; and a slot of no row in that index is freed by the reconciler, too.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from sluice_core import clients, failures, metrics
from sluice_core.executors import MAX_STARTS, STEP_FUNCTIONS, ExecutionState, Started
from sluice_core.jobs import JobStatus
from sluice_core.ledger import Attempt, Outcome, Start

from sluice_handlers.telemetry import logger, report

if TYPE_CHECKING:
    from collections.abc import Callable

    from sluice_core.executors import Execution
    from sluice_core.inputs import InputStore
    from sluice_core.jobs import Job, JobKey, Submission
    from sluice_core.ledger import Write

    from sluice_handlers.lanes import Stage
    from sluice_handlers.telemetry import Measurements

_ERRORS = {
    ExecutionState.FAILED: failures.RETRIES_EXHAUSTED,
    ExecutionState.TIMED_OUT: failures.TIMED_OUT,
    ExecutionState.STOPPED: failures.STOPPED,
}
_OUTCOMES = {JobStatus.COMPLETED: "completed", JobStatus.FAILED: "failed", JobStatus.CANCELLED: "closed"}
# Full jitter before another start: anything up to 4, 8, 16 and 32 s (Amazon Builders' Library, "Timeouts, retries,
# and backoff with jitter").
_FIRST_DELAY_S = 4
_LONGEST_DELAY_S = 300


class Settlement(Enum):
    """What came of settling one execution."""

    CLOSED = "closed"  # by this call: the job has ended, or is to be started again
    KNOWN = "known"  # it had been closed before
    DROPPED = "dropped"  # of an unknown job, or of an older start
    NOT_ITS_OWN = "not its own"  # of a start that another execution was made for, too, which is on record
    LEFT = "left"  # a worker may yet live: the reconciler will see
    AGAIN = "again"  # a service did not answer, or the job has changed meanwhile


# What leaves nothing to run on, so that its slot is free.
_OVER = (Settlement.CLOSED, Settlement.KNOWN, Settlement.DROPPED)


class Settler:
    """Settles what one invocation is told of executions."""

    def __init__(self, stage: Stage, measured: Measurements) -> None:
        self._stage = stage
        self._measured = measured
        self._free: dict[str, set[str]] = defaultdict(set)

    def settle(self, executor: str, execution: Execution) -> Settlement:
        """Bring a job to where the end of its execution leaves it.

        Raises
        ------
        botocore.exceptions.ClientError
            For what no retry mends, such as a missing grant.

        """
        start = Start(execution.key, execution.start_token, executor)
        try:
            settlement = self._settle(start, execution)
        except (ClientError, BotoCoreError) as error:
            if not clients.is_transient(error):
                raise
            logger.warning("not settled", jobId=start.key.job_id, error=type(error).__name__)
            return Settlement.AGAIN
        if settlement in _OVER:
            self._free[executor].add(start.token)
        return settlement

    def free_slots(self) -> set[str]:
        """Free the slots of all that is settled, and return the executors that have room now."""
        freed, self._free = self._free, defaultdict(set)
        for executor, tokens in freed.items():
            self._stage.slots.free(executor, tokens)
        return set(freed)

    def _settle(self, start: Start, execution: Execution) -> Settlement:
        row = self._stage.ledger.get(start.key)
        if row is None or row.start_token != start.token:
            return self._dropped(start, Settlement.DROPPED)
        if row.handle and execution.handle and row.handle != execution.handle:
            return self._dropped(start, Settlement.NOT_ITS_OWN)
        if not row.executing:
            return Settlement.KNOWN
        ended = self._ended(row, start, execution) if row.status.is_open else row
        return ended if isinstance(ended, Settlement) else self._close(ended, start)

    def _ended(self, row: Job, start: Start, execution: Execution) -> Job | Settlement:
        """End an open job as its execution has ended, and return its row; or have it started again."""
        if not execution.is_complete:
            known = self._stage.lanes[start.executor].service.look([execution.handle])[execution.handle]
            if known is None or known.state is ExecutionState.OPEN:
                return Settlement.AGAIN  # it tells of the end before whom we ask has heard of it
            execution = known
        is_lost = _is_lost(execution) and row.starts < MAX_STARTS and row.attempt != start.token
        # A lost container's lease is waited for by the next start; of all else the ledger is to be believed.
        if _is_anothers(row, start) and not (is_lost and execution.state is ExecutionState.LOST):
            return Settlement.LEFT
        if is_lost and (submission := find_input(self._stage.inputs, start.key)):
            return self._start_again(row, start, submission)
        if self._end(row, start, execution).outcome is Outcome.UNAVAILABLE:
            return Settlement.AGAIN
        now = self._stage.ledger.get(start.key)
        return Settlement.AGAIN if now is None or now.status.is_open else now

    def _dropped(self, start: Start, settlement: Settlement) -> Settlement:
        self._measured.add(metrics.COMPLETIONS_DROPPED)
        logger.info("completion dropped", jobId=start.key.job_id, executor=start.executor, reason=settlement.value)
        return settlement

    def _start_again(self, row: Job, start: Start, submission: Submission) -> Settlement:
        """Queue a job anew in the place of a start that was lost, and let that one go."""
        longest = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2 ** (row.starts - 1))
        [queued] = self._stage.lanes[start.executor].queue.start(
            [replace(submission, is_again=True, start_token=start.token)],
            delay_s=round(random.uniform(0, longest)),  # noqa: S311 - jitter
        )
        if not isinstance(queued, Started):
            return Settlement.AGAIN
        [write] = self._stage.ledger.close([start])
        if write.is_written:
            self._measured.add(metrics.JOBS_RETRIED, job_type=row.job_type)
            _report("attempt lost", row, start, is_bad=True)
        return _closed(write)

    def _end(self, row: Job, start: Start, execution: Execution) -> Write:
        """End an open job as its execution has ended."""
        now, attempt = _now_ms(), Attempt(start.key, start.token)
        if execution.state is ExecutionState.SUCCEEDED and execution.result is not None:
            [write] = self._stage.ledger.complete([(attempt, execution.result)], now)
            return write
        error = execution.error or _ERRORS.get(execution.state, failures.WORKER_LOST)
        if execution.gave_up and execution.error is None:
            error = failures.RETRIES_EXHAUSTED
        if row.status is JobStatus.RUNNING and row.attempt == attempt.token:  # a workflow is its own attempt
            [write] = self._stage.ledger.fail([(attempt, error)], now)
        else:
            [write] = self._stage.ledger.fail_started([(start, error)], now)
        return write

    def _close(self, row: Job, start: Start) -> Settlement:
        """Delete what an ended job needs no more, and close its execution."""
        key = start.key
        self._clean(key, lambda: self._stage.inputs.delete(key))
        if start.executor == STEP_FUNCTIONS:
            self._clean(key, lambda: self._stage.staging.delete(Attempt(key, start.token)))
        if row.status is not JobStatus.COMPLETED or row.attempts > 1:
            self._clean(key, lambda: self._stage.results.delete_leftovers(key, self._stage.ledger))
        [write] = self._stage.ledger.close([start])
        if write.is_written:
            self._count(row, start)
        return _closed(write)

    def _clean(self, key: JobKey, delete: Callable[[], object]) -> None:
        """Delete; if that fails the bucket's lifecycle will."""
        try:
            delete()
        except (ClientError, BotoCoreError) as error:
            logger.warning("not deleted", jobId=key.job_id, error=type(error).__name__)

    def _count(self, row: Job, start: Start) -> None:
        """Measure and report a job that has ended: only once, for its execution is closed once."""
        ended_at = row.ended_at or _now_ms()
        times = {metrics.END_TO_END: ended_at - row.submitted_at}
        if row.started_at is not None:
            times[metrics.QUEUE_WAIT] = row.started_at - row.submitted_at
            times[metrics.RUN_TIME] = ended_at - row.started_at
        if row.result is not None:
            counts = {metrics.JOBS_COMPLETED: 1, metrics.RESULT_BYTES: row.result.size, **times}
        elif row.error is not None:
            counts = {metrics.JOBS_FAILED: 1, metrics.failure(row.error.code): 1}
        else:
            counts = {}  # cancelled, and counted by whoever did that
        for metric, value in counts.items():
            self._measured.add(metric, value, job_type=row.job_type)
        _report(
            _OUTCOMES[row.status],
            row,
            start,
            is_bad=row.error is not None,
            code=row.error.code if row.error else None,
            queueWaitMs=times.get(metrics.QUEUE_WAIT),
            runMs=times.get(metrics.RUN_TIME),
            endToEndMs=times[metrics.END_TO_END],
            bytes=row.result.size if row.result else None,
        )


def find_input(inputs: InputStore, key: JobKey) -> Submission | None:
    """Return what a job asked for, or None if that is not there any more.

    S3 calls it forbidden to read what is not there, unless one may list the bucket (Amazon S3 API Reference,
    "GetObject"). Whichever it is, the job cannot be started without it.
    """
    try:
        return inputs.get(key)
    except ClientError as error:
        if error.response["Error"]["Code"] not in {"NoSuchKey", "AccessDenied"}:
            raise
        logger.error("no input", jobId=key.job_id, error=error.response["Error"]["Code"])
        return None


def _is_anothers(row: Job, start: Start) -> bool:
    """Whether a worker that is not this very start holds the job, as a container does that renews its lease."""
    return (row.lease_until or 0) > _now_ms() and row.attempt != start.token


def _is_lost(execution: Execution) -> bool:
    """Whether an execution is over and has ended no job: a container puts its job's end on record itself."""
    return execution.state is ExecutionState.LOST or (
        execution.state is ExecutionState.SUCCEEDED and execution.result is None
    )


def _closed(write: Write) -> Settlement:
    match write.outcome:
        case Outcome.WRITTEN:
            return Settlement.CLOSED
        case Outcome.REFUSED:
            return Settlement.KNOWN
        case Outcome.UNAVAILABLE:
            return Settlement.AGAIN


def _report(outcome: str, row: Job, start: Start, *, is_bad: bool, **fields: Any) -> None:
    of_execution = {"executor": start.executor, "handle": row.handle, "starts": row.starts}
    report(outcome, row.key, is_bad=is_bad, jobType=row.job_type, **of_execution, **fields)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
