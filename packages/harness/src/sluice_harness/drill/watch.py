"""Watches a stage's alarms during a drill: by their states, and by what a real subscriber is told."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sluice_harness.drill.subscriber import Subscriber

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sluice_harness.drill.subscriber import Notice

_POLL_S = 0.4
_LONGEST_WINDOW = "-6h"


class DrillError(Exception):
    """An alarm did not do what it is for, or what it must not; the message says which, and its state."""


@dataclass(slots=True)
class Sighting:
    """When an alarm was first seen so in a drill, in seconds from the drill's beginning, and who was told.

    Attributes
    ----------
    alarm_s, ok_s : float or None
        When it went to ALARM, and back to OK.
    told_alarm, told_ok : bool
        Whether the subscriber was.

    """

    alarm_s: float | None = None
    ok_s: float | None = None
    told_alarm: bool = False
    told_ok: bool = False


@dataclass(slots=True)
class Watch:
    """All alarms of a stage.

    Parameters
    ----------
    cloudwatch, sns : boto3 clients
        Of the stage.
    topic : str
        The alarms' topic's ARN.
    prefix : str
        What the alarms' names begin with: ``sluice-<stage>-``.
    subscriber : Subscriber
        Who is told.
    patience_s : float
        How long an alarm may take, in real seconds.

    """

    cloudwatch: Any
    sns: Any
    topic: str
    prefix: str
    subscriber: Subscriber
    patience_s: float
    tell: Callable[[str], object] = print
    notifying: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    _states: dict[str, str] = field(default_factory=dict)
    _began: float = 0.0
    _seen: dict[str, Sighting] = field(default_factory=dict)
    _failing: Subscriber | None = None

    def __post_init__(self) -> None:
        self.sns.subscribe(TopicArn=self.topic, Protocol="http", Endpoint=self.subscriber.url)
        alarms = self._describe()
        self.notifying = frozenset(name for name, alarm in alarms.items() if alarm["AlarmActions"])
        self.silent = frozenset(alarms) - self.notifying

    def full_name(self, alarm: str) -> str:
        """Return an alarm's name in CloudWatch."""
        return f"{self.prefix}{alarm}"

    def begin(self) -> None:
        """Forget what was seen."""
        self._began = time.time()
        self._seen = {}

    def sighting(self, alarm: str) -> Sighting:
        """Return what was seen of one alarm since the drill began."""
        return self._seen.setdefault(alarm, Sighting())

    def fired(self) -> list[str]:
        """Return which alarms have gone to ALARM since then."""
        self.look()
        return sorted(name for name, sighting in self._seen.items() if sighting.alarm_s is not None)

    def until_alarm(self, *alarms: str) -> None:
        """Wait until each of these has gone to ALARM, and somebody was told of those that tell.

        Raises
        ------
        DrillError
            One did not.

        """

        def has_fired(alarm: str) -> bool:
            sighting = self.sighting(alarm)
            return sighting.alarm_s is not None and (sighting.told_alarm or alarm in self.silent)

        self._until(has_fired, alarms, "go to ALARM")

    def until_ok(self, *alarms: str) -> None:
        """Wait until each of these is OK again, and somebody was told; but for a window of six hours.

        Raises
        ------
        DrillError
            One is not.

        """

        def is_over(alarm: str) -> bool:
            sighting = self.sighting(alarm)
            if sighting.ok_s is None:
                return is_too_long(alarm)
            return sighting.told_ok or alarm in self.silent

        self._until(is_over, alarms, "return to OK")

    def until_calm(self, *alarms: str) -> None:
        """Wait until none of these is in ALARM, but for a window of six hours, which may take them.

        Raises
        ------
        DrillError
            One is still.

        """

        def is_calm(alarm: str) -> bool:
            return is_too_long(alarm) or self._states[alarm] != "ALARM"

        self._until(is_calm, alarms, "leave ALARM")

    def look(self) -> dict[str, Any]:
        """Note what has happened; return the alarms as they are."""
        alarms = self._describe()
        now = time.time()
        for name, alarm in alarms.items():
            self._states[name] = alarm["StateValue"]
            self._note(name, alarm["StateValue"], now)
        for notice in self.subscriber.notices():
            if notice.at >= self._began:
                self._hear(notice)
        return alarms

    def add_failing_subscriber(self) -> None:
        """Subscribe somebody who answers every notification with an error."""
        self._failing = Subscriber(fails=True)
        self._failing.__enter__()
        self.sns.subscribe(TopicArn=self.topic, Protocol="http", Endpoint=self._failing.url)

    def remove_failing_subscriber(self) -> None:
        """Let them go."""
        if self._failing is None:
            return
        for page in self.sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=self.topic):
            for subscription in page["Subscriptions"]:
                if subscription["Endpoint"] == self._failing.url:
                    self.sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])
        self._failing.__exit__(None, None, None)
        self._failing = None

    def _until(self, holds: Callable[[str], bool], alarms: Iterable[str], what: str) -> None:
        deadline = time.time() + self.patience_s
        while True:
            states = self.look()
            missing = [alarm for alarm in alarms if not holds(alarm)]
            if not missing:
                return
            self.tell(f"waiting for {', '.join(missing)} to {what}")
            if time.time() > deadline:
                reasons = "; ".join(f"{name}: {_state(states.get(name))}" for name in missing)
                raise DrillError(f"did not {what} within {self.patience_s:g} s: {reasons}")
            time.sleep(_POLL_S)

    def _note(self, name: str, state: str, now: float) -> None:
        sighting = self.sighting(name)
        if state == "ALARM" and sighting.alarm_s is None:
            sighting.alarm_s = now - self._began
        if state == "OK" and sighting.alarm_s is not None and sighting.ok_s is None:
            sighting.ok_s = now - self._began

    def _hear(self, notice: Notice) -> None:
        name = notice.alarm.removeprefix(self.prefix)
        self._note(name, notice.state, notice.at)
        sighting = self.sighting(name)
        sighting.told_alarm |= notice.state == "ALARM"
        sighting.told_ok |= notice.state == "OK" and sighting.told_alarm

    def _describe(self) -> dict[str, Any]:
        pages = self.cloudwatch.get_paginator("describe_alarms").paginate(
            AlarmNamePrefix=self.prefix, AlarmTypes=["MetricAlarm", "CompositeAlarm"]
        )
        alarms = (alarm for page in pages for kind in ("MetricAlarms", "CompositeAlarms") for alarm in page[kind])
        return {alarm["AlarmName"].removeprefix(self.prefix): alarm for alarm in alarms}


def is_too_long(alarm: str) -> bool:
    """Whether an alarm looks back for longer than a drill takes, so that nobody waits for it to be OK again."""
    return alarm.endswith(_LONGEST_WINDOW)


def _state(alarm: Any) -> str:
    return "no such alarm" if alarm is None else f"{alarm['StateValue']}, {alarm.get('StateReason', '')}"
