"""`docs/executors.md` against prices, what was measured, the stages' usual sizes and what the templates have."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from infra.billed import metrics_in_alarms, metrics_of_executors, number, table
from sluice_harness.bench import executor_money as money
from sluice_harness.description import ROOT
from sluice_harness.review.costs import MONTH_S, estimate, prices
from sluice_infra.executor_settings import Containers, retention_s
from sluice_infra.stages import stage_config

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.assemblies import Assembly
    from sluice_harness.review.costs import CostLine

pytestmark = pytest.mark.xdist_group("infra")

PAGE = (ROOT / "docs" / "executors.md").read_text()
SAID = " ".join(PAGE.split())
PRICES = prices()
TIMES_S = {"1 s": 1, "1 min": 60, "1 h": 3_600}
CANNOT = "cannot"


def dollars(found: dict[str, float] | None) -> str:
    return CANNOT if found is None else f"{found['total']:,.0f}"


def lines(executor: str) -> dict[str, CostLine]:
    """What a job uses besides its work, priced."""
    found = estimate(money.usual()[executor], PRICES)
    return {line.what: line for line in found if line.per_month is None}


def test_the_price_of_a_million_jobs_is_what_its_parts_come_to() -> None:
    told = table(PAGE, "a million jobs of")
    assert told == {
        time: [dollars(money.per_million(executor, work_s)) for executor in money.EXECUTORS]
        for time, work_s in TIMES_S.items()
    }


def test_what_a_job_uses_besides_its_work_is_what_was_measured_but_for_the_slots() -> None:
    # given the quantities of a job on each executor, and what each costs
    used = {executor: lines(executor) for executor in money.EXECUTORS}
    kinds = {what: line for one in used.values() for what, line in one.items()}

    # then the page has them, price by price
    told = table(PAGE, "what | price")
    totals = told.pop("total, USD a million jobs")
    expected = {
        what: [line.price, *(shown(one[what].quantity, line.unit) if what in one else "" for one in used.values())]
        for what, line in kinds.items()
    }
    assert told == expected
    sums = [sum(line.per_million or 0 for line in one.values()) for one in used.values()]
    assert totals == ["", *(f"{one:,.2f}" for one in sums)]


def shown(quantity: float | None, unit: str) -> str:
    """A quantity of one job; what is logged in bytes, and not in the unit of its price."""
    assert quantity is not None
    return f"{quantity * 1e9:,.0f} B" if unit.startswith("GB") and unit != "GB-s" else f"{quantity:,.3g}"


def test_it_is_reckoned_with_the_usual_sizes() -> None:
    # given what a stage has that says nothing of sizes
    usual, container = stage_config("prod"), Containers()

    # then that is what is priced, and said
    assert container.max_running == usual.stepfunctions.max_running == money.CAP
    assert f"reckoned with the usual cap of {money.CAP}" in SAID
    assert usual.work_memory_mib == money.WORK_GB * 1_024
    assert container.vcpu == money.VCPU
    assert container.memory_mib == money.CONTAINER_GB * 1_024
    assert f"have {money.WORK_GB:g} GiB" in SAID
    assert f"with {money.CONTAINER_START_S} s until the work begins" in SAID


def test_what_is_said_of_a_job_in_words() -> None:
    renewals = 3_600 / 10 * PRICES["perMillion"]["writeUnits"]
    assert f"an hour in a container is {renewals:.2f} a million" in SAID
    steps = -(-3_600 // money.LONGEST_INVOCATION_S)
    assert (steps, f"is five steps of {3_600 // steps // 60} minutes") == (5, "is five steps of 12 minutes")
    assert "An hour on `stepfunctions` is five steps of 12 minutes" in SAID
    one = PRICES["perMillion"]["transitions"]
    assert f"may be one fewer, {one:.2f} a million less" in SAID
    twice = next(slots for slots in range(1, 1_001) if money.slots_units(slots) == 2)
    highest = money.slots_units(1_000)
    assert f"two units each from {twice} slots taken on, and {highest} with a cap of 1,000" in SAID
    more = money.SLOTS_WRITES * (highest - money.slots_units(money.CAP)) * PRICES["perMillion"]["writeUnits"]
    assert f"where a million jobs are {more:.2f} more" in SAID


def test_what_the_account_must_have_is_what_the_usual_sizes_take() -> None:
    # given an executor of containers of which nothing is said, and what a workflow's job was measured to take
    container, transitions = Containers(), money.measured()["stepfunctions"].transitions

    # then the page has the CPUs and the transitions
    assert f"which is {container.max_running * container.vcpu:g} for each if nothing else is said" in SAID
    assert transitions == 5
    assert "a job has five transitions" in SAID


def test_how_many_jobs_may_wait_is_what_drains_while_their_queue_keeps_them() -> None:
    # given the retention of a stage that keeps rows as long as usual, and jobs of an hour
    config = replace(stage_config("prod"), draining=("stepfunctions",))
    kept_h = retention_s(config, "stepfunctions") / 3_600
    assert f"{kept_h / 24:g} days, or as long as rows live (`result_days`) without `timeout_s` and a day" in SAID
    assert "*max_running* x *retention* / *time of a job*" in SAID

    # then the page has what drains within it by the usual cap, by the highest, and how long a million takes
    usual, highest = config.stepfunctions.max_running, 1_000
    assert f"with a cap of {usual} and {kept_h / 24:g} days, {usual * kept_h:,.0f} jobs of an hour" in SAID
    assert f"the most that a cap may be, {highest:,}, {highest * kept_h:,.0f}." in SAID
    assert f"A million of them take {1e6 / highest / 24 / 7:.0f} weeks" in SAID


def test_what_a_stage_costs_besides_is_what_it_has_more(synthesized: Callable[[str], Assembly]) -> None:
    # given a stage with all executors, and one of the same settings without
    with_them, without, month = synthesized("longwork"), synthesized("local"), PRICES["perMonth"]
    interfaces = [
        one for one in with_them.of_type("EC2::VPCEndpoint").values() if one["VpcEndpointType"] == "Interface"
    ]
    zones = sum(len(one["SubnetIds"]) for one in interfaces)
    hour = PRICES["perHour"]["endpointZone"]
    expected = {
        "Interface endpoints, by zone": (zones, hour * MONTH_S / 3_600),
        "Alarms, by the metrics that they read": (
            metrics_in_alarms(with_them) - metrics_in_alarms(without),
            month["alarmMetric"],
        ),
        "Dashboards": (
            len(with_them.of_type("CloudWatch::Dashboard")) - len(without.of_type("CloudWatch::Dashboard")),
            month["dashboard"],
        ),
        "Metrics of executors": (metrics_of_executors(executors=3, job_types=3), month["customMetric"]),
    }

    # then the table says so
    told = table(PAGE, "what | how many")
    total = told.pop("total")[-1]
    assert {row: (number(cells[0]), number(cells[1])) for row, cells in told.items()} == expected
    products = [count * each for count, each in expected.values()]
    assert [number(cells[2]) for cells in told.values()] == pytest.approx(products)
    assert number(total) == pytest.approx(sum(products))
    assert f"there are {zones // len(interfaces)} zones and {len(interfaces)} of them" in SAID


def test_what_runs_by_the_clock(synthesized: Callable[[str], Assembly]) -> None:
    # given a starter and a reconciler, each minute, for three executors
    stage, minutes, executors = synthesized("longwork"), MONTH_S // 60, 3
    a_million = PRICES["perMillion"]
    memory_gb = stage.function("starter")[1]["MemorySize"] / 1_024
    # The starter waits a second at each empty queue; the reconciler hardly at all.
    waits = minutes * executors * memory_gb * PRICES["perGbSecond"]["arm64"]
    slots = minutes * executors * 2 * a_million["writeUnits"] / 1e6
    # Each look is an invocation, and traced, for it is its second's first. Five pollers ask for completions.
    looks = minutes * 2 * (a_million["lambdaRequests"] + a_million["traces"]) / 1e6
    polls = (minutes * 3 * 5 + minutes * executors) * a_million["sqsRequests"] / 1e6

    by_the_clock = waits + slots + looks + polls
    assert f"By the clock, about {by_the_clock:.1f}0" in SAID

    # and docs/costs.md has what that comes to with the rest
    by_the_month = number(table(PAGE, "what | how many")["total"][-1])
    assert f"costs about {by_the_month + by_the_clock:.0f} more" in (ROOT / "docs" / "costs.md").read_text()


def test_the_page_names_where_the_prices_are_from() -> None:
    # given the prices that no page of AWS's has confirmed
    sources = PRICES["sources"].items()
    unconfirmed = {name for names, said in sources if "not confirmed" in said for name in names.split(", ")}

    # then the page says so of each
    assert unconfirmed == {"fargateVcpu", "fargateGb", "endpointZone", "s3Gets"}
    (sentence,) = re.findall(r"[^.]* are not confirmed by a page of AWS[^.]*", SAID)
    assert all(word in sentence for word in ("Fargate", "endpoints", "S3's reads"))
