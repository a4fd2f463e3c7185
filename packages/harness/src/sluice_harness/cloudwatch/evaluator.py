"""Runs alarms: gives each its state, minute after minute, and tells what changed.

The local stage runs one behind its CloudWatch API, the review runs one over series of the past. Both get from it
the transitions, whom to notify of each, and the history that an account would show.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any, Final

from sluice_harness.cloudwatch import evaluation, expressions, reasons
from sluice_harness.cloudwatch.composites import Suppression
from sluice_harness.cloudwatch.definitions import CompositeAlarm, MetricAlarm, MetricStat, State
from sluice_harness.cloudwatch.transitions import Status, Transition

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sluice_harness.cloudwatch.definitions import Series
    from sluice_harness.cloudwatch.evaluation import Verdict
    from sluice_harness.cloudwatch.sources import SeriesSource

    Fetched = Mapping[MetricStat, Series]

_HISTORY: Final = 1000


class UnknownAlarm(LookupError):  # noqa: N818 - an answer, as CloudWatch's ResourceNotFound is
    """An alarm that is not there: it was asked for, or a composite alarm refers to it."""


class AlarmInUse(ValueError):  # noqa: N818 - an answer, as CloudWatch's refusal is
    """An alarm that cannot be deleted, or made to watch another, because of a composite alarm that watches it."""


@dataclass(slots=True)
class _Entry:
    alarm: MetricAlarm | CompositeAlarm
    status: Status = field(default_factory=Status)
    suppression: Suppression = field(default_factory=Suppression)
    history: deque[Transition] = field(default_factory=lambda: deque(maxlen=_HISTORY))

    @property
    def seen(self) -> tuple[str, State, float]:
        """How reasons speak of it."""
        return self.alarm.arn or self.alarm.name, self.status.state, self.status.transitioned_at


class Evaluator:
    """Holds alarms and their states. Its methods may be called from several threads.

    Parameters
    ----------
    source : SeriesSource
        Where metrics come from. It is asked without a lock being held.

    """

    def __init__(self, source: SeriesSource) -> None:
        self._source = source
        self._lock = threading.RLock()
        self._entries: dict[str, _Entry] = {}
        self._composites: list[str] = []  # each after those that it watches

    @property
    def states(self) -> dict[str, State]:
        """The state of each alarm."""
        with self._lock:
            return {name: entry.status.state for name, entry in self._entries.items()}

    @property
    def alarms(self) -> list[MetricAlarm | CompositeAlarm]:
        """Every alarm, in the order in which they came."""
        with self._lock:
            return [entry.alarm for entry in self._entries.values()]

    def status(self, name: str) -> Status:
        """Return an alarm's state and why it is in it; `UnknownAlarm` if it is not there."""
        with self._lock:
            return self._entry(name).status

    def history(self, name: str) -> list[Transition]:
        """Return an alarm's transitions, oldest first, the last thousand; `UnknownAlarm` if it is not there."""
        with self._lock:
            return list(self._entry(name).history)

    def put(self, alarm: MetricAlarm | CompositeAlarm) -> None:
        """Add an alarm, with INSUFFICIENT_DATA as its state, or replace one, which keeps its state and history.

        Raises
        ------
        UnknownAlarm
            If a composite alarm's rule or its suppressor names an alarm that is not there.
        AlarmInUse
            If a composite alarm would watch itself in the end.

        """
        with self._lock:
            for name in _watched(alarm):
                if name not in self._entries:
                    raise UnknownAlarm(f"alarm {alarm.name} refers to {name}, which is not there")
            before = self._entries.get(alarm.name)
            self._composites = _ordered([*self.alarms, alarm])
            if before is None:
                self._entries[alarm.name] = _Entry(alarm)
                return
            if _suppressor(before.alarm) != _suppressor(alarm):
                # Another suppressor: the periods of the old one are nobody's.
                before.suppression = Suppression(pending=before.suppression.pending)
            before.alarm = alarm

    def delete(self, name: str) -> None:
        """Take an alarm away.

        Raises
        ------
        UnknownAlarm
            If it is not there.
        AlarmInUse
            If a composite alarm watches it.

        """
        with self._lock:
            self._entry(name)
            parents = [entry.alarm.name for entry in self._entries.values() if name in _watched(entry.alarm)]
            if parents:
                raise AlarmInUse(f"alarm {name} cannot be deleted while {', '.join(parents)} watches it")
            del self._entries[name]
            self._composites = [one for one in self._composites if one != name]

    def step(self, now: float) -> list[Transition]:
        """Evaluate every alarm, composite ones last, and return what changed.

        Parameters
        ----------
        now : float
            Epoch seconds of stage time; CloudWatch does this once a minute.

        """
        alarms = [alarm for alarm in self.alarms if isinstance(alarm, MetricAlarm)]
        fetched = self._fetch(alarms, now)
        verdicts = [(alarm, _verdict(alarm, fetched, now)) for alarm in alarms]
        with self._lock:
            transitions = [
                transition
                for alarm, verdict in verdicts
                if (transition := self._judge(alarm, verdict, now)) is not None
            ]
            return [*transitions, *self._follow(now, {one.alarm.name for one in transitions})]

    def set_state(
        self, name: str, state: State, reason: str, now: float, reason_data: dict[str, Any] | None = None
    ) -> list[Transition]:
        """Set an alarm's state by hand, as SetAlarmState does; it lasts until a step finds another.

        Returns
        -------
        list of Transition
            Its own, then those of the composite alarms that follow; nothing if it is in that state.

        Raises
        ------
        UnknownAlarm
            If it is not there.

        """
        with self._lock:
            entry = self._entry(name)
            if entry.status.state is state:
                entry.status = replace(entry.status, reason=reason, updated_at=now)
                return []
            transition = self._enter(entry, state, now, reason, reason_data or {})
            return [transition, *self._follow(now, {name}, apart=name)]

    def _entry(self, name: str) -> _Entry:
        if name not in self._entries:
            raise UnknownAlarm(f"there is no alarm {name}")
        return self._entries[name]

    def _fetch(self, alarms: Sequence[MetricAlarm], now: float) -> Fetched:
        """Fetch what all alarms need: one call for each period, as far back as the longest of its ranges."""
        wanted: dict[int, dict[MetricStat, None]] = {}
        since: dict[int, int] = {}
        for alarm in alarms:
            start = evaluation.evaluation_range(alarm, now).start
            since[alarm.period] = min(start, since.get(alarm.period, start))
            wanted.setdefault(alarm.period, {}).update(dict.fromkeys(_stats(alarm)))
        fetched: dict[MetricStat, Series] = {}
        for period, stats in wanted.items():
            series = self._source.fetch(list(stats), since[period], evaluation.last_minute(now))
            fetched.update(zip(stats, series, strict=True))
        return fetched

    def _judge(self, alarm: MetricAlarm, verdict: Verdict, now: float) -> Transition | None:
        entry = self._entries.get(alarm.name)
        if entry is None or entry.alarm is not alarm:
            return None  # taken away or replaced while its points were fetched
        if verdict.state is None or verdict.state is entry.status.state:
            return None
        reason = reasons.metric_reason(alarm, verdict, verdict.state)
        return self._enter(entry, verdict.state, now, reason, reasons.metric_reason_data(alarm, verdict, now))

    def _follow(self, now: float, changed: set[str], apart: str = "") -> Iterator[Transition]:
        """Evaluate composite alarms after others have changed."""
        states = self.states
        for name in self._composites:
            entry = self._entries[name]
            if name == apart or not isinstance(entry.alarm, CompositeAlarm):
                continue
            state = State.ALARM if entry.alarm.rule.holds(states) else State.OK
            if state is not entry.status.state:
                yield self._enter(entry, state, now, *self._blame(entry.alarm, state, states, changed))
                states[name] = state
                changed.add(name)
            elif self._released(entry, now, changed=False):
                yield self._tell(entry, state, now, acts=True)

    def _enter(
        self, entry: _Entry, state: State, now: float, reason: str, reason_data: dict[str, Any]
    ) -> Transition:
        old = entry.status.state
        entry.status = Status(state, reason, reason_data, now, now)
        return self._tell(entry, old, now, acts=self._released(entry, now, changed=True))

    def _released(self, entry: _Entry, now: float, *, changed: bool) -> bool:
        """Return whether an alarm is to act now, and note what holds it back if it is not."""
        alarm = entry.alarm
        if not isinstance(alarm, CompositeAlarm):
            return changed
        if not alarm.suppressor:
            acts = changed or entry.suppression.pending
            entry.suppression = Suppression()
            return acts
        acts = entry.suppression.step(
            now,
            changed=changed,
            suppressed=self._entries[alarm.suppressor].status.state is State.ALARM,
            wait=alarm.wait_period,
            extension=alarm.extension_period,
        )
        entry.status = replace(entry.status, suppressed_by=entry.suppression.by)
        return acts

    def _tell(self, entry: _Entry, old: State, now: float, *, acts: bool) -> Transition:
        status = entry.status
        transition = Transition(
            alarm=entry.alarm,
            old=old,
            new=status.state,
            at=now,
            reason=status.reason,
            reason_data=status.reason_data,
            actions=entry.alarm.actions(status.state) if acts else (),
            suppressed_by=status.suppressed_by,
        )
        entry.history.append(transition)
        return transition

    def _blame(
        self, alarm: CompositeAlarm, state: State, states: Mapping[str, State], changed: set[str]
    ) -> tuple[str, dict[str, Any]]:
        """Return why a composite alarm changed: its children that did, or else those that its rule is about."""
        names = [name for name in alarm.children if name in changed]
        culprit = self._entries[names[-1]].seen if names else None
        names = names or [name for name, wanted in alarm.rule.conditions if states[name] == wanted]
        children = [self._entries[name].seen for name in dict.fromkeys(names)]
        return reasons.composite_reason(alarm, state, culprit), reasons.composite_reason_data(children)


