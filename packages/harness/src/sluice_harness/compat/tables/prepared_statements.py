"""A PartiQL statement is parsed once, however often it comes.

MiniStack parses each statement anew, and twice in a batch, which takes an eighth of all CPU that a job costs the
engine. Sluice has a dozen statements and sends them with other parameters each time.

Closed by keeping what the parser makes of a text and putting the parameters into their places, and by reading a
batch's statement once, to check and to execute it. A parameter's place is where the parser left the very object it
was given. Whatever the parser looks into or changes has no such place, and then the statement is parsed as before;
so it is with BETWEEN, whose bounds the parser compares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ministack.services import dynamodb

from sluice_harness.compat.patching import expect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Form = tuple[str, tuple[str, ...]]
    Fill = Callable[[Sequence[Any]], Any]

# Statements that carry their values in their text are as many as their values; they are not worth keeping.
_MOST = 512


def apply() -> None:
    """Parse each form of a statement once, and read each statement once."""
    parse = expect(dynamodb, "parse_partiql_statement", "text", "parameters")
    read = expect(dynamodb, "_parse_partiql", "statement", "parameters")
    dynamodb.parse_partiql_statement = _preparing(parse)
    dynamodb._parse_partiql = _remembering(read)


def _remembering(read: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """Read a statement that was just read with these very parameters no second time; nothing here changes it."""
    last: tuple[str, Any, Any] = ("", None, None)

    def read_once(statement: str, parameters: Any) -> Any:
        nonlocal last
        text, given, parsed = last  # at once, should another thread read one meanwhile
        if text is not statement or given is not parameters or not parameters:
            parsed = read(statement, parameters)
            last = (statement, parameters, parsed)
        return parsed

    return read_once


def _preparing(parse: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    prepared: dict[Form, Fill | None] = {}

    def parse_prepared(text: str, parameters: Any) -> Any:
        form = _form(text, parameters)
        if form is None:
            return parse(text, parameters)
        fill = prepared.get(form)
        if fill is not None:
            return fill(parameters)
        parsed = parse(text, parameters)
        if form not in prepared and len(prepared) < _MOST:
            prepared[form] = _prepare(parsed, parameters)
        return parsed

    return parse_prepared


def _form(text: str, parameters: Any) -> Form | None:
    """Return what statements of equal form share: the text, and the types of the parameters."""
    if not parameters or "BETWEEN" in text.upper():
        return None
    types = []
    for parameter in parameters:
        if not isinstance(parameter, dict) or len(parameter) != 1:
            return None
        types.append(next(iter(parameter)))
    return text, tuple(types)


def _prepare(parsed: Any, parameters: Sequence[Any]) -> Fill | None:
    """Return what makes the parsed statement with other parameters, or None if it cannot be told how."""
    places = {id(parameter): number for number, parameter in enumerate(parameters)}
    seen: list[int] = []
    fill = _filler(parsed, places, seen)
    return fill if sorted(seen) == list(range(len(parameters))) else None


def _filler(node: Any, places: dict[int, int], seen: list[int]) -> Fill | None:
    """Return what makes a node anew, or None if there is no parameter in it, so that it can be shared."""
    place = places.get(id(node))
    if place is not None:
        seen.append(place)
        return lambda parameters: parameters[place]
    if isinstance(node, dict):
        kept = dict(node)  # as it is now: the engine adds to the outermost one
        changing = {key: fill for key, value in node.items() if (fill := _filler(value, places, seen))}
        return lambda parameters: {**kept, **{key: fill(parameters) for key, fill in changing.items()}}
    if isinstance(node, list | tuple):
        parts = [_filler(value, places, seen) for value in node]
        if any(parts):
            kind, pairs = type(node), list(zip(node, parts, strict=True))
            return lambda parameters: kind([fill(parameters) if fill else value for value, fill in pairs])
    return None
