"""Consumes the work queue: claims each job, runs its workload, stores the result and completes the job."""

from __future__ import annotations

import os
import random
import time
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from sluice_core import clients, leases, metrics
from sluice_core.executors import Started
from sluice_core.jobs import RETRIES_EXHAUSTED, JobError, now_ms
from sluice_core.ledger import Attempt, JobLedger, Outcome
from sluice_core.requests import MalformedMessage
from sluice_core.results import ResultWriter
from sluice_core.work_queue import WorkQueueExecutor, read_work_message
from sluice_core.workloads import PermanentError, load_workloads

from sluice_handlers.batches import Batch
from sluice_handlers.heartbeat import Heartbeat
from sluice_handlers.telemetry import Measurements, logger, report
from sluice_handlers.tracing import Tracer, trace_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from threading import Event

    from sluice_core.jobs import JobKey, StoredResult, Submission
    from sluice_core.ledger import Write

    from sluice_handlers.heartbeat import LambdaContext

# A job is begun only with this much time left, and more if this batch's jobs take longer; below it, the rest of
# the batch goes back to the queue.
_RESERVE_MS = 5_000
_RESERVE_RUNS = 1.5
# End states are written together, but none waits longer than this: a job that dies takes no finished one along.
_SETTLE_EVERY_S = 1.0

_workloads = load_workloads(os.environ["WORKLOADS"])
_ledger = JobLedger(clients.dynamodb(), os.environ["JOB_TABLE"], retention_s=int(os.environ["RETENTION_SECONDS"]))
_results = ResultWriter(clients.s3(), os.environ["RESULT_BUCKET"])
_sqs = clients.sqs()
_queue = WorkQueueExecutor(_sqs, os.environ["QUEUE_URL"])


