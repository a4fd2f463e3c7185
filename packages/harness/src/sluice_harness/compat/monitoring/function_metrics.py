"""AWS/Lambda: how often functions ran, failed and were refused, and for how long.

MiniStack publishes some of it for a direct Invoke only, and counts a throttled call as an invocation that failed.
Lambda publishes Invocations, Errors, Throttles, Duration and ConcurrentExecutions for each function and for all of
them together, whoever invokes them; what was invoked through an alias or a version also by that, as Resource, and
an alias's by the version that ran, as ExecutedVersion. A throttled request counts neither as an invocation nor as
an error; an error's timestamp is that of its invocation; the duration leaves out the initialization ("Types of
metrics for Lambda functions", "Viewing metrics for Lambda functions"). Closed where every invocation passes.
"""

from __future__ import annotations

import functools
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
        if slot is None:
            _record(config, "Throttles", 1)
        else:
            total, running = lambda_svc.executions_in_flight()
            _record(config, "ConcurrentExecutions", running.get(slot, 1), total)
        return slot, limit

    return acquire_slot


def _measured(dispatch: Any) -> Any:
    def execute(func: Any, config: dict[str, Any], event: Any, request_id: str, started: float) -> dict[str, Any]:
        result: dict[str, Any] = dispatch(func, config, event, request_id, started)
        if result.get("throttle"):
            _record(config, "Throttles", 1, at=started)
            return result
        answer = handler_errors.last_answer() or {}
        duration = answer.get("duration_ms", (time.time() - started) * 1000)
        _record(config, "Invocations", 1, at=started)
        _record(config, "Errors", int(bool(result.get("error"))), at=started)
        _record(config, "Throttles", 0, at=started)
        _record(config, "Duration", round(duration, 2), unit="Milliseconds", at=started)
        return result

    return execute


def _record(
    config: dict[str, Any],
    name: str,
    value: float,
    total: float | None = None,
    *,
    unit: str = "Count",
    at: float | None = None,
) -> None:
    invoked = (config.get("FunctionName", ""), config.get("FunctionArn", ""), config.get("Version", ""))
    for each in _dimension_sets(*invoked):
        store.record(NAMESPACE, name, each, value, unit, at)
    store.record(NAMESPACE, name, _ALL, value if total is None else total, unit, at)


@functools.lru_cache(maxsize=256)
def _dimension_sets(function: str, arn: str, version: str) -> tuple[Dimensions, ...]:
    """Return what an invocation of this ARN, of which this version ran, is counted by."""
    qualifier = arn.partition(f":function:{function}:")[2]
    resource = f"{function}:{qualifier}"
    return (
        dimensions(FunctionName=function),
        *([dimensions(FunctionName=function, Resource=resource)] if qualifier else []),
        *(
            [dimensions(ExecutedVersion=version, FunctionName=function, Resource=resource)]
            if qualifier not in ("", version)
            else []
        ),
    )
