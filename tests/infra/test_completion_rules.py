"""Which ends of executions are told to whom: every end of ours, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from infra.assemblies import listed, logical_id
from sluice_core.executors import BATCH, ECS, EXTERNAL, STEP_FUNCTIONS
from unit.state_changes import CHANGES, SOURCES, state_change

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from infra.assemblies import Assembly, Properties

pytestmark = pytest.mark.xdist_group("infra")

# By which member of its events each executor's resource is known.
NAMES = {STEP_FUNCTIONS: "stateMachineArn", BATCH: "jobQueue", ECS: "clusterArn"}
# What a template calls the ARNs by which the recorded events are ours.
ARNS = {
    ("AWS::StepFunctions::StateMachine", "Arn"): SOURCES[STEP_FUNCTIONS],
    ("AWS::Batch::JobQueue", "JobQueueArn"): SOURCES[BATCH],
    ("AWS::ECS::Cluster", "Arn"): SOURCES[ECS],
}
# What is no end, of those that are recorded.
OPEN = {"waiting", "running", "stopping"}


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


def filled(value: Any, assembly: Assembly) -> Any:
    """A pattern as it is once deployed, with what its references give: of `ARNS` our ARNs, of others none."""
    match value:
        case {"Fn::GetAtt": [str(resource), str(attribute)]}:
            return ARNS.get((assembly.resources[resource]["Type"], attribute), f"{attribute} of {resource}")
        case {"Ref": str(resource)}:
            return f"the name of {resource}"
        case dict():
            return {name: filled(inner, assembly) for name, inner in value.items()}
        case list():
            return [filled(inner, assembly) for inner in value]
        case _:
            return value


@pytest.mark.parametrize(("executor", "change"), [(one, change) for one in EXTERNAL for change in CHANGES[one]])
def test_every_end_of_ours_is_told_and_nothing_else(executor: str, change: str, longwork: Assembly) -> None:
    # given what a service publishes of one of our executions, and of somebody else's
    patterns = {name: filled(rule["EventPattern"], longwork) for name, rule in rules(longwork).items()}
    ours = state_change(executor, change)
    theirs = state_change(executor, change, source=f"{SOURCES[executor]}-of-somebody-else")

    # then the executor's own rule takes it if it is an end, and no rule the other
    expected = [] if change in OPEN else [executor]
    assert [name for name, pattern in patterns.items() if matches(pattern, ours)] == expected
    assert [name for name, pattern in patterns.items() if matches(pattern, theirs)] == []


@pytest.mark.parametrize("executor", EXTERNAL)
def test_a_rule_on_anything_else_would_be_found(executor: str, longwork: Assembly) -> None:
    # given an end of ours, and the rule on it with one thing in its pattern that is another
    event, pattern = state_change(executor, "succeeded"), rules(longwork)[executor]["EventPattern"]
    [reference] = pattern["detail"][NAMES[executor]]
    resource, attribute = reference["Fn::GetAtt"]
    others = [
        {"Ref": resource},
        {"Fn::GetAtt": [resource, f"{attribute}X"]},
        *({"Fn::GetAtt": [rule, "Arn"]} for rule in longwork.of_type("Events::Rule")),
        *(
            one["EventPattern"]["detail"][NAMES[name]][0]
            for name, one in rules(longwork).items()
            if name != executor
        ),
    ]
    wrong = [
        *({**pattern, name: ["another"]} for name in ("source", "detail-type")),
        *({**pattern, "detail": {**pattern["detail"], name: ["another"]}} for name in pattern["detail"]),
        *({**pattern, "detail": {**pattern["detail"], NAMES[executor]: [other]}} for other in others),
    ]

    # then the rule takes it, and none of the others does
    assert matches(filled(pattern, longwork), event)
    assert [one for one in wrong if matches(filled(one, longwork), event)] == []


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
