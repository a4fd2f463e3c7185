"""Status-change events of executions tell what DescribeExecution tells.

MiniStack's events of executions that were stopped or timed out have no error and no cause, and say that they
cannot be redriven. "In each case, the detail section in the event data provides the same information as the
DescribeExecution API" (Step Functions Developer Guide, "EventBridge for Step Functions execution status changes"),
which has the error and the cause that StopExecution was given; an execution that FAILED, ABORTED or TIMED_OUT can
be redriven (API Reference, "DescribeExecution"). Input and output that are too large to be sent are left out, and
`included` says so (ibid.).
"""

from __future__ import annotations

import json
from typing import Any

from ministack.services import eventbridge, stepfunctions

from sluice_harness.compat.patching import expect

_REDRIVABLE = frozenset({"FAILED", "ABORTED", "TIMED_OUT"})


def apply() -> None:
    """Send our events in the place of the engine's."""
    expect(stepfunctions, "_emit_execution_status_event", "execution")
    expect(stepfunctions, "_iso_to_epoch_ms", "iso")
    expect(stepfunctions, "_STATUS_EVENT_PAYLOAD_CAP")
    expect(eventbridge, "_put_events", "data", "allow_aws_source")
    stepfunctions._emit_execution_status_event = _emit


def _emit(execution: dict[str, Any]) -> None:
    if execution.get("sync"):  # as express workflows: none
        return
    entry = {
        "Source": "aws.states",
        "DetailType": "Step Functions Execution Status Change",
        "Detail": json.dumps(_detail(execution)),
        "Resources": [execution["executionArn"]],
    }
    eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)


def _detail(execution: dict[str, Any]) -> dict[str, Any]:
    status = execution["status"]
    is_redrivable = status in _REDRIVABLE
    can = "is redrivable" if is_redrivable else "cannot be redriven"
    return {
        **{name: execution[name] for name in ("executionArn", "stateMachineArn", "name", "status")},
        "startDate": stepfunctions._iso_to_epoch_ms(execution["startDate"]),
        "stopDate": stepfunctions._iso_to_epoch_ms(execution["stopDate"]),
        **_payload("input", execution["input"]),
        **_payload("output", execution["output"] if status == "SUCCEEDED" else None),
        "error": execution.get("error"),
        "cause": execution.get("cause"),
        "stateMachineVersionArn": None,
        "stateMachineAliasArn": None,
        "redriveCount": 0,
        "redriveDate": None,
        "redriveStatus": "REDRIVABLE" if is_redrivable else "NOT_REDRIVABLE",
        "redriveStatusReason": f"Execution is {status} and {can}",
    }


def _payload(name: str, text: str | None) -> dict[str, Any]:
    if text is None:
        return {name: None, f"{name}Details": None}
    is_included = len(json.dumps(text)) <= stepfunctions._STATUS_EVENT_PAYLOAD_CAP
    return {name: text if is_included else None, f"{name}Details": {"included": is_included}}
