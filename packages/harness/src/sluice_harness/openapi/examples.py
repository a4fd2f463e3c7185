"""Examples of what goes in and comes out; tests hold each against its schema, and against the local stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fastjsonschema
from sluice_core.jobs import JobStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Examples = dict[str, dict[str, Any]]

REQUEST_ID = "ISqJkGxWoAMEaJw="
SUBMISSION_REQUEST_ID = "0d9a4c1e-52f7-4b0a-8f0d-3f1f5f0c9a77"
JOB_ID = "1798761600000-4f9d3c2e-8a51-4c1b-9d62-0b7f5a2e6c11-5d41402a"
CURSOR = "WzE3OTg3NjE2MDAwMDAsWyJhIl0sIjVkNDEiXQ"
LOCATION = f"/prod/job-status/{JOB_ID}"
_API = "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com"
_CLIENT_TOKEN = "order-4711-report-0001"  # noqa: S105 - no secret
_TYPE, _CAME = {"jobType": "weather-report"}, {"submittedAt": "2027-01-01T00:00:00.000Z"}
_BEGUN = {**_CAME, **_TYPE, "startedAt": "2027-01-01T00:00:00.412Z"}
_ENDED = {"endedAt": "2027-01-01T00:00:01.519Z"}
_RESULT = {"contentType": "text/csv; charset=utf-8", "bytes": 1874}
_DOWNLOAD = {
    "url": "https://sluice-results.s3.eu-central-1.amazonaws.com/results/7d1e/a.csv?X-Amz-Signature=0f9d",
    "expiresAt": "2027-01-01T00:15:00.000Z",
}
_CONFLICT = {
    "code": "CLIENT_TOKEN_REUSED",
    "message": "This submission asked for something else under the job's clientToken, and was not run. "
    "Send it again with a token of its own.",
    "requestId": SUBMISSION_REQUEST_ID,
    "submittedAt": "2027-01-01T00:05:00.000Z",
}
_JOBS: Mapping[JobStatus, dict[str, Any]] = {
    JobStatus.SUBMITTED: _CAME,
    JobStatus.RUNNING: _BEGUN,
    JobStatus.COMPLETED: {**_BEGUN, **_ENDED, "result": {**_DOWNLOAD, **_RESULT}},
    JobStatus.FAILED: {
        **_BEGUN,
        **_ENDED,
        "error": {
            "code": "INVALID_PARAMETERS",
            "message": "unknown parameter 'colour'; allowed are station, records, format, seed, workSeconds",
        },
    },
    JobStatus.CANCELLED: {**_CAME, **_ENDED},
}
# Parameters by job type and format.
_SUBMISSIONS: Mapping[str, Examples] = {
    "weather-report": {
        "json": {"station": "EFHK", "records": 24, "format": "json"},
        "csv": {"station": "London Heathrow", "records": 48, "format": "csv"},
        "ndjson": {"station": "an imagined place", "format": "ndjson", "seed": 7},
    },
}


def submissions(schema: Mapping[str, Any]) -> Examples:
    """Return bodies to submit, of those here that a stage takes: it may have other job types.

    Parameters
    ----------
    schema : mapping
        What it takes, in JSON schema, draft 4.

    """
    bodies = {
        "defaults": _example("Everything by default", {}),
        "repeatable": _example("Safe to repeat", {"clientToken": _CLIENT_TOKEN}),
        **{
            f"{job_type}-{form}": _example(
                f"{job_type}, as {form}", {"jobType": job_type, "parameters": parameters}
            )
            for job_type, forms in _SUBMISSIONS.items()
            for form, parameters in forms.items()
        },
    }
    validate = fastjsonschema.compile(dict(schema))
    return {name: body for name, body in bodies.items() if _is_valid(validate, body["value"])}


def _is_valid(validate: Callable[[Any], Any], body: Any) -> bool:
    try:
        validate(body)
    except fastjsonschema.JsonSchemaValueException:
        return False
    return True


def accepted() -> Examples:
    """Return answers to submissions, without and with a client token."""
    return {
        "made-id": _example("Without a clientToken", _accepted(JOB_ID)),
        "client-token": _example("With one", _accepted(_CLIENT_TOKEN)),
    }


def _example(summary: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"summary": summary, "value": value}


def _accepted(job_id: str) -> dict[str, Any]:
    return {"jobId": job_id, "status": "SUBMITTED", "statusUrl": f"{_API}/prod/job-status/{job_id}"}


def job(status: JobStatus) -> dict[str, Any]:
    """Return a job that stands at a status."""
    return {"jobId": JOB_ID, "status": str(status), **_JOBS[status]}


def jobs() -> Examples:
    """Return a job in each status, and one whose token was used twice."""
    twice = {**job(JobStatus.COMPLETED), "jobId": _CLIENT_TOKEN, "conflicts": [_CONFLICT]}
    by_status = {str(status): {"value": job(status)} for status in JobStatus}
    return {**by_status, "token-used-twice": _example("A clientToken that was used twice", twice)}


def page() -> Examples:
    """Return a page of a list."""
    completed = {**job(JobStatus.COMPLETED), "result": _RESULT}
    return {"page": {"value": {"jobs": [completed], "nextCursor": CURSOR}}}
