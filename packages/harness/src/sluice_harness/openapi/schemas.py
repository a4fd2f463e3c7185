"""The shapes of what goes in and comes out, in JSON schema 2020-12."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sluice_core import problems
from sluice_core.jobs import CLIENT_TOKEN_PATTERN, JobStatus
from sluice_core.listing import MOST
from sluice_core.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Schema = dict[str, Any]
# How core says "the end", for "$" may also stand before a last line break; in JSON schema's ECMA-262 it may not.
_END = r"(?![\s\S])"
# Of draft 4: whose members' names are the schema's own, what holds values and not schemas, and what is not needed.
_NAMED, _VALUES = ("properties", "patternProperties"), ("enum", "default")
_NOT_SAID = ("$ref", "definitions", "dependencies", "additionalItems")

# What a job has in each status besides its id, its status and when it came: always, and perhaps.
_MEMBERS: Mapping[JobStatus, tuple[str, Sequence[str], Sequence[str]]] = {
    JobStatus.SUBMITTED: ("It waits to be run.", (), ("jobType", "conflicts")),
    JobStatus.RUNNING: ("It is being run.", ("jobType", "startedAt"), ("conflicts",)),
    JobStatus.COMPLETED: ("It is done.", ("jobType", "startedAt", "endedAt", "result"), ("conflicts",)),
    JobStatus.FAILED: ("It was not done.", ("endedAt", "error"), ("jobType", "startedAt", "conflicts")),
    JobStatus.CANCELLED: ("It was not to be done any more.", ("endedAt",), ("jobType", "startedAt", "conflicts")),
}
_SUBMISSION: Mapping[str, str] = {
    "jobType": "What is to be done.",
    "parameters": "How. A job whose parameters its type does not take is accepted, and FAILED.",
    "clientToken": "An idempotency token of the client's own, which becomes the job's id. Among its owner's jobs "
    "it stands for one, for as long as that is kept.",
}


def ref(name: str, description: str = "") -> Schema:
    """Refer to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}", **({"description": description} if description else {})}


def portable(pattern: str) -> str:
    """Return a pattern without what not every dialect of regular expressions has."""
    return pattern.replace(_END, "$")


def of_draft_4(schema: Schema) -> Schema:
    """Return a schema of draft 4, which API Gateway's models are, as one of 2020-12.

    Raises
    ------
    ValueError
        It uses what draft 4 said in another way and nobody has needed yet.

    """
    changed: Schema = {}
    for name, part in schema.items():
        if name in _NOT_SAID:
            raise ValueError(f"{name} of draft 4 is not translated: extend sluice_harness.openapi.schemas")
        if name in _NAMED:
            changed[name] = {own: of_draft_4(one) for own, one in part.items()}
        elif isinstance(part, dict) and name not in _VALUES:
            changed[name] = of_draft_4(part)
        elif isinstance(part, list) and name not in _VALUES:
            changed[name] = [of_draft_4(one) if isinstance(one, dict) else one for one in part]
        else:
            changed[name] = part
    changed.pop("$schema", None)
    if "id" in changed:
        changed["$id"] = changed.pop("id")
    for bound in ("minimum", "maximum"):
        if changed.pop(f"exclusive{bound.capitalize()}", False):
            changed[f"exclusive{bound.capitalize()}"] = changed.pop(bound)
    if "pattern" in changed:
        changed["pattern"] = portable(changed["pattern"])
    return changed


def schemas(request: Schema) -> dict[str, Schema]:
    """Return all the document's schemas by name.

    Parameters
    ----------
    request : dict
        The gateway's model of a submission, in draft 4.

    """
    return {
        "Submission": _submission(of_draft_4(request)),
        "AcceptedJob": _closed(
            {
                "jobId": ref("JobId"),
                "status": _only(JobStatus.SUBMITTED),
                "statusUrl": {"type": "string", "format": "uri", "description": "Where to ask about the job."},
            }
        ),
        "Job": _any_job("A job, with a way to download its result.", _name),
        "JobPage": _closed(
            {
                "jobs": {"type": "array", "maxItems": MOST, "items": ref("ListedJob")},
                "nextCursor": {
                    "type": "string",
                    "description": "There are more jobs if this is here, even if the page is short. Opaque.",
                },
            },
            optional=("nextCursor",),
        ),
        "ListedJob": _any_job("A job, without a way to download its result.", _listed_name),
        **{_name(status): _job(status, "Download") for status in JobStatus},
        _listed_name(JobStatus.COMPLETED): _job(JobStatus.COMPLETED, "Result"),
        **_parts(),
        "Problem": _problem(),
    }


