"""Callbacks at a moment to come, on one thread for all of them.

A deadline for each execution and each container would otherwise be a thread each. A callback is short: whatever
may block belongs on a thread of its own.
"""

from __future__ import annotations

import contextvars
import functools
import heapq
import itertools
import logging
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_changed = threading.Condition()
_numbers = itertools.count()
_due: list[tuple[float, int, Callable[[], None]]] = []


def after(seconds: float, callback: Callable[[], None]) -> None:
    """Call ``callback`` once, in ``seconds`` and in this context; it looks by itself whether it is due still."""
    context = contextvars.copy_context()
    with _changed:
        _start()
        heapq.heappush(_due, (time.monotonic() + seconds, next(_numbers), lambda: context.run(callback)))
        _changed.notify()


@functools.cache
def _start() -> None:
    threading.Thread(target=_loop, name=__name__, daemon=True).start()


def _loop() -> None:
    while True:
        callback = _next()
        try:
            callback()
        except Exception:
            logging.getLogger(__name__).exception("a timer's callback failed")


def _next() -> Callable[[], None]:
    with _changed:
        while not _due or _due[0][0] > time.monotonic():
            _changed.wait(_due[0][0] - time.monotonic() if _due else None)
        return heapq.heappop(_due)[2]
