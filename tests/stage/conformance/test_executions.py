"""Executions of Step Functions start once by name, act in their role's name, end once, and tell of it."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from stage.conformance.functions import create_function, eventually, unique
from stage.conformance.machines import STEP, task

if TYPE_CHECKING:
    from stage.conformance.machines import Machines

# In parts of a second, of which AWS takes whole ones only.
RETRY_SOON = {"ErrorEquals": ["Refused"], "IntervalSeconds": 0.1, "BackoffRate": 1, "MaxAttempts": 2}


@pytest.fixture(scope="module")
def sleeper(machines: Machines) -> str:
    """A state machine whose one task does what its input says."""
    return machines.machine({"Only": task(machines.function, Retry=[RETRY_SOON])})


def test_the_same_start_is_the_same_execution_while_it_runs(machines: Machines, sleeper: str) -> None:
    # given
    name, data = unique("start"), {"sleep": 1}
    first = machines.start(sleeper, data, name=name)

    # when it is asked for again, and with another input
    again = machines.start(sleeper, data, name=name)
    with pytest.raises(ClientError) as other:
        machines.start(sleeper, {"sleep": 0}, name=name)

    # then it is one, and none once it has ended
    assert again == first
    assert other.value.response["Error"]["Code"] == "ExecutionAlreadyExists"
    assert machines.ended(first)["status"] == "SUCCEEDED"
    with pytest.raises(ClientError) as late:
        machines.start(sleeper, data, name=name)
    assert late.value.response["Error"]["Code"] == "ExecutionAlreadyExists"
    assert [detail["status"] for detail in machines.events(first, "SUCCEEDED")] == ["RUNNING", "SUCCEEDED"]


def test_the_events_of_an_execution_say_what_it_is_asked_for(machines: Machines, sleeper: str) -> None:
    # when
    execution = machines.start(sleeper, {"step": "told"})

    # then (Step Functions Developer Guide, "EventBridge for execution status changes", its example's members)
    started, ended = machines.events(execution, "RUNNING", "SUCCEEDED")
    assert (started["status"], started["stopDate"], started["output"]) == ("RUNNING", None, None)
    assert (ended["executionArn"], ended["stateMachineArn"]) == (execution, sleeper)
    assert ended["name"] == execution.rpartition(":")[2]
    assert (json.loads(ended["input"]), ended["inputDetails"]) == ({"step": "told"}, {"included": True})
    assert (json.loads(ended["output"]), ended["outputDetails"]) == ({"step": "told"}, {"included": True})
    assert (ended["error"], ended["cause"]) == (None, None)
    assert 0 <= ended["stopDate"] - ended["startDate"] < 10_000


def test_an_output_that_is_too_large_for_an_event_is_left_out(machines: Machines) -> None:
    # given an output that is too large once it is text within text
    large = {"large": '"' * 100_000}
    execution = machines.start(machines.machine({"Only": {"Type": "Pass", "Result": large, "End": True}}))

    # when
    *_, ended = machines.events(execution, "SUCCEEDED")

    # then the service still has it
    assert (ended["output"], ended["outputDetails"]) == (None, {"included": False})
    assert json.loads(machines.ended(execution)["output"]) == large


def test_a_stopped_execution_stays_stopped_whatever_its_task_says(machines: Machines, sleeper: str) -> None:
    # given a task that will fail, and would be tried again
    step = unique("stopped")
    execution = machines.start(sleeper, {"step": step, "sleep": 1, "raise": True})
    assert eventually(lambda: _has_event(machines, execution, "TaskScheduled"))

    # when
    machines.client.stop_execution(executionArn=execution, error="Sluice.Stopped", cause="no longer wanted")

    # then it was told at once, with why
    *_, ended = machines.events(execution, "ABORTED")
    assert (ended["status"], ended["error"], ended["cause"]) == ("ABORTED", "Sluice.Stopped", "no longer wanted")

    # and after the task nothing more happens
    assert eventually(lambda: machines.steps(step))
    time.sleep(0.5)  # in which it would have been tried again
    found = machines.ended(execution)
    assert (found["status"], found["error"]) == ("ABORTED", "Sluice.Stopped")
    assert machines.steps(step) == 1
    assert [detail["status"] for detail in machines.events(execution, "ABORTED")] == ["RUNNING", "ABORTED"]


def _has_event(machines: Machines, execution: str, kind: str) -> bool:
    history = machines.client.get_execution_history(executionArn=execution)["events"]
    return any(event["type"] == kind for event in history)


@pytest.mark.parametrize(
    "state", [{"Type": "Wait", "Seconds": 60, "End": True}, None], ids=["a wait", "a running task"]
)
def test_an_execution_past_its_timeout_has_timed_out(machines: Machines, state: Any) -> None:
    # given
    states = {"Only": state or task(machines.function)}
    machine = machines.machine(states, TimeoutSeconds=1)

    # when
    execution = machines.start(machine, {"sleep": 3})
    *_, told = machines.events(execution, "TIMED_OUT")

    # then
    ended = machines.ended(execution)
    assert (ended["status"], told["status"], told["output"]) == ("TIMED_OUT", "TIMED_OUT", None)
    assert 0.9 <= (ended["stopDate"] - ended["startDate"]).total_seconds() <= 3
    with pytest.raises(ClientError):
        machines.client.stop_execution(executionArn=execution)


def test_what_a_function_raises_is_caught_by_its_name(machines: Machines) -> None:
    # given
    caught = [{"ErrorEquals": ["Refused"], "ResultPath": "$.error", "Next": "Failed"}]
    machine = machines.machine(
        {
            "Only": task(machines.function, Retry=[RETRY_SOON], Catch=caught),
            "Failed": {"Type": "Fail", "ErrorPath": "$.error.Error", "CausePath": "$.error.Cause"},
        }
    )

    # when
    step = unique("caught")
    execution = machines.start(machine, {"step": step, "raise": True})
    *_, told = machines.events(execution, "FAILED")

    # then it was tried three times, and says why
    assert (told["error"], json.loads(told["cause"])["errorMessage"]) == ("Refused", "not this one")
    assert machines.steps(step) == 3
    found = machines.ended(execution)
    assert (found["error"], found["cause"], "output" in found) == (told["error"], told["cause"], False)


def test_a_function_that_runs_into_its_timeout_has_lambda_s_name_for_it(machines: Machines) -> None:
    # given a function with a second for its work, and a state that tries all again but that
    name = create_function(machines.engine, STEP, Timeout=1)
    found = machines.engine.client("lambda").get_function(FunctionName=name)
    slow = replace(machines, function=found["Configuration"]["FunctionArn"])
    slow.allow_as_ever()
    retries = [
        {"ErrorEquals": ["Sandbox.Timedout"], "MaxAttempts": 0},
        RETRY_SOON | {"ErrorEquals": ["States.TaskFailed"]},
    ]
    try:
        # when its work takes longer
        execution = slow.start(
            slow.machine({"Only": task(slow.function, Retry=retries)}), {"step": "slow", "sleep": 5}
        )
        ended = slow.ended(execution)
    finally:
        machines.allow_as_ever()

    # then it was tried once, and the execution fails with that
    assert (ended["status"], ended["error"]) == ("FAILED", "Sandbox.Timedout")
    assert slow.steps("slow") == 1


def test_a_task_is_invoked_in_the_name_of_the_machines_role(machines: Machines, sleeper: str) -> None:
    # given a role that may invoke the function, but not its alias
    machines.allow(("lambda:InvokeFunction", machines.function.rpartition(":")[0]))
    try:
        # when
        ended = machines.ended(machines.start(sleeper))
    finally:
        machines.allow_as_ever()

    # then
    assert (ended["status"], ended["error"]) == ("FAILED", "Lambda.AWSLambdaException")
    assert "is not authorized to perform: lambda:InvokeFunction" in ended["cause"]
    assert machines.role.rpartition("/")[2] in ended["cause"]


def test_a_throttled_task_says_so(machines: Machines, sleeper: str) -> None:
    # given a function that nobody may run
    client = machines.engine.client("lambda")
    client.put_function_concurrency(FunctionName=machines.name, ReservedConcurrentExecutions=0)
    try:
        # when
        ended = machines.ended(machines.start(sleeper))
    finally:
        client.delete_function_concurrency(FunctionName=machines.name)

    # then
    assert ended["error"] == "Lambda.TooManyRequestsException"


def test_a_retry_waits_no_longer_than_it_is_told_to(machines: Machines) -> None:
    # given waits of up to a second, of which none is longer than a tenth
    retry = {"ErrorEquals": ["States.ALL"], "IntervalSeconds": 1, "MaxDelaySeconds": 0.1, "MaxAttempts": 3}
    machine = machines.machine({"Only": task(machines.function, Retry=[retry | {"JitterStrategy": "FULL"}])})

    # when
    ended = machines.ended(machines.start(machine, {"raise": True}))

    # then
    assert ended["error"] == "Refused"
    assert (ended["stopDate"] - ended["startDate"]).total_seconds() < 1


def test_many_executions_share_few_environments(machines: Machines) -> None:
    # given
    states = {"One": task(machines.function, "Two", ResultPath=None), "Two": task(machines.function)}
    machine = machines.machine(states)

    # when
    executions = [machines.start(machine, {"step": "many"}) for _ in range(40)]

    # then all end well, and no process was started for each
    assert {machines.ended(one, within=30)["status"] for one in executions} == {"SUCCEEDED"}
    streams = machines.engine.client("logs").describe_log_streams(logGroupName=f"/aws/lambda/{machines.name}")
    assert len(streams["logStreams"]) < 20
