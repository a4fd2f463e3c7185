"""`docs/security.md` lists who takes on each role of a stage, and what it may do on what, with the reasons."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from infra.assemblies import listed, short
from sluice_harness.description import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from infra.assemblies import Assembly

pytestmark = pytest.mark.xdist_group("infra")

PAGE = ROOT / "docs" / "security.md"
EACH_FUNCTION = "each function's"
FEWEST_WORDS = 3
Grant = tuple[str, str, str]  # a role, an action, and what on


# What the page says


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def rows(header: str) -> list[list[str]]:
    """The cells of the table with this header."""
    (table,) = re.findall(rf"^\| {header} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE.read_text(), flags=re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def listed_grants(functions: set[str], header: str = "role") -> Iterator[Grant]:
    """What one of the page's tables grants; of a row about each function, what it grants these."""
    for role, actions, on, why in rows(header):
        assert len(why.split()) >= FEWEST_WORDS, f"{role} {actions}: say why"
        for name in sorted(functions) if role.startswith(EACH_FUNCTION) else codes(role):
            for action in codes(actions):
                yield from (
                    (name, action, one.replace("<function>", name.removesuffix("Role"))) for one in codes(on)
                )


# What a template has


def shown(resource: Any) -> str:
    """A resource as the page calls it: by its logical id without the CDK's hash, or by an ARN's last part."""
    match resource:
        case {"Fn::Join": [_, parts]}:
            text = "".join(map(shown, parts))
        case {"Fn::GetAtt": [name, attribute]}:
            text = short(name) + ("/stream" if attribute == "StreamArn" else "")
        case {"Ref": name}:
            text = short(name)
        case _:
            text = str(resource)
    text = re.sub(r"^\w+Function\b", "every function", text)
    return re.sub(r"^arn:([^:]*:){4}", "", text.replace("AWS::", ""))


def grants(assembly: Assembly) -> set[Grant]:
    return {
        (short(role), action, shown(resource))
        for role in assembly.of_type("IAM::Role")
        for statement in assembly.statements_of_role(role)
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
    }


def of_functions(assembly: Assembly) -> set[str]:
    return {short(function["Role"]["Fn::GetAtt"][0]) for function in assembly.of_type("Lambda::Function").values()}


def lines(found: set[Grant]) -> str:
    return "\n".join(f"| `{role}` | `{action}` | `{on}` | why? |" for role, action, on in sorted(found))


# Both


def test_the_page_lists_every_action_of_every_role(assembly: Assembly) -> None:
    # given what the stage's roles may do, and what the page says of these roles
    found = grants(assembly)
    roles = {role for role, _, _ in found}
    on_page = {one for one in listed_grants(of_functions(assembly)) if one[0] in roles}

    # then it is the same
    assert not (missing := found - on_page), f"add to {PAGE.name}, with the reason:\n{lines(missing)}"
    assert not (stale := on_page - found), f"take out of {PAGE.name}:\n{lines(stale)}"


def test_the_page_lists_what_external_executors_add(synthesized: Callable[[str], Assembly]) -> None:
    # given what the roles of the stage with every executor may do, and what both tables say of these roles
    stage = synthesized("longwork")
    found, functions = grants(stage), of_functions(stage)
    roles = {role for role, _, _ in found}
    every_stage_s = {one for one in listed_grants(functions) if one[0] in roles}
    added = set(listed_grants(functions, "role there"))

    # then it is the same, and nothing is said twice
    assert not (missing := found - every_stage_s - added), (
        f"add to {PAGE.name}, with the reason:\n{lines(missing)}"
    )
    assert not (stale := (every_stage_s | added) - found), f"take out of {PAGE.name}:\n{lines(stale)}"
    assert not (twice := every_stage_s & added), f"take out of {PAGE.name}:\n{lines(twice)}"


def test_the_page_lists_no_role_that_production_lacks(synthesized: Callable[[str], Assembly]) -> None:
    prod = synthesized("prod")
    roles = {role for role, _, _ in listed_grants(of_functions(prod))}
    assert roles <= {short(role) for role in prod.of_type("IAM::Role")}


def test_the_page_says_who_takes_on_each_role(assembly: Assembly) -> None:
    check_trusts(assembly, rows("taken on"))


def test_the_page_says_who_takes_on_what_external_executors_add(
    synthesized: Callable[[str], Assembly],
) -> None:
    check_trusts(synthesized("longwork"), [*rows("taken on"), *rows("taken on there")])


def check_trusts(assembly: Assembly, table: list[list[str]]) -> None:
    # given who takes on what by the page, a service or another role, and the managed policies that it names
    trusted: dict[str, list[str]] = {}
    for takes_on, by, remarks in table:
        names = of_functions(assembly) if takes_on.startswith(EACH_FUNCTION) else codes(takes_on)
        trusted |= {name: [*codes(by), *codes(remarks)] for name in names}

    # then every role is there, with everybody whom it trusts and every policy of AWS's that it has
    for name, role in assembly.of_type("IAM::Role").items():
        (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
        (principal,) = trust["Principal"].values()
        managed = [shown(arn).rpartition("/")[2] for arn in role.get("ManagedPolicyArns", [])]
        assert trusted[short(name)] == [shown(principal), *managed], f"{name} is not as {PAGE.name} has it"
