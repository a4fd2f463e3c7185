"""Consumes the work queue: claims each job, runs its workload, stores the result and completes the job."""

from __future__ import annotations

import os
import time
import uuid
from typing import TYPE_CHECKING, Any, Protocol

import boto3
from sluice_core import metrics
from sluice_core.executors import read_work_message
from sluice_core.jobs import JobError, JobStatus
from sluice_core.ledger import Attempt, JobLedger, Outcome
from sluice_core.requests import MalformedMessage
from sluice_core.results import S3_CONFIG, ResultWriter
from sluice_core.workloads import PermanentError, load_workloads

from sluice_handlers.batches import Batch
from sluice_handlers.telemetry import Measurements, logger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sluice_core.jobs import StoredResult, Submission
    from sluice_core.ledger import Write

# A job is begun only with this much time left, and more if this batch's jobs take longer; below it, the rest of
# the batch goes back to the queue.
_RESERVE_MS = 5_000
_RESERVE_RUNS = 1.5
# End states are written together, but none waits longer than this: a job that dies takes no finished one along.
_SETTLE_EVERY_S = 1.0
# The lease outlives the function by this much, for clocks that disagree.
_CLOCK_SKEW_MS = 5_000

_workloads = load_workloads(os.environ["WORKLOADS"])
_ledger = JobLedger(
    boto3.client("dynamodb"), os.environ["JOB_TABLE"], retention_s=int(os.environ["RETENTION_SECONDS"])
)
_results = ResultWriter(boto3.client("s3", config=S3_CONFIG), os.environ["RESULT_BUCKET"])
_max_receives = int(os.environ["MAX_RECEIVES"])


class LambdaContext(Protocol):
    """What the handler needs of Lambda's context object."""

    def get_remaining_time_in_millis(self) -> int:
        """Return the time until Lambda ends this invocation, in ms."""
        ...


