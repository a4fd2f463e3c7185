"""Job events: what is published of a job that has ended, so that others need not poll.

One kind of event goes to the stage's EventBridge bus: source ``Sluice``, detail type ``Job Ended``, its detail as
`DETAIL_SCHEMA` says. Each end state is published at least once, and carries no payload: neither parameters nor
result, and of an error its code only. ``docs/events.md`` is the consumers' page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sluice_core.jobs import JobStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sluice_core.jobs import Job

SOURCE = "Sluice"
DETAIL_TYPE = "Job Ended"
# Raised by a change that a consumer must know of; new members alone do not raise it.
VERSION = "1"

_TIME = {"type": "integer", "description": "epoch milliseconds"}
DETAIL_SCHEMA: Mapping[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "Sluice Job Ended, version 1",
    "type": "object",
    "required": ["version", "stage", "jobId", "owner", "jobType", "status", "attempts", "submittedAt", "endedAt"],
    "properties": {
        "version": {"const": VERSION},
        "stage": {"type": "string"},
        "jobId": {"type": "string"},
        "owner": {"type": "string", "description": "the user's sub"},
        "jobType": {"type": "string", "description": "empty if it was cancelled before it was recorded"},
        "status": {"enum": [str(status) for status in JobStatus if not status.is_open]},
        "attempts": {"type": "integer", "minimum": 0, "description": "how often it was begun"},
        "submittedAt": _TIME,
        "startedAt": _TIME | {"description": "epoch milliseconds; of the last attempt, if there was one"},
        "endedAt": _TIME,
        "errorCode": {"type": "string", "description": "of a FAILED job"},
        "resultBytes": {"type": "integer", "minimum": 0, "description": "of a COMPLETED job"},
        "contentType": {"type": "string", "description": "of a COMPLETED job's result"},
    },
}


def ended_detail(job: Job, stage: str) -> dict[str, Any]:
    """Return the detail of one ended job's event."""
    detail: dict[str, Any] = {
        "version": VERSION,
        "stage": stage,
        "jobId": job.key.job_id,
        "owner": job.key.owner,
        "jobType": job.job_type,
        "status": str(job.status),
        "attempts": job.attempts,
        "submittedAt": job.submitted_at,
        "endedAt": job.ended_at,
    }
    if job.started_at is not None:
        detail["startedAt"] = job.started_at
    if job.status is JobStatus.FAILED and job.error is not None:
        detail["errorCode"] = job.error.code
    if job.status is JobStatus.COMPLETED and job.result is not None:
        detail |= {"resultBytes": job.result.size, "contentType": job.result.content_type}
    return detail
