"""Composite alarms: their rules, and the suppression of their actions.

A composite per severity is what pages: it tells of an incident once, and of none while a suppressor is in ALARM.
Rules are as in "PutCompositeAlarm", without AT_LEAST; suppression as in "Suppressing composite alarm actions".
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Holds = Callable[[Mapping[str, str]], bool]

SUPPORTED: Final = 'ALARM("name or ARN"), OK(..), INSUFFICIENT_DATA(..), AND, OR, NOT, TRUE, FALSE and parentheses'
_FUNCTION: Final = re.compile(r'\s*(ALARM|OK|INSUFFICIENT_DATA)\s*\(\s*(?:"([^"]+)"|([^"()]+?))\s*\)')
_TOKEN: Final = re.compile(r"\s*(\(|\)|\w+|$)")


class UnsupportedRule(ValueError):  # noqa: N818 - an answer, as `UnsupportedExpression` is
    """An alarm rule that is malformed, or uses what is not evaluated here."""


@dataclass(frozen=True, slots=True)
class Rule:
    """An alarm rule.

    Attributes
    ----------
    children : tuple of str
        The names of the alarms in it, each once, in order.
    conditions : tuple of (str, str)
        Each function in it: an alarm's name and the state that makes it true.

    """

    text: str
    conditions: tuple[tuple[str, str], ...]
    _holds: Holds

    @property
    def children(self) -> tuple[str, ...]:
        """The names of the alarms in it, each once, in order."""
        return tuple(dict.fromkeys(name for name, _state in self.conditions))

    def holds(self, states: Mapping[str, str]) -> bool:
        """Return whether it is true while alarms are in these states.

        Raises
        ------
        KeyError
            If there is no state of one of its alarms.

        """
        return self._holds(states)


class SuppressedBy(StrEnum):
    """Why a composite alarm takes no actions: DescribeAlarms' ``ActionsSuppressedBy``."""

    ALARM = "Alarm"
    WAIT_PERIOD = "WaitPeriod"
    EXTENSION_PERIOD = "ExtensionPeriod"


@dataclass(slots=True)
class Suppression:
    """What holds the actions of a composite alarm back.

    When the alarm changes its state, a wait period starts, in which the suppressor may go into ALARM; another
    change starts another. While the suppressor is in ALARM nothing is done. When it leaves ALARM, an extension
    period starts; a change of the alarm ends that and starts a wait period. After either period the alarm acts on
    the state that it is in, if it has changed since it last acted.

    Attributes
    ----------
    by : SuppressedBy or None
        What holds them back now.
    until : float
        When the period ends, in epoch seconds.
    pending : bool
        Whether the alarm changed and has not acted on it.

    """

    by: SuppressedBy | None = None
    until: float = 0
    pending: bool = False

    def step(self, now: float, *, changed: bool, suppressed: bool, wait: float, extension: float) -> bool:
        """Take note of what is, and return whether to act now.

        Parameters
        ----------
        now : float
            Epoch seconds.
        changed : bool
            Whether the alarm has changed its state just now.
        suppressed : bool
            Whether the suppressor is in ALARM.
        wait, extension : float
            The two periods in seconds.

        """
        self.pending = self.pending or changed
        if suppressed:
            self.by = SuppressedBy.ALARM
        elif changed:
            self.by, self.until = SuppressedBy.WAIT_PERIOD, now + wait
        elif self.by is SuppressedBy.ALARM:
            self.by, self.until = SuppressedBy.EXTENSION_PERIOD, now + extension
        if suppressed or now < self.until:
            return False
        acts, self.by, self.pending = self.pending, None, False
        return acts


def name_in(reference: str) -> str:
    """Return the name of an alarm that is referred to by its name or its ARN."""
    return reference.split(":alarm:", 1)[1] if reference.startswith("arn:") else reference


@functools.lru_cache(maxsize=256)
def parse(text: str) -> Rule:
    """Read an alarm rule.

    Raises
    ------
    UnsupportedRule
        If it cannot be read. It names what and where.

    """
    parser = _Parser(text)
    holds = parser.read()
    return Rule(text, tuple(parser.conditions), holds)


class _Parser:
    def __init__(self, text: str) -> None:
        self.conditions: list[tuple[str, str]] = []
        self._text = text
        self._position = 0

    def read(self) -> Holds:
        holds = self._either()
        if self._word() != "":
            self._fail(f"{self._word()!r} is not expected")
        return holds

    def _either(self) -> Holds:
        holds = self._both()
        while self._accept("OR"):
            holds = _or(holds, self._both())
        return holds

    def _both(self) -> Holds:
        holds = self._one()
        while self._accept("AND"):
            holds = _and(holds, self._one())
        return holds

    def _one(self) -> Holds:
        if self._accept("NOT"):
            operand = self._one()
            return lambda states: not operand(states)
        function = _FUNCTION.match(self._text, self._position)
        if function is not None:
            self._position = function.end()
            return self._condition(name_in(function[2] or function[3]), function[1])
        if self._accept("("):
            inner = self._either()
            if not self._accept(")"):
                self._fail("')' is expected")
            return inner
        # "the simplest change is to change the AlarmRule to `False`": these are read in either case.
        word = self._word()
        if word.upper() not in ("TRUE", "FALSE"):
            self._fail(f"{word!r} is not supported" if word else "it ends early")
        self._accept(word)
        return lambda _states: word.upper() == "TRUE"

    def _condition(self, name: str, state: str) -> Holds:
        self.conditions.append((name, state))
        return lambda states: states[name] == state

    def _word(self) -> str:
        match = _TOKEN.match(self._text, self._position)
        return match[1] if match else self._text[self._position :].strip()[:1]

    def _accept(self, word: str) -> bool:
        match = _TOKEN.match(self._text, self._position)
        if match is None or match[1] != word:
            return False
        self._position = match.end()
        return True

    def _fail(self, complaint: str) -> NoReturn:
        position = self._position + 1
        raise UnsupportedRule(f"{complaint} at character {position} of {self._text!r}; supported are {SUPPORTED}")


def _or(left: Holds, right: Holds) -> Holds:
    return lambda states: left(states) or right(states)


def _and(left: Holds, right: Holds) -> Holds:
    return lambda states: left(states) and right(states)
