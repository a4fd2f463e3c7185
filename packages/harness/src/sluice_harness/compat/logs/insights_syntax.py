"""Logs Insights' query language, as far as our saved queries use it.

AWS: CloudWatch Logs User Guide, "CloudWatch Logs Insights language query syntax" and its pages on each command.
What is not understood is refused by name, never skipped: a query without its filter shows numbers that look
right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from sluice_harness.compat.logs.insights_conditions import Condition, parse_condition
from sluice_harness.compat.logs.insights_tokens import Token, tokenize
from sluice_harness.compat.logs.insights_values import SYSTEM_FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable

AGGREGATES = ("count", "count_distinct", "sum", "avg", "min", "max", "pct")
_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_HUNDRED = 100
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Column:
    """A field under the name it has in the results."""

    field: str
    name: str


@dataclass(frozen=True, slots=True)
class Fields:
    """`fields`: show these too."""

    columns: list[Column]


@dataclass(frozen=True, slots=True)
class Display:
    """`display`: show these only."""

    names: list[str]


@dataclass(frozen=True, slots=True)
class Filter:
    """`filter`: keep what meets a condition."""

    condition: Condition


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One statistic; ``field`` is None for `count(*)`, ``percent`` is for `pct`."""

    function: str
    field: str | None
    percent: float
    name: str


@dataclass(frozen=True, slots=True)
class Group:
    """What statistics are grouped by: a field, or `@timestamp` in bins of so many milliseconds."""

    field: str
    bin_ms: int
    name: str


@dataclass(frozen=True, slots=True)
class Stats:
    """`stats`."""

    aggregates: list[Aggregate]
    groups: list[Group]


@dataclass(frozen=True, slots=True)
class Sort:
    """`sort`: by these, True for descending."""

    keys: list[tuple[str, bool]]


@dataclass(frozen=True, slots=True)
class Limit:
    """`limit`."""

    count: int


@dataclass(frozen=True, slots=True)
class Dedup:
    """`dedup`: the first of each combination of these."""

    names: list[str]


Command = Fields | Display | Filter | Stats | Sort | Limit | Dedup


def parse_query(text: str) -> list[Command]:
    """Read a query.

    Raises
    ------
    MalformedQueryError
        Something in it is not understood.

    """
    return Parser(text).query()


