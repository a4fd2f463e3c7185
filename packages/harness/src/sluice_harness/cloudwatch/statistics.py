"""CloudWatch's statistics over a period's samples.

An alarm on a p90 fires or does not by what its percentile is, so the samples are kept as value and count, the form
in which PutMetricData and EMF bring them, and percentiles are exact: no sketch, no buckets.
"""

from __future__ import annotations

import functools
import math
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_NUMBER: Final = r"-?\d+(?:\.\d+)?"
_PERCENTILE: Final = re.compile(r"p(100(?:\.0+)?|\d{1,2}(?:\.\d{1,10})?)")
_RANK: Final = re.compile(rf"PR\(({_NUMBER})?:({_NUMBER})?\)")
_HALF: Final = 50


class UnsupportedStatistic(ValueError):  # noqa: N818 - an answer, as `UnsupportedExpression` is
    """A statistic that CloudWatch does not have, or that this does not compute."""

    def __init__(self, stat: str) -> None:
        super().__init__(
            f"{stat!r} is not supported: there are SampleCount, Sum, Average, Minimum, Maximum, "
            "percentiles from p0 to p100 such as p90 or p99.9, and PR(:x), PR(x:), PR(x:y)"
        )


class Distribution:
    """The samples of one metric in one period.

    Notes
    -----
    CloudWatch does not publish how it interpolates percentiles. This interpolates linearly between the closest
    ranks, as numpy's default and `statistics.quantiles(method="inclusive")` do: p50 of 1 and 2 is 1.5.

    A statistic set (a sum of samples without the samples) leaves percentiles unknown unless it stands for one
    sample or for equal ones; so does any negative sample ("Amazon CloudWatch concepts", "Percentiles").

    """

    __slots__ = ("_counts", "_maximum", "_minimum", "_samples", "_sum", "_unknown")

    def __init__(self) -> None:
        self._counts: dict[float, float] = {}
        self._samples: float = 0
        self._sum: float = 0
        self._minimum = math.inf
        self._maximum = -math.inf
        self._unknown = False  # whether samples are in the sums whose values nobody knows

    def add(self, value: float, count: float = 1) -> None:
        """Add a value that was seen so often."""
        self._counts[value] = self._counts.get(value, 0) + count
        self._total(count, value * count, value, value)

    def add_set(self, samples: float, total: float, minimum: float, maximum: float) -> None:
        """Add a statistic set: PutMetricData's ``StatisticValues``."""
        if samples == 1 or minimum == maximum:
            self.add(minimum, samples)
        else:
            self._unknown = True
            self._total(samples, total, minimum, maximum)

    def merge(self, other: Distribution) -> None:
        """Add all that another one has; it stays as it is."""
        for value, count in other._counts.items():
            self._counts[value] = self._counts.get(value, 0) + count
        self._unknown = self._unknown or other._unknown
        self._total(other._samples, other._sum, other._minimum, other._maximum)

    def statistic(self, stat: str) -> float | None:
        """Return a statistic, or None if there are no samples or it cannot be known.

        Raises
        ------
        UnsupportedStatistic
            If the name is none of them.

        """
        compute = _computation(stat)
        value = compute(self) if self._samples else None
        return None if value is None else float(value)

    def percentile(self, percent: float) -> float | None:
        """Return the value below which so many percent of the samples lie, if it can be known."""
        if self._unknown or self._minimum < 0:
            return None
        rank = percent * (self._samples - 1) / 100
        below, above = self._at(math.floor(rank)), self._at(math.ceil(rank))
        return below + (above - below) * (rank - math.floor(rank))

    def percentile_rank(self, above: float, upto: float) -> float | None:
        """Return how many percent of the samples lie above one bound and up to the other, if it can be known."""
        if self._unknown:
            return None
        return 100 * sum(count for value, count in self._counts.items() if above < value <= upto) / self._samples

    def _total(self, samples: float, total: float, minimum: float, maximum: float) -> None:
        self._samples += samples
        self._sum += total
        self._minimum = min(self._minimum, minimum)
        self._maximum = max(self._maximum, maximum)

    def _at(self, rank: int) -> float:
        passed: float = 0
        for value in sorted(self._counts):
            passed += self._counts[value]
            if rank < passed:
                return value
        return self._maximum


def percentile_of(stat: str) -> Decimal | None:
    """Return the 99.9 of ``p99.9``, or None for what is no percentile."""
    match = _PERCENTILE.fullmatch(stat)
    return Decimal(match[1]) if match else None


def required_samples(stat: str) -> int:
    """Return from how many samples on a percentile counts as significant; 0 for all else.

    Source: "Percentile-based alarms and low data samples" in CloudWatch's guide: 10/(1 - p) for p above 0.5, else
    10/p. The formula has no answer for p0 and p100, which need no interpolation: any number will do.
    """
    percent = percentile_of(stat)
    if percent is None or percent in (0, 100):
        return 0
    return math.ceil(1000 / (100 - percent if percent > _HALF else percent))


@functools.lru_cache(maxsize=256)
def _computation(stat: str) -> Callable[[Distribution], float | None]:
    if stat in _SIMPLE:
        return _SIMPLE[stat]
    percent = percentile_of(stat)
    if percent is not None:
        return functools.partial(Distribution.percentile, percent=float(percent))
    match = _RANK.fullmatch(stat)
    if match is None or not any(match.groups()):
        raise UnsupportedStatistic(stat)
    above, upto = match.groups()
    # "Statistics definitions": exclusive on the lower bound and inclusive on the upper bound.
    return functools.partial(
        Distribution.percentile_rank, above=float(above or -math.inf), upto=float(upto or math.inf)
    )


def check_statistic(stat: str) -> None:
    """Raise `UnsupportedStatistic` for a name that is none."""
    _computation(stat)


_SIMPLE: Final[dict[str, Callable[[Distribution], float | None]]] = {
    "SampleCount": lambda samples: samples._samples,
    "Sum": lambda samples: samples._sum,
    "Average": lambda samples: samples._sum / samples._samples,
    "Minimum": lambda samples: samples._minimum,
    "Maximum": lambda samples: samples._maximum,
}
