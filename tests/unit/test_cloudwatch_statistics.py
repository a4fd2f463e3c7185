"""Statistics of samples, with percentiles as Python's own `statistics` has them."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sluice_harness.cloudwatch.statistics import Distribution, UnsupportedStatistic, required_samples

if TYPE_CHECKING:
    from collections.abc import Iterable

counted = st.lists(st.tuples(st.integers(0, 20).map(float), st.integers(1, 4)), min_size=1, max_size=12)


def distribution(samples: Iterable[tuple[float, int]]) -> Distribution:
    made = Distribution()
    for value, count in samples:
        made.add(value, count)
    return made


@given(counted, counted, st.integers(1, 99))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_statistics_are_those_of_all_samples(
    first: list[tuple[float, int]], second: list[tuple[float, int]], percent: int
) -> None:
    # given samples in two distributions
    values = [value for value, count in first + second for _ in range(count)]
    merged = distribution(first)
    # when they are merged
    merged.merge(distribution(second))
    # then each statistic is that of the samples themselves
    assert merged.statistic("SampleCount") == len(values)
    assert merged.statistic("Sum") == sum(values)
    assert merged.statistic("Average") == pytest.approx(statistics.fmean(values))
    assert merged.statistic("Minimum") == min(values)
    assert merged.statistic("Maximum") == max(values)
    quantiles = statistics.quantiles(values, n=100, method="inclusive")
    assert merged.statistic(f"p{percent}") == pytest.approx(quantiles[percent - 1])
    assert merged.statistic("PR(5:15)") == pytest.approx(100 * sum(5 < one <= 15 for one in values) / len(values))


@pytest.mark.parametrize(
    ("stat", "expected"),
    [("p0", 1), ("p100", 4), ("p50", 2.5), ("p90", 3.7), ("p99.9", 3.997), ("PR(:2)", 50), ("PR(2:)", 50)],
)
def test_percentiles_interpolate_and_ranks_exclude_the_lower_bound(stat: str, expected: float) -> None:
    assert distribution([(1, 1), (2, 1), (3, 1), (4, 1)]).statistic(stat) == pytest.approx(expected)


def test_nothing_has_no_statistic() -> None:
    assert [Distribution().statistic(stat) for stat in ("SampleCount", "Sum", "Maximum", "p50")] == [None] * 4


def test_a_statistic_set_has_no_percentile_but_all_else() -> None:
    made = distribution([(5, 1)])
    made.add_set(samples=3, total=12, minimum=1, maximum=8)
    assert [made.statistic(stat) for stat in ("SampleCount", "Sum", "Average", "Minimum", "Maximum")] == [
        4,
        17,
        4.25,
        1,
        8,
    ]
    assert [made.statistic(stat) for stat in ("p50", "PR(:5)")] == [None, None]
    other = Distribution()
    other.merge(made)
    assert other.statistic("p50") is None


@pytest.mark.parametrize("one", [(1, 7, 7, 7), (3, 21, 7, 7)])
def test_a_statistic_set_of_one_sample_or_of_equal_ones_has(one: tuple[float, float, float, float]) -> None:
    made = Distribution()
    made.add_set(*one)
    assert made.statistic("p90") == 7
    assert made.statistic("SampleCount") == one[0]


def test_negative_samples_leave_no_percentile() -> None:
    made = distribution([(-1, 1), (4, 1)])
    assert made.statistic("p50") is None
    assert made.statistic("Average") == 1.5


@pytest.mark.parametrize("stat", ["p101", "p", "p-1", "tm90", "IQM", "PR(:)", "PR(10%:)", "sum", ""])
def test_any_other_statistic_is_refused_by_name(stat: str) -> None:
    with pytest.raises(UnsupportedStatistic, match="is not supported: there are SampleCount") as refused:
        distribution([(1, 1)]).statistic(stat)
    assert repr(stat) in str(refused.value)


@pytest.mark.parametrize(
    ("stat", "required"),
    [
        ("p99", 1000),
        ("p90", 100),
        ("p99.95", 20000),
        ("p50", 20),
        ("p10", 100),
        ("p0", 0),
        ("p100", 0),
        ("Sum", 0),
    ],
)
def test_a_percentile_requires_so_many_samples(stat: str, required: int) -> None:
    assert required_samples(stat) == required
