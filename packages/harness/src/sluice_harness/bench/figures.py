"""The benchmark's arithmetic: percentiles, ratios of what was measured in turn, and growth."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile: a value that was measured, never one between two.

    Raises
    ------
    ValueError
        There are no values, or the percent is not above 0 and at most 100.

    """
    if not values or not 0 < percent <= 100:  # noqa: PLR2004 - percent
        raise ValueError("a percentile is of at least one value, above 0 and at most 100")
    return sorted(values)[math.ceil(percent / 100 * len(values)) - 1]


@dataclass(frozen=True, slots=True)
class Spread:
    """CPU times of one thing, in ms: the least and the median of so many runs."""

    least: float
    median: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of at least one value."""
        return cls(min(values), statistics.median(values), len(values))

    def shown(self) -> dict[str, float]:
        """Return it as bench.json has it."""
        return {"minMs": round(self.least, 3), "medianMs": round(self.median, 3), "runs": self.runs}


def cold_ratio(measured: Sequence[float], baseline: Sequence[float], empty: Sequence[float]) -> float:
    """Return how much a start costs beyond the empty interpreter's, as a share of the baseline's.

    The same round of all three makes one ratio, so that a machine that slows down does so on both sides; the
    median over the rounds is what counts.

    Raises
    ------
    ValueError
        A round's baseline is no dearer than the empty interpreter.

    """
    rounds = list(zip(measured, baseline, empty, strict=True))
    if any(base <= nothing for _, base, nothing in rounds):
        raise ValueError("the baseline costs no more than an empty interpreter: nothing was measured")
    return statistics.median((one - nothing) / (base - nothing) for one, base, nothing in rounds)


def paired_ratio(measured: Sequence[float], baseline: Sequence[float]) -> float:
    """Return the ratio of two things that were measured in turn: the median over the pairs.

    Raises
    ------
    ValueError
        There are no pairs, or they are not pairs.

    """
    if not measured:
        raise ValueError("a ratio is of at least one pair")
    return statistics.median(one / other for one, other in zip(measured, baseline, strict=True))


def growth(rates: Mapping[int, float]) -> float:
    """Return by what share the rate at the largest size lies below that at the smallest; negative if above.

    Raises
    ------
    ValueError
        There are not two sizes.

    """
    if len(rates) < 2:  # noqa: PLR2004 - two ends
        raise ValueError("growth is between two sizes")
    return 1 - rates[max(rates)] / rates[min(rates)]
