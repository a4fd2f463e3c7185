"""What the API's functions answer: jobs as their clients see them, and problems, as proxy responses."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sluice_core import problems
from sluice_core.callers import Caller, is_owner
from sluice_core.jobs import JobKey, JobStatus, is_job_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sluice_core.jobs import Conflict, Job
    from sluice_core.problems import Problem

# What a client should wait before it asks again, in seconds.
RETRY_AFTER_S = 1
_CONFLICT = {
    "code": "CLIENT_TOKEN_REUSED",
    "message": "This submission asked for something else under the job's clientToken, and was not run. "
    "Send it again with a token of its own.",
}


def requested_owner(event: Mapping[str, Any]) -> str:
    """Say whose jobs a request is about: the caller's own, or for an admin those of the owner they name."""
    caller = Caller.from_context(event["requestContext"]["authorizer"])
    return query(event).get("owner", caller.owner) if caller.is_admin else caller.owner


def requested_job(event: Mapping[str, Any]) -> JobKey | None:
    """Say which job a request is about, or None if there can be no such job."""
    key = JobKey(requested_owner(event), event["pathParameters"]["job-id"])
    return key if is_job_id(key.job_id) and is_owner(key.owner) else None


def query(event: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the query's parameters; of a repeated one the last."""
    return event.get("queryStringParameters") or {}


def view(job: Job) -> dict[str, Any]:
    """Show a job as its client sees it, but for its download; members that do not apply are left out."""
    shown: dict[str, Any] = {
        "jobId": job.key.job_id,
        "status": job.status,
        "submittedAt": rfc3339(job.submitted_at),
    }
    if job.job_type:
        shown["jobType"] = job.job_type
    if job.started_at is not None and job.status is not JobStatus.SUBMITTED:
        shown["startedAt"] = rfc3339(job.started_at)
    if job.ended_at is not None:
        shown["endedAt"] = rfc3339(job.ended_at)
    if job.result is not None:
        shown["result"] = {"contentType": job.result.content_type, "bytes": job.result.size}
    if job.error is not None:
        shown["error"] = {"code": job.error.code, "message": job.error.message}
    if job.conflicts:
        shown["conflicts"] = [_conflict(conflict) for conflict in job.conflicts]
    return shown


def queued_view(key: JobKey) -> dict[str, Any]:
    """Show a job that waits in the request queue: its id says when it came."""
    return {"jobId": key.job_id, "status": JobStatus.SUBMITTED, "submittedAt": rfc3339(gateway_time(key))}


def gateway_time(key: JobKey) -> int:
    """Return the epoch milliseconds in an id that was made at the gateway."""
    return int(key.job_id.partition("-")[0])


def rfc3339(epoch_ms: int) -> str:
    """Return a time as clients get it, with milliseconds."""
    moment = datetime.fromtimestamp(epoch_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ok(document: Mapping[str, Any], *, retry_after_s: int | None = None) -> dict[str, Any]:
    """Return a 200; ``Retry-After`` tells a client that asking again is worth while."""
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    return {"statusCode": 200, "headers": headers, "body": json.dumps(document)}


def problem(kind: Problem, event: Mapping[str, Any]) -> dict[str, Any]:
    """Return an error (RFC 9457)."""
    return {
        "statusCode": kind.status,
        "headers": {"Content-Type": problems.MEDIA_TYPE, "Cache-Control": "no-store"},
        "body": kind.body(requestId=event["requestContext"]["extendedRequestId"]),
    }


def _conflict(conflict: Conflict) -> dict[str, Any]:
    return {**_CONFLICT, "requestId": conflict.request_id, "submittedAt": rfc3339(conflict.submitted_at)}
