"""The running evaluator: what CloudWatch does once a minute.

MiniStack evaluates alarms when it is called, so that nothing ever times out into an alarm and no missing data is
seen. CloudWatch looks once a minute ("Evaluating an alarm"). One thread does both things that happen at a minute's
end: the gauges are read into the minute that ends, and every alarm is evaluated, its state and history written,
and its actions taken. At ``--speed 60`` that is once a second. A thread that wakes too late for a minute leaves it
out: what a gauge showed then is not known, and alarms look back over several minutes anyway.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from ministack.core import iam_evaluator

from sluice_harness.compat.monitoring import alarm_actions, alarms
from sluice_harness.compat.monitoring.metric_store import MINUTE, store
from sluice_harness.compat.patching import expect

if TYPE_CHECKING:
    from collections.abc import Callable

# What functions did until a minute's end is in their logs shortly after it.
SETTLE_SECONDS = 0.1

gauges: list[Callable[[int], None]] = []
"""Called at the end of each minute with its start, to record in it what they see now."""

_logger = logging.getLogger(__name__)


def apply() -> None:
    """Start the thread."""
    alarm_actions.check_engine()
    expect(iam_evaluator, "pin_request_origin", "source_ip", "secure_transport")
    threading.Thread(target=_run, name="sluice-evaluator", daemon=True).start()


def _run() -> None:
    iam_evaluator.pin_request_origin("127.0.0.1", True)
    while True:
        end = _next_minute(store.clock.now())
        _sleep_until(end)
        end = store.minute_at(time.time())  # the same, unless this thread woke late
        for gauge in gauges:
            _guarded(gauge, end - MINUTE)
        time.sleep(SETTLE_SECONDS)
        _guarded(evaluate, end)


def _next_minute(now: float) -> int:
    return int(now) // MINUTE * MINUTE + MINUTE


def _sleep_until(end: int) -> None:
    while (left := store.clock.real_seconds(end - store.clock.now())) > 0:
        time.sleep(left)


def evaluate(now: int) -> None:
    """Evaluate every alarm at a minute's end, and do what follows."""
    with alarms.lock:
        transitions = alarms.evaluator.step(now)
        for transition in transitions:
            alarms.accept(transition)
    for transition in transitions:
        alarm_actions.take(transition)


def _guarded(work: Callable[[int], None], minute: int) -> None:
    """Run one piece of a minute's work; whatever it meets, the thread must live."""
    try:
        work(minute)
    except Exception:
        _logger.exception("the minute's %s failed", work.__name__)