def _watched(alarm: MetricAlarm | CompositeAlarm) -> tuple[str, ...]:
    """Return the names of the alarms that an alarm depends on."""
    if isinstance(alarm, MetricAlarm):
        return ()
    return (*alarm.children, alarm.suppressor) if alarm.suppressor else alarm.children


def _suppressor(alarm: MetricAlarm | CompositeAlarm) -> str:
    return alarm.suppressor if isinstance(alarm, CompositeAlarm) else ""


def _ordered(alarms: Sequence[MetricAlarm | CompositeAlarm]) -> list[str]:
    """Return the names of composite alarms, each after those that it depends on."""
    known = {alarm.name: alarm for alarm in alarms}
    try:
        order = [*TopologicalSorter({name: _watched(alarm) for name, alarm in known.items()}).static_order()]
    except CycleError as error:
        raise AlarmInUse(f"composite alarms would watch each other: {' -> '.join(error.args[1])}") from error
    return [name for name in order if isinstance(known[name], CompositeAlarm)]


def _stats(alarm: MetricAlarm) -> list[MetricStat]:
    stat = alarm.watched.stat
    if stat is None or not evaluation.counts_samples(alarm):
        return alarm.stats
    return [*alarm.stats, replace(stat, stat="SampleCount")]


def _verdict(alarm: MetricAlarm, fetched: Fetched, now: float) -> Verdict:
    starts = evaluation.evaluation_range(alarm, now)
    within = {stat: _within(fetched[stat], starts) for stat in _stats(alarm)}
    series = {query.id: within[query.stat] for query in alarm.queries if query.stat is not None}
    watched = expressions.evaluate_queries(alarm.queries, series, alarm.period, starts)[alarm.watched.id]
    stat = alarm.watched.stat
    samples = within.get(replace(stat, stat="SampleCount"), {}) if stat else {}
    return evaluation.evaluate(alarm, watched, starts, samples)


def _within(series: Series, starts: range) -> Series:
    return {start: series[start] for start in starts if start in series}
