"""Non-proxy integrations: mapping templates, overrides, parameter mappings and the choice of a response.

MiniStack renders a small subset of Velocity: most of `$context` and `$util` is empty, `#if` and `#foreach`
stay as text, overrides are ignored, only static values are mapped to response headers, MOCK and Lambda
integrations are not rendered at all, and an SQS error reaches the templates as XML. AWS renders all of
Velocity over `$context`, `$input`, `$util` and `$stageVariables`, applies `responseOverride` after the
response's parameter mappings, and picks the integration response by the back end's status, for Lambda by its
error message ("Mapping template transformations for REST APIs in API Gateway", "Override your API's request
and response parameters and status codes", "Parameter mapping for REST APIs"). Closed by our own MOCK, SQS and
Lambda integrations over the engine's services.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from typing import Any
from urllib.parse import parse_qsl

from ministack.core import responses
from ministack.services import apigateway_v1 as gateway
from ministack.services import sqs

from sluice_harness.compat.gateway import exchange, integration_credentials, template_objects, velocity
from sluice_harness.compat.gateway.exchange import INTEGRATION, Exchange, Response, current
from sluice_harness.compat.gateway.passthrough import template_for
from sluice_harness.compat.patching import expect

FORM = "application/x-www-form-urlencoded"
JSON_PROTOCOL = "application/x-amz-json-1.0"

Backend = tuple[int, str]
"""The status and text with which an integration's back end answered."""


def apply() -> None:
    """Replace the engine's non-proxy integrations."""
    expect(gateway, "_invoke_sqs_v1", *INTEGRATION)
    expect(gateway, "_invoke_lambda_custom_v1", *INTEGRATION)
    expect(gateway, "_invoke_mock_v1", "integration")
    expect(sqs, "_dispatch", "action", "data", "qurl")
    expect(sqs, "_normalise", "action", "params")
    velocity.apply()
    gateway._invoke_sqs_v1 = _invoke_sqs
    gateway._invoke_lambda_custom_v1 = _invoke_lambda
    gateway._invoke_mock_v1 = _invoke_mock


async def _invoke_sqs(integration: dict[str, Any], *_args: Any, **_options: Any) -> Any:
    this = current()
    try:
        payload = _request_payload(integration, this)
    except velocity.RenderError:
        return _configuration_error()
    headers = _request_headers(integration, this)
    started = time.perf_counter()
    try:
        status, text = await _call_sqs(integration, headers, payload)
    except integration_credentials.NotAssumableError:
        return _configuration_error()
    _measured(this, status, started)
    return _answer(integration, this, status, text, str(status))


async def _call_sqs(  # noqa: PLR0911 - SQS has as many ways to refuse
    integration: dict[str, Any], headers: dict[str, str], payload: str
) -> Backend:
    """Send the integration's request to SQS, by the query protocol or by the JSON protocol."""
    region, account, name = _queue(integration)
    content_type = headers.get("content-type", "application/json").partition(";")[0].strip()
    if content_type == FORM:
        form = dict(parse_qsl(payload, keep_blank_values=True))
        action = form.get("Action", "")
        data = sqs._normalise(action, form)
    elif content_type == JSON_PROTOCOL:
        action = headers.get("x-amz-target", "").partition(".")[2]
        data = _json(payload)
    else:
        return 404, "<UnknownOperationException/>\n"  # what SQS says to a content type it does not know
    if not isinstance(data, dict):
        return _sqs_error("SerializationException", "The request body is no JSON object.", 400)
    if not action:
        return _sqs_error("MissingAction", "The request must contain the parameter Action.", 400)
    arn = f"arn:aws:sqs:{region}:{account}:{name}"
    refusal = integration_credentials.refusal(integration.get("credentials"), f"sqs:{action}", arn)
    if refusal:
        return _sqs_error("AccessDenied", refusal, 403)
    url = sqs._queue_name_to_url.get_scoped(account, region, name) or sqs._queue_url_for_account(account, name)
    data["QueueUrl"] = url
    try:
        with responses.request_scope(account, region):
            result = await sqs._dispatch(action, data, url)
    except sqs._Err as error:
        return _sqs_error(error.code, error.message, error.status)
    if content_type == JSON_PROTOCOL:
        return 200, json.dumps(result)
    return 200, _query_reply(action, result)


def _queue(integration: dict[str, Any]) -> tuple[str, str, str]:
    region, _service, _verb, path = gateway._parse_service_integration_uri(integration.get("uri", ""))
    account, _, name = path.strip("/").rpartition("/")
    return region, account or str(current().context["accountId"]), name


def _query_reply(action: str, result: dict[str, Any]) -> str:
    """SQS's query reply in JSON, which it writes because API Gateway accepts JSON."""
    if action == "SendMessage":
        names = ("MD5OfMessageAttributes", "MD5OfMessageBody", "MD5OfMessageSystemAttributes", "MessageId")
        result = {name: result.get(name) for name in (*names, "SequenceNumber")}
    meta = {"RequestId": str(uuid.uuid4())}
    return json.dumps({f"{action}Response": {f"{action}Result": result, "ResponseMetadata": meta}})


def _sqs_error(code: str, message: str, status: int) -> Backend:
    legacy = sqs._QUERY_COMPAT_CODES.get(code, code)
    fault = {"Code": legacy, "Message": message, "Type": "Sender" if status < 500 else "Receiver"}  # noqa: PLR2004
    return status, json.dumps({"Error": fault, "RequestId": str(uuid.uuid4())})


