"""Metric math computed a second time: trees of tuples, each evaluated time by time.

A tree is a number, a name, or a tuple of what is done and to which trees. Trees are series, but for the numbers.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

Tree = Any
Series = dict[int, float]
STARTS = range(600, 1200, 60)
NAMES = ("m1", "m2", "m3")
ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
LOGIC: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    "<=": operator.le,
    "==": operator.eq,
    "AND": lambda left, right: left != 0 and right != 0,
    "||": lambda left, right: left != 0 or right != 0,
}
AGGREGATES: dict[str, Callable[[list[float]], float]] = {
    "SUM": sum,
    "MIN": min,
    "MAX": max,
    "AVG": lambda values: sum(values) / len(values),
}
numbers = st.sampled_from([-2.0, -0.5, 0.5, 1.0, 3.0])
series = st.dictionaries(st.sampled_from(STARTS), st.integers(-3, 3).map(float), max_size=len(STARTS))
variables = st.fixed_dictionaries(dict.fromkeys(NAMES, series))


def _grown(trees: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    operands = trees | numbers
    operators = st.sampled_from([*ARITHMETIC, *LOGIC])
    return st.one_of(
        st.tuples(operators, trees, operands),
        st.tuples(operators, operands, trees),
        st.tuples(st.just("minus"), trees),
        st.tuples(st.sampled_from([*AGGREGATES]), st.lists(trees, min_size=1, max_size=3).map(tuple)),
        st.tuples(st.just("IF"), trees, operands, operands | st.none()),
        st.tuples(st.just("FILL"), trees, numbers | st.none()),
        st.tuples(st.just("RATE"), trees),
    )


trees = st.recursive(st.sampled_from(NAMES), _grown, max_leaves=8)


def text(tree: Tree) -> str:
    """Return a tree as an expression."""
    if not isinstance(tree, tuple):
        return str(tree)
    name, *rest = tree
    if name in (*ARITHMETIC, *LOGIC):
        return f"({text(rest[0])} {name} {text(rest[1])})"
    if name == "minus":
        return f"-{text(rest[0])}"
    if name in AGGREGATES:
        return f"{name}([{', '.join(map(text, rest[0]))}])"
    if name == "FILL" and rest[1] is None:
        return f"FILL({text(rest[0])}, REPEAT)"
    return f"{name}({', '.join(text(one) for one in rest if one is not None)})"


def evaluate(tree: Tree, variables: dict[str, Series]) -> Series:
    """Return a tree's series."""
    points = {time: _at(tree, time, variables) for time in STARTS}
    return {time: value for time, value in points.items() if value is not None}


def _at(tree: Tree, time: int, variables: dict[str, Series]) -> float | None:  # noqa: PLR0911 - one for each function
    if isinstance(tree, str):
        return variables[tree].get(time)
    if isinstance(tree, float):
        return tree
    name, *rest = tree
    if name == "RATE":
        return _rate(rest[0], time, variables)
    if name in AGGREGATES:
        there = [value for one in rest[0] if (value := _at(one, time, variables)) is not None]
        return AGGREGATES[name](there) if there else None
    first = _at(rest[0], time, variables)
    if name == "minus":
        return None if first is None else -first
    if name == "FILL":
        return _filled(rest[0], rest[1], time, variables) if first is None else first
    if name == "IF":
        return _chosen(first, rest[1], rest[2], time, variables)
    return _combined(name, first, _at(rest[1], time, variables), numbers=[isinstance(one, float) for one in rest])


def _combined(name: str, left: float | None, right: float | None, numbers: list[bool]) -> float | None:
    if name in LOGIC and not any(numbers):
        return None if left is None and right is None else float(LOGIC[name](left or 0.0, right or 0.0))
    if left is None or right is None or (name == "/" and right == 0):
        return None
    return float({**ARITHMETIC, **LOGIC}[name](left, right))


def _chosen(condition: float | None, yes: Tree, no: Tree, time: int, variables: dict[str, Series]) -> float | None:
    if condition is None:
        return None
    if condition != 0:
        value = _at(yes, time, variables)
        return 0.0 if value is None else value
    return None if no is None else _at(no, time, variables)


def _filled(tree: Tree, filler: float | None, time: int, variables: dict[str, Series]) -> float | None:
    if filler is not None:
        return filler
    earlier = (_at(tree, before, variables) for before in reversed(STARTS) if before < time)
    return next((value for value in earlier if value is not None), None)


def _rate(tree: Tree, time: int, variables: dict[str, Series]) -> float | None:
    now = _at(tree, time, variables)
    for before in reversed(STARTS):
        value = _at(tree, before, variables) if before < time else None
        if value is not None and now is not None:
            return (now - value) / (time - before)
    return None
