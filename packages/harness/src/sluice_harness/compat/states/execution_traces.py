"""An execution of a traced state machine is a segment, and its tasks go on in its trace.

MiniStack forgets a state machine's tracing configuration, and its tasks begin traces of their own. Step Functions
takes over the trace that StartExecution is called in, or is given as `traceHeader`, or begins one, sampled as
anywhere; the execution is a segment of the state machine's, from which its functions go on (Step Functions
Developer Guide, "Trace Step Functions requests in AWS X-Ray"). For that the role needs four actions (ibid., "IAM
policies for X-Ray"). Without tracing nothing is passed on.

Closed around the run of an execution. AWS has a subsegment for each state besides.
"""

from __future__ import annotations

import contextlib
import functools
import json
import time
from typing import TYPE_CHECKING, Any

from ministack import app as engine_app
from ministack.services import stepfunctions
from ministack.services.cloudformation import provisioners

from sluice_harness.compat.access import service_roles
from sluice_harness.compat.patching import expect
from sluice_harness.compat.tracing import daemon, function_traces, trace_headers
from sluice_harness.compat.tracing.trace_headers import TraceHeader

if TYPE_CHECKING:
    from collections.abc import Mapping

Record = dict[str, Any]

_TYPE = "AWS::StepFunctions::StateMachine"
_ACTIONS = ("PutTraceSegments", "PutTelemetryRecords", "GetSamplingRules", "GetSamplingTargets")


def apply() -> None:
    """Remember which state machines are traced, and run their executions in a trace."""
    start, run = (
        stepfunctions._start_execution,
        stepfunctions._run_execution,
    )  # as the modules before this have them
    handle = engine_app.SERVICE_HANDLERS["states"]

    async def handle_in_trace(method: str, path: str, headers: Mapping[str, str], *rest: Any) -> Any:
        with _called_in(headers.get("x-amzn-trace-id")):
            return await handle(method, path, headers, *rest)

    def start_in_trace(data: Record) -> Any:
        with _called_in(data.get("traceHeader")):
            return start(data)

    def run_traced(exec_arn: str) -> None:
        execution = stepfunctions._executions.get(exec_arn)
        machine = stepfunctions._state_machines.get(execution["stateMachineArn"]) if execution else None
        if machine and (machine.get("tracingConfiguration") or {}).get("enabled"):
            _run_in_trace(run, machine, execution)
        else:
            with function_traces.called_in(None):
                run(exec_arn)

    engine_app.SERVICE_HANDLERS["states"] = handle_in_trace
    stepfunctions._start_execution = start_in_trace
    stepfunctions._run_execution = run_traced
    _remember()


def _called_in(text: str | None) -> contextlib.AbstractContextManager[None]:
    header = trace_headers.parse(text)
    return function_traces.called_in(header) if header else contextlib.nullcontext()


def _run_in_trace(run: Any, machine: Record, execution: Record) -> None:
    # As a function is traced: one that is active, and writes in its role's name.
    traced = {"FunctionArn": machine["stateMachineArn"], "TracingConfig": {"Mode": "Active"}}
    header = function_traces.header_of(traced)
    segment = {
        "trace_id": header.root,
        "id": trace_headers.new_id(),
        **({"parent_id": header.parent} if header.parent else {}),
        "name": machine["name"],
        "origin": _TYPE,
        "start_time": time.time(),
        "resource_arn": machine["stateMachineArn"],
        "aws": {"execution_arn": execution["executionArn"]},
    }
    with function_traces.called_in(TraceHeader(header.root, segment["id"], header.sampled)):
        run(execution["executionArn"])
    may = not any(
        service_roles.refusal(machine["roleArn"], "StepFunctions", f"xray:{one}", "*") for one in _ACTIONS
    )
    if header.sampled and may:
        fault = {} if execution["status"] == "SUCCEEDED" else {"fault": True}
        daemon.STORE.put(json.dumps({**segment, **fault, "end_time": time.time()}))


def _remember() -> None:
    """Keep the tracing configuration of state machines, whoever makes or changes them."""
    create, update = stepfunctions._create_state_machine, stepfunctions._update_state_machine
    provision = provisioners._sfn_state_machine_create
    parameters = ("physical_id", "old_props", "new_props", "stack_name", "logical_id")
    reprovision = expect(provisioners, "_sfn_state_machine_update", *parameters)

    def create_traced(data: Record) -> Any:
        answer = create(data)
        arn = json.loads(answer[2]).get("stateMachineArn")
        return _traced(arn, data.get("tracingConfiguration"), answer)

    def update_traced(data: Record) -> Any:
        return _traced(data.get("stateMachineArn"), data.get("tracingConfiguration"), update(data))

    @functools.wraps(provision)
    def provision_traced(logical_id: str, props: Record, stack_name: str) -> Any:
        made = provision(logical_id, props, stack_name)
        return _traced(made[0], _of_template(props), made)

    @functools.wraps(reprovision)
    def reprovision_traced(
        physical_id: str, old: Record, new: Record, stack_name: str, logical_id: Any = None
    ) -> Any:
        made = reprovision(physical_id, old, new, stack_name, logical_id)
        return _traced(made[0], _of_template(new), made)

    stepfunctions._create_state_machine, stepfunctions._update_state_machine = create_traced, update_traced
    provisioners._sfn_state_machine_create = provision_traced
    provisioners._RESOURCE_HANDLERS[_TYPE] |= {"create": provision_traced, "update": reprovision_traced}


def _of_template(props: Record) -> Record:
    return {"enabled": provisioners._cfn_bool((props.get("TracingConfiguration") or {}).get("Enabled"))}


def _traced(arn: Any, configuration: Record | None, answer: Any) -> Any:
    machine = stepfunctions._state_machines.get(arn)
    if machine is not None and configuration is not None:
        machine["tracingConfiguration"] = configuration
    return answer
