"""Gateway responses: the errors the gateway itself answers with.

MiniStack substitutes five variables and leaves any other as text, maps no `context.*` to headers, and answers
a failed Lambda proxy integration with the function's own error text instead of a gateway response; it never
times an integration out. AWS substitutes all of `$context` (no Velocity: plain substitution), answers 502
DEFAULT_5XX for a proxy function that fails or answers out of shape, and 504 INTEGRATION_TIMEOUT after the
integration's timeout ("Gateway responses for REST APIs in API Gateway", "Gateway response types"). A
function's error text is also something a client must not see.
"""

from __future__ import annotations

import json
import re
import time
from typing import Any

from ministack.services import apigateway_v1 as gateway

from sluice_harness.compat.gateway import exchange
from sluice_harness.compat.gateway.exchange import INTEGRATION, current
from sluice_harness.compat.gateway.java_values import to_text
from sluice_harness.compat.patching import expect

BAD_GATEWAY = 502
MALFORMED = "malformed Lambda proxy response"
_PROXY_KEYS = {"statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded", "cookies"}
_MALFORMED = (502, {"Content-Type": "application/json"}, json.dumps({"message": MALFORMED}).encode())


def apply() -> None:
    """Complete the engine's gateway responses."""
    if getattr(gateway._GATEWAY_TEMPLATE_VARIABLE, "pattern", "")[:1] != "\\":
        raise RuntimeError("apigateway_v1._GATEWAY_TEMPLATE_VARIABLE is no regular expression any more")
    expect(gateway, "_gateway_request_value", "source", "request")
    expect(gateway, "_gateway_error_response", "error", "request")
    expect(gateway, "_lambda_proxy_response", "result")
    expect(gateway, "_invoke_lambda_proxy_v1", *INTEGRATION)
    gateway._GATEWAY_TEMPLATE_VARIABLE = _Variables()
    gateway._gateway_request_value = _with_context(gateway._gateway_request_value)
    gateway._gateway_error_response = _one_header_each(gateway._gateway_error_response)
    gateway._lambda_proxy_response = _shaped
    gateway._invoke_lambda_proxy_v1 = _proxied(gateway._invoke_lambda_proxy_v1)


class _Variables:
    """Stands for the engine's pattern of variables: what the engine does not know, the exchange does."""

    _PATTERN = re.compile(
        r"\$(?:\{((?:context|stageVariables)(?:\.[\w-]+)+)\}|((?:context|stageVariables)(?:\.[A-Za-z_]\w*)+))"
    )

    def sub(self, known: Any, template: str) -> str:
        """Substitute every variable, by the engine's own ``known`` first."""

        def one(match: re.Match[str]) -> str:
            value = known(match)
            return _value(match[1] or match[2]) if value == match[0] else str(value)

        return self._PATTERN.sub(one, template)


def _value(name: str) -> str:
    found = exchange.find(name)
    return "" if found is None else to_text(found)


def _with_context(original: Any) -> Any:
    def value(source: str, request: dict[str, Any]) -> Any:
        found = original(source, request)
        if found is None and source.startswith("context."):
            known = exchange.find(source)
            return None if known is None else to_text(known)
        return found

    return value


def _one_header_each(original: Any) -> Any:
    """Let a mapped header replace the default of the same name, whatever its case."""

    def respond(error: Any, request: dict[str, Any]) -> Any:
        status, headers, body = original(error, request)
        by_name = {name.lower(): (name, value) for name, value in headers.items()}
        customised = gateway._gateway_responses.get(request["api_id"], {})
        if getattr(error, "bad_gateway", False) and not customised.get("DEFAULT_5XX", {}).get("statusCode"):
            status = BAD_GATEWAY
        return status, dict(by_name.values()), body

    return respond


def _proxied(original: Any) -> Any:
    async def invoke(integration: dict[str, Any], *args: Any, **options: Any) -> Any:
        limit = int(integration.get("timeoutInMillis") or 29_000) / 1000
        started = time.perf_counter()
        try:
            response = await exchange.answer_within(limit, original(integration, *args, **options))
        except TimeoutError:
            return gateway._gw_error("INTEGRATION_TIMEOUT", "Endpoint request timed out")
        latency = round((time.perf_counter() - started) * 1000)
        current().integration.update(status=200, latency=latency)  # Lambda's own, also for an error
        return _bad_gateway() if response == _MALFORMED else response

    return invoke


def _shaped(result: dict[str, Any]) -> tuple[dict[str, Any] | None, str | None]:
    """Read a function's answer as a proxy response; a failed or misshapen one is refused."""
    answer = result.get("body")
    if isinstance(answer, str | bytes):
        try:
            answer = json.loads(answer)
        except ValueError:
            return None, MALFORMED
    failed = result.get("error") or result.get("throttle")
    if failed or not isinstance(answer, dict) or not answer.keys() <= _PROXY_KEYS:
        return None, MALFORMED
    return (answer, None) if isinstance(answer.get("body") or "", str) else (None, MALFORMED)


def _bad_gateway() -> Any:
    error = gateway._gw_error("DEFAULT_5XX", "Internal server error")
    error.bad_gateway = True
    return error
