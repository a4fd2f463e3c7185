"""Consumes the request queue: puts each job on record and hands it to the executor.

It does no work itself, so a job becomes visible within a second however deep the backlog of work is.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import boto3
from sluice_core import metrics
from sluice_core.executors import WorkQueueExecutor
from sluice_core.jobs import JobError, JobStatus
from sluice_core.ledger import JobLedger, Outcome
from sluice_core.requests import InvalidRequest, MalformedMessage, SubmissionParser
from sluice_core.workloads import load_workloads

from sluice_handlers.batches import Batch
from sluice_handlers.telemetry import Measurements, logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sluice_core.jobs import Submission
    from sluice_core.ledger import Write

_parser = SubmissionParser(load_workloads(os.environ["WORKLOADS"]))
_ledger = JobLedger(
    boto3.client("dynamodb"), os.environ["JOB_TABLE"], retention_s=int(os.environ["RETENTION_SECONDS"])
)
_executor = WorkQueueExecutor(boto3.client("sqs"), os.environ["WORK_QUEUE_URL"])


def handler(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Record and dispatch one batch; messages to be tried again are reported by id."""
    batch = Batch()
    with Measurements() as measured:
        submissions, rejections = _parse(event["Records"], batch)
        startable = _record(submissions, batch, measured)
        batch.fail(_executor.start(startable))
        # After the valid ones: a bad repetition under the same token must not end a job that can run.
        for rejection in rejections:
            _reject(rejection, batch, measured)
        if batch.failures:
            measured.add(metrics.BATCH_ITEM_FAILURES, batch.failures)
    return batch.response()


def _parse(records: list[Mapping[str, Any]], batch: Batch) -> tuple[list[Submission], list[InvalidRequest]]:
    submissions, rejections = [], []
    for record in records:
        try:
            submission = _parser.parse(record)
            _executor.check(submission)
        except MalformedMessage as error:
            logger.error("malformed message", messageId=record["messageId"], reason=str(error))
            batch.fail_message(record)
        except InvalidRequest as error:
            batch.add(error.submission.key, record)
            rejections.append(error)
        else:
            if batch.add(submission.key, record):
                submissions.append(submission)
    return submissions, rejections


def _reject(invalid: InvalidRequest, batch: Batch, measured: Measurements) -> None:
    """End a request that can never run, where its client will look for it."""
    key = invalid.submission.key
    error = JobError("INVALID_REQUEST", str(invalid))
    write = _ledger.record_failed(invalid.submission, error, time.time_ns() // 1_000_000)
    if write.outcome is Outcome.UNAVAILABLE:
        batch.fail([key])
    if write.outcome is not Outcome.WRITTEN:
        return
    measured.add(metrics.SUBMISSIONS_REJECTED)
    logger.warning("rejected", jobId=key.job_id, reason=str(invalid))


def _record(submissions: list[Submission], batch: Batch, measured: Measurements) -> list[Submission]:
    """Enter the jobs in the ledger and return those whose work may start."""
    startable = []
    for submission, write in zip(submissions, _ledger.record(submissions), strict=True):
        if write.outcome is Outcome.UNAVAILABLE:
            batch.fail([submission.key])
        elif write.outcome is Outcome.WRITTEN:
            measured.add(metrics.SUBMISSIONS_RECORDED, job_type=submission.job_type)
            logger.info("recorded", jobId=submission.key.job_id, jobType=submission.job_type)
            startable.append(submission)
        else:
            measured.add(metrics.SUBMISSIONS_DUPLICATE, job_type=submission.job_type)
            logger.info("duplicate", jobId=submission.key.job_id, jobType=submission.job_type)
            if _may_not_have_started(write, submission):
                startable.append(submission)
    return startable


def _may_not_have_started(write: Write, submission: Submission) -> bool:
    """Whether an earlier delivery may have died between record and dispatch; a second start does no harm."""
    job = write.job
    return job is not None and job.status is JobStatus.SUBMITTED and job.digest == submission.digest
