"""Consumes the request queue: puts each job on record and hands it to its job type's executor.

It does no work itself, so a job becomes visible within a second however deep the backlog of work is.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from sluice_core import clients, metrics
from sluice_core.executors import EXTERNAL, LAMBDA, Started, parse_executors
from sluice_core.jobs import Conflict, JobError, JobStatus, now_ms
from sluice_core.ledger import JobLedger, Outcome
from sluice_core.requests import InvalidRequest, MalformedMessage, SubmissionParser
from sluice_core.work_queue import WorkQueueExecutor
from sluice_core.workloads import load_workloads

from sluice_handlers.batches import Batch
from sluice_handlers.signals import Waker
from sluice_handlers.telemetry import Measurements, logger, report
from sluice_handlers.tracing import Tracer, trace_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sluice_core.jobs import Job, JobKey, Submission

_parser = SubmissionParser(load_workloads(os.environ["WORKLOADS"]))
_ledger = JobLedger(clients.dynamodb(), os.environ["JOB_TABLE"], retention_s=int(os.environ["RETENTION_SECONDS"]))
_sqs = clients.sqs()
# By job type; all others go to `lambda`.
_executor_of = parse_executors(os.environ.get("EXECUTORS", ""))
# A job waits for an external executor, too, in a work queue: what the starter takes from it is not for here.
_executors = {LAMBDA: WorkQueueExecutor(_sqs, os.environ["WORK_QUEUE_URL"])} | {
    name: WorkQueueExecutor(_sqs, os.environ[f"{name.upper()}_QUEUE_URL"])
    for name in EXTERNAL
    if f"{name.upper()}_QUEUE_URL" in os.environ
}
_waker = Waker(clients.lambda_, os.environ.get("STARTER", ""))


def handler(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Record and dispatch one batch; messages to be tried again are reported by id."""
    batch = Batch(event["Records"], _sqs, os.environ["QUEUE_URL"], int(os.environ["MAX_RECEIVES"]))
    with Measurements() as measured, Tracer("sluice-processor", "request-queue") as tracer:
        intake = _Intake(batch, measured, tracer)
        intake.parse(event["Records"])
        intake.start(intake.record())
        # After the valid ones: a bad repetition under the same token must not end a job that can run.
        intake.reject()
        intake.compare_repetitions()
        response = batch.response()
        if batch.failures:
            measured.add(metrics.BATCH_ITEM_FAILURES, batch.failures)
    return response


