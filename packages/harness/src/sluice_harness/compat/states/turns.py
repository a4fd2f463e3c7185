"""Turns: so many at a time, of which none counts for long.

Three hundred executions that each want a tenth of a second of processor started a process each on two cores, until
none got anything done within its timeout; in turns they all end, with eight processes. But a task that waits for
something else holds nobody up, however long it takes: its turn is over after `LONGEST_SECONDS`.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sluice_harness.compat import timers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONGEST_SECONDS = 2.0


class Turns:
    """So many at a time."""

    def __init__(self, number: int, longest_s: float = LONGEST_SECONDS) -> None:
        self._free = threading.Semaphore(number)
        self._longest_s = longest_s

    @contextmanager
    def one(self) -> Iterator[None]:
        """Wait for a turn, and give it back at the end or when it has lasted long."""
        self._free.acquire()
        give_back = _Once(self._free.release)
        timers.after(self._longest_s, give_back)
        try:
            yield
        finally:
            give_back()


class _Once:
    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._unused = threading.Lock()

    def __call__(self) -> None:
        if self._unused.acquire(blocking=False):
            self._callback()
