"""The schedule of a load test: how many, when, by whom, and the same in every process."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from pacing import BASELINE, LOAD, Arrival, Schedule, Timeline, owner_weights
from sluice_harness.description import ROOT
from sluice_harness.loadtest.scenarios import Scenario, Stage, load_scenarios

SCENARIOS = load_scenarios(ROOT / "loadtests" / "scenarios.toml")
STEADY = replace(
    SCENARIOS["steady"],
    jobs=100,
    rate=10.0,
    stages=(Stage(10, 1.0),),
    users={"submitter": 0.5, "forgetter": 0.3, "poller": 0.1, "hostile": 0.1},
)


def schedule(scenario: Scenario = STEADY, **asked: Any) -> Schedule:
    return Schedule(scenario, asked.get("jobs"), asked.get("rate"), asked.get("owners", 5))


def submissions(made: Schedule) -> list[Arrival]:
    return [one for one in made if one.submits]


def test_submissions_come_at_the_rate_whatever_becomes_of_them() -> None:
    times = [one.at_s for one in submissions(schedule())]
    assert times == pytest.approx([n / 10 for n in range(100)])


@pytest.mark.parametrize(("number", "second"), [(0, 0), (10, 10), (110, 20), (160, 25), (220, 40)])
def test_a_spike_is_where_its_stage_is(number: float, second: float) -> None:
    # given 1/s for ten seconds, then 10/s for ten, then 10/s and on at that rate
    timeline = Timeline([(10, 1.0), (10, 10.0), (10, 10.0)])
    # then
    expected = second if number <= 110 else 10 + (number - 10) / 10
    assert timeline.when(number) == pytest.approx(expected)


@pytest.mark.parametrize("jobs", [1, 37, 1_000])
def test_as_many_are_submitted_as_were_asked_for_at_the_same_rate(jobs: int) -> None:
    # when another number is asked for, the stages last as long as that takes
    made = schedule(jobs=jobs)
    times = [one.at_s for one in submissions(made)]
    assert len(times) == made.submissions == jobs
    assert max(times) == pytest.approx((jobs - 1) / 10)


@pytest.mark.parametrize(("rate", "count"), [(5.0, 100), (20.0, 200)])
def test_another_rate_never_means_fewer(rate: float, count: int) -> None:
    assert len(submissions(schedule(rate=rate))) == count


def test_a_rate_of_none_is_all_of_them_at_once() -> None:
    made = schedule(replace(STEADY, rate=0.0, stages=()))
    assert {one.at_s for one in made} == {0.0}
    assert len(submissions(made)) == 100


def test_shares_are_kept() -> None:
    made = schedule(jobs=10_000)
    counts = Counter(one.kind for one in made)
    # those that submit share the submissions, and the others come beside them in proportion
    assert counts["submitter"] + counts["forgetter"] == 10_000
    assert counts["submitter"] / 10_000 == pytest.approx(5 / 8, abs=0.02)
    assert counts["poller"] == counts["hostile"] == pytest.approx(10_000 / 8, abs=1)


def test_several_processes_do_all_of_it_and_nothing_twice() -> None:
    # given what each of three processes makes of the same scenario
    parts = [[one for one in schedule(jobs=200) if one.ordinal % 3 == index] for index in range(3)]
    # then together it is what one would do
    together = Counter(one for part in parts for one in part)
    assert together == Counter(schedule(jobs=200))
    assert [sum(one.submits for one in part) for part in parts] == [67, 67, 66]


def test_owners_are_skewed_by_zipf_s_law() -> None:
    # given ten owners
    assert owner_weights(3, 1.0) == pytest.approx([1, 1 / 2, 1 / 3])
    assert owner_weights(3, 0.0) == [1, 1, 1]
    counts = Counter(one.owner for one in submissions(schedule(replace(STEADY, skew=1.2), jobs=10_000, owners=10)))
    # then the first of them sends about a third, and each less than the one before
    assert counts[0] / 10_000 == pytest.approx(1 / sum(owner_weights(10, 1.2)), abs=0.02)
    assert [owner for owner, _ in counts.most_common()][:4] == [0, 1, 2, 3]


def test_quiet_owners_are_alone_at_first_and_send_as_much_later() -> None:
    # given one owner who will send nine tenths
    noisy = replace(STEADY, noisy_share=0.9, skew=None, stages=(Stage(20, 0.1), Stage(20, 1.0)))
    made = submissions(schedule(noisy, jobs=11_000))
    counts = Counter((one.phase, one.owner == 0) for one in made)
    # then
    assert counts[BASELINE, True] == 0
    assert counts[BASELINE, False] == 1_000
    assert counts[LOAD, True] / 10_000 == pytest.approx(0.9, abs=0.01)
    assert counts[LOAD, False] == pytest.approx(1_000, abs=100)
    # and nobody follows what the noisy one sends
    assert {one.kind for one in made if one.owner == 0} == {"forgetter"}


def test_further_ones_stand_in_for_those_that_were_refused() -> None:
    made = schedule()
    further = made.further()
    assert [next(further).ordinal for _ in range(3)] == [100, 101, 102]


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"users": {"poller": 1.0}}, "share of users"), ({"noisy_share": 0.9}, "noisy owner needs another")],
)
def test_a_scenario_that_cannot_be_scheduled_says_why(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        schedule(replace(STEADY, **changes), owners=1)


@pytest.mark.parametrize("name", ["smoke", "steady", "ramp", "spike", "soak", "backlog", "noisy", "poison"])
def test_every_scenario_s_stages_hold_its_jobs_as_they_are(name: str) -> None:
    # so that their seconds are what the file says
    scenario = SCENARIOS[name]
    held = sum(stage.seconds * stage.rate * scenario.rate for stage in scenario.stages)
    assert held == pytest.approx(scenario.jobs if scenario.rate else 0)
    assert len(submissions(schedule(scenario, owners=scenario.owners))) == scenario.jobs


def test_spike_is_ten_times_the_load_for_a_minute() -> None:
    assert [(one.seconds, one.rate) for one in SCENARIOS["spike"].stages][1] == (60, 10.0)
    assert SCENARIOS["smoke"].stages == (Stage(60, 1.0),)
    assert SCENARIOS["noisy"].noisy_share == 0.9
