"""One API Gateway request and what is known about it: the `$context` that everything else reads.

MiniStack makes a new request id for each place that shows one (the gateway response, the Lambda event, the
response header), takes the caller's address from a header the caller may write, and sets none of the forwarding
headers. AWS has one `$context` per request, whose ids appear everywhere, and sets `X-Forwarded-For`,
`X-Forwarded-Proto`, `X-Forwarded-Port` and `X-Amzn-Trace-Id` itself ("Variables for data transformations for
API Gateway", "Input format of a Lambda function for proxy integration"). A stage that traces decides at its
entry whether a request is sampled, and only there `$context.xrayTraceId` is the trace's bare id ("Variables for
access logging for API Gateway"). This module makes that `$context` at the gateway's entry and keeps it in a
context variable for the other modules; it also refuses bodies over the gateway's 10 MB ("Amazon API Gateway
quotas").
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import time
import uuid
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ministack import app as engine_app
from ministack.core import responses
from ministack.services import apigateway_v1 as gateway

from sluice_harness.compat.patching import expect
from sluice_harness.compat.tracing import sampling_rules, trace_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

BODY_LIMIT = 10 * 1024 * 1024

INTEGRATION = (
    *("integration", "api_id", "stage_name", "stage", "resource", "request_path", "method"),
    *("headers", "body", "query_params", "path_params", "owner_account_id", "owner_region"),
    *("binary_media_types", "authorizer_context", "caller_identity"),
)
"""What the engine's integrations are invoked with."""

Response = tuple[int, dict[str, Any], bytes]


@dataclass
class Exchange:
    """A request on its way through the gateway."""

    context: dict[str, Any]
    headers: dict[str, str]
    query: dict[str, list[str]]
    body: bytes
    stage: dict[str, Any] = field(default_factory=dict)
    path_params: dict[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)
    integration: dict[str, Any] = field(default_factory=dict)
    """Status and latency of the integration's own answer, for the access log."""
    trace: trace_headers.TraceHeader | None = None
    """The trace and whether it is sampled, where the stage traces."""
    calls: list[dict[str, Any]] = field(default_factory=list)
    """The subsegments of what it called."""

    def lookup(self, name: str) -> Any:
        """Return the value of ``context.a.b`` or ``a.b``, None where there is none."""
        value: Any = self.context
        for part in name.removeprefix("context.").split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value


_current: ContextVar[Exchange] = ContextVar("sluice_exchange")
_client_path: ContextVar[str] = ContextVar("sluice_client_path", default="")

finished: list[Callable[[Exchange, Response], None]] = []
"""Called with every exchange and its answer; the access log registers itself here."""


_sampler = sampling_rules.Sampler()


def current() -> Exchange:
    """Return the exchange this task is serving."""
    return _current.get()


def serving() -> Exchange | None:
    """Return the exchange this task is serving, if it serves any."""
    return _current.get(None)


def find(name: str) -> Any:
    """Return the value of ``context.a.b`` or ``stageVariables.a``; None where there is none, or no exchange."""
    this = _current.get(None)
    if this is None:  # a signature that failed before the gateway's entry
        return None
    if name.startswith("stageVariables."):
        return (this.stage.get("variables") or {}).get(name.removeprefix("stageVariables."))
    return this.lookup(name)


_running: set[asyncio.Task[Any]] = set()


async def answer_within(limit: float, answer: Coroutine[Any, Any, Any]) -> Any:
    """Await an integration's answer for ``limit`` seconds; it runs on afterwards, as a function does in AWS.

    Raises:
        TimeoutError: no answer within the limit.

    """
    task = asyncio.create_task(answer)
    done, _ = await asyncio.wait({task}, timeout=limit)
    if done:
        return task.result()
    _running.add(task)  # the loop keeps no reference of its own
    task.add_done_callback(_running.discard)
    raise TimeoutError


