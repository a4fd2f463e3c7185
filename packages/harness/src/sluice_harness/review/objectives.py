"""The service's objectives as its burn-rate alarms state them, and what is left of their error budgets.

The alarms are the one place where a running stage says what its objectives are: their expressions divide the share
of what is bad by the budget. So a burn rate over any range is that expression over one period as long as it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sluice_harness.cloudwatch.definitions import MetricAlarm, MetricStat
from sluice_harness.review.window import MINUTE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sluice_harness.cloudwatch.definitions import Query, Series
    from sluice_harness.review.alarms import AlarmReport
    from sluice_harness.review.series import SeriesReader
    from sluice_harness.review.window import Window

MONTH_S = 30 * 86_400
_BURN = re.compile(r"(?P<objective>\w+)-burn-(?P<window>\d+[mh])")
_FEW = re.compile(r"^IF\(.+ < \d+, 0, (?P<share>.+)\) / (?P<budget>[\d.]+)$")
_BUDGET = re.compile(r"/ (?P<budget>[\d.]+)$")
_LIMIT = re.compile(r"PR\(:(?P<limit>[\d.]+)\)")
_POINTS = 40


@dataclass(frozen=True, slots=True)
class Burn:
    """One of an objective's alarms: how fast the budget burns in its window, and what is too fast."""

    window: str
    rate: float | None
    threshold: float
    state: str


@dataclass(frozen=True, slots=True)
class Objective:
    """An objective over the window under review. Shares are from 0 to 1.

    Attributes
    ----------
    rate : float or None
        How many times faster than allowed the budget burnt; None if there was nothing that could be bad.
    events : float
        How many submissions, or jobs, were good or bad.
    left : Series
        The share of these events' budget that was left at each time; below 0 when overspent.

    """

    name: str
    means: str
    target: float
    rate: float | None
    events: float
    burns: list[Burn]
    left: Series
    seconds: int

    @property
    def achieved(self) -> float | None:
        """The share of what was good."""
        return None if self.rate is None else 1 - self.rate * (1 - self.target)

    @property
    def bad(self) -> float:
        """How many events were bad."""
        return 0.0 if self.rate is None else self.rate * (1 - self.target) * self.events

    @property
    def month_spent(self) -> float | None:
        """The share of 30 days' budget that the window has spent, at its own traffic."""
        return None if self.rate is None else self.rate * self.seconds / MONTH_S


def objectives(alarms: Sequence[AlarmReport], window: Window, reader: SeriesReader) -> list[Objective]:
    """Return the objectives that these alarms watch."""
    by_name: dict[str, list[tuple[str, AlarmReport]]] = {}
    for alarm in alarms:
        match = _BURN.fullmatch(alarm.name)
        if match and alarm.metric:
            by_name.setdefault(match["objective"], []).append((match["window"], alarm))
    return [found for name, burns in by_name.items() for found in _objective(name, burns, window, reader)]


def _objective(
    name: str, alarms: list[tuple[str, AlarmReport]], window: Window, reader: SeriesReader
) -> Iterator[Objective]:
    definition = alarms[0][1].alarm.definition
    assert isinstance(definition, MetricAlarm)  # noqa: S101 - they were chosen so
    expression = definition.watched.expression or ""
    budget = _BUDGET.search(expression)
    if budget is None:
        return
    limit = next((found["limit"] for stat in definition.stats if (found := _LIMIT.fullmatch(stat.stat))), None)
    # A rank is in percent, and so is the budget it is divided by.
    share = float(budget["budget"]) / (100 if limit else 1)
    _prefetch(definition, window, reader)
    lengths = _lengths(window)
    rates = {length: _rate(definition, length, window, reader) for length in lengths}
    events = {length: _events(definition, length, window, reader) for length in lengths}
    yield Objective(
        name=name,
        means=f"completed within {float(limit):,.0f} ms" if limit else "submissions neither refused nor lost",
        target=1 - share,
        rate=rates[window.seconds] if events[window.seconds] else None,
        events=events[window.seconds],
        burns=[_burn(label, alarm) for label, alarm in sorted(alarms, key=_length)],
        left={
            window.start + length: 1 - (rates[length] or 0.0) * events[length] / events[window.seconds]
            for length in lengths
            if events[window.seconds]
        },
        seconds=window.seconds,
    )


def _length(burn: tuple[str, AlarmReport]) -> int:
    metric = burn[1].metric
    return metric.period if metric else 0


def _burn(label: str, alarm: AlarmReport) -> Burn:
    newest = max(alarm.series, default=None)
    rate = None if newest is None else alarm.series[newest]
    return Burn(label, rate, alarm.metric.threshold if alarm.metric else 0, alarm.alarm.state)


def _lengths(window: Window) -> list[int]:
    """Return from how long on the budget is looked at: some equal steps, and all of the window, in seconds."""
    minutes = window.seconds // MINUTE
    step = -(-minutes // _POINTS)
    return [MINUTE * count for count in (*range(step, minutes, step), minutes)]


def _prefetch(alarm: MetricAlarm, window: Window, reader: SeriesReader) -> None:
    stats = [one for stat in alarm.stats for one in (stat, _counted(stat))]
    reader.prefetch(
        (replace(stat, period=length), window.start, window.end) for length in _lengths(window) for stat in stats
    )


def _rate(alarm: MetricAlarm, length: int, window: Window, reader: SeriesReader) -> float | None:
    """Return the burn rate over so many seconds from the window's start."""
    queries = [_over(query, length) for query in alarm.queries]
    found = reader.evaluate(queries, length, window.start, window.end)
    return found[alarm.watched.id].get(window.start)


def _events(alarm: MetricAlarm, length: int, window: Window, reader: SeriesReader) -> float:
    """Return what the expression divides by: all that it counts, or the samples of what it ranks."""
    stats = {replace(_counted(stat), period=length) for stat in alarm.stats}
    return sum(reader.read(stat, window.start, window.end).get(window.start, 0.0) for stat in stats)


def _counted(stat: MetricStat) -> MetricStat:
    return replace(stat, stat="SampleCount") if _LIMIT.fullmatch(stat.stat) else stat


def _over(query: Query, period: int) -> Query:
    """Return a query over another range; one that leaves few bad ones out, as alarms do, counts them all here."""
    stat: MetricStat | None = query.stat
    if stat is None:
        return replace(query, expression=_FEW.sub(r"(\g<share>) / \g<budget>", query.expression or ""))
    return replace(query, stat=replace(stat, period=period))
