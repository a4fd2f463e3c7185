"""The benchmark's arithmetic, against figures reckoned by hand."""

from __future__ import annotations

import pytest
from sluice_harness.bench.figures import Spread, cold_ratio, growth, paired_ratio, percentile
from sluice_harness.bench.processes import ENDED, spent
from sluice_harness.bench.targets import Target, disagreements, judge, ratios


@pytest.mark.parametrize(
    ("percent", "expected"), [(50, 5.0), (95, 10.0), (99, 10.0), (100, 10.0), (10, 1.0), (1, 1.0)]
)
def test_a_percentile_is_a_value_that_was_measured(percent: float, expected: float) -> None:
    # given ten values in no order
    values = [10.0, 1.0, 9.0, 2.0, 8.0, 3.0, 7.0, 4.0, 6.0, 5.0]

    # then it is the value at the nearest rank
    assert percentile(values, percent) == expected


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], 0), ([1.0], 101)])
def test_there_is_no_percentile_of_nothing(values: list[float], percent: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, percent)


def test_a_cold_start_counts_without_the_interpreters_own_and_round_by_round() -> None:
    # given three rounds, the second on a machine that is half as fast, the third disturbed
    measured, baseline, empty = [110.0, 220.0, 510.0], [210.0, 420.0, 210.0], [10.0, 20.0, 10.0]

    # then the ratios are 0.5, 0.5 and 2.5, and the median is not moved by the last
    assert cold_ratio(measured, baseline, empty) == pytest.approx(0.5)


def test_a_baseline_that_costs_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        cold_ratio([100.0], [10.0], [10.0])


def test_pairs_are_compared_with_each_other() -> None:
    # given pairs of which one was disturbed on one side
    assert paired_ratio([3.0, 30.0, 6.0], [2.0, 2.0, 4.0]) == pytest.approx(1.5)
    with pytest.raises(ValueError, match="at least one pair"):
        paired_ratio([], [])
    with pytest.raises(ValueError, match="shorter"):
        paired_ratio([1.0, 2.0], [1.0])


def test_growth_is_the_fall_from_the_smallest_to_the_largest() -> None:
    assert growth({20_000: 160.0, 1_000: 200.0, 5_000: 999.0}) == pytest.approx(0.2)
    assert growth({1_000: 200.0, 20_000: 220.0}) == pytest.approx(-0.1)
    with pytest.raises(ValueError, match="two sizes"):
        growth({1_000: 200.0})


def test_a_spread_is_the_least_and_the_median() -> None:
    assert Spread.of([5.0, 1.0, 3.0]).shown() == {"minMs": 1.0, "medianMs": 3.0, "runs": 3}


def test_a_worker_that_ends_takes_no_time_away() -> None:
    # given two workers of a function, with 400 ms between them; one, with 300 ms, ends after another 50
    before = {"engine": 1_000.0, "processor": 400.0, ENDED: 0.0}
    after = {"engine": 1_500.0, "processor": 120.0, ENDED: 350.0}

    # then they used 70: 20 of the one that lives, 50 of the one that ended
    assert spent(before, after) == {"engine": 500.0, "processor": 0.0, ENDED: 70.0}


def test_a_target_says_whether_it_is_met() -> None:
    assert Target("a", 1.6, "at most", 1.6, "").is_met
    assert not Target("a", 1.61, "at most", 1.6, "").is_met
    assert Target("a", 200.0, "at least", 200.0, "/s").is_met
    assert not Target("a", 199.0, "at least", 200.0, "/s").is_met


def test_only_what_was_measured_is_judged() -> None:
    # given a run of cold starts alone
    found = {"cold": {"empty": {"ratio": 0.0}, "authorizer": {"ratio": 0.6}, "processor, sampled": {"ratio": 2.3}}}

    # then there are its targets and no others
    assert [(one.name, one.is_met) for one in judge(found)] == [
        ("cold start, authorizer", True),
        ("cold start, processor, sampled", False),
    ]


def test_two_runs_disagree_by_more_than_fifteen_per_cent_or_not() -> None:
    # given two runs of which one measured more
    one = {"cold": {"a": {"ratio": 1.0}, "empty": {"ratio": 0.0}}, "warm": {"b": {"ratio": 1.2}}}
    other = {
        "cold": {"a": {"ratio": 1.149}, "empty": {"ratio": 0.0}},
        "warm": {"b": {"ratio": 1.0}, "c": {"ratio": 9.0}},
    }

    # then only what both have is compared, whichever is the smaller, and an empty interpreter is no ratio
    assert ratios(one) == {"cold a ratio": 1.0, "warm b ratio": 1.2}
    assert disagreements(one, other) == disagreements(other, one) == {"warm b ratio": pytest.approx(0.2)}
