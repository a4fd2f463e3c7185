"""Typed access to an alarm's properties.

CloudFormation passes numbers and booleans as text ("3", "true"), DescribeAlarms as what they are, and a template
that was not resolved has objects in their place. Whatever is wrong is told with the names of alarm and property.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class UnsupportedAlarm(ValueError):  # noqa: N818 - an answer, as `UnsupportedExpression` is
    """An alarm that cannot be evaluated here, or by CloudWatch either; the message says which and why."""


class Properties:
    """The properties of an alarm, or of a part of one.

    Parameters
    ----------
    alarm : str
        The alarm's name, for messages.
    values : Mapping[str, Any]
        What there is, by CloudFormation's names.

    """

    def __init__(self, alarm: str, values: Mapping[str, Any]) -> None:
        self._alarm = alarm
        self._values = values

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) not in (None, "", [])

    def error(self, complaint: str) -> UnsupportedAlarm:
        """Return an error that names the alarm."""
        return UnsupportedAlarm(f"alarm {self._alarm}: {complaint}")

    def text(self, name: str, default: str | None = None) -> str:
        """Return a text; without a default it has to be there."""
        value = self._values.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            raise self.error(f"{name} is {value!r} where a text should be")
        return value

    def number(self, name: str) -> float:
        """Return a number that has to be there."""
        value = self._values.get(name)
        try:
            return float(value)  # type: ignore[arg-type]  # what cannot be is told below
        except (TypeError, ValueError):
            raise self.error(f"{name} is {value!r} where a number should be") from None

    def integer(self, name: str, default: int | None = None) -> int:
        """Return a whole number; without a default it has to be there."""
        if name not in self and default is not None:
            return default
        value = self.number(name)
        if value != int(value):
            raise self.error(f"{name} is {value} where a whole number should be")
        return int(value)

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a truth value."""
        value = str(self._values.get(name, default)).lower()
        if value not in ("true", "false"):
            raise self.error(f"{name} is {self._values[name]!r} where true or false should be")
        return value == "true"

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts, such as an alarm's actions."""
        values = self._values.get(name) or []
        if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
            raise self.error(f"{name} is {values!r} where a list of texts should be")
        return tuple(values)

    def part(self, name: str) -> Properties:
        """Return the properties of a part."""
        value = self._values.get(name)
        if not isinstance(value, dict):
            raise self.error(f"{name} is {value!r} where an object should be")
        return Properties(self._alarm, value)

    def parts(self, name: str) -> list[Properties]:
        """Return the properties of each part in a list."""
        values = self._values.get(name) or []
        if not isinstance(values, list) or not all(isinstance(one, dict) for one in values):
            raise self.error(f"{name} is {values!r} where a list of objects should be")
        return [Properties(self._alarm, value) for value in values]

    def refuse(self, *names: str) -> None:
        """Raise an error if any of these is there."""
        for name in names:
            if name in self:
                raise self.error(f"{name} is not supported")
