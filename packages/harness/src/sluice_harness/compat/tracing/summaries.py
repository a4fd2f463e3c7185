"""What GetTraceSummaries says of a trace.

AWS: X-Ray API reference, "TraceSummary". Faults and errors are those of the root segment, throttles those of any;
causes, users and instances are not gathered here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sluice_harness.compat.tracing.store import Document, Trace

_VALUES = {bool: "BooleanValue", int: "NumberValue", float: "NumberValue", str: "StringValue"}


def summarise(trace: Trace) -> dict[str, Any]:
    """Return the summary of a trace, in the API's shape."""
    documents = trace.documents()
    root = min(documents, key=lambda one: ("parent_id" in one, one["start_time"]))
    http = root.get("http", {})
    return {
        "Id": trace.id,
        "StartTime": trace.start,
        "Duration": round(trace.duration, 3),
        "ResponseTime": _response_time(root),
        "HasFault": bool(root.get("fault")),
        "HasError": bool(root.get("error")),
        "HasThrottle": any(one.get("throttle") for document in documents for one in _entities(document)),
        "IsPartial": any(one.get("in_progress") for document in documents for one in _entities(document)),
        "Http": _http(http),
        "Annotations": _annotations(documents),
        "Users": [],
        "ServiceIds": _services(documents),
        "ResourceARNs": [{"ARN": one["resource_arn"]} for one in documents if one.get("resource_arn")],
        "EntryPoint": _service(root),
        "Revision": len(trace.segments),
    }


def _entities(document: Document) -> Iterator[Document]:
    yield document
    for child in document.get("subsegments", []):
        yield from _entities(child)


def _response_time(root: Document) -> float | None:
    return None if root.get("end_time") is None else round(root["end_time"] - root["start_time"], 3)


def _http(http: Document) -> dict[str, Any]:
    request, response = http.get("request") or {}, http.get("response") or {}
    named = {
        "HttpURL": request.get("url"),
        "HttpMethod": request.get("method"),
        "UserAgent": request.get("user_agent"),
        "ClientIp": request.get("client_ip"),
        "HttpStatus": response.get("status"),
    }
    return {name: value for name, value in named.items() if value is not None}


def _service(document: Document) -> dict[str, Any]:
    name = document["name"]
    return {"Name": name, "Names": [name], **({"Type": document["origin"]} if document.get("origin") else {})}


def _services(documents: list[Document]) -> list[dict[str, Any]]:
    found = {(one["name"], one.get("origin")): _service(one) for one in documents}
    return list(found.values())


def _annotations(documents: list[Document]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for document in documents:
        for entity in _entities(document):
            for key, value in entity.get("annotations", {}).items():
                if kind := _VALUES.get(type(value)):
                    _note(found.setdefault(key, []), {kind: value}, _service(document))
    return found


def _note(values: list[dict[str, Any]], value: dict[str, Any], service: dict[str, Any]) -> None:
    known = next((one for one in values if one["AnnotationValue"] == value), None)
    if known is None:
        values.append({"AnnotationValue": value, "ServiceIds": [service]})
    elif service not in known["ServiceIds"]:
        known["ServiceIds"].append(service)
