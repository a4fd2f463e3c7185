"""What Lambda writes into a sampled invocation's trace.

MiniStack writes nothing. Lambda writes two segments of an actively traced function, the service's (AWS::Lambda)
and the function's own (AWS::Lambda::Function), which is the parent of what the function writes; both need
`xray:PutTraceSegments` of the function's role (Lambda Developer Guide, "Visualize Lambda function invocations
using AWS X-Ray").

Closed where every invocation passes. A function that a queue invokes has in AWS a trace of its own, linked to its
messages' ones; here it goes on in theirs (`queues.trace_header`), and those segments are not written.
"""

from __future__ import annotations

import functools
import json
import time
from typing import Any

from ministack.services import lambda_svc

from sluice_harness.compat.patching import expect
from sluice_harness.compat.queues import trace_header
from sluice_harness.compat.tracing import daemon, function_traces, trace_headers
from sluice_harness.compat.tracing.trace_headers import TraceHeader

Document = dict[str, Any]

_BAD_REQUEST, _THROTTLED, _SERVER_ERROR = 400, 429, 500


def apply() -> None:
    """Trace invocations of actively traced functions."""
    original = expect(lambda_svc, "_execute_function", "func", "event")
    expect(lambda_svc, "_function_config_scope_mismatch", "config")

    @functools.wraps(original)
    def execute(func: Document, event: Any) -> Document:
        config = func.get("config") or func
        elsewhere = lambda_svc._function_config_scope_mismatch(config)  # the engine comes again, in its scope
        if elsewhere or trace_header.current() or not function_traces.is_active(config):
            untraced: Document = original(func, event)
            return untraced
        return _traced(original, func, config, event)

    lambda_svc._execute_function = execute


def _traced(original: Any, func: Document, config: Document, event: Any) -> Document:
    header = function_traces.header_of(config)
    service = _segment(header, config, "AWS::Lambda")
    function = _segment(TraceHeader(header.root, service["id"]), config, "AWS::Lambda::Function")
    with function_traces.called_in(TraceHeader(header.root, function["id"], header.sampled)):
        result: Document = original(func, event)
    if header.sampled and daemon.may_write(config):
        _write(service, function, result)
    return result


def _segment(header: TraceHeader, config: Document, origin: str) -> Document:
    parent = {"parent_id": header.parent} if header.parent else {}
    arn, name = config.get("FunctionArn"), config.get("FunctionName")
    return {
        "trace_id": header.root,
        "id": trace_headers.new_id(),
        **parent,
        "name": name,
        "origin": origin,
        "start_time": time.time(),
        "resource_arn": arn,
        "aws": {"function_arn": arn, "resource_names": [name]},
    }


def _write(service: Document, function: Document, result: Document) -> None:
    service["end_time"] = function["end_time"] = time.time()
    answered(service, _THROTTLED if result.get("throttle") else 200)
    if not result.get("throttle"):
        if result.get("error"):
            function["fault"] = service["fault"] = True
            body = result.get("body")
            kind = str(body.get("errorType", "Error")) if isinstance(body, dict) else "Error"
            function["cause"] = {"exceptions": [{"id": trace_headers.new_id(), "type": kind}]}
        daemon.STORE.put(json.dumps(function))
    daemon.STORE.put(json.dumps(service))


def answered(document: Document, status: int) -> None:
    """Note an answer and what it means (X-Ray Developer Guide, "Errors, faults, and exceptions")."""
    document.setdefault("http", {})["response"] = {"status": status}
    if status >= _SERVER_ERROR:
        document["fault"] = True
    elif status >= _BAD_REQUEST:
        document["error"] = True
    if status == _THROTTLED:
        document["throttle"] = True