def handler(event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Run one batch of jobs; messages to be tried again are reported by id."""
    with Measurements() as measured:
        run = _BatchRun(event["Records"], context, measured)
        run.claim()
        run.work()
        if run.batch.failures:
            measured.add(metrics.BATCH_ITEM_FAILURES, run.batch.failures)
    return run.batch.response()


class _BatchRun:
    """One invocation's jobs, from claim to end state."""

    def __init__(
        self, records: Sequence[Mapping[str, Any]], context: LambdaContext, measured: Measurements
    ) -> None:
        self.batch = Batch()
        self._context = context
        self._measured = measured
        self._waiting: list[tuple[Submission, Attempt, bool]] = []
        self._claimed: list[tuple[Submission, Attempt, bool]] = []
        self._completed: list[tuple[Submission, Attempt, StoredResult]] = []
        self._failed: list[tuple[Submission, Attempt, JobError]] = []
        self._released: list[Attempt] = []
        self._longest_ms = 0.0
        self._started_at = _now_ms()
        for record in records:
            self._take(record)

    def _take(self, record: Mapping[str, Any]) -> None:
        try:
            submission = read_work_message(record["body"])
        except MalformedMessage as error:
            logger.error("malformed message", messageId=record["messageId"], reason=str(error))
            self.batch.fail_message(record)
            return
        if self.batch.add(submission.key, record):
            last = int(record["attributes"]["ApproximateReceiveCount"]) >= _max_receives
            self._waiting.append((submission, Attempt(submission.key, uuid.uuid4().hex), last))

    def claim(self) -> None:
        """Take the jobs that are free; leave those that another worker holds; drop those that have ended."""
        lease_until = self._started_at + self._context.get_remaining_time_in_millis() + _CLOCK_SKEW_MS
        attempts = [attempt for _, attempt, _ in self._waiting]
        for job, write in zip(self._waiting, _ledger.claim(attempts, self._started_at, lease_until), strict=True):
            if write.outcome is Outcome.WRITTEN or _is_mine(write, job[1]):
                self._claimed.append(job)
            elif not _has_ended(write):
                self.batch.fail([job[1].key])

    def work(self) -> None:
        """Run the claimed jobs one by one, while there is time, and write their end states."""
        settled = time.perf_counter()
        for submission, attempt, last_try in self._claimed:
            if self._has_time():
                self._run(submission, attempt, last_try=last_try)
            else:
                self._retry_or_fail(submission, attempt, "OutOfTime", last_try=last_try)
            if time.perf_counter() - settled > _SETTLE_EVERY_S:
                self._settle()
                settled = time.perf_counter()
        self._settle()

    def _has_time(self) -> bool:
        needed_ms = max(_RESERVE_MS, _RESERVE_RUNS * self._longest_ms)
        return self._context.get_remaining_time_in_millis() >= needed_ms

    def _run(self, submission: Submission, attempt: Attempt, *, last_try: bool) -> None:
        started = time.perf_counter()
        try:
            result = _workloads[submission.job_type].run(submission.key.job_id, submission.parameters)
            stored = _results.put(submission.key, attempt.token, result)
        except PermanentError as error:
            self._failed.append((submission, attempt, JobError(error.code, error.message)))
        except Exception as error:
            # The kind of error only: its text may carry the payload.
            self._retry_or_fail(submission, attempt, type(error).__name__, last_try=last_try)
        else:
            self._completed.append((submission, attempt, stored))
            self._measured.add(metrics.RUN_TIME, _elapsed_ms(started), job_type=submission.job_type)
        self._longest_ms = max(self._longest_ms, _elapsed_ms(started))

    def _retry_or_fail(self, submission: Submission, attempt: Attempt, error: str, *, last_try: bool) -> None:
        logger.warning("attempt failed", jobId=attempt.key.job_id, error=error, last=last_try)
        if last_try:
            reason = JobError("RETRIES_EXHAUSTED", "No attempt could finish the work; submit it again later.")
            self._failed.append((submission, attempt, reason))
            self.batch.fail([attempt.key])  # to the dead-letter queue, where an operator can look at it
        else:
            self._released.append(attempt)
            self._measured.add(metrics.JOBS_RETRIED, job_type=submission.job_type)

    def _settle(self) -> None:
        """Write the end states so far; a message is acknowledged only when its job's is on record."""
        now = _now_ms()
        completed = [(attempt, stored) for _, attempt, stored in self._completed]
        for (submission, attempt, stored), write in zip(
            self._completed, _ledger.complete(completed, now), strict=True
        ):
            if self._is_settled(attempt, write):
                self._report_completed(submission, stored, now)
        failed = [(attempt, error) for _, attempt, error in self._failed]
        for (submission, attempt, error), write in zip(self._failed, _ledger.fail(failed, now), strict=True):
            if self._is_settled(attempt, write):
                self._measured.add(metrics.JOBS_FAILED, job_type=submission.job_type)
                logger.info("failed", jobId=attempt.key.job_id, code=error.code)
        if self._released:
            _ledger.release(self._released)
            self.batch.fail(attempt.key for attempt in self._released)
        self._completed, self._failed, self._released = [], [], []

    def _is_settled(self, attempt: Attempt, write: Write) -> bool:
        """Whether the end state was written now; a job that another attempt ended is done as well."""
        if write.outcome is not Outcome.WRITTEN and not _has_ended(write):
            self.batch.fail([attempt.key])
        return write.outcome is Outcome.WRITTEN

    def _report_completed(self, submission: Submission, stored: StoredResult, now: int) -> None:
        job_type = submission.job_type
        wait_ms = self._started_at - submission.submitted_at
        total_ms = now - submission.submitted_at
        self._measured.add(metrics.JOBS_COMPLETED, job_type=job_type)
        self._measured.add(metrics.QUEUE_WAIT, wait_ms, job_type=job_type)
        self._measured.add(metrics.END_TO_END, total_ms, job_type=job_type)
        self._measured.add(metrics.RESULT_BYTES, stored.size, job_type=job_type)
        logger.info(
            "completed",
            jobId=submission.key.job_id,
            queueWaitMs=wait_ms,
            endToEndMs=total_ms,
            bytes=stored.size,
        )


def _is_mine(write: Write, attempt: Attempt) -> bool:
    """Whether this very claim was written, and the SDK repeated it because the answer was lost."""
    job = write.job
    return job is not None and job.status is JobStatus.RUNNING and job.attempt == attempt.token


def _has_ended(write: Write) -> bool:
    return write.job is not None and not write.job.status.is_open


def _elapsed_ms(since: float) -> float:
    return (time.perf_counter() - since) * 1000


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
