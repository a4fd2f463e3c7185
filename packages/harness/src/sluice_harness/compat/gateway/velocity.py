"""Velocity templates, rendered by airspeed as API Gateway renders them.

airspeed gives templates Python's objects and Python's string escapes, sets only plainly named places, prints
a missing reference as it stands and raises on a missing index. API Gateway's Velocity has Java's objects, raw
strings whose only escape is a doubled quote, hyphens in names (so `$context.stage-x` reads `stage-x`: write
`${context.stage}-x`), `$context.responseOverride.header['X-Y']` as a place, and prints nothing for what
`$context`, `$input` or `$stageVariables` do not hold ("Variables for data transformations for API Gateway";
Velocity's user guide, "VTL references"). The differences are closed in airspeed's own element classes, which
nothing else in the engine's process uses.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import airspeed

from sluice_harness.compat.gateway import java_values
from sluice_harness.compat.patching import expect

_ROOTS = frozenset({"context", "input", "stageVariables", "util"})
_ONCE = (["context", "requestOverride"], ["context", "responseOverride"])
_STEP = re.compile(r"\.?([a-z_][\w-]*)|\[\s*(?:'([^']*)'|\"([^\"]*)\"|(\d+))\s*\]", re.IGNORECASE)


class RenderError(Exception):
    """A template that API Gateway would answer with 500."""


def apply() -> None:
    """Fit airspeed's elements to API Gateway's Velocity."""
    calculate = expect(airspeed.Expression, "calculate", "self", "namespace", "loader")
    airspeed.Expression.calculate = _directly(calculate)
    expect(airspeed.NameOrCall, "calculate", "self", "current_object", "loader", "top_namespace")
    expect(airspeed.SubExpression, "calculate", "self", "current_object", "loader", "global_namespace")
    expect(airspeed.FormalReference, "evaluate_raw", "self", "stream", "namespace", "loader")
    expect(airspeed.SetDirective, "evaluate_raw", "self", "stream", "namespace", "loader")
    airspeed.NameOrCall.NAME = re.compile(r"([_a-z][a-z0-9_-]*)", re.IGNORECASE)
    airspeed.NameOrCall.calculate = _name_or_call
    airspeed.SubExpression.calculate = _sub_expression
    airspeed.FormalReference.evaluate_raw = _write_reference
    airspeed.StringLiteral.STRING = re.compile(r"'((?:[^']|'')*)'")
    airspeed.StringLiteral.parse = _parse_string
    airspeed.InterpolatedStringLiteral.STRING = re.compile(r'"((?:[^"]|"")*)"')
    airspeed.InterpolatedStringLiteral.parse = _parse_interpolated
    airspeed.SetDirective.PLACE = re.compile(
        r"\s*\$!?\{?([a-z_][\w-]*(?:\.[a-z_][\w-]*|\[\s*(?:'[^']*'|\"[^\"]*\"|\d+)\s*\])*)\}?", re.IGNORECASE
    )
    airspeed.SetDirective.evaluate_raw = _set
    airspeed.BinaryOperator.OPERATORS["+"] = _plus


def render(source: str, names: dict[str, Any]) -> str:
    """Render a template with these top-level names.

    Raises:
        RenderError: the template cannot be parsed or evaluated.

    """
    try:
        return str(_parsed(source).merge(names))
    except Exception as error:
        raise RenderError(str(error)) from error


@lru_cache(maxsize=512)
def _parsed(source: str) -> Any:
    template = airspeed.Template(source)
    template.ensure_compiled()
    return template


def _directly(calculate: Any) -> Any:
    """Take the value of an expression without operators as it is: nearly all have none."""

    def calculate_expression(self: Any, namespace: Any, loader: Any) -> Any:
        if len(self.expression) == 1:
            return self.expression[0].calculate(namespace, loader)
        return calculate(self, namespace, loader)

    return calculate_expression


def _name_or_call(self: Any, owner: Any, loader: Any, namespace: Any) -> Any:
    if isinstance(owner, airspeed.LocalNamespace):
        try:
            value = owner[self.name]
        except KeyError:
            value = None
        if isinstance(value, airspeed._FunctionDefinition):
            return _run_definition(self, value, namespace, loader)
    elif self.parameters is not None:
        return java_values.call(owner, self.name, self.parameters.calculate(namespace, loader))
    else:
        value = java_values.attribute(owner, self.name)
    if self.index is not None:
        return java_values.item(value, self.index.calculate(namespace, loader))
    return value


def _run_definition(call: Any, definition: Any, namespace: Any, loader: Any) -> str:
    arguments = call.parameters.calculate(namespace, loader) if call.parameters else []
    stream = airspeed.StoppableStream()
    definition.execute_function(stream, namespace, arguments, loader)
    return str(stream.getvalue())


def _sub_expression(self: Any, owner: Any, loader: Any, namespace: Any) -> Any:
    if not isinstance(self.expression, airspeed.ArrayIndex):
        return self.expression.calculate(owner, loader, namespace)
    value = java_values.item(owner, self.expression.calculate(namespace, loader))
    return self.subexpression.calculate(value, loader, namespace) if self.subexpression else value


def _write_reference(self: Any, stream: Any, namespace: Any, loader: Any) -> None:
    value = self.expression.calculate(namespace, loader) if self.expression else None
    if value is not None:
        stream.write(java_values.to_text(value))
    elif self.alternate is not None:
        stream.write(java_values.to_text(self.alternate.calculate(namespace, loader)))
    elif self.expression is None or not (self.silent or self.expression.part.name in _ROOTS):
        stream.write(self.my_text())


def _parse_string(self: Any) -> None:
    (raw,) = self.identity_match(self.STRING)
    self.value = raw.replace("''", "'")


def _parse_interpolated(self: Any) -> None:
    (raw,) = self.identity_match(self.STRING)
    self.value = raw.replace('""', '"')
    self.block = airspeed.Block(self.filename, self.value, 0)


def _set(self: Any, _stream: Any, namespace: Any, loader: Any) -> None:
    value = self.value.calculate(namespace, loader)
    if value is None:
        return  # Velocity leaves the place as it was
    steps = _steps(".".join(self.terms))
    if len(steps) == 1:
        scope = namespace.find_outermost(steps[0]) or _outermost(namespace)
        scope[steps[0]] = value
        return
    place = namespace
    for step in steps[:-1]:
        place = place[step] if isinstance(place, airspeed.LocalNamespace) else java_values.item(place, step)
    if steps[:2] in _ONCE and steps[-1] in place:
        raise RenderError(f"{'.'.join(map(str, steps))} is overridden twice")
    place[steps[-1]] = value


@lru_cache(maxsize=512)
def _steps(place: str) -> list[Any]:
    steps: list[Any] = []
    for match in _STEP.finditer(place):
        name, single, double, index = match.groups()
        steps.append(int(index) if index else next(text for text in (name, single, double) if text is not None))
    return steps


def _outermost(namespace: Any) -> Any:
    while isinstance(namespace.parent, airspeed.LocalNamespace):
        namespace = namespace.parent
    return namespace


def _plus(left: Any, right: Any) -> Any:
    if isinstance(left, str) or isinstance(right, str):
        return java_values.to_text(left) + java_values.to_text(right)
    return left + right
