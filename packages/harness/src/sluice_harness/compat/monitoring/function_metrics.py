"""AWS/Lambda: how often functions ran, failed and were refused, and for how long.

MiniStack publishes some of it for a direct Invoke only, and counts a throttled call as an invocation that failed.
Lambda publishes Invocations, Errors, Throttles, Duration and ConcurrentExecutions for each function and for all of
them together, whoever invokes them. A throttled request counts neither as an invocation nor as an error; an
error's timestamp is that of its invocation; the duration leaves out the initialization ("Types of metrics for
Lambda functions", "Viewing metrics for Lambda functions"). Closed where every invocation passes.
"""

from __future__ import annotations

import time
from typing import Any

from ministack.services import cloudwatch, lambda_svc

from sluice_harness.compat.functions import handler_errors
from sluice_harness.compat.monitoring.metric_store import Dimensions, dimensions, store
from sluice_harness.compat.patching import expect

NAMESPACE = "AWS/Lambda"
_ALL: Dimensions = ()


def apply() -> None:
    """Measure every invocation, and drop the engine's own measurements."""
    expect(lambda_svc, "_emit_lambda_metrics", "function_name", "duration_ms", "error", "throttle")
    expect(cloudwatch, "record_metric", "namespace", "metric_name", "value", "unit", "dimensions")
    expect(lambda_svc, "executions_in_flight")
    expect(lambda_svc, "_inflight_key", "config")
    dispatch = expect(lambda_svc, "_execute_function_dispatch", "func", "config", "event", "request_id", "started")
    acquire = expect(lambda_svc, "_acquire_execution_slot", "func", "config")
    lambda_svc._emit_lambda_metrics = _leave_out
    cloudwatch.record_metric = _record_for_engine
    lambda_svc._execute_function_dispatch = _measured(dispatch)
    lambda_svc._acquire_execution_slot = _counted(acquire)


def _leave_out(*_: Any, **__: Any) -> None:
    """Record nothing: here every invocation is measured, whoever made it."""


def _record_for_engine(
    namespace: str, metric_name: str, value: float, unit: str = "None", dimensions: dict[str, str] | None = None
) -> None:
    store.record(namespace, metric_name, tuple(sorted((dimensions or {}).items())), value, unit)


def _counted(acquire: Any) -> Any:
    def acquire_slot(func: Any, config: dict[str, Any]) -> Any:
        slot, limit = acquire(func, config)
        name = config.get("FunctionName", "")
        if slot is None:
            _record(name, "Throttles", 1)
        else:
            total, running = lambda_svc.executions_in_flight()
            _record(name, "ConcurrentExecutions", running.get(slot, 1), total)
        return slot, limit

    return acquire_slot


def _measured(dispatch: Any) -> Any:
    def execute(func: Any, config: dict[str, Any], event: Any, request_id: str, started: float) -> dict[str, Any]:
        result: dict[str, Any] = dispatch(func, config, event, request_id, started)
        name = config.get("FunctionName", "")
        if result.get("throttle"):
            _record(name, "Throttles", 1, at=started)
            return result
        answer = handler_errors.last_answer() or {}
        duration = answer.get("duration_ms", (time.time() - started) * 1000)
        _record(name, "Invocations", 1, at=started)
        _record(name, "Errors", int(bool(result.get("error"))), at=started)
        _record(name, "Throttles", 0, at=started)
        _record(name, "Duration", round(duration, 2), unit="Milliseconds", at=started)
        return result

    return execute


def _record(
    function: str,
    name: str,
    value: float,
    total: float | None = None,
    *,
    unit: str = "Count",
    at: float | None = None,
) -> None:
    store.record(NAMESPACE, name, dimensions(FunctionName=function), value, unit, at)
    store.record(NAMESPACE, name, _ALL, value if total is None else total, unit, at)
