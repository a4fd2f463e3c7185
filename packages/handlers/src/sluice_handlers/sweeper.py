"""Runs on a schedule: ends the jobs that nobody else will end.

A message in a dead-letter queue is one that no consumer sees again. Usually its job has ended: the last attempt
did that. If that attempt died, or the ledger could not be reached, the job is still open, and a request may not
even be on record. Such jobs end FAILED here. The queues are read and not consumed: what is in them is an
operator's to judge and redrive.

A job of an external executor may have a message there and an execution all the same, or wait for another start by
another message. Those are the reconciler's: here only such end whose message would begin the next start.
"""

from __future__ import annotations

import os
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError
from sluice_core import clients, metrics
from sluice_core.dead_letters import DeadLetterQueue
from sluice_core.executors import EXTERNAL
from sluice_core.jobs import NOT_PROCESSED, WORKER_LOST, now_ms
from sluice_core.ledger import JobLedger
from sluice_core.requests import InvalidRequest, MalformedMessage, SubmissionParser
from sluice_core.results import ResultWriter
from sluice_core.work_queue import read_work_message
from sluice_core.workloads import load_workloads

from sluice_handlers.telemetry import Measurements, logger, report
from sluice_handlers.tracing import trace_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from sluice_core.dead_letters import DeadLetter
    from sluice_core.jobs import Job, JobError, JobKey, Submission

    from sluice_handlers.heartbeat import LambdaContext

_BATCH = 25
# Time to end the last batch and to show what was read again.
_RESERVE_MS = 15_000

_parser = SubmissionParser(load_workloads(os.environ["WORKLOADS"]))
_ledger = JobLedger(clients.dynamodb(), os.environ["JOB_TABLE"], retention_s=int(os.environ["RETENTION_SECONDS"]))
_results = ResultWriter(clients.s3(), os.environ["RESULT_BUCKET"])
_sqs = clients.sqs()
_requests = DeadLetterQueue(_sqs, os.environ["REQUEST_DLQ_URL"])
_work = [
    DeadLetterQueue(_sqs, os.environ[name])
    for name in ("WORK_DLQ_URL", *(f"{executor.upper()}_DLQ_URL" for executor in EXTERNAL))
    if name in os.environ
]


def handler(_event: object, context: LambdaContext) -> dict[str, int]:
    """Look through the dead-letter queues; return how many messages were read and how many jobs were ended."""
    looks = [(queue, _read_work, WORKER_LOST) for queue in _work]
    looks.append((_requests, _read_request, NOT_PROCESSED))
    with Measurements() as measured:
        sweep = _Sweep(measured)
        for done, (queue, read, error) in enumerate(looks):
            seconds = (context.get_remaining_time_in_millis() - _RESERVE_MS) / 1000 / (len(looks) - done)
            with closing(queue.read(seconds=seconds)) as letters:
                jobs = (job for letter in letters if (job := sweep.read(letter, read)))
                while batch := list(islice(jobs, _BATCH)):
                    sweep.end(batch, error)
    return {"read": sweep.messages, "ended": sweep.ended}


class _Sweep:
    """One look through the queues."""

    def __init__(self, measured: Measurements) -> None:
        self._measured = measured
        self.messages = 0
        self.ended = 0

    def read(self, letter: DeadLetter, read: Callable[[DeadLetter], Submission]) -> Submission | None:
        """Return the job that a message is about; one of an unknown shape is nobody's, and an operator's."""
        self.messages += 1
        try:
            return read(letter)
        except MalformedMessage as error:
            logger.warning("malformed dead letter", messageId=letter.message_id, reason=str(error))
            return None

    def end(self, jobs: list[Submission], error: JobError) -> None:
        """End those that are open or not on record; the others have ended, and reading them was all."""
        by_key = {job.key: job for job in jobs}
        rows = _ledger.get_many(by_key)
        now = now_ms()
        for key, job in by_key.items():
            if key not in rows and error is NOT_PROCESSED and _ledger.record_failed(job, error, now).is_written:
                self._measured.add(metrics.SUBMISSIONS_RECORDED, job_type=job.job_type)
                self._report(job, error)
        still_open = [
            key for key, row in rows.items() if any(_is_stuck(row, job) for job in jobs if job.key == key)
        ]
        for key, write in zip(still_open, _ledger.expire(still_open, error, now), strict=True):
            if write.is_written:
                self._report(by_key[key], error)
                self._delete_results(key)

    def _delete_results(self, key: JobKey) -> None:
        """Delete what the attempts that died may have stored."""
        try:
            _results.delete_leftovers(key, _ledger)
        except (ClientError, BotoCoreError) as error:
            logger.warning("result not deleted", jobId=key.job_id, error=type(error).__name__)

    def _report(self, job: Submission, error: JobError) -> None:
        self.ended += 1
        for metric in (metrics.JOBS_SWEPT, metrics.JOBS_FAILED, metrics.failure(error.code)):
            self._measured.add(metric, job_type=job.job_type)
        trace = trace_id(job.trace_header)
        report("swept", job.key, is_bad=True, jobType=job.job_type, traceId=trace, code=error.code)


def _is_stuck(row: Job, job: Submission) -> bool:
    """Whether an open job waits for the very message that is set aside.

    Another request under the same token may be set aside, or the message of an earlier start: that says nothing.
    """
    is_its_own = row.submitted_at == job.submitted_at and row.start_token == job.start_token
    return row.status.is_open and is_its_own


def _read_work(letter: DeadLetter) -> Submission:
    return read_work_message(letter.body, letter.received.get("Attributes", {}).get("AWSTraceHeader", ""))


def _read_request(letter: DeadLetter) -> Submission:
    try:
        return _parser.parse(letter.as_record())
    except InvalidRequest as error:
        return error.submission
