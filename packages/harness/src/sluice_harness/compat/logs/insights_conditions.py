"""The conditions of Logs Insights' `filter`: read, and made into functions of a log event.

AWS: CloudWatch Logs User Guide, "filter" and "Regular expressions" of the query syntax.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from sluice_harness.compat.logs.insights_values import Record, Value, compare, number, show

if TYPE_CHECKING:
    from sluice_harness.compat.logs.insights_syntax import Parser
    from sluice_harness.compat.logs.insights_tokens import Token

Condition = Callable[[Record], bool]

_COMPARISONS: dict[str, Callable[[int], bool]] = {
    "=": lambda order: order == 0,
    "!=": lambda order: order != 0,
    "<": lambda order: order < 0,
    "<=": lambda order: order <= 0,
    ">": lambda order: order > 0,
    ">=": lambda order: order >= 0,
}


def parse_condition(parser: Parser) -> Condition:
    """Take a condition: `or` binds less than `and`, and that less than `not`."""
    choices = [_all(parser)]
    while parser.take_word("or"):
        choices.append(_all(parser))
    return lambda record: any(choice(record) for choice in choices)


def _all(parser: Parser) -> Condition:
    parts = [_one(parser)]
    while parser.take_word("and"):
        parts.append(_one(parser))
    return lambda record: all(part(record) for part in parts)


def _one(parser: Parser) -> Condition:
    if parser.take_word("not"):
        inner = _one(parser)
        return lambda record: not inner(record)
    if parser.take_sign("("):
        inner = parse_condition(parser)
        parser.expect_sign(")")
        return inner
    if parser.take_word("ispresent"):
        parser.expect_sign("(")
        present = parser.field()
        parser.expect_sign(")")
        return lambda record: record.get(present) is not None
    return _comparison(parser)


def _comparison(parser: Parser) -> Condition:
    field = parser.field()
    is_negated = parser.take_word("not")
    operation = parser.take()
    if operation.is_word("in"):
        test = _among(parser)
    elif operation.is_word("like") or operation.is_sign("=~"):
        test = _like(parser.take())
    elif not is_negated and operation.is_sign(*_COMPARISONS):
        return _compared(field, operation.text, parser)
    else:
        raise operation.refused(f"expected a comparison with '{field}'")

    def decide(record: Record) -> bool:
        value = record.get(field)
        return value is not None and test(value) is not is_negated

    return decide


def _compared(field: str, sign: str, parser: Parser) -> Condition:
    holds = _COMPARISONS[sign]
    token = parser.peek()
    if token.kind == "quoted" or (token.kind == "word" and not token.is_word("true", "false")):
        other = parser.field()
        operand: Callable[[Record], Value | None] = lambda record: record.get(other)  # noqa: E731
    else:
        literal = _literal(parser.take())
        operand = lambda _: literal  # noqa: E731

    def decide(record: Record) -> bool:
        left, right = record.get(field), operand(record)
        return left is not None and right is not None and holds(compare(left, right))

    return decide


def _among(parser: Parser) -> Callable[[Value], bool]:
    parser.expect_sign("[")
    values = parser.listed(lambda: _literal(parser.take()))
    parser.expect_sign("]")
    return lambda value: any(compare(value, one) == 0 for one in values)


def _like(token: Token) -> Callable[[Value], bool]:
    if token.kind == "string":
        return lambda value: token.text in show(value)
    if token.kind != "regex":
        raise token.refused('expected "text" or /regex/')
    # The flag may stand anywhere, as in AWS's own example /^(?i)Exception$/.
    flags = re.IGNORECASE if "(?i)" in token.text else 0
    try:
        pattern = re.compile(token.text.replace("(?i)", ""), flags)
    except re.error as error:
        raise token.refused(f"expected a valid regular expression ({error})") from None
    return lambda value: pattern.search(show(value)) is not None


def _literal(token: Token) -> Value:
    if token.kind == "string":
        return token.text
    if token.is_word("true", "false"):
        return int(token.text.lower() == "true")
    found = number(token.text) if token.kind == "number" else None
    if found is None:
        raise token.refused("expected a text or a number")
    return found
