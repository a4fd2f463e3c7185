"""The pictures in `docs/architecture.md` are of what is deployed: the same parts, joined in the same way.

The first is of every stage, the second of what an external executor adds to it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from infra.assemblies import listed, logical_id
from infra.watched import resolved
from sluice_harness.description import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.assemblies import Assembly

pytestmark = pytest.mark.xdist_group("infra")

PAGE = ROOT / "docs" / "architecture.md"
# Every one that a stage has is in the picture.
SHOWN = (
    "ApiGateway::RestApi",
    "Cognito::UserPool",
    "DynamoDB::Table",
    "Events::EventBus",
    "Events::Rule",
    "Lambda::Function",
    "S3::Bucket",
    "SNS::Topic",
    "SQS::Queue",
)
# What changes something; whatever else a role may do only reads. A dead letter that is hidden while it is read is
# not changed.
WRITING = {
    *("dynamodb:PartiQLInsert", "dynamodb:PartiQLUpdate", "dynamodb:UpdateItem", "events:PutEvents"),
    *("s3:DeleteObject", "s3:PutObject", "sqs:SendMessage"),
    *("lambda:InvokeFunction", "states:StartExecution", "states:StopExecution"),
}
Edge = tuple[str, str, str]
CALLS, READS = "-->", "-.->"


# --- what the picture says


@dataclass
class Picture:
    """A diagram: its nodes by stack, those outside, and its arrows."""

    stacks: dict[str, str] = field(default_factory=dict)
    outsiders: set[str] = field(default_factory=set)
    edges: list[Edge] = field(default_factory=list)


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    diagrams = re.findall(r"^```mermaid\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    return list(map(read, diagrams))


@pytest.fixture(scope="module")
def picture(pictures: list[Picture]) -> Picture:
    """What every stage has."""
    return pictures[0]


@pytest.fixture(scope="module")
def added(pictures: list[Picture]) -> Picture:
    """What an executor adds."""
    (drawn,) = pictures[1:]
    return drawn


def read(diagram: str) -> Picture:
    drawn, stack = Picture(), ""
    for line in map(str.strip, diagram.splitlines()[1:]):
        if found := re.fullmatch(r'subgraph (\w+) \["stack sluice-STAGE-\1"\]', line):
            stack = found[1]
        elif line == "end":
            stack = ""
        elif found := re.fullmatch(r"(\w+)\(\[[\w ]+\]\)", line):
            drawn.outsiders.add(found[1])
        elif found := re.fullmatch(r'(\w+)\[\(?"\1(<br>[\w ,]+)?"\)?\]', line):
            drawn.stacks[found[1]] = stack
        elif found := re.fullmatch(r"(\w+) (-->|-\.->)(?:\|[^|]+\|)? (\w+)", line):
            drawn.edges.append((found[1], found[2], found[3]))
        else:
            assert not line, f"neither node nor arrow: {line}"
    return drawn


# --- what the templates say


def name(resource: str) -> str:
    """A logical id without the CDK's digest of its path."""
    return re.sub(r"[0-9A-F]{8}$", "", resource)


def invoked(resource: str, assembly: Assembly) -> str:
    """The function that an alias or a version stands for; of anything else, itself."""
    while assembly.resources[resource]["Type"] in ("AWS::Lambda::Alias", "AWS::Lambda::Version"):
        resource = logical_id(assembly.resources[resource]["Properties"]["FunctionName"])
    return resource


def referred(value: Any, assembly: Assembly) -> Iterator[str]:
    """Every resource that a value names, in another stack too."""
    if isinstance(value, list):
        for part in value:
            yield from referred(part, assembly)
    elif isinstance(value, dict):
        if "Fn::ImportValue" in value:
            yield from referred(resolved(value, assembly), assembly)
        elif ("Ref" in value or "Fn::GetAtt" in value) and logical_id(value) in assembly.resources:
            yield invoked(logical_id(value), assembly)
        else:
            yield from referred(list(value.values()), assembly)


