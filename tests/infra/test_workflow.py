"""The state machine: what follows what, what is tried again, what is given up; and which ends are told to whom."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from infra.assemblies import listed, logical_id
from sluice_core.executors import BATCH, ECS, EXTERNAL, MAX_STARTS, STEP_FUNCTIONS
from sluice_core.step_functions import WORK_REFUSED
from sluice_infra.stages import stage_config
from sluice_infra.workflow import definition
from unit.state_changes import CHANGES, state_change

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from infra.assemblies import Assembly, Properties

pytestmark = pytest.mark.xdist_group("infra")

STATES: dict[str, Any] = definition("the-function", 600)["States"]
TASKS = ("Fetch", "Transform", "Store")
# What is no end, of those that are recorded.
OPEN = {"running", "stopping"}
NAMES = {STEP_FUNCTIONS: "stateMachineArn", BATCH: "jobQueue", ECS: "clusterArn"}


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

    # then what can never succeed is not tried again, and ends the execution with what the step has said
    assert never == {"ErrorEquals": [WORK_REFUSED], "MaxAttempts": 0}
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


# --- the rules


def rules(assembly: Assembly) -> dict[str, Properties]:
    """The rules on executors' events, by executor."""
    patterns = {name: one for name, one in assembly.of_type("Events::Rule").items() if "EventPattern" in one}
    return {executor: patterns[f"{executor.title()}Ended"] for executor in EXTERNAL}


def matches(pattern: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
    """Whether an event has one of the listed values in each place (Amazon EventBridge, "Event patterns")."""
    return all(
        name in event and (matches(wanted, event[name]) if isinstance(wanted, dict) else event[name] in wanted)
        for name, wanted in pattern.items()
    )


def filled(value: Any) -> Any:
    """A pattern with an ARN of ours in place of each reference."""
    if isinstance(value, dict) and not {"Ref", "Fn::GetAtt"} & set(value):
        return {name: filled(inner) for name, inner in value.items()}
    return (
        [filled(inner) for inner in value]
        if isinstance(value, list)
        else (value if isinstance(value, str) else "ours")
    )


@pytest.mark.parametrize(("executor", "change"), [(one, change) for one in EXTERNAL for change in CHANGES[one]])
def test_every_end_of_ours_is_told_and_nothing_else(executor: str, change: str, longwork: Assembly) -> None:
    # given what a service publishes of one of our executions, and of somebody else's
    patterns = {name: filled(rule["EventPattern"]) for name, rule in rules(longwork).items()}
    ours = state_change(executor, change, source="ours")
    theirs = state_change(executor, change, source="theirs")

    # then the executor's own rule takes it if it is an end, and no rule the other
    expected = [] if change in OPEN else [executor]
    assert [name for name, pattern in patterns.items() if matches(pattern, ours)] == expected
    assert [name for name, pattern in patterns.items() if matches(pattern, theirs)] == []


def test_each_rule_is_of_the_executor_s_own_resource(longwork: Assembly) -> None:
    kinds = {STEP_FUNCTIONS: "StepFunctions::StateMachine", BATCH: "Batch::JobQueue", ECS: "ECS::Cluster"}
    for executor, rule in rules(longwork).items():
        [source] = rule["EventPattern"]["detail"][NAMES[executor]]
        assert logical_id(source) in longwork.of_type(kinds[executor]), executor


def test_only_these_rules_may_send_completions(longwork: Assembly) -> None:
    # given the queue that all of them send to
    targets = {logical_id(target["Arn"]) for rule in rules(longwork).values() for target in rule["Targets"]}
    [queue] = targets
    [policy] = [
        one
        for one in longwork.of_type("SQS::QueuePolicy").values()
        if [logical_id(q) for q in one["Queues"]] == [queue]
    ]

    # then EventBridge may send there, for them
    [allowed] = [one for one in policy["PolicyDocument"]["Statement"] if one["Effect"] == "Allow"]
    assert allowed["Principal"] == {"Service": "events.amazonaws.com"}
    assert listed(allowed["Action"]) == ["sqs:SendMessage"]
    sources = listed(allowed["Condition"]["ArnEquals"]["aws:SourceArn"])
    assert {logical_id(one) for one in sources} == {f"{one.title()}Ended" for one in EXTERNAL}

    # and the completion function takes them off
    mappings = longwork.of_type("Lambda::EventSourceMapping").values()
    [mapping] = [one for one in mappings if logical_id(one["EventSourceArn"]) == queue]
    assert longwork.invoked(mapping["FunctionName"]) == longwork.function("completion")[0]
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
