"""The metric store: what CloudWatch knows of every metric, minute by minute.

MiniStack keeps each data point in a list, looks through all of them on every call, and publishes next to none of
the services' own metrics. CloudWatch keeps one-minute data points for fifteen days, each metric being a namespace,
a name and a set of dimensions, each unit a stream of its own ("Amazon CloudWatch concepts", "Metrics retention"
and "Resolution"). Everything on the local stage that counts or measures records here, and everything that reads
goes through `MetricStore.fetch`.

Minutes are minutes of *stage* time (see `sluice_harness.stage_clock`); recorders give real time. The store serves
one account and one region, which is what a local stage is.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sluice_harness.cloudwatch.statistics import Distribution
from sluice_harness.stage_clock import StageClock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sluice_harness.cloudwatch.definitions import MetricStat, Series

MINUTE = 60
RETENTION_SECONDS = 15 * 86_400

Dimensions = tuple[tuple[str, str], ...]
"""Name and value of each dimension, sorted."""
Identity = tuple[str, str, Dimensions]
"""A metric: its namespace, its name and its dimensions."""


@dataclass(slots=True)
class _Metric:
    """A metric's minutes, for each of its units."""

    units: dict[str, dict[int, Distribution]] = field(default_factory=dict)
    newest: int = 0


class MetricStore:
    """Distributions by metric and minute; safe between threads.

    Attributes
    ----------
    clock : StageClock
        What time it is on this stage; the engine sets it before it serves.

    """

    def __init__(self) -> None:
        self.clock = StageClock()
        self._metrics: dict[Identity, _Metric] = {}
        self._lock = threading.Lock()

    def record(  # noqa: PLR0917 - all that a data point is
        self,
        namespace: str,
        name: str,
        dimensions: Dimensions,
        value: float,
        unit: str,
        at: float | None = None,
        count: float = 1,
    ) -> None:
        """Record a value that was seen ``count`` times at a real time, now if none is given."""
        minute = self.minute_at(time.time() if at is None else at)
        with self._lock:
            self._bucket((namespace, name, dimensions), unit, minute).add(float(value), count)

    def record_in(self, minute: int, metric: Identity, value: float, unit: str) -> None:
        """Record a value in a minute of the stage's time."""
        with self._lock:
            self._bucket(metric, unit, minute).add(float(value))

    def record_set(
        self, metric: Identity, values: tuple[float, float, float, float], unit: str, at: float
    ) -> None:
        """Record a statistic set: the number of samples, their sum, minimum and maximum."""
        minute = self.minute_at(at)
        with self._lock:
            self._bucket(metric, unit, minute).add_set(*values)

    def minute_at(self, real: float) -> int:
        """Return the start of the stage's minute at a real time."""
        return int(self.clock.at(real)) // MINUTE * MINUTE

    def has(self, metric: Identity, minute: int) -> bool:
        """Whether a metric has data in a minute."""
        with self._lock:
            found = self._metrics.get(metric)
            return found is not None and any(minute in minutes for minutes in found.units.values())

    def metrics(self) -> list[tuple[Identity, int]]:
        """Return every metric and the start of its newest minute."""
        with self._lock:
            return [(metric, found.newest) for metric, found in self._metrics.items()]

    def fetch(self, stats: Sequence[MetricStat], start: int, end: int) -> list[Series]:
        """Return the series of these statistics; the periods are counted from ``start``, a multiple of 60.

        Raises
        ------
        UnsupportedStatistic
            There is no such statistic.

        """
        return [self._series(one, start, end) for one in stats]

    def _series(self, of: MetricStat, start: int, end: int) -> Series:
        metric = (of.metric.namespace, of.metric.name, of.metric.dimensions)
        found: Series = {}
        for begin, samples, _ in self.periods(metric, range(start, end, of.period), of.unit):
            value = samples.statistic(of.stat)
            if value is not None:
                found[begin] = value
        return found

    def periods(
        self, metric: Identity, starts: range, unit: str | None = None
    ) -> Iterator[tuple[int, Distribution, str]]:
        """Yield the start, the samples and the unit of each period with data, oldest first."""
        start, end, period = starts.start, starts.stop, starts.step
        with self._lock:
            streams = self._streams(metric, unit)
            minutes = sorted({minute for _, stream in streams for minute in stream if start <= minute < end})
        for begin in dict.fromkeys(start + (minute - start) // period * period for minute in minutes):
            samples, units = Distribution(), ""
            with self._lock:
                for name, stream in streams:
                    for minute in range(begin, min(begin + period, end), MINUTE):
                        if minute in stream:
                            samples.merge(stream[minute])
                            units = units or name
            yield begin, samples, units

    def _streams(self, metric: Identity, unit: str | None) -> list[tuple[str, dict[int, Distribution]]]:
        found = self._metrics.get(metric)
        if found is None:
            return []
        return [(name, stream) for name, stream in found.units.items() if unit in (None, name)]

    def _bucket(self, metric: Identity, unit: str, minute: int) -> Distribution:
        try:
            return self._metrics[metric].units[unit][minute]
        except KeyError:
            found = self._metrics.setdefault(metric, _Metric())
        minutes = found.units.setdefault(unit, {})
        found.newest = max(found.newest, minute)
        bucket = minutes[minute] = Distribution()
        oldest = next(iter(minutes))
        while oldest < found.newest - RETENTION_SECONDS and len(minutes) > 1:
            del minutes[oldest]
            oldest = next(iter(minutes))
        return bucket


store = MetricStore()
"""The engine's own."""


def dimensions(**named: str) -> Dimensions:
    """Return dimensions in the store's order."""
    return tuple(sorted(named.items()))
