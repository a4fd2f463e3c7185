"""A query's key condition is read once, not once for every row.

MiniStack tokenizes and parses the condition again for each row of the partition, on the thread that serves every
request: a page of twenty from a partition of 2,500 rows takes 90 ms, and an owner's list is four such pages.

DynamoDB reads an index partition in order and stops at the limit, whatever the partition's size (Amazon DynamoDB
Developer Guide, "Querying tables in DynamoDB").

Closed for conditions that only compare, such as ``listKey = :k AND submittedAt <= :t``; others stay on the
engine's path, and so do their errors.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

from ministack.services import dynamodb

from sluice_harness.compat.patching import expect

if TYPE_CHECKING:
    from collections.abc import Callable

Comparison = tuple[str, str, str]

_COMPARISON = re.compile(r"\s*(#?\w+)\s*(<=|>=|=|<|>)\s*(:\w+)\s*")
_AND = re.compile(r"\bAND\b", re.IGNORECASE)


def apply() -> None:
    """Evaluate simple key conditions without parsing them again."""
    parameters = ("expr", "item", "attr_values", "attr_names", "slot")
    evaluate = expect(dynamodb, "_evaluate_condition", *parameters)
    compare = expect(dynamodb, "_compare_ddb", "left", "op", "right")
    comparisons_in = _reader(evaluate)

    def evaluate_condition(
        expr: str,
        item: dict[str, Any],
        attr_values: dict[str, Any],
        attr_names: dict[str, str],
        slot: str = "ConditionExpression",
    ) -> Any:
        comparisons = comparisons_in(expr) if slot == "KeyConditionExpression" else ()
        if not comparisons:
            return evaluate(expr, item, attr_values, attr_names, slot)
        return all(
            compare(item.get(attr_names.get(name, name)), operator, attr_values.get(value))
            for name, operator, value in comparisons
        )

    dynamodb._evaluate_condition = evaluate_condition


def _reader(evaluate: Callable[..., Any]) -> Callable[[str], tuple[Comparison, ...]]:
    @functools.lru_cache
    def comparisons_in(expr: str) -> tuple[Comparison, ...]:
        """Return what a condition compares; nothing if it does more, or the engine finds fault with it."""
        found = [_COMPARISON.fullmatch(part) for part in _AND.split(expr)]
        if not all(found):
            return ()
        comparisons = tuple((match[1], match[2], match[3]) for match in found if match)
        names = {name: name.lstrip("#") for name, _, _ in comparisons}
        try:
            evaluate(expr, {}, {value: {"S": ""} for _, _, value in comparisons}, names, "KeyConditionExpression")
        except ValueError:
            return ()
        return comparisons

    return comparisons_in