def apply() -> None:
    """Give every gateway request one `$context`."""
    request = ("api_id", "stage_name", "method", "path", "headers", "body", "query_params")
    scoped = (*request, "owner_account_id", "owner_region")
    entered = ("host", "path", "method", "headers", "body", "query_params", "raw_path", "raw_query_string")
    entry = expect(engine_app, "_handle_execute_api_request", *entered)
    expect(gateway, "_handle_execute_in_scope", *scoped)
    expect(gateway, "_execute_in_scope", "request", *scoped)
    expect(gateway, "_authorize_request_v1", *_AUTHORIZED, "stage", "owner_account_id", "owner_region")
    event = ("resource", "request_path", "method", "headers", "body", "query_params", "path_params")
    options = ("binary_media_types", "authorizer_context", "caller_identity")
    expect(gateway, "_build_lambda_event_v1", "api_id", "stage_name", "stage", *event, *options)
    engine_app._handle_execute_api_request = _remember_path(entry)
    gateway._handle_execute_in_scope = _serve
    gateway._authorize_request_v1 = _remember_authorizer(gateway._authorize_request_v1)
    gateway._build_lambda_event_v1 = _with_request_context(gateway._build_lambda_event_v1)


def _remember_path(original: Any) -> Any:
    async def handle(host: str, path: str, *args: Any, raw_path: str | None = None, **options: Any) -> Any:
        _client_path.set(raw_path or path)
        return await original(host, path, *args, raw_path=raw_path, **options)

    return handle


async def _serve(  # noqa: PLR0917 - the engine's signature
    api_id: str,
    stage_name: str,
    method: str,
    path: str,
    headers: dict[str, str] | None,
    body: bytes,
    query_params: dict[str, list[str]] | None,
    account: str,
    region: str,
) -> Response:
    """Do what the engine's `_handle_execute_in_scope` does, with one request id and a full `$context`."""
    stage = gateway._stages_v1.get(api_id, {}).get(stage_name)
    exchange = _begin(dict(headers or {}), dict(query_params or {}), body or b"")
    exchange.stage = stage or {}
    _trace(exchange, stage_arn(region, api_id, stage_name))
    exchange.context.update(
        accountId=account, apiId=api_id, stage=stage_name, httpMethod=method, path=_client_path.get() or path
    )
    exchange.context["deploymentId"] = exchange.stage.get("deploymentId")
    request = {
        "api_id": api_id,
        "stage_name": stage_name,
        "stage": stage,
        "headers": exchange.headers,
        "query_params": exchange.query,
        "path_params": {},
        "resource_path": "",
        "request_id": exchange.context["requestId"],
    }
    token = _current.set(exchange)
    try:
        arguments = (api_id, stage_name, method, path, exchange.headers, body, exchange.query, account, region)
        response = await _execute(exchange, request, arguments)
        exchange.context["resourcePath"] = request["resource_path"]
        if isinstance(response, gateway._GatewayError):
            response = _answer_error(exchange, response, request)
        return _finish(exchange, response)
    finally:
        _current.reset(token)


async def _execute(exchange: Exchange, request: dict[str, Any], arguments: tuple[Any, ...]) -> Any:
    if exchange.stage and len(exchange.body) > BODY_LIMIT:
        return gateway._gw_error("REQUEST_TOO_LARGE", "Request Too Long")
    try:
        return await gateway._execute_in_scope(request, *arguments)
    except Exception:
        if not exchange.stage:
            raise  # gateway responses belong to a stage
        # The engine would answer with the exception's text, which is nothing for a client to see.
        logging.getLogger(__name__).exception("the gateway failed on %s", exchange.context["path"])
        return gateway._gw_error("DEFAULT_5XX", "Internal server error")


