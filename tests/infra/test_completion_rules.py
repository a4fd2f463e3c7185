"""Which ends of executions are told to whom: every end of ours, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from infra.assemblies import listed, logical_id
from sluice_core.executors import BATCH, ECS, EXTERNAL, STEP_FUNCTIONS
from unit.state_changes import CHANGES, state_change

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from infra.assemblies import Assembly, Properties

pytestmark = pytest.mark.xdist_group("infra")

# By which member of its events each executor's resource is known.
NAMES = {STEP_FUNCTIONS: "stateMachineArn", BATCH: "jobQueue", ECS: "clusterArn"}
# What is no end, of those that are recorded.
OPEN = {"running", "stopping"}


@pytest.fixture(scope="module")
def longwork(synthesized: Callable[[str], Assembly]) -> Assembly:
    return synthesized("longwork")


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
