"""X-Ray's API: PutTraceSegments, BatchGetTraces and GetTraceSummaries, as boto3's `xray` client calls them.

MiniStack answers 400 to all of X-Ray, and under AUTH asks no policy for it. AWS speaks REST and JSON here,
takes 50 segments a call, gives out five traces a call and summaries of at most 24 hours a call (X-Ray API
reference, the three actions; X-Ray Developer Guide, "Using the X-Ray API").

Closed by a service of its own where the engine dispatches, on the engine's own evaluation of policies. Calls
that nothing here makes are refused as unknown; PutTelemetryRecords is taken and forgotten.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from typing import TYPE_CHECKING, Any

from ministack import app as engine_app
from ministack.core import iam_actions, router

from sluice_harness.compat.patching import expect
from sluice_harness.compat.tracing.daemon import STORE
from sluice_harness.compat.tracing.filter_expressions import InvalidExpressionError, compile_expression
from sluice_harness.compat.tracing.store import InvalidSegmentError
from sluice_harness.compat.tracing.summaries import summarise

if TYPE_CHECKING:
    from collections.abc import Callable

    from sluice_harness.compat.tracing.store import Trace

SERVICE = "xray"
SEGMENTS_A_CALL = 50
TRACES_A_CALL = 5
LONGEST_RANGE_SECONDS = 24 * 3600
SUMMARIES_A_PAGE = 100
_TRACE_ID = re.compile(r"1-[0-9a-f]{8}-[0-9a-f]{24}")


class InvalidRequestError(Exception):
    """X-Ray's InvalidRequestException."""


def apply() -> None:
    """Let the engine route, authorise and serve X-Ray."""
    expect(router, "detect_service", "method", "path", "headers", "query_params")
    expect(iam_actions, "_match_rest_action", "service", "method", "path", "query_params")
    services = ((router, "SERVICE_PATTERNS"), (iam_actions, "SERVICE_TO_IAM_NAMESPACE"))
    for owner, name in (*services, (iam_actions, "_BOTOCORE_SERVICE_MAP"), (engine_app, "SERVICE_HANDLERS")):
        if SERVICE in expect(owner, name):
            raise RuntimeError(f"the engine's {name} knows X-Ray now: look whether {__name__} is needed still")
    router.SERVICE_PATTERNS[SERVICE] = {"host_patterns": [r"xray\."]}
    iam_actions.SERVICE_TO_IAM_NAMESPACE[SERVICE] = SERVICE
    iam_actions._BOTOCORE_SERVICE_MAP[SERVICE] = [SERVICE]
    engine_app.SERVICE_HANDLERS[SERVICE] = _handle


async def _handle(
    method: str, path: str, _headers: dict[str, str], body: bytes, _query: dict[str, Any]
) -> tuple[int, dict[str, str], bytes]:
    operation = _OPERATIONS.get(path) if method == "POST" else None
    if operation is None:
        return _reply(404, {"Message": f"X-Ray's {method} {path} is not served here"}, "UnknownOperationException")
    try:
        request = _read(body)
        # On a thread: reading many traces must not keep the engine from serving others.
        return _reply(200, await asyncio.to_thread(operation, request))
    except (InvalidRequestError, InvalidExpressionError) as error:
        return _reply(400, {"Message": str(error)}, "InvalidRequestException")


def _read(body: bytes) -> dict[str, Any]:
    try:
        request = json.loads(body or b"{}")
    except ValueError:
        request = None
    if not isinstance(request, dict):
        raise InvalidRequestError("The request is no JSON object")
    return request


def _reply(status: int, document: dict[str, Any], error: str = "") -> tuple[int, dict[str, str], bytes]:
    headers = {"Content-Type": "application/json"}
    if error:
        headers["x-amzn-ErrorType"] = error
    return status, headers, json.dumps(document).encode()


def _put_segments(request: dict[str, Any]) -> dict[str, Any]:
    documents = _strings(request, "TraceSegmentDocuments", SEGMENTS_A_CALL)
    refused = []
    for document in documents:
        try:
            STORE.put(document)
        except InvalidSegmentError as error:
            known = {"Id": error.segment_id} if error.segment_id else {}
            refused.append({**known, "ErrorCode": error.code, "Message": str(error)})
    return {"UnprocessedTraceSegments": refused}


def _batch_get(request: dict[str, Any]) -> dict[str, Any]:
    wanted = _strings(request, "TraceIds", TRACES_A_CALL)
    if not all(map(_TRACE_ID.fullmatch, wanted)):
        raise InvalidRequestError("A trace id is 1-<8 hexadecimal digits>-<24 hexadecimal digits>")
    found = [trace for identifier in wanted if (trace := STORE.get(identifier))]
    return {"Traces": [_whole(trace) for trace in found], "UnprocessedTraceIds": []}


def _whole(trace: Trace) -> dict[str, Any]:
    segments = [{"Id": one["id"], "Document": json.dumps(one)} for one in trace.documents()]
    return {
        "Id": trace.id,
        "Duration": round(trace.duration, 3),
        "LimitExceeded": False,
        "Segments": segments,
    }


def _summaries(request: dict[str, Any]) -> dict[str, Any]:
    start, end = _moment(request, "StartTime"), _moment(request, "EndTime")
    if not start < end <= start + LONGEST_RANGE_SECONDS:
        raise InvalidRequestError("EndTime must come after StartTime, at most 24 hours")
    kind = request.get("TimeRangeType") or "TraceId"
    if kind not in _TIMES:
        raise InvalidRequestError(f"TimeRangeType {kind} is not served here; TraceId and Event are")
    expression = request.get("FilterExpression")
    matches = compile_expression(expression) if expression else lambda _: True
    candidates = [trace for trace in STORE.all() if start <= _TIMES[kind](trace) <= end]
    found = [summary for trace in candidates if matches(summary := summarise(trace))]
    first = _offset(request.get("NextToken"))
    after = first + SUMMARIES_A_PAGE
    answer = {
        "TraceSummaries": found[first:after],
        "ApproximateTime": start,
        "TracesProcessedCount": len(candidates),
    }
    if after < len(found):
        answer["NextToken"] = base64.b64encode(str(after).encode()).decode()
    return answer


_TIMES: dict[str, Callable[[Trace], float]] = {
    "TraceId": lambda trace: trace.start,
    "Event": lambda trace: trace.updated,
}


def _strings(request: dict[str, Any], name: str, most: int) -> list[str]:
    values = request.get(name)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise InvalidRequestError(f"{name} must be a list of strings")
    if not 0 < len(values) <= most:
        raise InvalidRequestError(f"{name} must have 1 to {most} entries")
    return values


def _moment(request: dict[str, Any], name: str) -> float:
    value = request.get(name)
    if not isinstance(value, int | float):
        raise InvalidRequestError(f"{name} must be a time in epoch seconds")
    return value


def _offset(token: Any) -> int:
    if not token:
        return 0
    try:
        return int(base64.b64decode(str(token)))
    except ValueError:
        raise InvalidRequestError("NextToken is none of ours") from None


_OPERATIONS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "/TraceSegments": _put_segments,
    "/Traces": _batch_get,
    "/TraceSummaries": _summaries,
    "/TelemetryRecords": lambda _: {},
}
