"""AWS/States: how many executions of a state machine began, how they ended, and how long they took.

MiniStack publishes none of it. Step Functions counts ExecutionsStarted, and each end as ExecutionsSucceeded,
ExecutionsFailed, ExecutionsTimedOut or ExecutionsAborted, by StateMachineArn; ExecutionTime is from an execution's
start to its end, in milliseconds (Step Functions Developer Guide, "Step Functions metrics for CloudWatch"). Closed
where each change of an execution's status passes. ExecutionThrottled is never there: nothing here is throttled.
"""

from __future__ import annotations

from typing import Any, Final

from ministack.services import stepfunctions

from sluice_harness.compat.monitoring.metric_store import dimensions, store
from sluice_harness.compat.patching import expect

NAMESPACE = "AWS/States"
_COUNTS: Final = {
    "RUNNING": "ExecutionsStarted",
    "SUCCEEDED": "ExecutionsSucceeded",
    "FAILED": "ExecutionsFailed",
    "TIMED_OUT": "ExecutionsTimedOut",
    "ABORTED": "ExecutionsAborted",
}


def apply() -> None:
    """Count each change of status."""
    emit = expect(stepfunctions, "_emit_execution_status_event", "execution")
    expect(stepfunctions, "_iso_to_epoch_ms", "iso")

    def emit_and_count(execution: dict[str, Any]) -> None:
        emit(execution)
        _count(execution)

    stepfunctions._emit_execution_status_event = emit_and_count


def _count(execution: dict[str, Any]) -> None:
    of_machine = dimensions(StateMachineArn=execution["stateMachineArn"])
    store.record(NAMESPACE, _COUNTS[execution["status"]], of_machine, 1, "Count")
    if execution["stopDate"]:
        began, ended = (stepfunctions._iso_to_epoch_ms(execution[name]) for name in ("startDate", "stopDate"))
        store.record(NAMESPACE, "ExecutionTime", of_machine, ended - began, "Milliseconds")
