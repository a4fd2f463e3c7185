"""Settling: what becomes of a job whose execution is over, whether an event said so or somebody asked.

Any step may be repeated, and a process may die between any two. So a row's execution is closed after all else has
been done, and its slot is freed after that: until it is closed, the row is in the index of executions and the
reconciler comes back to it; and a slot of no row in that index is freed by the reconciler, too.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from sluice_core import clients, metrics
from sluice_core.executors import MAX_STARTS, STEP_FUNCTIONS, ExecutionState, Started
from sluice_core.jobs import (
    NOT_STARTED,
    RETRIES_EXHAUSTED,
    STOPPED,
    TIMED_OUT,
    WORKER_LOST,
    JobStatus,
    now_ms,
)
from sluice_core.ledger import Attempt, Outcome, Start
from sluice_core.requests import MalformedMessage

from sluice_handlers.batches import backoff_s
from sluice_handlers.telemetry import logger, report

if TYPE_CHECKING:
    from collections.abc import Callable

    from sluice_core.executors import Execution
    from sluice_core.inputs import InputStore
    from sluice_core.jobs import Job, JobError, JobKey, Submission
    from sluice_core.ledger import Write

    from sluice_handlers.pools import Pools
    from sluice_handlers.telemetry import Measurements

_ERRORS = {
    ExecutionState.FAILED: RETRIES_EXHAUSTED,
    ExecutionState.TIMED_OUT: TIMED_OUT,
    ExecutionState.STOPPED: STOPPED,
}
_OUTCOMES = {JobStatus.COMPLETED: "completed", JobStatus.FAILED: "failed", JobStatus.CANCELLED: "closed"}
# By no fault of the job: its work may yet be done, if an operator brings it back.
_GIVEN_UP = (RETRIES_EXHAUSTED, WORKER_LOST, NOT_STARTED)


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

    def __init__(self, pools: Pools, measured: Measurements) -> None:
        self._pools = pools
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
            self._pools.slots.free(executor, tokens)
        return set(freed)

    def _settle(self, start: Start, execution: Execution) -> Settlement:
        row = self._pools.ledger.get(start.key)
        if row is None or row.start_token != start.token:
            return self._dropped(start, Settlement.DROPPED)
        if row.handle and execution.handle and row.handle != execution.handle:
            return self._dropped(start, Settlement.NOT_ITS_OWN)
        if not row.executing:
            return Settlement.KNOWN
        ended = self._ended(row, start, execution) if row.status.is_open else row
        return ended if isinstance(ended, Settlement) else self._close(ended, start, execution)

    def _ended(self, row: Job, start: Start, execution: Execution) -> Job | Settlement:
        """End an open job as its execution has ended, and return its row; or have it started again."""
        if not execution.is_complete:
            known = self._pools.by_executor[start.executor].service.look([execution.handle])[execution.handle]
            if known is None or known.state is ExecutionState.OPEN:
                return Settlement.AGAIN  # it tells of the end before whom we ask has heard of it
            execution = known
        is_lost = _is_lost(execution) and row.starts < MAX_STARTS and row.attempt != start.token
        # A lost container's lease is waited for by the next start; of all else the ledger is to be believed.
        if _is_anothers(row, start) and not (is_lost and execution.state is ExecutionState.LOST):
            return Settlement.LEFT
        if is_lost and (submission := find_input(self._pools.inputs, start.key)):
            return self._start_again(row, start, execution, submission)
        if self._end(row, start, execution).outcome is Outcome.UNAVAILABLE:
            return Settlement.AGAIN
        now = self._pools.ledger.get(start.key)
        return Settlement.AGAIN if now is None or now.status.is_open else now

    def _dropped(self, start: Start, settlement: Settlement) -> Settlement:
        self._measured.add(metrics.COMPLETIONS_DROPPED)
        logger.info("completion dropped", jobId=start.key.job_id, executor=start.executor, reason=settlement.value)
        return settlement

    def _start_again(self, row: Job, start: Start, execution: Execution, submission: Submission) -> Settlement:
        """Queue a job anew in the place of a start that was lost, and let that one go."""
        [queued] = self._pools.by_executor[start.executor].queue.start(
            [replace(submission, is_again=True, start_token=start.token)], delay_s=backoff_s(row.starts)
        )
        if not isinstance(queued, Started):
            return Settlement.AGAIN
        [write] = self._pools.ledger.close([start])
        if write.is_written:
            self._measured.add(metrics.JOBS_RETRIED, job_type=row.job_type)
            outcome = "attempt given back" if execution.gave_up else "attempt lost"
            _report(outcome, row, start, is_bad=True, why=execution.why)
        return _closed(write)

    def _end(self, row: Job, start: Start, execution: Execution) -> Write:
        """End an open job as its execution has ended."""
        now, attempt = now_ms(), Attempt(start.key, start.token)
        if execution.state is ExecutionState.SUCCEEDED and execution.result is not None:
            [write] = self._pools.ledger.complete([(attempt, execution.result)], now)
            return write
        error = execution.error or _error(row, execution)
        if row.status is JobStatus.RUNNING and row.attempt == attempt.token:  # a workflow is its own attempt
            [write] = self._pools.ledger.fail([(attempt, error)], now)
        else:
            [write] = self._pools.ledger.fail_started([(start, error)], now)
        return write

    def _close(self, row: Job, start: Start, execution: Execution) -> Settlement:
        """Set aside what was given up, delete what an ended job needs no more, and close its execution."""
        key = start.key
        if row.error in _GIVEN_UP and not self._is_set_aside(start):
            return Settlement.AGAIN
        self._clean(key, lambda: self._pools.inputs.delete(key))
        if start.executor == STEP_FUNCTIONS:
            self._clean(key, lambda: self._pools.staging.delete(Attempt(key, start.token)))
        if row.status is not JobStatus.COMPLETED or row.attempts > 1:
            self._clean(key, lambda: self._pools.results.delete_leftovers(key, self._pools.ledger))
        [write] = self._pools.ledger.close([start])
        if write.is_written:
            self._count(row, start, execution)
        return _closed(write)

    def _is_set_aside(self, start: Start) -> bool:
        """Put what a job asked for on the dead-letter queue, from which an operator may bring it back.

        It may come to lie there twice. The start that failed is in it: a job that was brought back is of none, and
        so it does not wait for the other.
        """
        submission = find_input(self._pools.inputs, start.key)
        if submission is None:  # it was done before, and could not be closed; or there is nothing to bring back
            return True
        dead_letters = self._pools.by_executor[start.executor].dead_letters
        [queued] = dead_letters.start([replace(submission, start_token=start.token)])
        return isinstance(queued, Started)

    def _clean(self, key: JobKey, delete: Callable[[], object]) -> None:
        """Delete; if that fails the bucket's lifecycle will."""
        try:
            delete()
        except (ClientError, BotoCoreError) as error:
            logger.warning("not deleted", jobId=key.job_id, error=type(error).__name__)

    def _count(self, row: Job, start: Start, execution: Execution) -> None:
        """Measure and report a job that has ended: only once, for its execution is closed once."""
        ended_at = row.ended_at or now_ms()
        times = {metrics.EXTERNAL_END_TO_END: ended_at - row.submitted_at}
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
            why=execution.why if row.error else None,
            queueWaitMs=times.get(metrics.QUEUE_WAIT),
            runMs=times.get(metrics.RUN_TIME),
            endToEndMs=times[metrics.EXTERNAL_END_TO_END],
            bytes=row.result.size if row.result else None,
        )


