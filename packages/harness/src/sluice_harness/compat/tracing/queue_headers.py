"""A message takes over the trace header of the call that sends it.

MiniStack knows AWSTraceHeader only as a parameter. SQS also takes the HTTP header: "the default trace header is
carried by X-Amzn-Trace-Id and corresponds to all messages included in a SendMessage or SendMessageBatch request";
"when both header instrumentations are set, the message system attribute overrides the HTTP trace header" (X-Ray
Developer Guide, "Amazon SQS and AWS X-Ray"). That is how a trace passes from an API's AWS integration, whose
templates know no decision to sample, into the queue.

Closed where the engine dispatches SQS's actions.
"""

from __future__ import annotations

import contextlib
import functools
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from ministack.services import sqs

from sluice_harness.compat.patching import expect
from sluice_harness.compat.tracing.trace_headers import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "AWSTraceHeader"
_http_header: ContextVar[str | None] = ContextVar("sluice_sqs_trace_header", default=None)


def apply() -> None:
    """Add the call's header to the messages that have none."""
    handle = expect(sqs, "handle_request", "method", "path", "headers", "body", "query_params")
    dispatch = expect(sqs, "_dispatch", "action", "data", "qurl")

    @functools.wraps(handle)
    async def handle_in_trace(
        method: str, path: str, headers: dict[str, str], body: bytes, query_params: dict[str, Any]
    ) -> Any:
        with sent_in(headers.get("x-amzn-trace-id")):
            return await handle(method, path, headers, body, query_params)

    @functools.wraps(dispatch)
    async def dispatch_in_trace(action: str, data: dict[str, Any], qurl: str) -> Any:
        header = _http_header.get()
        if header and parse(header):
            if action == "SendMessage":
                _default(data, header)
            elif action == "SendMessageBatch":
                for entry in data.get("Entries") or []:
                    _default(entry, header)
        return await dispatch(action, data, qurl)

    sqs.handle_request = handle_in_trace
    sqs._dispatch = dispatch_in_trace


@contextlib.contextmanager
def sent_in(header: str | None) -> Iterator[None]:
    """Send messages in a call that carries this header."""
    token = _http_header.set(header)
    try:
        yield
    finally:
        _http_header.reset(token)


def _default(message: dict[str, Any], header: str) -> None:
    attributes = message.get("MessageSystemAttributes") or {}
    message["MessageSystemAttributes"] = {NAME: {"DataType": "String", "StringValue": header}, **attributes}
