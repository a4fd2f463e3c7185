"""The job: its states, its identity, and the shapes a client sees.

Nothing here touches AWS, so the authorizer and the gateway's schema can use it without a cold start's worth
of boto3.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sluice_core.callers import owner_tag
from sluice_core.executors import LAMBDA

if TYPE_CHECKING:
    from collections.abc import Mapping

# No "$", which in some dialects also matches before a line break at the end, and this becomes a header.
CLIENT_TOKEN_PATTERN = r"^[A-Za-z0-9-]{16,64}(?![\s\S])"  # noqa: S105 - a pattern
# Made at the gateway: <epoch ms>-<request id>-<owner tag>. A client token may take the same form.
_GATEWAY_ID = re.compile(r"(?P<ms>[0-9]{13})-[0-9a-f-]{36}-(?P<tag>[0-9a-f]{8})")
_CLOCK_SKEW_MS = 60_000


class JobStatus(StrEnum):
    """Where a job stands; the last three are its end states."""

    SUBMITTED = "SUBMITTED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_open(self) -> bool:
        """Whether the job has yet to reach an end state."""
        return self in (JobStatus.SUBMITTED, JobStatus.RUNNING)


@dataclass(frozen=True, slots=True)
class JobKey:
    """What names one job: ids are scoped to their owner."""

    owner: str
    job_id: str

    def __str__(self) -> str:
        return f"{self.owner}#{self.job_id}"


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed, in words its client can act on."""

    code: str
    message: str


# The ends that Sluice itself gives to jobs, as their clients see them; a workload has codes of its own.
#
# Of a request that was never on record.
NOT_PROCESSED = JobError("NOT_PROCESSED", "The request could not be processed; submit it again.")
# Of work that was tried as often as it may be.
RETRIES_EXHAUSTED = JobError("RETRIES_EXHAUSTED", "No attempt could finish the work; submit it again later.")
# Of work whose workers died, the last one too.
WORKER_LOST = JobError("WORKER_LOST", "No worker lived to finish the work; submit it again later.")
# Of work that went on for longer than its executor's `timeout_s`.
TIMED_OUT = JobError("TIMED_OUT", "The work took longer than this type of job may; ask for less at a time.")
# Of work that somebody stopped, and not by cancelling the job.
STOPPED = JobError("STOPPED", "An operator stopped the work; submit it again later.")
# Of work that its executor never began.
NOT_STARTED = JobError("NOT_STARTED", "The work could not be started; submit it again later.")


@dataclass(frozen=True, slots=True)
class StoredResult:
    """Where a result lies: an S3 object key, its media type and its size in bytes."""

    object_key: str
    content_type: str
    size: int


@dataclass(frozen=True, slots=True, order=True)
class Conflict:
    """A later submission under a job's clientToken that asked for something else, and was not run.

    Attributes
    ----------
    submitted_at : int
        When the gateway took it, in epoch milliseconds.
    request_id : str
        The gateway's id of that request, which its client has from the response's ``x-amzn-RequestId``.

    """

    submitted_at: int
    request_id: str


@dataclass(frozen=True, slots=True)
class EarlierEnd:
    """A failure from which an operator has brought a job back; the time is in epoch milliseconds."""

    ended_at: int
    error: JobError


@dataclass(frozen=True, slots=True)
class Submission:
    """A job as its client asked for it.

    Attributes
    ----------
    submitted_at : int
        When the gateway took the request, in epoch milliseconds.
    request_id : str
        The gateway's id of the request; a work message has none.
    is_again : bool
        Whether its message took the place of another, so that the job may have been begun.
    trace_header : str
        The X-Ray trace that its request began, as the queues carry it; empty without one.
    executor : str
        Which one its job type goes to.
    start_token : str
        Of an external executor: the start that is to be made; in a message, the one whose place that takes.

    """

    key: JobKey
    job_type: str
    parameters: Mapping[str, Any]
    submitted_at: int
    request_id: str = ""
    is_again: bool = False
    trace_header: str = field(default="", compare=False)
    executor: str = field(default=LAMBDA, compare=False)
    start_token: str = field(default="", compare=False)

    @property
    def digest(self) -> str:
        """What tells one request from another under the same token; the row keeps this, not the payload."""
        canonical = json.dumps([self.job_type, self.parameters], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Job:
    """A job's row. Times are epoch milliseconds.

    Attributes
    ----------
    attempt : str or None
        The token of the claim that runs it; only its holder may end or release the job.
    attempts : int
        How often it was claimed.
    lease_until : int or None
        Until when that claim holds; afterwards anyone may claim the job anew.
    conflicts : tuple of Conflict
        Later submissions under the same clientToken with other parameters.
    history : tuple of EarlierEnd
        The failures from which it was brought back, oldest first.
    held_until : int
        Until when no sweeper ends it: it is held while it is brought back.
    expires_at : int
        When its row may vanish, in epoch seconds.
    executor : str
        Which one runs it, or is to; empty on rows from before there was a choice.
    handle : str
        By which that one knows it: an execution's ARN, a job's id, a task's ARN, an invocation's request id.
    start_token : str
        Of an external executor: names its last start.
    starts : int
        How often an external executor was asked to start it.
    executing : str
        The external executor with which its last start is not yet closed; empty if there is none.
    executing_since : int or None
        When that start began.
    noted_at : int or None
        When its handle was put on record, which may be long after that.

    """

    key: JobKey
    job_type: str
    status: JobStatus
    submitted_at: int
    digest: str
    attempts: int = 0
    attempt: str | None = None
    lease_until: int | None = None
    started_at: int | None = None
    ended_at: int | None = None
    result: StoredResult | None = None
    error: JobError | None = None
    conflicts: tuple[Conflict, ...] = ()
    history: tuple[EarlierEnd, ...] = ()
    # How its row is kept is no part of what the job is.
    held_until: int = field(default=0, compare=False)
    expires_at: int = field(default=0, compare=False)
    executor: str = ""
    handle: str = ""
    start_token: str = ""
    starts: int = 0
    executing: str = ""
    executing_since: int | None = None
    noted_at: int | None = None


def now_ms() -> int:
    """Return the time as rows have it: in epoch milliseconds."""
    return time.time_ns() // 1_000_000


def is_job_id(text: str) -> bool:
    """Whether any job could have this id; those made at the gateway have the form of a client token, too."""
    return re.fullmatch(CLIENT_TOKEN_PATTERN, text) is not None


def may_be_queued(key: JobKey, now_ms: int, retention_s: int) -> bool:
    """Whether an unrecorded job may still wait in the request queue.

    True only for a gateway-made id of this very owner whose time lies within the queue's retention.
    """
    found = _GATEWAY_ID.fullmatch(key.job_id)
    if not found or found["tag"] != owner_tag(key.owner):
        return False
    age_ms = now_ms - int(found["ms"])
    return -_CLOCK_SKEW_MS <= age_ms < retention_s * 1000