def _submission(schema: Schema) -> Schema:
    """Say of each member what it is for; the gateway's model has no words for people."""
    described = {name: {"description": _SUBMISSION[name], **one} for name, one in schema["properties"].items()}
    return {**schema, "title": "Submission", "properties": described}


def _name(status: JobStatus) -> str:
    return f"{status.capitalize()}Job"


def _listed_name(status: JobStatus) -> str:
    return f"Listed{_name(status)}" if status is JobStatus.COMPLETED else _name(status)


def _any_job(description: str, name: Any) -> Schema:
    places = {str(status): ref(name(status)) for status in JobStatus}
    mapping = {status: place["$ref"] for status, place in places.items()}
    return {
        "description": description,
        "oneOf": list(places.values()),
        "discriminator": {"propertyName": "status", "mapping": mapping},
    }


def _job(status: JobStatus, result: str) -> Schema:
    members = {
        "jobType": {"type": "string"},
        "startedAt": ref("Time", "When it was last begun."),
        "endedAt": ref("Time", "When it came to its end."),
        "result": ref(result),
        "error": ref("JobError"),
        "conflicts": {
            "type": "array",
            "minItems": 1,
            "items": ref("Conflict"),
            "description": "Later submissions under the same clientToken that asked for something else.",
        },
    }
    description, always, perhaps = _MEMBERS[status]
    return _closed(
        {
            "jobId": ref("JobId"),
            "status": _only(status),
            "submittedAt": ref("Time", "When its submission was accepted."),
            **{name: member for name, member in members.items() if name in (*always, *perhaps)},
        },
        optional=perhaps,
        description=description,
    )


def _parts() -> dict[str, Schema]:
    result = {
        "contentType": {"type": "string", "description": "Its media type."},
        "bytes": {"type": "integer", "minimum": 0, "description": "Its size."},
    }
    words = {"type": "string"}
    return {
        "JobId": {
            "type": "string",
            "pattern": portable(CLIENT_TOKEN_PATTERN),
            "description": "The submission's clientToken, or else an id that was made for it.",
        },
        "Time": {
            "type": "string",
            "format": "date-time",
            "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$",
            "description": "RFC 3339, in UTC, with milliseconds.",
        },
        "Result": _closed(result, description="What the job made."),
        "Download": _closed(
            {
                "url": {"type": "string", "format": "uri", "description": "GET it as it is, without a token."},
                "expiresAt": ref("Time", "Until when the URL is good; ask again for another."),
                **result,
            },
            description="What the job made, and where it is.",
        ),
        "JobError": _closed(
            {"code": {"type": "string", "pattern": "^[A-Z][A-Z0-9_]*$"}, "message": words},
            description="Why the job failed. INVALID_REQUEST, TIMED_OUT and a job type's own codes say that it "
            "cannot succeed as it is; RETRIES_EXHAUSTED, WORKER_LOST, STOPPED, NOT_STARTED and NOT_PROCESSED that "
            "it may, submitted again.",
        ),
        "Conflict": _closed(
            {
                "code": _only("CLIENT_TOKEN_REUSED"),
                "message": words,
                "requestId": {"type": "string", "description": "The x-amzn-RequestId of that submission's 202."},
                "submittedAt": ref("Time"),
            }
        ),
    }


def _problem() -> Schema:
    every = [one for one in vars(problems).values() if isinstance(one, Problem)]
    return _closed(
        {
            "type": {"type": "string", "enum": sorted(f"urn:sluice:problem:{one.name}" for one in every)},
            "title": {"type": "string"},
            "status": {"type": "integer", "description": "The HTTP status code."},
            "detail": {"type": "string", "description": "What to do next."},
            "requestId": {"type": "string", "description": "To be named when asking for help: x-amz-apigw-id."},
        },
        optional=("status",),
        description="An error (RFC 9457). Programs branch on its type, which is stable.",
    )


def _only(text: str) -> Schema:
    return {"type": "string", "const": str(text)}


def _closed(properties: Schema, *, optional: Sequence[str] = (), description: str = "") -> Schema:
    """Return the schema of an object that has these members and no other."""
    return {
        **({"description": description} if description else {}),
        "type": "object",
        "additionalProperties": False,
        "required": [name for name in properties if name not in optional],
        "properties": properties,
    }