def _begin(headers: dict[str, str], query: dict[str, list[str]], body: bytes) -> Exchange:
    source = responses.get_request_client_ip()
    host = headers.get("host", "")
    now = time.time()
    headers["x-forwarded-for"] = source  # the peer's address: a header of the client's own proves nothing
    headers["x-forwarded-proto"] = "http"
    headers["x-forwarded-port"] = host.rpartition(":")[2] if ":" in host else "80"
    context = {
        "requestId": str(uuid.uuid4()),
        "extendedRequestId": base64.b64encode(os.urandom(11)).decode(),
        "requestTime": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
        "requestTimeEpoch": int(now * 1000),
        "protocol": "HTTP/1.1",
        "domainName": host,
        "domainPrefix": host.partition(".")[0],
        "xrayTraceId": None,
        "identity": {"sourceIp": source, "userAgent": headers.get("user-agent", "")},
        "authorizer": {},
        "error": {},
        "requestOverride": {"header": {}, "path": {}, "querystring": {}},
        "responseOverride": {"header": {}},
    }
    return Exchange(context, headers, query, body)


def stage_arn(region: str, api_id: str, stage_name: str) -> str:
    """Return the ARN by which X-Ray knows an API's stage."""
    return f"arn:aws:apigateway:{region}::/restapis/{api_id}/stages/{stage_name}"


def _trace(exchange: Exchange, resource: str) -> None:
    """Add the tracing header that the back end is to see, and decide on sampling where nobody has."""
    header = trace_headers.parse(exchange.headers.get("x-amzn-trace-id"))
    if header is None:
        header = trace_headers.TraceHeader(trace_headers.new_root())
        exchange.headers["x-amzn-trace-id"] = str(header)
    if exchange.stage.get("tracingEnabled"):
        sampled = _sampler.decide(resource) if header.sampled is None else header.sampled
        exchange.trace = replace(header, sampled=sampled)
        exchange.context["xrayTraceId"] = header.root


def _answer_error(exchange: Exchange, error: Any, request: dict[str, Any]) -> Response:
    text = error.message
    known = exchange.context["error"]
    known.update(message=text, messageString=None if text is None else f'"{text}"')
    known["responseType"] = error.response_type
    status, headers, body = gateway._gateway_error_response(error, request)
    return status, headers, body


def _finish(exchange: Exchange, response: Response) -> Response:
    status, headers, body = response
    headers["x-amzn-requestid"] = exchange.context["requestId"]
    headers["x-amz-apigw-id"] = exchange.context["extendedRequestId"]
    exchange.context["status"] = status
    for observer in finished:
        observer(exchange, (status, headers, body))
    return status, headers, body


_AUTHORIZED = (
    *("api_id", "stage_name", "method_obj", "method", "request_path"),
    *("resource", "headers", "body", "query_params", "path_params"),
)


def _remember_authorizer(original: Any) -> Any:
    def argument(arguments: tuple[Any, ...], name: str) -> Any:
        return arguments[_AUTHORIZED.index(name)]

    async def authorize(*arguments: Any) -> Any:
        exchange = current()
        resource, path_params = argument(arguments, "resource"), argument(arguments, "path_params")
        exchange.context.update(resourceId=resource["id"], resourcePath=resource["path"])
        exchange.path_params = dict(path_params or {})
        error, authorizer = await original(*arguments)
        exchange.context["authorizer"] = dict(authorizer or {})
        return error, authorizer

    return authorize


_EVENT_FIELDS = (
    "requestId",
    "extendedRequestId",
    "requestTime",
    "requestTimeEpoch",
    "path",
    "domainName",
    "domainPrefix",
)


def _with_request_context(original: Any) -> Any:
    def build(*args: Any, **options: Any) -> dict[str, Any]:
        event: dict[str, Any] = original(*args, **options)
        known = current().context
        event["requestContext"].update({name: known[name] for name in _EVENT_FIELDS})
        event["requestContext"]["deploymentId"] = known["deploymentId"]
        event["requestContext"]["identity"]["sourceIp"] = known["identity"]["sourceIp"]
        return event

    return build
