"""Reads metric math.

A recursive descent over the operators and functions that our alarms and dashboards use. Whatever else CloudWatch
has is refused by name and position, so that nothing is drawn or decided by half an expression.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

from sluice_harness.cloudwatch import series_math

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sluice_harness.cloudwatch.series_math import Value

    Compute = Callable[["Scope"], Value]

SUPPORTED: Final = (
    "+ - * /, == != < <= > >=, AND OR && ||, parentheses, [a, b], IF(condition, a, b), FILL(m, number or REPEAT), "
    'PERIOD(m), RATE(m), SUM, MIN, MAX and AVG, METRICS() and METRICS("part of an id")'
)
_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)
    |(?P<name>[a-z]\w*)|(?P<word>[A-Z]\w*)|(?P<string>"[^"]*")
    |(?P<symbol>==|!=|<=|>=|&&|\|\||[-+*/<>()\[\],])|(?P<end>$))""",
    re.VERBOSE | re.ASCII,
)
# From the loosest to the tightest, each with how it is called in `series_math`.
_LEVELS: Final[tuple[dict[str, str], ...]] = (
    {"OR": "OR", "||": "OR"},
    {"AND": "AND", "&&": "AND"},
    {name: name for name in ("==", "!=", "<=", ">=", "<", ">")},
    {"+": "+", "-": "-"},
    {"*": "*", "/": "/"},
)


class UnsupportedExpression(ValueError):  # noqa: N818 - it tells what an expression is
    """An expression that is malformed, or that uses more of metric math than there is here."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What an expression is evaluated over."""

    variables: Mapping[str, Value]
    metrics: Sequence[str]
    period: int
    starts: Sequence[int]


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int


class Parser:
    """Reads one expression.

    Attributes
    ----------
    names : dict[str, None]
        The ids it refers to, once `read` has read it, in order.

    """

    def __init__(self, text: str) -> None:
        self.names: dict[str, None] = {}
        self._text = text
        self._position = 0
        self._next = self._scan()

    def read(self) -> Compute:
        """Read it whole, and return what computes it."""
        compute = self._operation(0)
        if self._next.kind != "end":
            self._fail(f"{self._next.text!r} is not expected")
        return compute

    def _operation(self, level: int) -> Compute:
        if level == len(_LEVELS):
            return self._unary()
        left = self._operation(level + 1)
        while self._next.text in _LEVELS[level] and self._next.kind in ("symbol", "word"):
            operator = _LEVELS[level][self._take().text]
            left = _binary(operator, left, self._operation(level + 1))
        return left

    def _unary(self) -> Compute:
        if self._accept("-"):
            operand = self._unary()
            return lambda scope: series_math.negative(operand(scope))
        return self._primary()

    def _primary(self) -> Compute:
        token = self._next
        if self._accept("("):
            inner = self._operation(0)
            self._expect(")")
            return inner
        if self._accept("["):
            return _array(self._list("]"))
        self._take()
        if token.kind == "number":
            number = float(token.text)
            return lambda _scope: number
        if token.kind == "name":
            self.names[token.text] = None
            return lambda scope: scope.variables[token.text]
        if token.kind == "word":
            return self._function(token)
        return self._fail("it ends early" if token.kind == "end" else f"{token.text!r} is not expected", token)

    def _function(self, token: _Token) -> Compute:
        name = token.text
        if name not in (*series_math.AGGREGATES, "IF", "FILL", "PERIOD", "RATE", "METRICS"):
            self._fail(f"{name} is not supported", token)
        self._expect("(")
        if name == "METRICS":
            return self._metrics()
        if name == "FILL":
            return self._fill()
        if name == "PERIOD":
            return self._period()
        arguments = self._list(")")
        if len(arguments) not in ((2, 3) if name == "IF" else (1,)):
            self._fail(f"{name} does not take {len(arguments)} arguments", token)
        if name == "IF":
            return _choice(*arguments)
        if name == "RATE":
            return lambda scope: series_math.rate(arguments[0](scope))
        return lambda scope: series_math.aggregate(name, arguments[0](scope))

    def _metrics(self) -> Compute:
        part = self._take().text.strip('"') if self._next.kind == "string" else ""
        self._expect(")")
        return lambda scope: series_math.array([scope.variables[name] for name in scope.metrics if part in name])

    def _fill(self) -> Compute:
        series = self._operation(0)
        self._expect(",")
        filler = None if self._accept("REPEAT") else self._operation(0)
        self._expect(")")
        return lambda scope: series_math.fill(series(scope), filler and filler(scope), scope.starts)

    def _period(self) -> Compute:
        if self._next.kind != "name":
            self._fail("PERIOD takes the id of a metric")
        self.names[self._take().text] = None
        self._expect(")")
        return lambda scope: float(scope.period)

    def _list(self, end: str) -> list[Compute]:
        items = [self._operation(0)]
        while self._accept(","):
            items.append(self._operation(0))
        self._expect(end)
        return items

    def _accept(self, text: str) -> bool:
        if self._next.text != text or self._next.kind == "string":
            return False
        self._take()
        return True

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            self._fail(f"{text!r} is expected")

    def _take(self) -> _Token:
        taken = self._next
        if taken.kind != "end":
            self._next = self._scan()
        return taken

    def _scan(self) -> _Token:
        match = _TOKEN.match(self._text, self._position)
        if match is None or match.lastgroup is None:
            rest = self._text[self._position :].lstrip()
            unknown = _Token("unknown", rest[:1], len(self._text) - len(rest))
            self._fail(f"{rest[:1]!r} is not supported", unknown)
        self._position = match.end()
        return _Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup))

    def _fail(self, complaint: str, token: _Token | None = None) -> NoReturn:
        position = (token or self._next).position + 1
        raise UnsupportedExpression(
            f"{complaint} at character {position} of {self._text!r}; supported are {SUPPORTED}"
        )


def _binary(operator: str, left: Compute, right: Compute) -> Compute:
    return lambda scope: series_math.binary(operator, left(scope), right(scope))


def _array(items: Sequence[Compute]) -> Compute:
    return lambda scope: series_math.array([item(scope) for item in items])


def _choice(condition: Compute, yes: Compute, no: Compute | None = None) -> Compute:
    return lambda scope: series_math.choose(condition(scope), yes(scope), no(scope) if no else {})
