"""Answers ``GET /job-status/{job-id}``: where one job stands, and its result's URL once there is one."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import boto3
from sluice_core import metrics, problems
from sluice_core.callers import Caller, is_owner
from sluice_core.jobs import JobKey, JobStatus, is_job_id, may_be_queued
from sluice_core.ledger import JobLedger
from sluice_core.results import DownloadSigner

from sluice_handlers.telemetry import Measurements, logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sluice_core.jobs import Job
    from sluice_core.problems import Problem

# What a client should wait before it asks again, in seconds.
RETRY_AFTER_S = 1

_ledger = JobLedger(
    boto3.client("dynamodb"), os.environ["JOB_TABLE"], retention_s=int(os.environ["RETENTION_SECONDS"])
)
_signer = DownloadSigner(os.environ["DOWNLOAD_ROLE_ARN"], os.environ["RESULT_BUCKET"])
_queue_retention_s = int(os.environ["REQUEST_RETENTION_SECONDS"])


def handler(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Answer one request of API Gateway's proxy integration."""
    with Measurements() as measured:
        key = _requested(event)
        job = _ledger.get(key) if is_job_id(key.job_id) and is_owner(key.owner) else None
        if job is not None:
            measured.add(metrics.STATUS_READS)
            return _answer(_view(job), is_open=job.status.is_open)
        if may_be_queued(key, time.time_ns() // 1_000_000, _queue_retention_s):
            measured.add(metrics.STATUS_READS)
            return _answer(_queued_view(key), is_open=True)
        logger.info("not found")
        return _problem(problems.NOT_FOUND, event)


def _requested(event: Mapping[str, Any]) -> JobKey:
    """Say which job is asked for: the caller's own, or for an admin that of the owner they name."""
    caller = Caller.from_context(event["requestContext"]["authorizer"])
    owner = caller.owner
    if caller.is_admin:
        owner = (event.get("queryStringParameters") or {}).get("owner", owner)
    return JobKey(owner, event["pathParameters"]["job-id"])


def _view(job: Job) -> dict[str, Any]:
    """Show the job as its client sees it; members that do not apply are left out."""
    view: dict[str, Any] = {
        "jobId": job.key.job_id,
        "jobType": job.job_type,
        "status": job.status,
        "submittedAt": _time(job.submitted_at),
    }
    if job.started_at is not None and job.status is not JobStatus.SUBMITTED:
        view["startedAt"] = _time(job.started_at)
    if job.ended_at is not None:
        view["endedAt"] = _time(job.ended_at)
    if job.result is not None:
        download = _signer.sign(job.result)
        view["result"] = {
            "url": download.url,
            "expiresAt": _time(download.expires_at * 1000),
            "contentType": job.result.content_type,
            "bytes": job.result.size,
        }
    if job.error is not None:
        view["error"] = {"code": job.error.code, "message": job.error.message}
    return view


def _queued_view(key: JobKey) -> dict[str, Any]:
    """Show a job that waits in the request queue: its id says when it came."""
    submitted_at = int(key.job_id.partition("-")[0])
    return {"jobId": key.job_id, "status": JobStatus.SUBMITTED, "submittedAt": _time(submitted_at)}


def _time(epoch_ms: int) -> str:
    """Return RFC 3339 with milliseconds."""
    moment = datetime.fromtimestamp(epoch_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _answer(view: dict[str, Any], *, is_open: bool) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    if is_open:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return {"statusCode": 200, "headers": headers, "body": json.dumps(view)}


def _problem(problem: Problem, event: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "statusCode": problem.status,
        "headers": {"Content-Type": problems.MEDIA_TYPE, "Cache-Control": "no-store"},
        "body": problem.body(requestId=event["requestContext"]["extendedRequestId"]),
    }
