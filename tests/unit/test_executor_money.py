"""What work adds to a job's price, reckoned by hand from the price list."""

from __future__ import annotations

import json

import pytest
from sluice_core.executors import BATCH, ECS, LAMBDA, STEP_FUNCTIONS
from sluice_harness.bench import executor_money as money
from sluice_harness.description import ROOT


def added(executor: str, work_s: float) -> dict[str, float]:
    """What a million jobs' work adds to each line, beyond work of no time."""
    priced, without = money.per_million(executor, work_s), money.per_million(executor, 0)
    assert priced is not None
    assert without is not None
    found = {what: usd - without[what] for what, usd in priced.items() if what != "total"}
    assert priced["total"] - without["total"] == pytest.approx(sum(found.values()))
    return {what: usd for what, usd in found.items() if usd > 1e-9}


def test_a_function_is_billed_by_the_second() -> None:
    # A second of a GiB at 0.0000133334.
    assert added(LAMBDA, 1) == pytest.approx({"Lambda, arm64": 13.3334})


def test_longer_work_comes_one_by_one_and_renews_its_lease() -> None:
    assert added(LAMBDA, 60) == pytest.approx(
        {
            "Lambda, arm64": 800.004,
            "Lambda, requests": 0.18,  # the nine tenths of an invocation that a batch of ten saves
            "SQS": 3.12,  # those of a receive and of a deletion, and six renewals, at 0.40
            "DynamoDB, writes": 3.75,  # six renewals at 0.625
        }
    )


def test_no_function_lasts_an_hour() -> None:
    assert money.per_million(LAMBDA, 14 * 60) is not None
    assert money.per_million(LAMBDA, 14 * 60 + 1) is None


def test_a_workflow_of_an_hour_has_four_steps_more() -> None:
    assert added(STEP_FUNCTIONS, 60) == pytest.approx({"Lambda, arm64": 800.004, "DynamoDB, reads": 0.125})
    assert added(STEP_FUNCTIONS, 3_600) == pytest.approx(
        {
            "Lambda, arm64": 48_000.24,
            "Lambda, requests": 0.8,
            "Step Functions": 100.0,  # at 25.00
            "S3, puts": 20.0,
            "S3, gets": 1.6,
            "DynamoDB, reads": 7.5,  # a unit a minute at 0.125
        }
    )


@pytest.mark.parametrize("executor", [BATCH, ECS])
def test_a_container_is_billed_from_its_start_and_for_a_minute_at_least(executor: str) -> None:
    # given work of a second and of fifty, which with ten seconds' start are within a minute
    short, minute = money.per_million(executor, 1), money.per_million(executor, 50)
    assert short is not None
    assert minute is not None

    # then both have a minute of a core at 0.03238 an hour, and of two GB at 0.00356
    for usd in (short, minute):
        assert usd["Fargate, CPU, arm64"] == pytest.approx(539.6667, abs=1e-3)
        assert usd["Fargate, memory, arm64"] == pytest.approx(118.6667, abs=1e-3)

    # and an hour's work 3,610 seconds, and 360 renewals
    assert added(executor, 3_600) == pytest.approx(
        {
            "Fargate, CPU, arm64": 3_550 / 3_600 * 32_380,
            "Fargate, memory, arm64": 3_550 / 3_600 * 7_120,
            "DynamoDB, writes": 225.0,
            "DynamoDB, reads": 7.5,
        }
    )


def test_slots_cost_by_how_many_are_taken() -> None:
    # given items of 28 bytes and 22 for each slot, by the kilobyte
    assert [money.slots_units(cap) for cap in (1, 10, 45, 46, 92, 1_000)] == [1, 1, 1, 2, 3, 22]


def test_a_job_is_priced_with_the_usual_cap() -> None:
    # given four writes a job of an item that takes two units where it was measured with one
    more = {name: one.write_units - money.measured()[name].write_units for name, one in money.usual().items()}
    assert more == pytest.approx({LAMBDA: 0, STEP_FUNCTIONS: 4, BATCH: 4, ECS: 4})


def test_what_was_measured_is_written_as_it_is_read() -> None:
    # given the file, when what is read of it is shown again, then it is what was written
    file = ROOT / "packages" / "harness" / "src" / "sluice_harness" / "bench" / "executors.json"
    written = json.loads(file.read_text())["perJob"]
    assert {name: money.shown(usage) for name, usage in money.measured().items()} == written
