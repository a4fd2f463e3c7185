"""Log events as Logs Insights sees them: fields by name, found in JSON messages, and how they compare and show.

AWS: CloudWatch Logs User Guide, "Supported logs and discovered fields" (nested JSON by dotted names, list
elements by their index) and "CloudWatch Logs Insights query syntax". A value that reads as a number is one,
whether JSON had it as a number or as text; true and false are 1 and 0. A comparison with a field that is not
there is false, whichever.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

Value = str | float | int
SYSTEM_FIELDS = ("@timestamp", "@message", "@log", "@logStream", "@ingestionTime", "@ptr")
_DECIMALS = 4


class Record:
    """A log event, or a row of statistics."""

    __slots__ = ("_message", "values")

    def __init__(self, values: dict[str, Value], message: str | None = None) -> None:
        self.values = values
        self._message = message  # whose JSON is not read until a field of it is asked for

    def get(self, name: str) -> Value | None:
        """Return a field, None where there is none."""
        if name not in self.values and self._message is not None and not name.startswith("@"):
            self.values = {**_discovered(self._message), **self.values}
            self._message = None
        return self.values.get(name)


def _discovered(message: str) -> dict[str, Value]:
    if not message.lstrip().startswith("{"):
        return {}
    try:
        document = json.loads(message)
    except ValueError:
        return {}
    found: dict[str, Value] = {}
    _flatten("", document, found)
    return found


def _flatten(prefix: str, value: Any, found: dict[str, Value]) -> None:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, child in items:
            _flatten(f"{prefix}.{name}" if prefix else str(name), child, found)
    elif isinstance(value, bool):
        found[prefix] = int(value)
    elif value is not None:
        found[prefix] = value


def number(value: Value | None) -> float | None:
    """Return a value as a number, None if it is none."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return value if value is not None and math.isfinite(value) else None


def compare(left: Value, right: Value) -> int:
    """Return -1, 0 or 1: as numbers if both are, else as texts."""
    one, other = number(left), number(right)
    if one is None or other is None:
        texts = show(left), show(right)
        return (texts[0] > texts[1]) - (texts[0] < texts[1])
    return (one > other) - (one < other)


def sort_key(value: Value) -> tuple[bool, float, str]:
    """Return what orders values of one field: numbers first, then texts."""
    found = number(value)
    return (found is None, found or 0.0, "" if found is not None else show(value))


def show(value: Value) -> str:
    """Return a value as results show it."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else f"{value:.{_DECIMALS}f}".rstrip("0").rstrip(".")
    return str(value)


def show_time(milliseconds: float) -> str:
    """Return a time as results show it, in UTC."""
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{int(milliseconds) % 1000:03d}"
