"""What `docs/openapi.yaml` promises of an answer, and where one differs from that."""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING, Any

import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from sluice_harness.openapi.document import FILE

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx


@functools.cache
def openapi() -> dict[str, Any]:
    """The committed file."""
    document: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return document


def complaints(answer: httpx.Response, api_url: str, document: dict[str, Any]) -> list[str]:
    """How an answer differs from what the document says of its call; what is no call of the API's cannot."""
    found = _operation(answer.request.method, str(answer.request.url), api_url, document)
    return [] if found is None else [*_complaints(answer, found, document)]


def _operation(method: str, url: str, api_url: str, document: dict[str, Any]) -> dict[str, Any] | None:
    path = url.removeprefix(api_url).partition("?")[0]
    for template, operations in document["paths"].items():
        if re.fullmatch(re.sub(r"\{.*?\}", "[^/]+", template), path):
            found: dict[str, Any] | None = operations.get(method.lower())
            return found
    return None


def _complaints(answer: httpx.Response, operation: dict[str, Any], document: dict[str, Any]) -> Iterator[str]:
    status = str(answer.status_code)
    if status not in operation["responses"]:
        yield f"{operation['operationId']} may not answer {status}"
        return
    promised = _resolved(operation["responses"][status], document)
    for name, header in promised["headers"].items():
        demanded = _resolved(header, document)
        if name in answer.headers:
            yield from _invalid(
                _read(answer.headers[name], demanded["schema"]), demanded["schema"], document, name
            )
        elif demanded.get("required"):
            yield f"{status} lacks {name}"
    content = promised["content"].get(answer.headers.get("Content-Type"))
    if content is None:
        yield f"{status} is {answer.headers.get('Content-Type')}, not {' or '.join(promised['content'])}"
    else:
        yield from _invalid(json.loads(answer.content), content["schema"], document, status)


def _resolved(part: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in part:
        return part
    return functools.reduce(lambda inner, name: inner[name], part["$ref"].split("/")[1:], document)


def _read(text: str, schema: dict[str, Any]) -> str | int:
    return int(text) if schema.get("type") == "integer" and text.isdigit() else text


def _invalid(value: Any, schema: dict[str, Any], document: dict[str, Any], where: str) -> Iterator[str]:
    # The document goes along, for references in the schema are to it.
    validator = Draft202012Validator({**schema, "components": document["components"]})
    for error in validator.iter_errors(value):
        yield f"{where}: {error.json_path}: {error.message}"
