"""What a state machine logs of its executions, and the role that it takes.

MiniStack keeps a logging configuration and logs nothing; one from a template it keeps in a form that its API does
not read. Step Functions sends the events of an execution's history to a log group, by level: FATAL for how
executions end otherwise than well, ERROR for what failed in them besides, ALL for all (Step Functions Developer
Guide, "Using CloudWatch Logs to log execution history", "Log levels for Step Functions execution events"), and
without `includeExecutionData` leaves out what goes in and out. A state machine with a log group is not made, or
changed, for a role that may not set up the delivery (ibid., "IAM Policies for logging to CloudWatch Logs"); what
the role may afterwards does not matter.

Closed where the engine adds an event to a history, and where it makes state machines.
"""

from __future__ import annotations

import functools
import json
from typing import Any

from ministack.core.responses import error_response_json
from ministack.services import stepfunctions
from ministack.services.cloudformation import provisioners

from sluice_harness.compat.access import service_roles
from sluice_harness.compat.functions import log_streams
from sluice_harness.compat.patching import expect

Record = dict[str, Any]

_FATAL = frozenset({"ExecutionAborted", "ExecutionFailed", "ExecutionTimedOut"})
_LEVELS = {"FATAL": _FATAL, "ERROR": _FATAL | {"TaskFailed", "FailStateEntered"}}
_DELIVERY = (
    *("CreateLogDelivery", "GetLogDelivery", "UpdateLogDelivery", "DeleteLogDelivery", "ListLogDeliveries"),
    *("PutResourcePolicy", "DescribeResourcePolicies", "DescribeLogGroups"),
)
_REFUSED = "The state machine IAM Role is not authorized to access the Log Destination"


def apply() -> None:
    """Log, and ask the role where a log group is set."""
    add = stepfunctions._add_event  # as `states.endings` has it
    create = expect(stepfunctions, "_create_state_machine", "data")
    update = expect(stepfunctions, "_update_state_machine", "data")
    provision = expect(provisioners, "_sfn_state_machine_create", "logical_id", "props", "stack_name")
    expect(provisioners, "_pascal_to_camel", "obj")

    def add_and_log(execution: Record, event_type: str, details: Any = None) -> Any:
        event = add(execution, event_type, details)
        machine = stepfunctions._state_machines.get(execution["stateMachineArn"])
        if machine:
            _log(machine, execution, event)
        return event

    def create_if_allowed(data: Record) -> Any:
        return _refusal(data, data.get("roleArn", "")) or create(data)

    def update_if_allowed(data: Record) -> Any:
        known = stepfunctions._state_machines.get(data.get("stateMachineArn"), {})
        if "loggingConfiguration" in data:
            data["loggingConfiguration"] = provisioners._pascal_to_camel(data["loggingConfiguration"])
        return _refusal(data, data.get("roleArn") or known.get("roleArn", "")) or update(data)

    @functools.wraps(provision)
    def provision_if_allowed(logical_id: str, props: Record, stack_name: str) -> Any:
        logging = provisioners._pascal_to_camel(props.get("LoggingConfiguration") or {})
        if _refusal({"loggingConfiguration": logging}, props["RoleArn"]):
            raise ValueError(_REFUSED)
        arn, attributes = provision(logical_id, props, stack_name)
        if logging:
            stepfunctions._state_machines[arn]["loggingConfiguration"] = logging
        return arn, attributes

    stepfunctions._add_event = add_and_log
    stepfunctions._create_state_machine = create_if_allowed
    stepfunctions._update_state_machine = update_if_allowed
    provisioners._sfn_state_machine_create = provision_if_allowed
    provisioners._RESOURCE_HANDLERS["AWS::StepFunctions::StateMachine"]["create"] = provision_if_allowed


def _refusal(data: Record, role: str) -> Any:
    """Return what AWS says to a log group that the role may not have logs delivered to."""
    if _groups(data.get("loggingConfiguration") or {}):
        for action in _DELIVERY:
            if service_roles.refusal(role, "StepFunctions", f"logs:{action}", "*"):
                return error_response_json("AccessDeniedException", _REFUSED, 400)
    return None


def _groups(logging: Record) -> list[str]:
    """Return the names of the log groups of a logging configuration; none if it is off."""
    if logging.get("level", "OFF") == "OFF":
        return []
    arns = (one["cloudWatchLogsLogGroup"]["logGroupArn"] for one in logging.get("destinations", []))
    return [arn.split(":")[6] for arn in arns]


def _log(machine: Record, execution: Record, event: Record) -> None:
    logging = machine.get("loggingConfiguration") or {}
    level = logging.get("level", "OFF")
    if level != "ALL" and event["type"] not in _LEVELS.get(level, ()):
        return
    details: Record = next((dict(value) for name, value in event.items() if name.endswith("Details")), {})
    if not logging.get("includeExecutionData"):
        details = {name: value for name, value in details.items() if name not in {"input", "output"}}
    line = json.dumps(
        {
            "id": str(event["id"]),
            "type": event["type"],
            "details": details,
            "previous_event_id": str(event["id"] - 1),
            "event_timestamp": str(stepfunctions._iso_to_epoch_ms(event["timestamp"])),
            "execution_arn": execution["executionArn"],
        }
    )
    for group in _groups(logging):
        log_streams.append(group, f"states/{machine['name']}", [line])
