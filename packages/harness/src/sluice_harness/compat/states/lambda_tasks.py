"""A Lambda task is invoked in the name of its state machine's role, and a failure has the name that AWS gives it.

MiniStack invokes any function, whatever the role allows, calls a throttled invocation `Lambda.Unknown`, and lets
all executions invoke at once, each of which starts a process where it finds none free.

In AWS the role needs `lambda:InvokeFunction` on what the task names, the alias or version included (Step Functions
Developer Guide, "IAM policies for calling Lambda"); "when Lambda throttles, the reported error will be
Lambda.TooManyRequestsException" (ibid., "Handling error conditions in Step Functions"). A refusal is Lambda's
answer 403 and as such `Lambda.AWSLambdaException`.

Closed before the engine invokes. Invocations take turns: as many at a time as this machine has use for, and one
that takes long (it waits more than it computes) gives its turn away. AWS needs no such thing.
"""

from __future__ import annotations

import os
from typing import Any

from ministack.services import lambda_svc, stepfunctions

from sluice_harness.compat.access import service_roles
from sluice_harness.compat.patching import expect
from sluice_harness.compat.states import endings
from sluice_harness.compat.states.turns import Turns

TURNS_A_CORE = 4
_REFUSED, _UNKNOWN = "Lambda.AWSLambdaException", "Lambda.Unknown"
_THROTTLED = "Lambda.TooManyRequestsException"


def apply() -> None:
    """Ask the role before a task invokes, and name what went wrong."""
    call = expect(stepfunctions, "_call_lambda", "func_ref", "event")
    expect(stepfunctions, "_ExecutionError")
    expect(lambda_svc, "_get_func_record_for_ref", "function_ref")
    turns = Turns(TURNS_A_CORE * (os.cpu_count() or 1))

    def call_if_allowed(func_ref: str, event: Any) -> Any:
        if refused := _refusal(func_ref):
            raise stepfunctions._ExecutionError(_REFUSED, refused)
        with turns.one():
            try:
                return call(func_ref, event)
            except stepfunctions._ExecutionError as error:
                if error.error == _UNKNOWN and "TooManyRequestsException" in error.cause:
                    raise stepfunctions._ExecutionError(_THROTTLED, error.cause) from error
                raise

    stepfunctions._call_lambda = call_if_allowed


def _refusal(func_ref: str) -> str | None:
    """Why the state machine's role may not invoke a function, in AWS's words; None where it may."""
    execution = endings.current()
    config = lambda_svc._get_func_record_for_ref(func_ref)[1]
    if execution is None or config is None:  # a function that does not exist is the engine's complaint
        return None
    machine = stepfunctions._state_machines[execution["stateMachineArn"]]
    named = func_ref if func_ref.startswith("arn:") else config["FunctionArn"]
    refusal = service_roles.refusal(machine["roleArn"], machine["name"], "lambda:InvokeFunction", named)
    return refusal and f"{refusal} (Service: AWSLambda; Status Code: 403; Error Code: AccessDeniedException)"