def edges_of(assembly: Assembly) -> Iterator[tuple[str, str, Any]]:
    """Every arrow that a template knows of: from where, how, and the value that names where to."""
    for one in assembly.of_type("Lambda::EventSourceMapping").values():
        for source in referred(one["EventSourceArn"], assembly):
            yield source, CALLS, one["FunctionName"]
    for queue, one in assembly.of_type("SQS::Queue").items():
        yield queue, CALLS, one.get("RedrivePolicy", {})
    for one in assembly.of_type("ApiGateway::Method").values():
        yield logical_id(one["RestApiId"]), CALLS, one["Integration"].get("Uri")
    for one in assembly.of_type("ApiGateway::Authorizer").values():
        yield logical_id(one["RestApiId"]), CALLS, one["AuthorizerUri"]
    for rule, one in assembly.of_type("Events::Rule").items():
        yield rule, CALLS, one["Targets"]
        for source in referred(one.get("EventPattern", {}), assembly):
            yield source, CALLS, {"Ref": rule}
    for alarm, one in assembly.of_type("CloudWatch::CompositeAlarm").items():
        yield alarm, CALLS, one.get("AlarmActions")
    for machine, resource in assembly.resources.items():
        if resource["Type"] == "AWS::StepFunctions::StateMachine":
            yield machine, CALLS, resource["Properties"]["DefinitionString"]
    for function, one in assembly.of_type("Lambda::Function").items():
        yield function, READS, one["Environment"]["Variables"].get("USER_POOL_ID")
        for action, resource in may(logical_id(one["Role"]), assembly):
            yield function, CALLS if action in WRITING else READS, resource


def may(role: str, assembly: Assembly) -> Iterator[tuple[str, Any]]:
    """What a role may do, itself or as a role that trusts it: action and resource."""
    for statement in assembly.statements_of_role(role):
        for action in listed(statement["Action"]):
            yield from ((action, resource) for resource in listed(statement["Resource"]))
    for other, properties in assembly.of_type("IAM::Role").items():
        if role in referred(properties["AssumeRolePolicyDocument"], assembly):
            yield from may(other, assembly)


def drawn_from(assembly: Assembly, nodes: set[str]) -> set[Edge]:
    """The arrows between these nodes: whoever writes may read, and a source reads for the function it feeds."""
    every = {
        (name(invoked(source, assembly)), how, name(target))
        for source, how, value in edges_of(assembly)
        for target in referred(value, assembly)
    }
    return {
        (source, how, target)
        for source, how, target in every
        if {source, target} <= nodes
        and not (how == READS and {(source, CALLS, target), (target, CALLS, source)} & every)
    }


# --- one is the other


def test_every_part_is_a_resource_of_the_stack_that_it_is_drawn_in(assembly: Assembly, picture: Picture) -> None:
    for part, stack in picture.stacks.items():
        (file,) = [
            one for one in assembly.template_files if one.name.startswith(f"sluice-{assembly.stage}-{stack}.")
        ]
        assert part in map(name, json.loads(file.read_text())["Resources"]), part


def test_every_resource_of_these_kinds_is_drawn(assembly: Assembly, picture: Picture) -> None:
    there = {name(one) for kind in SHOWN for one in assembly.of_type(kind)}
    assert there - set(picture.stacks) == set()


def test_the_arrows_are_those_of_the_templates(assembly: Assembly, picture: Picture) -> None:
    # given the arrows between resources; what clients and people do no template knows
    between = [one for one in picture.edges if not picture.outsiders & {one[0], one[2]}]

    # then each is there once, and is who invokes, feeds, writes or reads what
    assert len(set(between)) == len(between)
    assert set(between) == drawn_from(assembly, set(picture.stacks))


def test_an_executor_adds_the_parts_and_arrows_that_are_drawn(
    variants: dict[str, Assembly], picture: Picture, added: Picture
) -> None:
    # given a stage with one external executor
    stage = variants["workflows_alone"]
    kinds = (*SHOWN, "StepFunctions::StateMachine")
    there = {name(one) for kind in kinds for one in stage.of_type(kind)}

    # then all that it has is in one picture or the other, and in both only who has to do with both
    assert there - set(picture.stacks) - set(added.stacks) == set()
    assert set(added.stacks.values()) == {"ingestion"}
    assert set(added.stacks) & set(picture.stacks) == {"ProcessorFunction", "CancelJobFunction", "SweeperFunction"}

    # and each new arrow is there once
    assert len(set(added.edges)) == len(added.edges)
    assert set(added.edges) == drawn_from(stage, set(added.stacks))


def test_arrows_join_what_is_drawn(pictures: list[Picture]) -> None:
    for drawn in pictures:
        ends = {end for source, _, target in drawn.edges for end in (source, target)}
        assert ends == drawn.outsiders | set(drawn.stacks)


def test_what_the_text_names_is_in_a_picture(pictures: list[Picture]) -> None:
    text = re.sub(r"^```.*?^```", "", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"`([A-Z][a-z]\w+)`", text))
    parts = {part for drawn in pictures for part in drawn.stacks}
    assert named - {"ProcessorFunction6AC7DC31", "PermanentError"} <= parts
