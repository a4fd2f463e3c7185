"""Throttled functions: what their API and their queue see of it.

MiniStack answers a request whose Lambda integration is throttled with 429, or 504 where the integration is not a
proxy, and lets an event source mapping run no more than the function's reserved concurrency, so that a queue never
meets a throttle. "If the Lambda API rejects the invocation request, API Gateway returns a 500 error code" (Lambda
Developer Guide, "Handling Lambda errors with an API Gateway API"); 429 is the gateway's own throttling. Reserved
concurrency does not bound a mapping: its pollers meet throttles, and messages go back until they are dead letters
(ibid., "Configuring scaling behavior for SQS event source mappings").

Closed by telling the gateway that the call failed, and by not telling the poller of the reservation.
"""

from __future__ import annotations

from typing import Any

from ministack.services import apigateway_v1 as gateway
from ministack.services import lambda_svc

from sluice_harness.compat.patching import expect


def apply() -> None:
    """Make a throttled call a failed one, and let queues meet throttles."""
    call = expect(gateway, "_call_lambda_raw", "function_ref", "event", "account_id", "region")

    async def call_or_fail(function_ref: str, event: Any, **scope: Any) -> tuple[Any, str | None]:
        result, failure = await call(function_ref, event, **scope)
        if failure is None and result.get("throttle"):
            return None, "Rate Exceeded."
        return result, failure

    limit = expect(lambda_svc, "_sqs_esm_concurrency", "esm", "func_rec", "config", "queue")

    def limit_without_reservation(esm: Any, _function: Any, _config: Any, queue: Any = None) -> int:
        return int(limit(esm, {}, {}, queue))

    gateway._call_lambda_raw = call_or_fail
    lambda_svc._sqs_esm_concurrency = limit_without_reservation