def find_input(inputs: InputStore, key: JobKey) -> Submission | None:
    """Return what a job asked for, or None if that is not there any more, or is nothing of ours.

    Raises
    ------
    botocore.exceptions.ClientError
        S3 refused.

    """
    try:
        return inputs.get(key)
    except ClientError as error:
        # Who may not list the whole bucket is told that what is not there is forbidden ("GetObject", Amazon S3 API
        # Reference), as if a grant were lost.
        if inputs.has(key):
            raise
        logger.error("no input", jobId=key.job_id, error=error.response["Error"]["Code"])
    except MalformedMessage as error:
        logger.error("no input", jobId=key.job_id, error=str(error))
    return None


def _error(row: Job, execution: Execution) -> JobError:
    """Return what an execution's end means for its job's client, if the work said nothing itself."""
    if execution.gave_up:
        return RETRIES_EXHAUSTED
    if execution.state in _ERRORS:
        return _ERRORS[execution.state]
    return WORKER_LOST if execution.handle or row.attempt else NOT_STARTED


def _is_anothers(row: Job, start: Start) -> bool:
    """Whether a worker that is not this very start holds the job, as a container does that renews its lease."""
    return (row.lease_until or 0) > now_ms() and row.attempt != start.token


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
    report(
        outcome,
        row.key,
        is_bad=is_bad,
        jobType=row.job_type,
        executor=start.executor,
        handle=row.handle,
        starts=row.starts,
        **fields,
    )
