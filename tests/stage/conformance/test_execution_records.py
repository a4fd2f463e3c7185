"""What Step Functions leaves of an execution: lines in a log group, and a segment of a trace."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from stage.conformance import containers
from stage.conformance.functions import eventually, log_lines, unique
from stage.conformance.machines import task
from stage.conformance.traces import awaited, new_root, read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stage.conformance.machines import Machines

DELIVERY = [
    f"logs:{action}"
    for action in (
        *("CreateLogDelivery", "GetLogDelivery", "UpdateLogDelivery", "DeleteLogDelivery", "ListLogDeliveries"),
        *("PutResourcePolicy", "DescribeResourcePolicies", "DescribeLogGroups"),
    )
]
TRACING = [
    f"xray:{action}"
    for action in ("PutTraceSegments", "PutTelemetryRecords", "GetSamplingRules", "GetSamplingTargets")
]


@pytest.fixture(scope="module")
def group(machines: Machines) -> str:
    name = unique("/states")
    machines.engine.client("logs").create_log_group(logGroupName=name)
    return name


@pytest.fixture(scope="module")
def machine(machines: Machines, group: str) -> str:
    """A state machine from a template, which logs what fails, and is traced."""
    allow(machines)
    definition = {"StartAt": "Only", "States": {"Only": task(machines.function)}}
    resource = {
        "Type": "AWS::StepFunctions::StateMachine",
        "Properties": {
            "RoleArn": machines.role,
            "DefinitionString": json.dumps(definition).replace(machines.function, "${step}"),
            "DefinitionSubstitutions": {"step": machines.function},
            "LoggingConfiguration": {
                "Level": "ERROR",
                "IncludeExecutionData": False,
                "Destinations": [{"CloudWatchLogsLogGroup": {"LogGroupArn": arn_of(group)}}],
            },
            "TracingConfiguration": {"Enabled": True},
        },
    }
    client, name = machines.engine.client("cloudformation"), unique("stack")
    template = {"Resources": {"Machine": resource}, "Outputs": {"Machine": {"Value": {"Ref": "Machine"}}}}
    client.create_stack(StackName=name, TemplateBody=json.dumps(template))
    eventually(lambda: "PROGRESS" not in containers.state_of(client, name)["StackStatus"])
    (output,) = containers.state_of(client, name)["Outputs"]
    return str(output["OutputValue"])


@pytest.fixture(autouse=True)
def usual_grants(machines: Machines) -> Iterator[None]:
    allow(machines)
    yield
    machines.allow_as_ever()


def allow(machines: Machines, without: str = "") -> None:
    """Let the role invoke, log and trace, but for one action."""
    actions = [action for action in (*DELIVERY, *TRACING) if action != without]
    machines.allow(("lambda:InvokeFunction", machines.function), (actions, "*"))


def arn_of(group: str) -> str:
    return f"arn:aws:logs:us-east-1:000000000000:log-group:{group}:*"


def traced(machines: Machines, machine: str, **data: Any) -> str:
    """Run an execution in a sampled trace, and return the trace's id."""
    root = new_root()
    machines.ended(machines.start(machine, data, traceHeader=f"Root={root};Sampled=1"))
    return root


def test_what_fails_is_logged_without_what_went_in_and_out(machines: Machines, machine: str, group: str) -> None:
    # when one execution fails and another one does not
    failed = machines.start(machine, {"raise": True, "secret": "payload"})
    machines.ended(machines.start(machine))
    machines.ended(failed)

    # then the first one is in the log (Step Functions Developer Guide, "Log levels for execution events")
    lines = eventually(lambda: [line for line in log_lines(machines.engine, group) if failed in line])
    told = [json.loads(line) for line in lines]
    assert [line["type"] for line in told] == ["TaskFailed", "ExecutionFailed"]
    assert told[1]["details"]["error"] == "Refused"
    assert {line["execution_arn"] for line in told} == {failed}
    assert {json.loads(line)["execution_arn"] for line in log_lines(machines.engine, group)} == {failed}


def test_all_is_logged_with_what_went_in_and_out_only_if_asked_for(
    machines: Machines, machine: str, group: str
) -> None:
    # given
    logging = machines.client.describe_state_machine(stateMachineArn=machine)["loggingConfiguration"]
    lines: dict[bool, list[str]] = {}
    for included in (False, True):
        changed = {**logging, "level": "ALL", "includeExecutionData": included}
        machines.client.update_state_machine(stateMachineArn=machine, loggingConfiguration=changed)

        # when
        execution = machines.start(machine, {"step": "payload"})
        machines.ended(execution)
        lines[included] = [line for line in log_lines(machines.engine, group) if execution in line]
    machines.client.update_state_machine(stateMachineArn=machine, loggingConfiguration=logging)

    # then
    assert [json.loads(line)["type"] for line in lines[True]] == [
        json.loads(line)["type"] for line in lines[False]
    ]
    assert "ExecutionSucceeded" in lines[False][-1]
    assert "payload" not in "".join(lines[False])
    assert "payload" in "".join(lines[True])


@pytest.mark.parametrize("missing", DELIVERY)
def test_a_role_that_may_not_deliver_logs_is_not_taken(machines: Machines, machine: str, missing: str) -> None:
    # given
    logging = machines.client.describe_state_machine(stateMachineArn=machine)["loggingConfiguration"]
    assert logging["level"] == "ERROR"
    allow(machines, without=missing)

    # when
    with pytest.raises(ClientError, match="not authorized to access the Log Destination"):
        machines.client.update_state_machine(stateMachineArn=machine, loggingConfiguration=logging)

    # then
    allow(machines)
    machines.client.update_state_machine(stateMachineArn=machine, loggingConfiguration=logging)


def test_an_execution_is_a_segment_of_its_callers_trace(machines: Machines, machine: str) -> None:
    # when
    root = traced(machines, machine)

    # then its function goes on from it
    found = awaited(machines.engine, root, segments=3)
    own, service = found["AWS::StepFunctions::StateMachine"], found["AWS::Lambda"]
    assert own["resource_arn"] == machine
    assert service["parent_id"] == own["id"]
    assert "fault" not in own

    # and one that fails says so
    failed = awaited(machines.engine, traced(machines, machine, **{"raise": True}), segments=3)
    assert failed["AWS::StepFunctions::StateMachine"]["fault"] is True


@pytest.mark.parametrize("missing", TRACING)
def test_a_role_that_may_not_trace_leaves_no_segment(machines: Machines, machine: str, missing: str) -> None:
    # given
    allow(machines, without=missing)

    # when
    root = traced(machines, machine)

    # then the function's segments are all there is
    assert awaited(machines.engine, root, segments=2).keys() == {"AWS::Lambda", "AWS::Lambda::Function"}


def test_without_tracing_nothing_is_passed_on(machines: Machines) -> None:
    # given
    machine = machines.machine({"Only": task(machines.function)})

    # when
    root = traced(machines, machine)

    # then
    assert read(machines.engine, root) == []
