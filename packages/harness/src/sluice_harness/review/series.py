"""Reads series for the whole page in a few calls, and evaluates what refers to them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from sluice_harness.cloudwatch.definitions import Metric, MetricStat
from sluice_harness.cloudwatch.expressions import evaluate_queries

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sluice_harness.cloudwatch.definitions import Query, Series
    from sluice_harness.cloudwatch.sources import SeriesSource

Wanted = tuple[MetricStat, int, int]
"""A statistic and the range of it, start and end in epoch seconds."""


class SeriesReader:
    """Remembers what it has read; what was not asked for in advance is read when it is needed.

    Parameters
    ----------
    source : SeriesSource
        A local stage's or an account's.

    """

    def __init__(self, source: SeriesSource) -> None:
        self._source = source
        self._known: dict[Wanted, Series] = {}

    def prefetch(self, wanted: Iterable[Wanted]) -> None:
        """Read many series at once."""
        by_range: dict[tuple[int, int], dict[MetricStat, None]] = defaultdict(dict)
        for stat, start, end in wanted:
            if (stat, start, end) not in self._known:
                by_range[start, end][stat] = None
        for (start, end), stats in by_range.items():
            for stat, series in zip(stats, self._source.fetch(list(stats), start, end), strict=True):
                self._known[stat, start, end] = series

    def read(self, stat: MetricStat, start: int, end: int) -> Series:
        """Return one statistic's series."""
        self.prefetch([(stat, start, end)])
        return self._known[stat, start, end]

    def value(self, metric: Metric, stat: str, start: int, end: int) -> float | None:
        """Return one statistic over the whole range, None if there is no data."""
        return self.read(MetricStat(metric, stat, end - start), start, end).get(start)

    def evaluate(self, queries: Sequence[Query], period: int, start: int, end: int) -> dict[str, Series]:
        """Return the series of the queries that return data, by their ids.

        Raises
        ------
        UnsupportedExpression
            See `sluice_harness.cloudwatch.expressions`.

        """
        stats = {query.id: query.stat for query in queries if query.stat is not None}
        self.prefetch((stat, start, end) for stat in stats.values())
        series = {name: self.read(stat, start, end) for name, stat in stats.items()}
        return evaluate_queries(queries, series, period, range(start, end, period))
