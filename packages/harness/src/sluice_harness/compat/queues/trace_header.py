"""The trace of a batch: an invocation continues the trace that its messages carry.

MiniStack gives every invocation of an actively traced function a new, sampled trace, whatever its messages'
AWSTraceHeader says, and none to other functions.

Lambda passes the trace header on in `_X_AMZN_TRACE_ID` and links the invocation to its messages' traces
(Lambda Developer Guide, "Visualize Lambda function invocations using AWS X-Ray"; X-Ray Developer Guide,
"Linked traces for event-driven applications"). A link needs X-Ray's own service, so here a batch goes on in
the trace of its first sampled message, else of its first traced one: whether it is sampled is then right.

Closed by handing the header to the engine's own choice of a trace id.
"""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from ministack.services import lambda_svc

from sluice_harness.compat.patching import expect

if TYPE_CHECKING:
    from collections.abc import Iterator

_current: ContextVar[str | None] = ContextVar("sluice_trace_header", default=None)


def apply() -> None:
    """Make the engine prefer the trace header of the batch that is being dispatched."""
    choose = expect(lambda_svc, "_xray_trace_id_for_invocation", "config", "inbound_trace_header")

    def chosen(config: dict[str, Any], inbound_trace_header: str | None = None) -> str | None:
        header: str | None = choose(config, inbound_trace_header or _current.get())
        return header

    lambda_svc._xray_trace_id_for_invocation = chosen


def current() -> str | None:
    """Return the trace header of the batch that is being dispatched here."""
    return _current.get()


@contextlib.contextmanager
def of_batch(records: list[dict[str, Any]]) -> Iterator[None]:
    """Run an invocation in the trace of these records."""
    headers = [found for record in records if (found := record["attributes"].get("AWSTraceHeader"))]
    sampled = [header for header in headers if "Sampled=1" in header]
    token = _current.set(next(iter(sampled or headers), None))
    try:
        yield
    finally:
        _current.reset(token)
