"""What a client may submit: one JSON schema, which the gateway enforces as its model and core checks again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import fastjsonschema

from sluice_core.jobs import CLIENT_TOKEN_PATTERN, JobKey, Submission

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sluice_core.workloads import Workload

DEFAULT_JOB_TYPE = "weather-report"
# Far below Python's recursion limit, which deeper bodies would hit later, where a whole batch would suffer.
_MAX_DEPTH = 100
_TOO_DEEP = f"the body is nested deeper than {_MAX_DEPTH} levels"


class MalformedMessage(Exception):  # noqa: N818 - named for what it is
    """A queue message of a shape nobody here wrote; it belongs in the dead-letter queue."""


class InvalidRequest(Exception):  # noqa: N818
    """A request that passed the queue but not the schema.

    Attributes
    ----------
    submission : Submission
        The request without its parameters, enough to record why the job failed.

    """

    def __init__(self, submission: Submission, message: str) -> None:
        super().__init__(message)
        self.submission = submission


def request_schema(workloads: Mapping[str, Workload]) -> dict[str, Any]:
    """Return the JSON schema (draft 4, which API Gateway models use) of a submission's body.

    Each job type brings the schema of its own parameters; the default job type applies where none is named.
    """
    schema: dict[str, Any] = {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "title": "SubmitJobRequest",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "jobType": {"type": "string", "enum": sorted(workloads)},
            "parameters": {"type": "object"},
            "clientToken": {"type": "string", "pattern": CLIENT_TOKEN_PATTERN},
        },
    }
    if len(workloads) == 1:
        # Said outright, so that a refusal names the parameter and not "anyOf".
        (workload,) = workloads.values()
        schema["properties"]["parameters"] = dict(workload.parameters_schema)
        schema |= _required([], workload)
    else:
        schema["anyOf"] = [_one_type(name, workload) for name, workload in sorted(workloads.items())]
    return schema


def _one_type(name: str, workload: Workload) -> dict[str, Any]:
    properties = {"jobType": {"enum": [name]}, "parameters": dict(workload.parameters_schema)}
    return {"properties": properties, **_required([] if name == DEFAULT_JOB_TYPE else ["jobType"], workload)}


def _required(names: list[str], workload: Workload) -> dict[str, Any]:
    """Demand parameters where some are: a schema of parameters says nothing of a body that has none."""
    demanded = [*names, *(["parameters"] if workload.parameters_schema.get("required") else [])]
    return {"required": demanded} if demanded else {}


def schema_in_words(workloads: Mapping[str, Workload]) -> str:
    """Return what a submission may have, for its client: the gateway refuses it without naming the member.

    A parameter is told with the ``description`` of its schema, if that has one.
    """
    alike: dict[str, list[str]] = {}
    for name, workload in sorted(workloads.items()):
        alike.setdefault(_parameters_in_words(workload), []).append(name)
    parameters = "; ".join(f"those of {' and '.join(names)} are {words}" for words, names in alike.items())
    return (
        f"Send a JSON object with only jobType ({', '.join(sorted(workloads))}), clientToken (16 to 64 letters, "
        f"digits and hyphens) and parameters: {parameters}."
    )


def _parameters_in_words(workload: Workload) -> str:
    told = {name: one.get("description") for name, one in workload.parameters_schema.get("properties", {}).items()}
    return ", ".join(f"{name} ({words})" if words else name for name, words in told.items()) or "free"


class SubmissionParser:
    """Reads submissions off the request queue, whose messages the gateway's template writes."""

    def __init__(self, workloads: Mapping[str, Workload]) -> None:
        self._validate: Callable[[Any], Any] = fastjsonschema.compile(request_schema(workloads))
        # The only type there is needs no name; among several, one is the default.
        self._default_type = next(iter(workloads)) if len(workloads) == 1 else DEFAULT_JOB_TYPE

    def parse(self, record: Mapping[str, Any]) -> Submission:
        """Return the submission in one SQS event record.

        Raises
        ------
        MalformedMessage
            The message attributes that the gateway sets are missing or wrong.
        InvalidRequest
            The body is not what the schema allows.

        """
        key, submitted_at = read_provenance(record)
        request_id = record["messageAttributes"].get("requestId", {}).get("stringValue", "")
        trace = record["attributes"].get("AWSTraceHeader", "")
        refused = Submission(key, self._default_type, {}, submitted_at, request_id, trace_header=trace)
        try:
            body = json.loads(record["body"], parse_constant=_refuse_constant)
            self._validate(body)
        except (ValueError, RecursionError, fastjsonschema.JsonSchemaValueException) as error:
            raise InvalidRequest(refused, _explain(error)) from error
        if _is_deep(body):
            raise InvalidRequest(refused, _TOO_DEEP)
        job_type, parameters = body.get("jobType", self._default_type), body.get("parameters", {})
        return Submission(key, job_type, parameters, submitted_at, request_id, trace_header=trace)


def _refuse_constant(name: str) -> None:
    """Refuse ``NaN`` and ``Infinity``, which Python's parser takes and JSON does not have."""
    raise ValueError(name)


def read_provenance(record: Mapping[str, Any]) -> tuple[JobKey, int]:
    """Return a request's job and time, which the gateway takes from its own context, never from the body.

    Raises
    ------
    MalformedMessage
        The message attributes that the gateway sets are missing or wrong.

    """
    try:
        key = JobKey(_attribute(record, "owner"), _attribute(record, "jobId"))
        return key, int(_attribute(record, "submittedAt"))
    except ValueError as error:
        raise MalformedMessage("the request's submittedAt is no number") from error


def _attribute(record: Mapping[str, Any], name: str) -> str:
    try:
        value = record["messageAttributes"][name]["stringValue"]
    except (KeyError, TypeError) as error:
        raise MalformedMessage(f"the request lacks {name}") from error
    if not isinstance(value, str):
        raise MalformedMessage(f"the request's {name} is no text")
    return value


def _is_deep(value: Any) -> bool:
    """Whether lists and objects are nested deeper than `_MAX_DEPTH`; goes level by level, not recursively."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        if not level:
            return False
        inner = (one.values() if isinstance(one, dict) else one for one in level)
        level = [child for children in inner for child in children if isinstance(child, dict | list)]
    return bool(level)


def _explain(error: Exception) -> str:
    """Name the rule that was broken; never the value, which is the client's payload."""
    if isinstance(error, RecursionError):
        return _TOO_DEEP
    if isinstance(error, fastjsonschema.JsonSchemaValueException):
        return f"{error.name or 'data'} breaks the rule {error.rule!r} of the request schema"
    return "the body is not JSON"
