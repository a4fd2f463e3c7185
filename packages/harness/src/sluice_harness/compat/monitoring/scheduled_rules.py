"""EventBridge's scheduled rules go by the stage's time.

MiniStack looks every ten seconds whether a rule is due, by the clock of the machine, so that ``rate(1 minute)``
comes up to ten seconds late; on a stage that counts a minute as a second, it would come once in sixty of them.
EventBridge counts from the rule's creation and has "a one-minute resolution" ("Creating a rule that runs on a
schedule in Amazon EventBridge"). Closed by giving its scheduler the stage's time, in steps that a minute is a
multiple of: each firing is counted from the one before. A rule's creation time stays real time, as an API tells
it.
"""

from __future__ import annotations

import logging
import threading
import time

from ministack.services import eventbridge

from sluice_harness.compat.monitoring.metric_store import store
from sluice_harness.compat.patching import expect

STEPS_SECONDS = (5, 6, 10, 15, 20, 30, 60)
SHORTEST_PAUSE_SECONDS = 0.1

_looking = threading.local()


def apply() -> None:
    """Replace the scheduler's loop and its clock."""
    clock = expect(eventbridge, "_now_ts")
    tick = expect(eventbridge, "_tick_scheduled_rules")
    expect(eventbridge, "_scheduler_loop")
    expect(eventbridge, "_rule_last_fired")
    expect(eventbridge, "_rules")

    def now() -> float:
        # The stage's time for the scheduler's own look at its rules; whoever else asks is told real time.
        return getattr(_looking, "at", None) or float(clock())

    def look(at: int) -> None:
        for key, rule in list(eventbridge._rules._data.items()):
            created = float(rule.get("CreationTime") or clock())
            eventbridge._rule_last_fired.setdefault(key, store.clock.at(created))
        _looking.at = at
        try:
            tick()
        except Exception:
            logging.getLogger(__name__).exception("looking at the scheduled rules failed")
        finally:
            _looking.at = None

    def loop() -> None:
        step = _step()
        while True:
            due = int(store.clock.now()) // step * step + step
            time.sleep(store.clock.real_seconds(due - store.clock.now()))
            look(due)

    eventbridge._now_ts = now
    eventbridge._scheduler_loop = loop


def _step() -> int:
    """Return how many of the stage's seconds to wait between two looks."""
    shortest = SHORTEST_PAUSE_SECONDS * store.clock.speed
    return next((step for step in STEPS_SECONDS if step >= shortest), STEPS_SECONDS[-1])
