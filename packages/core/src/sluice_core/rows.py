"""A job's row in DynamoDB's own form, and back."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from sluice_core.jobs import Conflict, EarlierEnd, Job, JobError, JobKey, JobStatus, StoredResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sluice_core.jobs import Submission

LIST_INDEX = "byOwner"
# One owner's listing is spread over this many index partitions (1,000 writes/s each).
LIST_SHARDS = 4
# Sparse: only rows whose execution is not yet closed are in it.
EXECUTION_INDEX = "byExecution"


def string(value: str) -> dict[str, str]:
    """Return a string attribute."""
    return {"S": str(value)}


def number(value: int) -> dict[str, str]:
    """Return a number attribute."""
    return {"N": str(value)}


def error_map(error: JobError) -> dict[str, Any]:
    """Return a job's error as an attribute."""
    return {"M": {"code": string(error.code), "message": string(error.message)}}


def result_map(result: StoredResult) -> dict[str, Any]:
    """Return a job's result as an attribute."""
    return {
        "M": {
            "objectKey": string(result.object_key),
            "contentType": string(result.content_type),
            "size": number(result.size),
        }
    }


def history_list(ends: tuple[EarlierEnd, ...]) -> dict[str, Any]:
    """Return the ends that a job has been brought back from as an attribute."""
    return {
        "L": [{"M": {"endedAt": number(end.ended_at), "error": error_map(end.error)}} for end in ends],
    }


def list_key(owner: str, shard: int) -> dict[str, str]:
    """Return the listing index's partition key of one of an owner's shards."""
    return string(f"{owner}#{shard}")


def new_row(submission: Submission, retention_s: int) -> dict[str, Any]:
    """Return a new job's row; it expires so many seconds after submission."""
    key = submission.key
    return {
        "jobKey": string(str(key)),
        "listKey": list_key(key.owner, zlib.crc32(key.job_id.encode()) % LIST_SHARDS),
        "submittedAt": number(submission.submitted_at),
        "jobType": string(submission.job_type),
        "status": string(JobStatus.SUBMITTED),
        "digest": string(submission.digest),
        "attempts": number(0),
        # Free, and never kept from the sweeper: both lie in the past.
        "leaseUntil": number(0),
        "heldUntil": number(0),
        "executor": string(submission.executor),
        # Not yet started by an external executor: the first start takes the place of none.
        "startToken": string(""),
        "starts": number(0),
        "expiresAt": number(submission.submitted_at // 1000 + retention_s),
    }


def read_row(item: Mapping[str, Any]) -> Job:
    """Return the job in a row."""
    owner, _, job_id = item["jobKey"]["S"].partition("#")
    result = item.get("result", {}).get("M")
    return Job(
        key=JobKey(owner, job_id),
        job_type=item["jobType"]["S"],
        status=JobStatus(item["status"]["S"]),
        submitted_at=int(item["submittedAt"]["N"]),
        digest=item["digest"]["S"],
        attempts=int(item["attempts"]["N"]),
        attempt=item.get("attempt", {}).get("S"),
        lease_until=_optional_int(item, "leaseUntil"),
        started_at=_optional_int(item, "startedAt"),
        ended_at=_optional_int(item, "endedAt"),
        result=result
        and StoredResult(result["objectKey"]["S"], result["contentType"]["S"], int(result["size"]["N"])),
        error=_error(item["error"]) if "error" in item else None,
        conflicts=tuple(sorted(_conflict(text) for text in item.get("conflicts", {}).get("SS", []))),
        history=tuple(
            EarlierEnd(int(end["M"]["endedAt"]["N"]), _error(end["M"]["error"]))
            for end in item.get("history", {}).get("L", [])
        ),
        held_until=_optional_int(item, "heldUntil") or 0,
        expires_at=int(item["expiresAt"]["N"]),
        executor=_optional_text(item, "executor"),
        handle=_optional_text(item, "handle"),
        start_token=_optional_text(item, "startToken"),
        starts=_optional_int(item, "starts") or 0,
        executing=_optional_text(item, "executing"),
        executing_since=_optional_int(item, "executingSince"),
        noted_at=_optional_int(item, "notedAt"),
    )


def conflict_text(conflict: Conflict) -> str:
    """Return a conflict as a member of the row's string set, in which a repetition changes nothing."""
    return f"{conflict.submitted_at} {conflict.request_id}"


def _conflict(text: str) -> Conflict:
    submitted_at, _, request_id = text.partition(" ")
    return Conflict(int(submitted_at), request_id)


def _error(attribute: Mapping[str, Any]) -> JobError:
    return JobError(attribute["M"]["code"]["S"], attribute["M"]["message"]["S"])


def _optional_int(item: Mapping[str, Any], name: str) -> int | None:
    return int(item[name]["N"]) if name in item else None


def _optional_text(item: Mapping[str, Any], name: str) -> str:
    return str(item[name]["S"]) if name in item else ""