async def _invoke_lambda(integration: dict[str, Any], *_args: Any, **options: Any) -> Any:
    this = current()
    try:
        event = json.loads(_request_payload(integration, this))
    except (velocity.RenderError, ValueError):
        return _configuration_error()
    started = time.perf_counter()
    function = gateway._extract_lambda_ref_from_integration_uri(integration.get("uri", ""))
    account, region = options["owner_account_id"], options["owner_region"]
    try:
        call = gateway._call_lambda_raw(function, event, account_id=account, region=region)
        limit = int(integration.get("timeoutInMillis") or 29_000) / 1000
        result, failure = await exchange.answer_within(limit, call)
    except TimeoutError:
        return gateway._gw_error("INTEGRATION_TIMEOUT", "Endpoint request timed out")
    if failure or result.get("throttle"):
        return gateway._gw_error("API_CONFIGURATION_ERROR", "Internal server error")
    body = result.get("body")
    _measured(this, 200, started)
    text = body.decode() if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False)
    message = str(body.get("errorMessage", "")) if result.get("error") and isinstance(body, dict) else ""
    return _answer(integration, this, 200, text, message)


def _invoke_mock(integration: dict[str, Any]) -> Any:
    this = current()
    try:
        status = int(json.loads(_request_payload(integration, this))["statusCode"])
    except (velocity.RenderError, ValueError, TypeError, KeyError):
        return _configuration_error()
    _measured(this, status, time.perf_counter())
    return _answer(integration, this, status, "", str(status))


def _measured(this: Exchange, status: int, started: float) -> None:
    this.integration.update(status=status, latency=round((time.perf_counter() - started) * 1000))


def _configuration_error() -> Any:
    return gateway._gw_error("API_CONFIGURATION_ERROR", "Internal server error")


def _request_payload(integration: dict[str, Any], this: Exchange) -> str:
    template = template_for(integration.get("requestTemplates"), this.headers)
    if template is None:
        return this.body.decode("utf-8", errors="replace")
    return _render(template, this, this.body)


def _render(template: str, this: Exchange, payload: bytes | str) -> str:
    return velocity.render(
        template,
        {
            "context": this.context,
            "input": template_objects.Input(this, payload),
            "util": template_objects.UTIL,
            "stageVariables": this.stage.get("variables") or {},
        },
    )


def _request_headers(integration: dict[str, Any], this: Exchange) -> dict[str, str]:
    prefix = "integration.request.header."
    mapped = {
        place.removeprefix(prefix): _source(source, this, {}, "")
        for place, source in (integration.get("requestParameters") or {}).items()
        if place.startswith(prefix)
    }
    mapped |= this.context["requestOverride"]["header"]
    return {name.lower(): str(value) for name, value in mapped.items() if value is not None}


def _source(source: Any, this: Exchange, headers: dict[str, str], text: str) -> Any:  # noqa: PLR0911
    """Return the value of one side of a parameter mapping; None where it is absent."""
    if not isinstance(source, str) or len(source) < 2:  # noqa: PLR2004 - a pair of quotes
        return source
    if source[0] == source[-1] == "'":
        return source[1:-1]
    kind, _, name = source.partition(".")
    if kind == "context":
        return this.lookup(source)
    if kind == "stageVariables":
        return (this.stage.get("variables") or {}).get(name)
    if source.startswith("integration.response.header."):
        return headers.get(source.removeprefix("integration.response.header.").lower())
    if source.startswith("integration.response.body"):
        found = template_objects.find(_json(text), source.removeprefix("integration.response.body"))
        return found if found is None or isinstance(found, str) else json.dumps(found)
    places = {"method.request.header": "header", "method.request.querystring": "querystring"}
    place, _, name = source.rpartition(".")
    parameters = template_objects.Input(this, "").params()
    return parameters[places.get(place, "path")].get(name)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _answer(integration: dict[str, Any], this: Exchange, status: int, text: str, selector: str) -> Response | Any:
    """Map the back end's answer through the integration response that its selector picks."""
    chosen = _choose(integration.get("integrationResponses") or {}, selector)
    if chosen is None:
        return _configuration_error()
    back_end_headers = {"content-type": "application/json", "x-amzn-requestid": str(uuid.uuid4())}
    content_type, template = _response_template(chosen.get("responseTemplates") or {}, this)
    headers: dict[str, str] = {"Content-Type": content_type}
    for place, source in (chosen.get("responseParameters") or {}).items():
        value = _source(source, this, back_end_headers, text)
        if value is not None:
            _set_header(headers, place.removeprefix("method.response.header."), value)
    this.context["responseOverride"] = {"header": {}}
    try:
        body = text if template is None else _render(template, this, text)
    except velocity.RenderError:
        return _configuration_error()
    override = this.context["responseOverride"]
    for name, value in override["header"].items():
        _set_header(headers, name, value)
    answered = int(override.get("status") or chosen.get("statusCode") or status)
    return answered, headers, body.encode()


def _choose(candidates: dict[str, dict[str, Any]], selector: str) -> dict[str, Any] | None:
    default = None
    for candidate in candidates.values():
        pattern = candidate.get("selectionPattern")
        if not pattern:
            default = default or candidate
        elif selector and re.fullmatch(pattern, selector, re.DOTALL):
            return candidate
    return default


def _response_template(templates: dict[str, str], this: Exchange) -> tuple[str, str | None]:
    accepted = this.headers.get("accept", "").partition(",")[0].partition(";")[0].strip().lower()
    for wanted in (accepted, "application/json", next(iter(templates), "")):
        if templates.get(wanted) is not None:
            return wanted, templates[wanted]
    return "application/json", None


def _set_header(headers: dict[str, str], name: str, value: Any) -> None:
    for existing in [known for known in headers if known.lower() == name.lower()]:
        del headers[existing]
    headers[name] = str(value)
