"""What a session waits for once the load has been made: drained queues, whole metrics, expected alarms.

Each wait is bounded, and says what it waits for; what has not come by its end is the verdict's to name.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sluice_harness.cloudwatch.definitions import MetricAlarm
from sluice_harness.loadtest import collect
from sluice_harness.loadtest.observed import agrees
from sluice_harness.ops import records
from sluice_harness.review.window import MINUTE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from sluice_core.jobs import JobKey

    from sluice_harness.loadtest.collect import Moments
    from sluice_harness.review.alarms import AlarmState
    from sluice_harness.review.collect import Observer

    Tell = Callable[[str], object]

_POLL_S = 0.5
# SQS's counts settle within a minute (Amazon SQS API Reference, "GetQueueAttributes"); a local stage's are exact.
_SETTLES_S, _SETTLES_IN_AWS_S = 3.0, 60.0
# A scan of a long table is not to be most of what a stage that drains has to do.
_LOOK_SHARE = 4.0
# In minutes of the stage's time: after the last one ended, until CloudWatch has it; and for an alarm to see it.
_METRICS_MINUTES, _ALARM_MINUTES = 3, 3
# And for the alarms that nobody expects to have looked at the last minute, too.
_QUIET_MINUTES = 2


def until_drained(observer: Observer, accepted: Collection[JobKey], patience_s: float, tell: Tell) -> None:
    """Wait until the queues are empty and every accepted job has ended, or nothing has changed for so long.

    Empty queues hold nothing that could still end a job: then only as long as their counts take to be true.
    """
    settles_s = _SETTLES_S if observer.stage.endpointUrl else _SETTLES_IN_AWS_S
    before: tuple[int, ...] = ()
    changed = time.monotonic()
    while True:
        began = time.monotonic()
        # Rows first: whatever was in a queue when they were read still counts.
        is_ended = {row.key: not row.status.is_open for row in records.scan(observer.dynamodb, _table(observer))}
        ended = sum(is_ended.get(key, False) for key in accepted)
        queued = sum(collect.depths(observer).values())
        tell(f"draining: {ended:,} of {len(accepted):,} jobs ended, {queued:,} messages left")
        if ended == len(accepted) and not queued:
            return
        if (ended, queued) != before:
            before, changed = (ended, queued), time.monotonic()
        if time.monotonic() - changed > (patience_s if queued else settles_s):
            return
        time.sleep(max(_POLL_S, _LOOK_SHARE * (time.monotonic() - began)))


def until_measured(observer: Observer, run: Moments, accepted: Collection[JobKey], tell: Tell) -> None:
    """Wait until the window is over and the metrics of it add up, or will not any more."""
    clock = observer.stage.clock
    deadline = run.window.real_end + clock.real_seconds(_METRICS_MINUTES * MINUTE)
    tell(f"waiting for the metrics of the last minute, {max(0.0, deadline - time.time()):.0f} s at most")
    time.sleep(max(0.0, run.window.real_end - time.time()))
    table = list(records.scan(observer.dynamodb, _table(observer)))
    while time.time() < deadline:
        if all(map(agrees, collect.counts(observer, run.window, table, accepted))):
            return
        time.sleep(_POLL_S)


def until_fired(observer: Observer, run: Moments, expected: Collection[str], tell: Tell) -> None:
    """Wait until each expected alarm has fired, or its periods have passed since the load and it did not."""
    deadline = None
    while True:
        states = [
            alarm
            for alarm in collect.alarms(observer, run)
            if alarm.definition.name.removeprefix(observer.prefix) in expected
        ]
        silent = [alarm for alarm in states if all(change.after != "ALARM" for change in alarm.transitions)]
        if not silent:
            return
        if deadline is None:
            seconds = observer.stage.clock.real_seconds(max(map(_takes, states)))
            deadline = run.window.real_end + seconds
        if time.time() > deadline:
            return
        names = ", ".join(alarm.definition.name.removeprefix(observer.prefix) for alarm in silent)
        tell(f"waiting for {names} to fire, {deadline - time.time():.0f} s at most")
        time.sleep(_POLL_S)


def until_looked_at(observer: Observer, run: Moments, tell: Tell) -> None:
    """Wait until every alarm has seen the run's last minute: one that it set off is to be found."""
    left_s = run.window.real_end + observer.stage.clock.real_seconds(_QUIET_MINUTES * MINUTE) - time.time()
    if left_s > 0:
        tell(f"waiting {left_s:.0f} s for the alarms to look at the last minute")
        time.sleep(left_s)


def _takes(alarm: AlarmState) -> float:
    """Return how many seconds of the stage's time an alarm may take to see what has happened."""
    definition = alarm.definition
    periods = definition.period * definition.evaluation_periods if isinstance(definition, MetricAlarm) else 0
    return periods + _ALARM_MINUTES * MINUTE


def _table(observer: Observer) -> str:
    return observer.stage.jobTable