def handler(event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Run one batch of jobs; messages to be tried again are reported by id."""
    records = event["Records"]
    batch = Batch(records, _sqs, os.environ["QUEUE_URL"], int(os.environ["MAX_RECEIVES"]))
    with Measurements() as measured, Tracer("sluice-batch-simulator", "work-queue") as tracer:
        with Heartbeat(_ledger, batch, context) as heartbeat:
            run = _BatchRun(batch, context, heartbeat, measured, tracer)
            run.take(records)
            run.work()
        response = batch.response()
        if batch.failures:
            measured.add(metrics.BATCH_ITEM_FAILURES, batch.failures)
    return response


@dataclass(frozen=True, slots=True)
class _Task:
    """One job of the batch.

    Attributes
    ----------
    is_repeat : bool
        Its message was received before: an earlier attempt may have died, and left something behind.
    receives : int
        How often its message was received, this time included.
    taken_at : int
        When this invocation received it, in epoch milliseconds.

    """

    submission: Submission
    attempt: Attempt
    is_repeat: bool
    receives: int
    taken_at: int


class _BatchRun:
    """One invocation's jobs, from claim to end state."""

    def __init__(
        self,
        batch: Batch,
        context: LambdaContext,
        heartbeat: Heartbeat,
        measured: Measurements,
        tracer: Tracer,
    ) -> None:
        self._batch = batch
        self._context = context
        self._heartbeat = heartbeat
        self._measured = measured
        self._tracer = tracer
        self._fresh: list[_Task] = []
        self._repeats: list[_Task] = []
        self._completed: list[tuple[_Task, StoredResult, float]] = []
        self._failed: list[tuple[_Task, JobError, str]] = []  # and what kind of error the last attempt met
        self._released: list[_Task] = []
        self._maybe_stored: set[JobKey] = set()
        self._longest_ms = 0.0
        self._settled_at = time.perf_counter()

    def take(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Sort the messages: those received for the first time, and those that were received before."""
        taken_at = now_ms()
        submissions: dict[JobKey, Submission] = {}
        repeats: set[JobKey] = set()
        for record in records:
            sent_at, receives = _read_system(record)
            try:
                message = read_work_message(record["body"], record["attributes"].get("AWSTraceHeader", ""))
            except MalformedMessage as error:
                logger.error("malformed message", messageId=record["messageId"], reason=str(error))
                self._batch.fail_message(record)
                continue
            submission = self._tracer.follow(message, record)
            if receives == 1:  # later receives leave SQS's own age of the oldest message
                age_ms = taken_at - sent_at
                self._measured.add(metrics.WORK_AGE_OF_FIRST_ATTEMPT, age_ms, job_type=submission.job_type)
            submissions.setdefault(submission.key, submission)
            self._batch.add(submission.key, record)
            # A job may come twice: one of its messages is enough to tell that it may have been begun before.
            if submission.is_again or receives > 1:
                repeats.add(submission.key)
        for key, submission in submissions.items():
            attempt = Attempt(key, uuid.uuid4().hex)
            task = _Task(submission, attempt, key in repeats, self._batch.receives(key), taken_at)
            (self._repeats if task.is_repeat else self._fresh).append(task)

    def work(self) -> None:
        """Run the jobs one by one, while there is time, and write their end states.

        A job that kills its worker comes back with its whole batch. So what comes back is claimed one at a time,
        each only when those before it are settled, and those that were begun least often come first: the others
        get through, message and all, and the culprit alone is left.
        """
        begun = _times_begun(self._repeats) if self._repeats else {}
        random.shuffle(self._repeats)  # among equals, none is always behind the culprit
        self._repeats.sort(key=lambda task: begun.get(task.attempt.key, 0))
        innocent = [task for task in self._repeats if not begun.get(task.attempt.key)]
        self._work_singly(innocent)
        for task in self._claim(self._fresh):
            self._run(task)
            if time.perf_counter() - self._settled_at > _SETTLE_EVERY_S:
                self._settle()
        self._settle()
        self._work_singly(self._repeats[len(innocent) :])

    def _work_singly(self, tasks: Sequence[_Task]) -> None:
        for task in tasks:
            if self._has_time():
                for claimed in self._claim([task]):
                    self._run(claimed)
                    self._settle()
                self._batch.acknowledge([task.attempt.key])
            else:
                self._put_off(task)

    def _claim(self, tasks: list[_Task]) -> list[_Task]:
        """Take the jobs that are free, and say which."""
        now = now_ms()
        lease_until = self._heartbeat.lease_until(now)
        claimed = []
        with self._call(tasks, "DynamoDB", "BatchExecuteStatement"):
            attempts = [task.attempt for task in tasks]
            writes = _ledger.claim(attempts, now, lease_until, self._context.aws_request_id)
        for task, write in zip(tasks, writes, strict=True):
            if write.is_written:
                self._measured.add(metrics.JOBS_STARTED, job_type=task.submission.job_type)
                self._heartbeat.hold(task.attempt)
                claimed.append(task)
            else:
                self._give_way(task, write)
        return claimed

    def _run(self, task: _Task) -> None:
        stop = self._heartbeat.hold(task.attempt)
        if not stop.is_set() and not self._has_time():
            self._report("put off", task)
            self._released.append(task)
            return
        started = time.perf_counter()
        try:
            stored = None if stop.is_set() else _work(task, stop, self._tracer)
        except PermanentError as error:
            self._failed.append((task, JobError(error.code, error.message), ""))
        except Exception as error:
            # Storing the result may have failed after the fact.
            self._maybe_stored.add(task.attempt.key)
            # The kind of error only: its text may carry the payload.
            self._retry_or_fail(task, type(error).__name__)
        else:
            if stored is not None:
                self._completed.append((task, stored, _elapsed_ms(started)))
            elif (loss := self._heartbeat.loss(task.attempt)) is not None:
                self._give_way(task, loss)
        self._longest_ms = max(self._longest_ms, _elapsed_ms(started))

    def _has_time(self) -> bool:
        needed_ms = max(_RESERVE_MS, _RESERVE_RUNS * self._longest_ms)
        return self._context.get_remaining_time_in_millis() >= needed_ms

    def _retry_or_fail(self, task: _Task, error: str) -> None:
        key = task.attempt.key
        if self._batch.is_last_receive(key):
            self._failed.append((task, RETRIES_EXHAUSTED, error))
        else:
            self._report("attempt failed", task, is_bad=True, error=error)
            self._released.append(task)

    def _settle(self) -> None:
        """Write the end states so far; a message is acknowledged only when its job's is on record."""
        now = now_ms()
        completed = [(task.attempt, stored) for task, stored, _ in self._completed]
        with self._call([task for task, *_ in self._completed], "DynamoDB", "BatchExecuteStatement"):
            writes = _ledger.complete(completed, now)
        for (task, stored, run_ms), write in zip(self._completed, writes, strict=True):
            if self._is_written(task, write):
                self._report_completed(task, stored, run_ms, now)
                self._tidy(task)
            elif write.outcome is Outcome.REFUSED:
                self._discard(task, stored)
        failed = [(task.attempt, error) for task, error, _ in self._failed]
        with self._call([task for task, *_ in self._failed], "DynamoDB", "BatchExecuteStatement"):
            writes = _ledger.fail(failed, now)
        for (task, error, met), write in zip(self._failed, writes, strict=True):
            if error is RETRIES_EXHAUSTED and write.outcome is not Outcome.REFUSED:
                self._batch.retry([task.attempt.key])  # into the dead-letter queue, for an operator to look at
            if self._is_written(task, write):
                self._report_failed(task, error, met, now)
                self._tidy(task)
        attempts = [task.attempt for task in self._released]
        for task, write in zip(self._released, _ledger.release(attempts), strict=True):
            if self._is_written(task, write):
                self._measured.add(metrics.JOBS_RETRIED, job_type=task.submission.job_type)
                self._put_off(task)
        self._completed, self._failed, self._released = [], [], []
        self._measured.write()
        self._settled_at = time.perf_counter()

    def _is_written(self, task: _Task, write: Write) -> bool:
        """Whether this attempt made the change; if not, its message goes by what the ledger says instead."""
        self._heartbeat.let_go(task.attempt)
        if not write.is_written:
            self._give_way(task, write)
        return write.is_written

    def _give_way(self, task: _Task, write: Write) -> None:
        """Leave a job to whoever has it; its message is acknowledged only if the job has ended."""
        key, job = task.attempt.key, write.job
        if job is not None and write.has_ended:
            self._tidy(task)
        elif write.outcome is Outcome.REFUSED and job is None:
            self._batch.retry([key])  # of no job at all: that is for an operator to look at
        elif job is not None and job.executing:
            pass  # another executor has it, and who settles its execution ends the job or queues it anew
        elif self._batch.is_last_receive(key) and self._is_queued_anew(task):
            pass
        elif job is not None and job.lease_until:
            self._batch.wait(key, leases.free_in_s(job.lease_until, now_ms()))
        else:
            self._batch.retry([key])

    def _put_off(self, task: _Task) -> None:
        """Leave a job for later: it has not failed for good, so it is not set aside either."""
        if not (self._batch.is_last_receive(task.attempt.key) and self._is_queued_anew(task)):
            self._batch.retry([task.attempt.key])

    def _is_queued_anew(self, task: _Task) -> bool:
        """Put a new message in the place of one that would be set aside though its job has not failed.

        It may be another worker's, who may yet die, and then there must be a message to bring the job back.
        """
        try:
            [queued] = _queue.start([replace(task.submission, is_again=True)])
        except (ClientError, BotoCoreError) as error:
            logger.warning("not queued anew", jobId=task.attempt.key.job_id, error=type(error).__name__)
            return False
        return isinstance(queued, Started)

    def _discard(self, task: _Task, stored: StoredResult) -> None:
        """Delete a result that came too late: the job has ended or is another's."""
        self._measured.add(metrics.RESULTS_DISCARDED)
        self._report("discarded", task)
        self._clean(task, lambda: _results.delete(stored))

    def _tidy(self, task: _Task) -> None:
        """Delete what attempts that died or failed may have stored for a job that has ended."""
        key = task.attempt.key
        if task.is_repeat or key in self._maybe_stored:
            self._clean(task, lambda: _results.delete_leftovers(key, _ledger))

    def _clean(self, task: _Task, delete: Callable[[], object]) -> None:
        """Delete; if that fails the message comes back for another try, but not to end as a dead letter."""
        try:
            delete()
        except (ClientError, BotoCoreError) as error:
            logger.warning("result not deleted", jobId=task.attempt.key.job_id, error=type(error).__name__)
            if not self._batch.is_last_receive(task.attempt.key):
                self._batch.retry([task.attempt.key])

    def _report_completed(self, task: _Task, stored: StoredResult, run_ms: float, now: int) -> None:
        job_type = task.submission.job_type
        wait_ms = task.taken_at - task.submission.submitted_at
        total_ms = now - task.submission.submitted_at
        for metric, value in {
            metrics.JOBS_COMPLETED: 1,
            metrics.QUEUE_WAIT: wait_ms,
            metrics.RUN_TIME: run_ms,
            metrics.END_TO_END: total_ms,
            metrics.RESULT_BYTES: stored.size,
        }.items():
            self._measured.add(metric, value, job_type=job_type)
        self._report(
            "completed", task, queueWaitMs=wait_ms, runMs=round(run_ms), endToEndMs=total_ms, bytes=stored.size
        )

    def _report_failed(self, task: _Task, error: JobError, met: str, now: int) -> None:
        for metric in (metrics.JOBS_FAILED, metrics.failure(error.code)):
            self._measured.add(metric, job_type=task.submission.job_type)
        total_ms = now - task.submission.submitted_at
        self._report("failed", task, is_bad=True, code=error.code, error=met, endToEndMs=total_ms)

    def _report(self, outcome: str, task: _Task, *, is_bad: bool = False, **fields: Any) -> None:
        key, trace = task.attempt.key, trace_id(task.submission.trace_header)
        self._tracer.end(key, outcome)
        job_type = task.submission.job_type
        report(outcome, key, is_bad=is_bad, jobType=job_type, traceId=trace, attempt=task.receives, **fields)

    def _call(self, tasks: Sequence[_Task], service: str, operation: str) -> AbstractContextManager[None]:
        """Time a call for these jobs in their traces."""
        return self._tracer.call([task.attempt.key for task in tasks], service, operation)


def _work(task: _Task, stop: Event, tracer: Tracer) -> StoredResult | None:
    """Do a job's work and store its result, unless nobody wants it any more."""
    key = task.attempt.key
    try:
        with tracer.work(key):
            result = _workloads[task.submission.job_type].run(key.job_id, task.submission.parameters, stop)
    except Exception:
        if stop.is_set():  # told to stop, it may raise what it likes
            return None
        raise
    if stop.is_set():
        return None
    with tracer.call([key], "S3", "PutObject"):
        return _results.put(key, task.attempt.token, result)


def _read_system(record: Mapping[str, Any]) -> tuple[int, int]:
    """Return when a message was sent, in epoch milliseconds, and how often it was received."""
    attributes = record["attributes"]
    return int(attributes["SentTimestamp"]), int(attributes["ApproximateReceiveCount"])


def _times_begun(tasks: Sequence[_Task]) -> dict[JobKey, int]:
    """Return how often each job was claimed before; unknown is as good as never."""
    try:
        rows = _ledger.get_many([task.attempt.key for task in tasks], consistent=True)
    except (ClientError, BotoCoreError) as error:
        if not clients.is_transient(error):
            raise
        return {}
    return {key: job.attempts for key, job in rows.items()}


def _elapsed_ms(since: float) -> float:
    return (time.perf_counter() - since) * 1000
