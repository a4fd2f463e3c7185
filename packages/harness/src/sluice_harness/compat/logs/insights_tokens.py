"""The words of a Logs Insights query, and what is said of one that is not understood."""

from __future__ import annotations

import re
from dataclasses import dataclass

SUPPORTED = (
    "Supported here are the commands fields, filter, stats, sort, limit, display and dedup; in a filter "
    '=, !=, <, <=, >, >=, like "text" or /regex/, in [...], ispresent(f), and, or, not; in stats count, '
    "count_distinct, sum, avg, min, max and pct(f, p), by fields and bin(period)"
)
_TOKEN = re.compile(
    r"""
      (?P<skip>\s+|\#[^\n]*)
    | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<quoted>`[^`]+`)
    | (?P<number>-?\d+(?:\.\d+)?(?![\w.@]))
    | (?P<word>[\w@.]+)
    | (?P<sign>!=|<=|>=|=~|[=<>()\[\],|*])
    """,
    re.VERBOSE,
)
_REGEX = re.compile(r"/((?:[^/\\]|\\.)*)/")


class MalformedQueryError(Exception):
    """The query is not understood; the message names what, and what is supported.

    Attributes
    ----------
    start, end : int
        Where it stands in the query, in characters.

    """

    def __init__(self, what: str, start: int = 0, end: int = 0) -> None:
        super().__init__(f"{what}. {SUPPORTED}.")
        self.start = start
        self.end = end


@dataclass(frozen=True, slots=True)
class Token:
    """A word of the query; the kind is a group of the pattern, or ``regex`` or ``end``."""

    kind: str
    text: str
    start: int
    end: int

    def is_word(self, *words: str) -> bool:
        """Whether it is one of these words, in any case."""
        return self.kind == "word" and self.text.lower() in words

    def is_sign(self, *signs: str) -> bool:
        """Whether it is one of these signs."""
        return self.kind == "sign" and self.text in signs

    def refused(self, what: str) -> MalformedQueryError:
        """Return the error that this word is."""
        shown = "the end of the query" if self.kind == "end" else f"'{self.text}'"
        return MalformedQueryError(f"{what}, not {shown}", self.start, self.end)


def tokenize(query: str) -> list[Token]:
    """Cut a query into its words, without spaces and comments.

    Raises
    ------
    MalformedQueryError
        It has a character that is of none.

    """
    tokens: list[Token] = []
    position = 0
    while position < len(query):
        takes_regex = bool(tokens) and (tokens[-1].is_word("like") or tokens[-1].is_sign("=~"))
        found = _REGEX.match(query, position) if takes_regex else None
        kind = "regex"
        if found is None:
            found = _TOKEN.match(query, position)
            kind = str(found.lastgroup) if found else ""
        if found is None:
            raise MalformedQueryError(f"unexpected character '{query[position]}'", position, position + 1)
        if kind != "skip":
            text = found[1] if kind == "regex" else found[0]
            tokens.append(Token(kind, _plain(kind, text), position, found.end()))
        position = found.end()
    return [*tokens, Token("end", "", len(query), len(query))]


def _plain(kind: str, text: str) -> str:
    if kind == "quoted":
        return text[1:-1]
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if kind == "string" else text
