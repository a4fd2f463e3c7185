"""The trace of an invocation: taken over from whoever called, else begun and sampled.

MiniStack begins a new, sampled trace for every invocation of an actively traced function, so that a function
behind an API never sees its request's trace and every function pays for tracing at every call.

Lambda takes over the trace header of whoever calls; where nobody has decided, an actively traced function is
sampled at "1 request per second and 5 percent of additional requests". The header is in `_X_AMZN_TRACE_ID`, its
parent the function's own segment (Lambda Developer Guide, "Visualize Lambda function invocations using AWS
X-Ray").

Closed at the engine's choice of a header and where its API is served.
`sluice_harness.compat.queues.trace_header` adds the batches' to it.
"""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ministack import app as engine_app
from ministack.services import lambda_svc

from sluice_harness.compat.patching import expect
from sluice_harness.compat.tracing import sampling_rules, trace_headers
from sluice_harness.compat.tracing.trace_headers import TraceHeader

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_caller: ContextVar[TraceHeader | None] = ContextVar("sluice_caller_trace", default=None)
_sampler = sampling_rules.Sampler()


def apply() -> None:
    """Replace the engine's choice of an invocation's trace header, and tell it of an Invoke call's."""
    expect(lambda_svc, "_xray_trace_id_for_invocation", "config", "inbound_trace_header")
    lambda_svc._xray_trace_id_for_invocation = _choose
    handle = engine_app.SERVICE_HANDLERS["lambda"]

    async def handle_in_trace(method: str, path: str, headers: Mapping[str, str], *rest: Any) -> Any:
        header = trace_headers.parse(headers.get("x-amzn-trace-id"))
        with called_in(header) if header else contextlib.nullcontext():
            return await handle(method, path, headers, *rest)

    engine_app.SERVICE_HANDLERS["lambda"] = handle_in_trace


def is_active(config: dict[str, Any]) -> bool:
    """Whether a function's tracing is active, not passed through."""
    return bool((config.get("TracingConfig") or {}).get("Mode") == "Active")


def decided(header: TraceHeader, config: dict[str, Any]) -> TraceHeader:
    """Return the header with a decision to sample, this function's if nobody has made one."""
    if header.sampled is not None or not is_active(config):
        return header
    return replace(header, sampled=_sampler.decide(str(config.get("FunctionArn"))))


@contextlib.contextmanager
def called_in(header: TraceHeader | None) -> Iterator[None]:
    """Run an invocation in its caller's trace, or in none."""
    token = _caller.set(header)
    try:
        yield
    finally:
        _caller.reset(token)


def header_of(config: dict[str, Any]) -> TraceHeader:
    """Return the header of an actively traced function's next invocation: its caller's, else a new trace's."""
    return decided(_caller.get() or TraceHeader(trace_headers.new_root(), trace_headers.new_id()), config)


def _choose(config: dict[str, Any], inbound_trace_header: str | None = None) -> str | None:
    if inbound_trace_header:
        return inbound_trace_header
    header = _caller.get()
    if header is not None:
        return str(header)
    if not is_active(config):
        return None
    return str(header_of(config))
