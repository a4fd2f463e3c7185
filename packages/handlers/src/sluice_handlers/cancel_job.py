"""Answers ``POST /cancel-job/{job-id}``: ends a job at once, wherever it stands.

The ledger says CANCELLED, and everyone asks the ledger: the processor, the starter and the worker drop its message
when it comes, and a worker in the middle of it is told by its next heartbeat. That is all there is to it, except
for a job that an external executor has: its execution is stopped, so that it costs nothing more.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sluice_core import clients, metrics, problems
from sluice_core.configured import configured_executors
from sluice_core.executors import CANCELLED
from sluice_core.jobs import Job, JobStatus, may_be_queued, now_ms
from sluice_core.ledger import JobLedger, Outcome

from sluice_handlers import answers
from sluice_handlers.signals import stop
from sluice_handlers.telemetry import Measurements, logger, report
from sluice_handlers.tracing import trace_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sluice_core.jobs import JobKey
    from sluice_core.ledger import Write
    from sluice_core.problems import Problem

_ledger = JobLedger(clients.dynamodb(), os.environ["JOB_TABLE"], retention_s=int(os.environ["RETENTION_SECONDS"]))
_executors = configured_executors(os.environ)
_queue_retention_s = int(os.environ["REQUEST_RETENTION_SECONDS"])


def handler(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Answer one request of API Gateway's proxy integration."""
    with Measurements() as measured:
        try:
            cancelled = _cancel(answers.requested_job(event), now_ms())
        except _NotCancelled as refusal:
            logger.info("not cancelled", status=refusal.problem.status)
            return answers.problem(refusal.problem, event)
        measured.add(metrics.JOBS_CANCELLED, job_type=cancelled.job_type or None)
        report(
            "cancelled",
            cancelled.key,
            jobType=cancelled.job_type,
            traceId=trace_id(os.environ.get("_X_AMZN_TRACE_ID", "")),
        )
        return answers.ok(answers.view(cancelled))


class _NotCancelled(Exception):  # noqa: N818 - named for what it is
    """The job cannot be cancelled; the problem says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.title)
        self.problem = problem


def _cancel(key: JobKey | None, now_ms: int) -> Job:
    """Cancel a job and return it as it is now."""
    job = _ledger.get(key) if key else None
    if key and job is None and may_be_queued(key, now_ms, _queue_retention_s):
        # Its request is in the queue still. When it comes, the processor finds the job ended and drops it.
        write = _checked(_ledger.record_cancelled(key, answers.gateway_time(key), now_ms))
        if write.is_written:
            return Job(key, "", JobStatus.CANCELLED, answers.gateway_time(key), "", ended_at=now_ms)
        job = write.job  # recorded meanwhile
    if job is None:
        raise _NotCancelled(problems.NOT_FOUND)
    if not _checked(_ledger.cancel(job.key, now_ms)).is_written:
        raise _NotCancelled(problems.ALREADY_ENDED)
    _stop_execution(job.key)
    return replace(job, status=JobStatus.CANCELLED, ended_at=now_ms)


def _stop_execution(key: JobKey) -> None:
    """Stop what an external executor has of a job, as its row says now that it is cancelled.

    Of a start whose handle is not on record yet, the starter finds out when it puts it there.
    """
    if not _executors:
        return  # no job of this stage can have one
    row = _ledger.get(key)
    if row is not None and row.handle and (service := _executors.get(row.executing)):
        stop(service, row.executing, key, row.handle, CANCELLED)


def _checked(write: Write) -> Write:
    if write.outcome is Outcome.UNAVAILABLE:
        raise _NotCancelled(problems.CANCEL_UNAVAILABLE)
    return write