class _Intake:
    """One invocation's requests, from message to work."""

    def __init__(self, batch: Batch, measured: Measurements, tracer: Tracer) -> None:
        self._batch = batch
        self._measured = measured
        self._tracer = tracer
        self._submissions: dict[JobKey, Submission] = {}
        self._repetitions: list[Submission] = []
        self._rejections: list[InvalidRequest] = []
        self._recorded: list[Submission] = []

    def parse(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Read the messages; what no gateway of ours wrote is left for the dead-letter queue."""
        for record in records:
            job_type = None
            try:
                parsed = _parser.parse(record)
                job_type = parsed.job_type
                routed = replace(parsed, executor=_executor_of.get(job_type, LAMBDA))
                submission = self._tracer.follow(routed, record)
                _executors[submission.executor].check(submission)
            except MalformedMessage as error:
                logger.error("malformed message", messageId=record["messageId"], reason=str(error))
                self._batch.fail_message(record)
            except InvalidRequest as error:
                self._batch.add(error.submission.key, record)
                self._rejections.append(error)
            else:
                self._batch.add(submission.key, record)
                if self._submissions.setdefault(submission.key, submission) is not submission:
                    self._repetitions.append(submission)
            _measure_age(record, self._measured, job_type)

    def record(self) -> list[Submission]:
        """Enter the jobs in the ledger and return those whose work may start."""
        startable = []
        submissions = list(self._submissions.values())
        with self._tracer.call(self._submissions, "DynamoDB", "BatchExecuteStatement"):
            writes = _ledger.record(submissions)
        for submission, write in zip(submissions, writes, strict=True):
            if write.is_written:
                self._recorded.append(submission)
                self._measured.add(metrics.SUBMISSIONS_RECORDED, job_type=submission.job_type)
                self._report("recorded", submission)
                startable.append(submission)
            elif write.job is None:  # not known to be on record
                self._batch.retry([submission.key])
            else:
                startable += self._compare([submission, *self._repetitions_of(submission)], write.job)
        return startable

    def _repetitions_of(self, submission: Submission) -> list[Submission]:
        return [one for one in self._repetitions if one.key == submission.key]

    def _compare(self, submissions: Sequence[Submission], job: Job) -> list[Submission]:
        """Say of submissions under a key on record what each is; return the one to start again, if any."""
        again = []
        for submission in submissions:
            if _is_this_request(submission, job):
                # Its earlier delivery may have died between record and dispatch, or an operator brought it back.
                again.append(submission)
            elif job.digest == submission.digest:
                self._report_duplicate(submission)
            else:
                self._report_conflict(submission, job.digest)
        return [_as_recorded(one, job) for one in again[:1]] if _may_have_been_left(job) else []

    def start(self, submissions: Sequence[Submission]) -> None:
        """Hand the jobs to their executors; those that did not take theirs are tried again."""
        by_executor: dict[str, list[Submission]] = defaultdict(list)
        for submission in submissions:
            by_executor[submission.executor].append(submission)
        for executor, jobs in by_executor.items():
            with self._tracer.call([one.key for one in jobs], "SQS", "SendMessageBatch"):
                results = _executors[executor].start(jobs)
            failed = [one for one, result in zip(jobs, results, strict=True) if not isinstance(result, Started)]
            if failed:
                logger.warning("not started", executor=executor, jobs=len(failed))
            self._batch.retry(one.key for one in failed)
        _waker.wake(by_executor.keys() & set(EXTERNAL))

    def reject(self) -> None:
        """End the requests that can never run, where their clients will look for them."""
        for invalid in self._rejections:
            error = JobError("INVALID_REQUEST", str(invalid))
            key, now = invalid.submission.key, now_ms()
            write = _ledger.record_failed(invalid.submission, error, now)
            if write.job is not None and write.job.history and _is_this_request(invalid.submission, write.job):
                # Brought back by an operator, and no better than it was.
                write = _ledger.abort(key, error, now)
            if write.is_written:
                self._measured.add(metrics.JOBS_FAILED)
                self._measured.add(metrics.failure(error.code))
                self._report("rejected", invalid.submission, is_bad=True, reason=str(invalid))
            elif write.outcome is Outcome.UNAVAILABLE:
                self._batch.retry([key])
            elif write.job is not None and write.job.error != error:
                self._report_conflict(invalid.submission, write.job.digest)

    def compare_repetitions(self) -> None:
        """Look at what came under a token that this batch has recorded: the same again, or something else."""
        for recorded in self._recorded:
            for submission in self._repetitions_of(recorded):
                if recorded.digest != submission.digest:
                    self._report_conflict(submission, recorded.digest)
                elif recorded.submitted_at != submission.submitted_at:
                    self._report_duplicate(submission)

    def _report_duplicate(self, submission: Submission) -> None:
        self._measured.add(metrics.SUBMISSIONS_DUPLICATE, job_type=submission.job_type)
        self._report("duplicate", submission)

    def _report_conflict(self, submission: Submission, digest: str) -> None:
        """Let the job show that its token was used for something else; its client looks there."""
        if not digest:
            return  # cancelled before it was recorded: nobody knows what it asked for
        self._measured.add(metrics.SUBMISSIONS_CONFLICTING)
        self._report("conflicting", submission, is_bad=True)
        try:
            _ledger.note_conflict(submission.key, Conflict(submission.submitted_at, submission.request_id))
        except (ClientError, BotoCoreError) as error:
            if not clients.is_transient(error):
                raise
            self._batch.retry([submission.key])

    def _report(self, outcome: str, submission: Submission, *, is_bad: bool = False, reason: str = "") -> None:
        self._tracer.end(submission.key, outcome)
        report(
            outcome,
            submission.key,
            is_bad=is_bad,
            jobType=submission.job_type,
            traceId=trace_id(submission.trace_header),
            attempt=self._batch.receives(submission.key),
            queueWaitMs=now_ms() - submission.submitted_at,
            reason=reason,
        )


def _measure_age(record: Mapping[str, Any], measured: Measurements, job_type: str | None) -> None:
    """Measure how long a message waited for its first receive: later ones leave SQS's own age of the oldest."""
    if int(record["attributes"]["ApproximateReceiveCount"]) == 1:
        age_ms = now_ms() - int(record["attributes"]["SentTimestamp"])
        measured.add(metrics.REQUEST_AGE_OF_FIRST_ATTEMPT, age_ms, job_type=job_type)


def _may_have_been_left(job: Job) -> bool:
    """Whether nobody is known to have seen a job since it was recorded, so that it may have no message."""
    return job.status is JobStatus.SUBMITTED and not job.start_token


def _as_recorded(submission: Submission, job: Job) -> Submission:
    """Return a job with the executor that it was recorded for: its type may have been given another since.

    Rows from before there was a choice name none: only `lambda` can have them.
    """
    recorded = job.executor or LAMBDA
    return replace(submission, executor=recorded) if recorded in _executors else submission


def _is_this_request(submission: Submission, job: Job) -> bool:
    """Whether a job was recorded from this very request: two of one token do not come in one millisecond.

    If they do, their digests tell; but of a request that was invalid once, the row has no true digest.
    """
    return job.submitted_at == submission.submitted_at and (job.digest == submission.digest or bool(job.history))
