"""cdk-nag: the AwsSolutions rules run at every synth, and each exception has a reason, on one resource."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sluice_infra

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.assemblies import Assembly

pytestmark = pytest.mark.xdist_group("infra")

SOURCES = sorted(Path(sluice_infra.__file__).parent.rglob("*.py"))
FEWEST_WORDS = 5


def violations(assembly: Assembly) -> list[dict[str, Any]]:
    report = json.loads((assembly.folder / "validation-report.json").read_text())
    return [violation for plugin in report["pluginReports"] for violation in plugin["violations"]]


def test_no_stage_violates_a_rule(assembly: Assembly) -> None:
    assert violations(assembly) == []


def test_the_rules_do_run(variants: dict[str, Assembly]) -> None:
    # given the app with a bucket and a queue that were added carelessly
    found = violations(variants["unencrypted"])

    # then both are found, and nothing else is
    where = {each["constructPath"] for violation in found for each in violation["violatingConstructs"]}
    assert where == {"careless/Bucket/Resource", "careless/Queue/Resource"}
    assert {"AwsSolutions-S10", "AwsSolutions-SQS4"} <= {violation["ruleName"] for violation in found}


def calls(*names: str) -> Iterator[tuple[Path, ast.Call]]:
    """Every call in the package of a function or method of one of these names."""
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if called in names:
                    yield source, node


def findings(call: ast.Call, source: Path) -> ast.Dict:
    """The findings that a call of ``acknowledge`` accepts, directly or through a constant of its module."""
    argument = call.args[1]
    if isinstance(argument, ast.Name):
        (argument,) = [
            node.value
            for node in ast.parse(source.read_text()).body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == argument.id
        ]
    assert isinstance(argument, ast.Dict), f"{source.name}:{call.lineno}: write the findings out"
    return argument


def reasons() -> Iterator[tuple[str, str]]:
    """The reason of every accepted finding, and where it stands."""
    for source, call in calls("acknowledge"):
        if source.name != "acknowledgements.py":
            for reason in findings(call, source).values:
                yield f"{source.name}:{reason.lineno}", ast.literal_eval(reason)


def test_every_accepted_finding_has_a_reason() -> None:
    # given the reasons of the findings that we accept
    given = list(reasons())

    # then each says why in more than a word or two
    assert given
    assert [where for where, reason in given if len(reason.split()) < FEWEST_WORDS] == []


def test_findings_are_accepted_on_one_resource_and_never_by_the_stack() -> None:
    # given the one function that accepts findings
    for source, call in calls("acknowledge"):
        if source.name != "acknowledgements.py":
            # then it is never called for a stack or the app, whose every resource would be excused
            target = ast.unparse(call.args[0])
            assert target not in {"self", "scope", "app", "stack"}, f"{source.name}:{call.lineno}"
            assert "Stack.of" not in target, f"{source.name}:{call.lineno}"


def test_nothing_goes_round_that_function() -> None:
    # given calls that would silence a rule in another way
    others = ("Acknowledgment", "NagSuppressions", "add_stack_suppressions", "add_resource_suppressions")

    # then the one function alone makes them
    assert {source.name for source, _ in calls(*others)} == {"acknowledgements.py"}
