"""What `$context.error.validationErrorString` says: the first failing keywords, worded as AWS words them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ministack.services import apigateway_v1 as gateway

if TYPE_CHECKING:
    from collections.abc import Iterator


def describe(schema: Any, value: Any) -> list[str]:
    """Say why ``value`` does not satisfy ``schema``; AWS's validator words each keyword in its own way."""
    return list(_problems(schema, value, schema)) or ["instance does not match the schema"]


def _problems(schema: Any, value: Any, root: Any) -> Iterator[str]:
    if isinstance(schema, dict) and isinstance(schema.get("$ref"), str):
        schema, root = gateway._resolve_schema_ref(schema["$ref"], root)
    if not isinstance(schema, dict) or gateway._json_schema_valid(schema, value, root):
        return
    types = schema.get("type")
    allowed = [types] if isinstance(types, str) else list(types or [])
    if allowed and not gateway._json_schema_valid({"type": allowed}, value, root):
        expected = f"any allowed primitive type (allowed: {_text(allowed)})"
        yield f"instance type ({_type(value)}) does not match {expected}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"instance value ({_text(value)}) not found in enum (possible values: {_text(schema['enum'])})"
    if isinstance(value, str):
        yield from _string(schema, value)
    elif isinstance(value, dict):
        yield from _object(schema, value, root)
    elif isinstance(value, list):
        yield from _array(schema, value, root)
    elif isinstance(value, int | float):
        yield from _number(schema, value)
    yield from _combined(schema, value, root)


def _string(schema: dict[str, Any], value: str) -> Iterator[str]:
    longest, shortest = schema.get("maxLength"), schema.get("minLength")
    if longest is not None and len(value) > longest:
        yield f'string "{value}" is too long (length: {len(value)}, maximum allowed: {longest})'
    if shortest is not None and len(value) < shortest:
        yield f'string "{value}" is too short (length: {len(value)}, required minimum: {shortest})'
    pattern = schema.get("pattern")
    if pattern and not gateway._json_schema_valid({"pattern": pattern}, value, {}):
        yield f'ECMA 262 regex "{pattern}" does not match input string "{value}"'


def _object(schema: dict[str, Any], value: dict[str, Any], root: Any) -> Iterator[str]:
    missing = sorted(name for name in schema.get("required") or [] if name not in value)
    if missing:
        yield f"object has missing required properties ({_text(missing)})"
    known = schema.get("properties") or {}
    if schema.get("additionalProperties") is False and not schema.get("patternProperties"):
        extra = sorted(name for name in value if name not in known)
        if extra:
            yield f"object instance has properties which are not allowed by the schema: {_text(extra)}"
    most = schema.get("maxProperties")
    if most is not None and len(value) > most:
        yield f"object has too many properties (found {len(value)} but schema requires at most {most})"
    for name, item in value.items():
        yield from _problems(known.get(name), item, root)


def _array(schema: dict[str, Any], value: list[Any], root: Any) -> Iterator[str]:
    most, fewest = schema.get("maxItems"), schema.get("minItems")
    found = f"elements but instance has {len(value)} elements"
    if most is not None and len(value) > most:
        yield f"array is too long: must have at most {most} {found}"
    if fewest is not None and len(value) < fewest:
        yield f"array is too short: must have at least {fewest} {found}"
    if isinstance(schema.get("items"), dict):
        for item in value:
            yield from _problems(schema["items"], item, root)


def _number(schema: dict[str, Any], value: float) -> Iterator[str]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and value < low:
        yield f"numeric instance is lower than the required minimum (minimum: {low}, found: {value})"
    if high is not None and value > high:
        yield f"numeric instance is greater than the required maximum (maximum: {high}, found: {value})"
    if value == low and schema.get("exclusiveMinimum"):
        yield f"numeric instance is not strictly greater than the required minimum {low}"
    if value == high and schema.get("exclusiveMaximum"):
        yield f"numeric instance is not strictly lower than the required maximum {high}"


def _combined(schema: dict[str, Any], value: Any, root: Any) -> Iterator[str]:
    for part in schema.get("allOf") or []:
        yield from _problems(part, value, root)
    for keyword, failure in (
        ("anyOf", "instance failed to match at least one required schema"),
        ("oneOf", "instance failed to match exactly one schema"),
    ):
        if schema.get(keyword) and not gateway._json_schema_valid({keyword: schema[keyword]}, value, root):
            yield f"{failure} among {len(schema[keyword])}"


def _type(value: Any) -> str:
    names = ((bool, "boolean"), (str, "string"), (dict, "object"), (list, "array"), (int, "integer"))
    return "null" if value is None else next((name for kind, name in names if isinstance(value, kind)), "number")


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
