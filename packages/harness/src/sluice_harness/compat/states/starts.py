"""StartExecution is idempotent by the execution's name.

MiniStack refuses a name that was used before, whatever became of its execution, so that a client that lost an
answer and asks again is told of an error.

"If StartExecution is called with the same name and input as a running execution, the call succeeds and returns the
same response as the original request. If the execution is closed or if the input is different, it returns a 400
ExecutionAlreadyExists error" (Step Functions API Reference, "StartExecution", of STANDARD workflows). Closed
before the engine looks.
"""

from __future__ import annotations

from typing import Any

from ministack.core.responses import json_response
from ministack.services import stepfunctions

from sluice_harness.compat.patching import expect


def apply() -> None:
    """Answer a repeated start as the first one."""
    start = expect(stepfunctions, "_start_execution", "data")
    expect(stepfunctions, "_resolve_state_machine_arn", "arn")

    def start_once(data: dict[str, Any]) -> Any:
        known = _known(data)
        if known and known["status"] == "RUNNING" and known["input"] == data.get("input", "{}"):
            return json_response({"executionArn": known["executionArn"], "startDate": known["startDate"]})
        return start(data)

    stepfunctions._start_execution = start_once


def _known(data: dict[str, Any]) -> Any:
    """Return the execution of this state machine that has the name already."""
    machine = stepfunctions._resolve_state_machine_arn(data.get("stateMachineArn", ""))
    if machine is None or not data.get("name"):
        return None
    arn = machine.replace(":stateMachine:", ":execution:")
    return stepfunctions._executions.get(f"{arn}:{data['name']}")