class Parser:
    """Reads the words of a query one by one."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokenize(text)
        self._position = 0

    def query(self) -> list[Command]:
        """Read all of it."""
        commands: list[Command] = []
        while True:
            token = self.take()
            read = self._command(token)
            if commands and isinstance(commands[-1], Dedup) and not token.is_word("limit"):
                raise token.refused("only limit may come after dedup")
            commands.append(read())
            if self.peek().kind == "end":
                return commands
            if not self.take_sign("|"):
                raise self.peek().refused("expected '|' or the end of the query")

    def _command(self, token: Token) -> Callable[[], Command]:
        commands: dict[str, Callable[[], Command]] = {
            "fields": lambda: Fields(self.listed(self._column)),
            "display": lambda: Display(self.listed(self.name)),
            "filter": lambda: Filter(parse_condition(self)),
            "stats": self._stats,
            "sort": lambda: Sort(self.listed(self._sort_key)),
            "limit": self._limit,
            "dedup": lambda: Dedup(self.listed(self.name)),
        }
        found = commands.get(token.text.lower()) if token.kind == "word" else None
        if found is None:
            raise token.refused("expected a command")
        return found

    def peek(self) -> Token:
        """Return the next word without taking it."""
        return self._tokens[self._position]

    def take(self) -> Token:
        """Take the next word."""
        token = self.peek()
        self._position = min(self._position + 1, len(self._tokens) - 1)
        return token

    def take_word(self, *words: str) -> bool:
        """Take the next word if it is one of these."""
        return self.peek().is_word(*words) and bool(self.take())

    def take_sign(self, sign: str) -> bool:
        """Take the next sign if it is this one."""
        return self.peek().is_sign(sign) and bool(self.take())

    def expect_sign(self, sign: str) -> Token:
        """Take a sign.

        Raises
        ------
        MalformedQueryError
            The next word is another.

        """
        if not self.peek().is_sign(sign):
            raise self.peek().refused(f"expected '{sign}'")
        return self.take()

    def listed(self, item: Callable[[], _T]) -> list[_T]:
        """Take items with commas between them."""
        found = [item()]
        while self.take_sign(","):
            found.append(item())
        return found

    def field(self) -> str:
        """Take a field of the log events.

        Raises
        ------
        MalformedQueryError
            The next word is none, or a function that is not supported.

        """
        token = self.take()
        if token.kind not in {"word", "quoted"}:
            raise token.refused("expected a field")
        if token.text.startswith("@") and token.text not in SYSTEM_FIELDS:
            raise token.refused(f"expected one of {', '.join(SYSTEM_FIELDS)} or a field found in the message")
        if self.peek().is_sign("("):
            raise token.refused("expected a field, without a function")
        return token.text

    def name(self) -> str:
        """Take a field's name, or that of a statistic as it is written: ``count(*)``."""
        token = self.peek()
        ahead = self._tokens[min(self._position + 1, len(self._tokens) - 1)]
        if not (token.is_word(*AGGREGATES, "bin") and ahead.is_sign("(")):
            return self.field()
        while not self.peek().is_sign(")") and self.peek().kind != "end":
            self.take()
        return self._text[token.start : self.expect_sign(")").end]

    def _column(self) -> Column:
        field = self.field()
        return Column(field, self._alias() or field)

    def _alias(self) -> str | None:
        if not self.take_word("as"):
            return None
        token = self.take()
        if token.kind not in {"word", "quoted"}:
            raise token.refused("expected a name after 'as'")
        return token.text

    def _stats(self) -> Stats:
        aggregates = self.listed(self._aggregate)
        return Stats(aggregates, self.listed(self._group) if self.take_word("by") else [])

    def _aggregate(self) -> Aggregate:
        function = self.take()
        if not function.is_word(*AGGREGATES):
            raise function.refused("expected a statistic")
        self.expect_sign("(")
        kind, field, percent = function.text.lower(), None, 0.0
        counts_all = kind == "count" and (self.take_sign("*") or self.peek().is_sign(")"))
        if not counts_all:
            field = self.field()
        if kind == "pct":
            self.expect_sign(",")
            percent = self._percent()
        end = self.expect_sign(")").end
        return Aggregate(kind, field, percent, self._alias() or self._text[function.start : end])

    def _percent(self) -> float:
        token = self.take()
        if token.kind != "number" or not 0 <= float(token.text) <= _HUNDRED:
            raise token.refused("expected a percentile from 0 to 100")
        return float(token.text)

    def _group(self) -> Group:
        token = self.peek()
        ahead = self._tokens[self._position + 1] if token.kind != "end" else token
        if not (token.is_word("bin") and ahead.is_sign("(")):
            field = self.field()
            return Group(field, 0, self._alias() or field)
        self.take()
        self.take()
        period = _period(self.take())
        end = self.expect_sign(")").end
        return Group("@timestamp", period, self._alias() or self._text[token.start : end])

    def _sort_key(self) -> tuple[str, bool]:
        name = self.name()
        if self.take_word("asc"):
            return name, False
        return name, self.take_word("desc")

    def _limit(self) -> Limit:
        token = self.take()
        if token.kind != "number" or not token.text.isdigit() or token.text == "0":
            raise token.refused("expected a number of rows after limit")
        return Limit(int(token.text))


def _period(token: Token) -> int:
    found = re.fullmatch(r"(\d+)(ms|s|m|h|d|w)", token.text.lower()) if token.kind == "word" else None
    if found is None or found[1] == "0":
        raise token.refused("expected a period like 30s, 5m or 1h")
    return int(found[1]) * _MILLISECONDS[found[2]]
