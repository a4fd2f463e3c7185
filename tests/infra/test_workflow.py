"""The state machine: what follows what, what is tried again, and what is given up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from infra.assemblies import logical_id
from sluice_core.executors import MAX_STARTS, STEP_TIMED_OUT, WORK_REFUSED
from sluice_infra.stages import stage_config
from sluice_infra.workflow import definition

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.assemblies import Assembly

pytestmark = pytest.mark.xdist_group("infra")

STATES: dict[str, Any] = definition("the-function", 600)["States"]
TASKS = ("Fetch", "Transform", "Store")


@pytest.fixture(scope="module")
def longwork(synthesized: Callable[[str], Assembly]) -> Assembly:
    return synthesized("longwork")


# --- the definition


def test_a_job_is_fetched_transformed_and_stored() -> None:
    # given the way of a job that is wanted
    at, way = definition("the-function", 600)["StartAt"], []
    while at:
        way.append(at)
        state = STATES[at]
        at = state["Choices"][0]["Next"] if state["Type"] == "Choice" else state.get("Next")

    # then it is that, and the last step's answer is the output
    assert way == ["Fetch", "IsWanted", "Transform", "Store"]
    assert STATES["Store"]["End"] is True
    assert {"ResultPath", "OutputPath", "ResultSelector"} & set(STATES["Store"]) == set()


def test_what_is_not_wanted_any_more_is_not_done() -> None:
    choice = STATES["IsWanted"]
    assert choice["Choices"] == [{"Variable": "$.fetched.wanted", "BooleanEquals": True, "Next": "Transform"}]
    assert STATES[choice["Default"]] == {"Type": "Succeed"}


@pytest.mark.parametrize("task", TASKS)
def test_each_step_is_told_which_job_it_is_of(task: str) -> None:
    given = STATES[task]["Parameters"]
    assert given["step"] == task.lower()
    assert {"owner.$": "$.owner", "jobId.$": "$.jobId", "startToken.$": "$.startToken"}.items() <= given.items()
    assert STATES[task]["Resource"] == "the-function"


@pytest.mark.parametrize("task", TASKS)
def test_a_step_is_tried_as_often_as_a_message_is_but_not_what_can_never_succeed(task: str) -> None:
    # given what is done about a step's errors, in their order
    never, again = STATES[task]["Retry"]
    [catch] = STATES[task]["Catch"]

    # then what can never succeed is not tried again, nor what took all of the function's 15 minutes, and the
    # execution ends with what the step, or Lambda, has said
    assert never == {"ErrorEquals": [WORK_REFUSED, STEP_TIMED_OUT], "MaxAttempts": 0}
    assert catch == {"ErrorEquals": [WORK_REFUSED], "ResultPath": "$.error", "Next": "Refused"}
    assert STATES["Refused"] == {"Type": "Fail", "ErrorPath": "$.error.Error", "CausePath": "$.error.Cause"}

    # and all else is, after delays that grow and differ
    assert again["ErrorEquals"] == ["States.TaskFailed"]
    assert again["MaxAttempts"] == MAX_STARTS - 1
    assert (again["IntervalSeconds"], again["BackoffRate"], again["JitterStrategy"]) == (4, 2, "FULL")


def test_every_state_is_reached() -> None:
    named = {"Fetch", *(state["Next"] for state in STATES.values() if "Next" in state)}
    for state in STATES.values():
        named |= {one["Next"] for one in [*state.get("Choices", []), *state.get("Catch", [])]}
        named |= {state["Default"]} if "Default" in state else set()
    assert named == set(STATES)


# --- the template


def test_the_state_machine_is_that_definition_of_the_live_function(longwork: Assembly) -> None:
    # given the definition as a template has it: text with references
    machine = longwork.only("StepFunctions::StateMachine")
    parts = machine["DefinitionString"]["Fn::Join"][1]
    references = [part for part in parts if not isinstance(part, str)]
    text = "".join(part if isinstance(part, str) else "the-function" for part in parts)

    # then it is ours, with the stage's timeout, and each step is the alias that releases move
    assert json.loads(text) == definition("the-function", stage_config("longwork").stepfunctions.timeout_s)
    assert {longwork.invoked(one) for one in references} == {longwork.function("workflow_step")[0]}
    assert machine["StateMachineType"] == "STANDARD"


def test_failures_are_logged_without_payloads_and_executions_traced(longwork: Assembly) -> None:
    machine = longwork.only("StepFunctions::StateMachine")
    logging = machine["LoggingConfiguration"]
    assert (logging["Level"], logging["IncludeExecutionData"]) == ("ERROR", False)
    [destination] = logging["Destinations"]
    group = logical_id(destination["CloudWatchLogsLogGroup"]["LogGroupArn"])
    name = longwork.of_type("Logs::LogGroup")[group]["LogGroupName"]
    assert name == "/aws/vendedlogs/states/sluice-longwork-workflow"
    assert machine["TracingConfiguration"] == {"Enabled": True}
