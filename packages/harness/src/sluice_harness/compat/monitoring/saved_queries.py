"""Saved Logs Insights queries.

MiniStack does not know them. CloudWatch Logs keeps each under an id of its own ("PutQueryDefinition",
"DescribeQueryDefinitions" and "DeleteQueryDefinition" in the CloudWatch Logs API reference). Closed by a store in
memory and its three actions, beside the engine's.
"""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from ministack.core.responses import error_response_json, json_response
from ministack.services import cloudwatch_logs

from sluice_harness.compat.patching import expect

Definition = dict[str, Any]

A_PAGE = 1000
_FIELDS = ("name", "queryString", "queryLanguage", "logGroupNames", "parameters")

_definitions: dict[str, Definition] = {}


def apply() -> None:
    """Add the actions to the engine's CloudWatch Logs."""
    original = expect(cloudwatch_logs, "handle_request", "method", "path", "headers", "body", "query_params")

    async def handle_request(
        method: str, path: str, headers: dict[str, str], body: bytes, query_params: Any
    ) -> Any:
        action = headers.get("x-amz-target", "").rpartition(".")[2]
        if action not in _ACTIONS:
            return await original(method, path, headers, body, query_params)
        try:
            return json_response(_ACTIONS[action](json.loads(body or b"{}")))
        except KeyError as error:
            return error_response_json("ResourceNotFoundException", f"There is no {error}.", 400)

    cloudwatch_logs.handle_request = handle_request


def put(wanted: Definition) -> str:
    """Keep a query and return its id; with the id of one that is there, in its place."""
    identifier = wanted.get("queryDefinitionId") or str(uuid.uuid4())
    kept = {name: wanted[name] for name in _FIELDS if wanted.get(name) is not None}
    kept.setdefault("queryLanguage", "CWLI")
    _definitions[identifier] = kept | {"queryDefinitionId": identifier, "lastModified": int(time.time() * 1000)}
    return identifier


def delete(identifier: str) -> bool:
    """Forget a query; False if there was none."""
    return _definitions.pop(identifier, None) is not None


def _put(wanted: Definition) -> Definition:
    identifier = wanted.get("queryDefinitionId")
    if identifier and identifier not in _definitions:
        raise KeyError(identifier)
    return {"queryDefinitionId": put(wanted)}


def _describe(wanted: Definition) -> Definition:
    prefix, language = wanted.get("queryDefinitionNamePrefix", ""), wanted.get("queryLanguage")
    found = sorted(
        (one for one in list(_definitions.values()) if one["name"].startswith(prefix)), key=lambda one: one["name"]
    )
    found = [one for one in found if language in (None, one["queryLanguage"])]
    position, number = int(wanted.get("nextToken") or 0), int(wanted.get("maxResults") or A_PAGE)
    answer: Definition = {"queryDefinitions": found[position : position + number]}
    return answer if len(found) <= position + number else {**answer, "nextToken": str(position + number)}


def _delete(wanted: Definition) -> Definition:
    if not delete(wanted["queryDefinitionId"]):
        raise KeyError(wanted["queryDefinitionId"])
    return {"success": True}


_ACTIONS = {"PutQueryDefinition": _put, "DescribeQueryDefinitions": _describe, "DeleteQueryDefinition": _delete}
