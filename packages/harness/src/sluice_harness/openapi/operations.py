"""What each call is for, in words, and what its function answers: all that no template says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sluice_core import problems
from sluice_core.callers import ADMIN_GROUP
from sluice_core.jobs import JobStatus
from sluice_core.listing import DEFAULT, MOST

from sluice_harness.openapi import examples
from sluice_harness.openapi.schemas import ref

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sluice_core.problems import Problem

    from sluice_harness.openapi.examples import Examples


@dataclass(frozen=True, slots=True, kw_only=True)
class Success:
    """The answer to a call that did what it is for.

    Attributes
    ----------
    schema : str
        The schema of its body.
    headers : mapping
        Its headers by name: which of `front_matter.HEADERS` each is.

    """

    status: int
    description: str
    schema: str
    examples: Examples
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A call.

    Attributes
    ----------
    parameters : sequence of str
        Those it takes, of `PARAMETERS`.
    problems : sequence of Problem
        What its function answers; what the gateway itself does the template says.
    takes_submission : bool
        Whether its body is a submission; else it has none.

    """

    id: str
    summary: str
    description: str
    success: Success
    parameters: Sequence[str] = ()
    problems: Sequence[Problem] = ()
    takes_submission: bool = False


PARAMETERS: Mapping[str, dict[str, Any]] = {
    "job-id": {
        "in": "path",
        "required": True,
        "schema": ref("JobId"),
        "example": examples.JOB_ID,
    },
    "status": {
        "in": "query",
        "description": "Only jobs that stand at this status.",
        "schema": {"enum": [str(status) for status in JobStatus]},
    },
    "limit": {
        "in": "query",
        "description": f"How many jobs a page has at most; more than {MOST} counts as {MOST}.",
        "schema": {"type": "integer", "minimum": 1, "default": DEFAULT},
    },
    "cursor": {
        "in": "query",
        "description": "The nextCursor of the page before, with the same status and owner.",
        "schema": {"type": "string"},
    },
    "owner": {
        "in": "query",
        "description": f"For members of {ADMIN_GROUP}: whose jobs, by the owner's `sub`. Else ignored.",
        "schema": {"type": "string"},
    },
}

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("POST", "/submit-job"): Operation(
        id="submitJob",
        summary="Submit a job",
        description="Accepts a job and answers at once; the job waits for its turn. A submission repeated with "
        "its clientToken is the same job and runs once: repeat it when there was no answer, a 429 or a 5xx.",
        takes_submission=True,
        success=Success(
            status=202,
            description="The job is accepted, and will come to one of its ends.",
            schema="AcceptedJob",
            examples=examples.accepted(),
            headers={"Location": "Location", "Retry-After": "Retry-After"},
        ),
    ),
    ("GET", "/job-status"): Operation(
        id="listJobs",
        summary="List jobs",
        description="The caller's own jobs, newest first, in pages.",
        parameters=("status", "limit", "cursor", "owner"),
        problems=(problems.INVALID_QUERY, problems.INVALID_CURSOR, problems.NOT_FOUND),
        success=Success(
            status=200,
            description="A page of jobs. It is the last one if it has no nextCursor.",
            schema="JobPage",
            examples=examples.page(),
            headers={"Cache-Control": "Cache-Control"},
        ),
    ),
    ("GET", "/job-status/{job-id}"): Operation(
        id="getJob",
        summary="See where a job stands",
        description="One job, and where its result is once it is COMPLETED. Ask again after Retry-After, for as "
        "long as there is one. A job under a clientToken may be a 404 for its first second. Another owner's job "
        "is a 404, like one that does not exist.",
        parameters=("job-id", "owner"),
        problems=(problems.NOT_FOUND,),
        success=Success(
            status=200,
            description="The job.",
            schema="Job",
            examples=examples.jobs(),
            headers={"Cache-Control": "Cache-Control", "Retry-After": "Retry-After-While-Open"},
        ),
    ),
    ("POST", "/cancel-job/{job-id}"): Operation(
        id="cancelJob",
        summary="Cancel a job",
        description="Ends a job at once, whether it waits or runs. It takes no body.",
        parameters=("job-id", "owner"),
        problems=(problems.NOT_FOUND, problems.ALREADY_ENDED, problems.CANCEL_UNAVAILABLE),
        success=Success(
            status=200,
            description="The job, which is now CANCELLED.",
            schema="CancelledJob",
            examples={str(JobStatus.CANCELLED): {"value": examples.job(JobStatus.CANCELLED)}},
            headers={"Cache-Control": "Cache-Control"},
        ),
    ),
}
