"""What API Gateway writes into a sampled request's trace.

MiniStack writes nothing. API Gateway writes a segment of the stage, with a subsegment for each call (API
Gateway Developer Guide, "AWS X-Ray traces for Amazon API Gateway APIs"), and passes the trace on to what it
calls. Closed by wrapping the gateway's calls and an observer of finished exchanges.
"""

from __future__ import annotations

import contextlib
import functools
import json
import time
from typing import TYPE_CHECKING, Any

from ministack.services import apigateway_v1 as gateway
from ministack.services import lambda_svc

from sluice_harness.compat.gateway import exchange
from sluice_harness.compat.patching import expect
from sluice_harness.compat.tracing import function_traces, queue_headers, sampling_rules, trace_headers
from sluice_harness.compat.tracing.daemon import STORE
from sluice_harness.compat.tracing.function_segments import answered
from sluice_harness.compat.tracing.trace_headers import TraceHeader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sluice_harness.compat.gateway.exchange import Exchange, Response

    Document = dict[str, Any]

_THROTTLED, _SERVER_ERROR = 429, 500


def apply() -> None:
    """Trace the gateway's calls, and write the stage's segment when a request has its answer."""
    expect(gateway, "_parse_service_integration_uri", "uri")
    execute = expect(lambda_svc, "_execute_function_with_config_scope", "func", "event")
    lambda_svc._execute_function_with_config_scope = _traced_function(execute)
    gateway._invoke_sqs_v1 = _traced_queue(expect(gateway, "_invoke_sqs_v1", "integration", "_args", "_options"))
    exchange.finished.append(_write_stage)


def _traced_queue(original: Any) -> Any:
    @functools.wraps(original)
    async def invoke(integration: Document, *args: Any, **options: Any) -> Any:
        this = exchange.current()
        region, _service, _verb, path = gateway._parse_service_integration_uri(integration.get("uri", ""))
        url = f"https://sqs.{region}.amazonaws.com/{path.strip('/')}"
        aws = {"operation": "SendMessage", "region": region, "resource_names": [path.rpartition("/")[2]]}
        with _called(this, "SQS", url, aws) as (call, header), queue_headers.sent_in(str(header)):
            answer = await original(integration, *args, **options)
            answered(call, this.integration.get("status", _SERVER_ERROR))
        return answer

    return invoke


def _traced_function(original: Any) -> Any:
    @functools.wraps(original)
    def execute(func: Document, event: Any) -> Document:
        this = exchange.serving()
        if this is None:  # an HTTP API's
            untraced: Document = original(func, event)
            return untraced
        config = func.get("config") or func
        name, arn = config.get("FunctionName"), str(config.get("FunctionArn", ""))
        region = arn.split(":")[3] if arn else ""
        url = f"https://lambda.{region}.amazonaws.com/2015-03-31/functions/{arn}/invocations"
        aws = {"operation": "Invoke", "function_name": name, "region": region, "resource_names": [name]}
        with _called(this, "Lambda", url, aws) as (call, header), function_traces.called_in(header):
            result: Document = original(func, event)
            answered(call, _THROTTLED if result.get("throttle") else 200)
        return result

    return execute


@contextlib.contextmanager
def _called(this: Exchange, name: str, url: str, aws: Document) -> Iterator[tuple[Document, TraceHeader]]:
    """Note a call in the exchange; yield its subsegment and the header that goes with it."""
    call = {"id": trace_headers.new_id(), "name": name, "namespace": "aws", "start_time": time.time(), "aws": aws}
    call["http"] = {"request": {"url": url, "method": "POST"}}
    header = this.trace and TraceHeader(this.trace.root, str(call["id"]), this.trace.sampled)
    passed_on = header or trace_headers.parse(this.headers["x-amzn-trace-id"])
    if passed_on is None:
        raise RuntimeError("the gateway's entry has set no trace header")
    this.calls.append(call)
    try:
        yield call, passed_on
    finally:
        call["end_time"] = time.time()


def _write_stage(this: Exchange, response: Response) -> None:
    if this.trace is None or not this.trace.sampled:
        return
    now, known = time.time(), this.context
    api, stage = known["apiId"], known["stage"]
    resource = exchange.stage_arn(gateway.get_region(), api, stage)
    place = {"account_id": known["accountId"], "rest_api_id": api, "stage": stage}
    document: Document = {
        "trace_id": this.trace.root,
        "id": trace_headers.new_id(),
        **({"parent_id": this.trace.parent} if this.trace.parent else {}),
        "name": f"{gateway._rest_apis[api]['name']}/{stage}",
        "origin": "AWS::ApiGateway::Stage",
        "resource_arn": resource,
        "start_time": now - (time.perf_counter() - this.started),
        "end_time": now,
        "http": {"request": _request(this)},
        "aws": {
            "xray": {"sampling_rule_name": sampling_rules.of(resource).name},
            "api_gateway": {**place, "request_id": known["requestId"]},
        },
        "annotations": {"aws:api_id": api, "aws:api_stage": stage},
        "metadata": {
            "default": {"extended_request_id": known["extendedRequestId"], "request_id": known["requestId"]}
        },
        # A call that goes on after the gateway's limit has failed as far as the client can tell.
        "subsegments": [
            call if "end_time" in call else {**call, "end_time": now, "fault": True} for call in this.calls
        ],
    }
    answered(document, response[0])
    document["http"]["response"]["content_length"] = len(response[2])
    STORE.put(json.dumps(document))


def _request(this: Exchange) -> Document:
    known = this.context
    return {
        "url": f"http://{known['domainName']}{known['path']}",
        "method": known["httpMethod"],
        "client_ip": known["identity"]["sourceIp"],
        "x_forwarded_for": True,
    }
