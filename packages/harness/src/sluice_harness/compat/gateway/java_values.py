"""What a mapping template sees of a value: Java's methods and Java's text.

Templates are written against Java objects. Only the methods named here exist, so a Python method that Java
does not have fails on the local stage as it would in AWS.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def to_text(value: Any) -> str:
    """``value`` as Java's ``toString()`` writes it."""
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}={to_text(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(to_text(item) for item in value) + "]"
    return str(value)


@lru_cache(maxsize=256)
def _pattern(source: str) -> re.Pattern[str]:
    return re.compile(source)


def _expansion(replacement: str) -> Callable[[re.Match[str]], str]:
    """Java's replacement syntax: ``$1`` is a group, a backslash takes the next character as it is."""

    def expand(match: re.Match[str]) -> str:
        def one(part: re.Match[str]) -> str:
            return part[1] if part[1] is not None else match.group(int(part[2])) or ""

        return re.sub(r"\\(.)|\$(\d)", one, replacement, flags=re.DOTALL)

    return expand


def _split(text: str, pattern: str, limit: int = 0) -> list[str]:
    parts = _pattern(pattern).split(text, maxsplit=max(limit - 1, 0)) if limit != 1 else [text]
    while limit == 0 and len(parts) > 1 and not parts[-1]:
        parts.pop()  # Java drops trailing empty parts
    return [part or "" for part in parts]


def _add(items: list[Any], item: Any) -> bool:
    items.append(item)
    return True


def _set(items: list[Any], index: int, item: Any) -> Any:
    before, items[index] = items[index], item
    return before


def _put(fields: dict[Any, Any], name: Any, item: Any) -> Any:
    before = fields.get(name)
    fields[name] = item
    return before


_ANY: dict[str, Callable[..., Any]] = {
    "toString": to_text,
    "equals": lambda value, other: type(value) is type(other) and value == other,
}
_TEXT: dict[str, Callable[..., Any]] = {
    "length": len,
    "isEmpty": lambda text: not text,
    "replaceAll": lambda text, pattern, to: _pattern(pattern).sub(_expansion(to), text),
    "replaceFirst": lambda text, pattern, to: _pattern(pattern).sub(_expansion(to), text, count=1),
    "replace": lambda text, old, new: text.replace(to_text(old), to_text(new)),
    "contains": lambda text, part: part in text,
    "startsWith": str.startswith,
    "endsWith": str.endswith,
    "matches": lambda text, pattern: _pattern(pattern).fullmatch(text) is not None,
    "substring": lambda text, start, end=None: text[start:end],
    "split": _split,
    "indexOf": str.find,
    "lastIndexOf": str.rfind,
    "toLowerCase": str.lower,
    "toUpperCase": str.upper,
    "trim": str.strip,
    "concat": lambda text, other: text + other,
    "charAt": lambda text, index: text[index],
    "equalsIgnoreCase": lambda text, other: text.lower() == to_text(other).lower(),
}
_LIST: dict[str, Callable[..., Any]] = {
    "size": len,
    "isEmpty": lambda items: not items,
    "get": lambda items, index: items[index],
    "contains": lambda items, item: item in items,
    "indexOf": lambda items, item: items.index(item) if item in items else -1,
    "add": _add,
    "set": _set,
}
_MAP: dict[str, Callable[..., Any]] = {
    "size": len,
    "isEmpty": lambda fields: not fields,
    "get": lambda fields, name: fields.get(name),
    "getOrDefault": lambda fields, name, default: fields.get(name, default),
    "containsKey": lambda fields, name: fields.get(name) is not None,
    "keySet": list,
    "values": lambda fields: list(fields.values()),
    "entrySet": lambda fields: [{"key": name, "value": item} for name, item in fields.items()],
    "put": _put,
    "putAll": lambda fields, other: fields.update(other),
    "remove": lambda fields, name: fields.pop(name, None),
}


def call(owner: Any, name: str, arguments: list[Any]) -> Any:
    """Return the result of ``owner.name(arguments)``, None where a Java object has no such method."""
    table: dict[str, Callable[..., Any]] = {}
    if isinstance(owner, str):
        table = _TEXT
    elif isinstance(owner, dict):
        table = _MAP
    elif isinstance(owner, list | tuple):
        table = _LIST
    elif not isinstance(owner, bool | int | float) and not name.startswith("_"):
        method = getattr(owner, name, None)
        return method(*arguments) if callable(method) else None
    method = table.get(name) or _ANY.get(name)
    return None if method is None else method(owner, *arguments)


def attribute(owner: Any, name: str) -> Any:
    """Return the value of ``owner.name``: a map's entry, or a property of one of our own objects."""
    if isinstance(owner, dict):
        return owner.get(name)
    if owner is None or isinstance(owner, str | list | tuple | bool | int | float) or name.startswith("_"):
        return None
    value = getattr(owner, name, None)
    return None if callable(value) else value


def item(owner: Any, index: Any) -> Any:
    """Return the value of ``owner[index]``, None where there is none."""
    if isinstance(owner, dict):
        return owner.get(index)
    try:
        return owner[index]
    except (IndexError, KeyError, TypeError):
        return None
