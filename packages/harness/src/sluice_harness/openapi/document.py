"""Puts the document together: core's tables, the words of `operations`, and what the template has."""

from __future__ import annotations

import json
from collections import Counter
from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from sluice_core import problems

from sluice_harness.description import ROOT
from sluice_harness.openapi import examples
from sluice_harness.openapi.front_matter import ABOUT, EVERY_ANSWER, HEADERS, SECURITY_SCHEMES, SERVERS
from sluice_harness.openapi.operations import OPERATIONS, PARAMETERS
from sluice_harness.openapi.schemas import ref, schemas
from sluice_harness.openapi.template import Refusal
from sluice_harness.yaml_text import dump

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sluice_harness.openapi.operations import Operation
    from sluice_harness.openapi.template import Api

Part = dict[str, Any]
FILE = ROOT / "docs" / "openapi.yaml"
_COMMENT = (
    "# Made by `uvx nox -s openapi`, of core's tables and infra's template: change those and run it again.\n"
)
# From an accepted submission to what can be done with the job.
_LINKS = {
    name: {"operationId": name, "parameters": {"job-id": "$response.body#/jobId"}}
    for name in ("getJob", "cancelJob")
}


def document(api: Api) -> Part:
    """Return the OpenAPI document of an API.

    Raises
    ------
    ValueError
        It has a call that `operations` does not describe, or lacks one that it does.

    """
    if unmatched := sorted(api.methods.keys() ^ OPERATIONS.keys()):
        raise ValueError(f"in the template or in sluice_harness.openapi.operations, but not in both: {unmatched}")
    refusals = {call: _refusals(api, *call) for call in OPERATIONS}
    shared = _shared([*refusals.values()])
    paths: dict[str, Part] = {}
    for (verb, path), operation in OPERATIONS.items():
        paths.setdefault(path, {})[verb.lower()] = _operation(operation, refusals[verb, path], shared, api)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sluice",
            "summary": "Jobs, submitted over HTTP and run when their turn comes.",
            "description": ABOUT.format(rate=api.rate, burst=api.burst),
            "version": version("sluice-core"),
            "license": {"name": "MIT-0", "identifier": "MIT-0"},
        },
        "servers": SERVERS,
        "security": [{name: []} for name in SECURITY_SCHEMES],
        "paths": paths,
        "components": {
            "schemas": schemas(api.request_schema),
            "parameters": {name: {"name": name, **parameter} for name, parameter in PARAMETERS.items()},
            "headers": HEADERS,
            "responses": shared,
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def _operation(operation: Operation, refusals: Mapping[str, Part], shared: Mapping[str, Part], api: Api) -> Part:
    success = operation.success
    answer: Part = {
        "description": success.description,
        "headers": _headers(success.headers),
        "content": _content("application/json", ref(success.schema), success.examples),
    }
    described: Part = {
        "operationId": operation.id,
        "summary": operation.summary,
        "description": operation.description,
    }
    if operation.parameters:
        described["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in operation.parameters]
    if operation.takes_submission:
        shown = examples.submissions(api.request_schema)
        described["requestBody"] = {"content": _content("application/json", ref("Submission"), shown)}
        answer["links"] = _LINKS
    names = {str(one): name for name, one in shared.items()}
    described["responses"] = {str(success.status): answer} | {
        status: {"$ref": f"#/components/responses/{names[str(one)]}"} if str(one) in names else one
        for status, one in refusals.items()
    }
    return described


def _shared(all_refusals: Sequence[Mapping[str, Part]]) -> dict[str, Part]:
    """Return the errors that several calls have alike, by the name of their status: they are said once."""
    count = Counter(str(one) for refusals in all_refusals for one in refusals.values())
    return {
        HTTPStatus(int(status)).phrase.replace(" ", ""): one
        for refusals in all_refusals
        for status, one in refusals.items()
        if count[str(one)] > 1
    }


def _refusals(api: Api, verb: str, path: str) -> dict[str, Part]:
    """Return a call's errors by status: the gateway's, as the template has them, and its function's."""
    found = [*api.refusals(api.methods[verb, path])]
    found += [Refusal(one.status, json.loads(one.body()), {}) for one in OPERATIONS[verb, path].problems]
    return {
        str(status): _refusal([one for one in found if one.status == status])
        for status in sorted({one.status for one in found})
    }


def _refusal(alike: Sequence[Refusal]) -> Part:
    """Return the one answer that stands for all the problems of a status."""
    by_type = {one.problem["type"]: one.problem for one in alike}
    said = [f"{problem['title']}. {problem['detail']}" for problem in by_type.values()]
    narrowed: Part = {"properties": {"type": {"enum": [*by_type]}}}
    if all("status" in one.problem for one in alike):
        narrowed = {
            "required": ["status"],
            "properties": {**narrowed["properties"], "status": {"const": alike[0].status}},
        }
    shown = {
        kind.rpartition(":")[2]: {"value": {**problem, "requestId": examples.REQUEST_ID}}
        for kind, problem in by_type.items()
    }
    return {
        "description": "\n".join(said if len(said) == 1 else [f"* {one}" for one in said]),
        "headers": _headers({name: name for name in alike[0].headers}),
        "content": _content(problems.MEDIA_TYPE, {"allOf": [ref("Problem"), narrowed]}, shown),
    }


def _headers(components: Mapping[str, str]) -> Part:
    """Return an answer's headers, given the component of each; those of every answer are added."""
    every = {**components, **{name: name for name in EVERY_ANSWER}}
    return {name: {"$ref": f"#/components/headers/{component}"} for name, component in every.items()}


def _content(media_type: str, schema: Part, shown: Part) -> Part:
    return {media_type: {"schema": schema, "examples": shown}}


def as_yaml(content: Part) -> str:
    """Return a document as the text of its file."""
    return _COMMENT + dump(content)
