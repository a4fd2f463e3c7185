"""`docs/costs.md` against the price list, what was measured, and what the templates have that is billed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from infra.billed import OF_EXECUTORS, metrics_in_alarms, number, table
from infra.watched import CATALOGUE
from sluice_harness.bench import money
from sluice_harness.description import ROOT
from sluice_harness.review.costs import MONTH_S, prices

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.assemblies import Assembly

pytestmark = pytest.mark.xdist_group("infra")

PAGE = (ROOT / "docs" / "costs.md").read_text()
MEASURED = (ROOT / "docs" / "performance.md").read_text()
PRICES = prices()
# Rounded to cents: a line, and the sum of a dozen of them.
A_LINE, A_SUM = 0.01, 0.03
OF_A_MILLION = PRICES["perMillion"]
# By row of the table: the price as it is said there.
BY_USE = {
    "API Gateway": OF_A_MILLION["apiRequests"],
    "S3, puts": OF_A_MILLION["s3Puts"],
    "DynamoDB, writes": OF_A_MILLION["writeUnits"],
    "DynamoDB, reads": OF_A_MILLION["readUnits"],
    "EventBridge": OF_A_MILLION["events"],
    "SQS": OF_A_MILLION["sqsRequests"],
    "Lambda, requests": OF_A_MILLION["lambdaRequests"],
    "Lambda, arm64": PRICES["perGbSecond"]["arm64"] * 1e6,
    "X-Ray": OF_A_MILLION["traces"],
    "Logs": PRICES["perLogGb"],
    "Logs, kept": PRICES["perLogGbMonth"],
}
GB_OF_A_MILLION_BYTES = 0.001
# Count, Latency, IntegrationLatency, 4XXError, 5XXError (API Gateway, "CloudWatch metrics").
METRICS_OF_A_METHOD = 5


# --- by the job


def test_each_line_is_quantity_times_price_and_as_measured() -> None:
    # given the table, and performance.md's column of one read
    by_job, measured = table(PAGE, "what | for each job"), table(MEASURED, "USD per million jobs")
    usd = {row: number(cells[-1]) for row, cells in by_job.items()}

    # then each of its lines is what was measured
    assert usd == {row: number(cells[1]) for row, cells in measured.items()}

    # and comes from the quantity and the price beside it
    for row, price in BY_USE.items():
        quantity, unit, said, _ = by_job[row]
        assert number(said.split()[0]) == pytest.approx(price), row
        priced = number(quantity) * (GB_OF_A_MILLION_BYTES if unit == "bytes" else 1)
        assert priced * price == pytest.approx(usd[row], abs=A_LINE), row
    assert sum(usd.values()) - usd["total"] == pytest.approx(usd["total"], abs=A_SUM)


def test_what_is_said_of_a_job_in_words() -> None:
    none, one, _ = map(number, table(MEASURED, "USD per million jobs")["total"])
    quantity = {row: number(cells[0]) for row, cells in table(PAGE, "what | for each job").items() if cells[0]}

    # a job alone: sent twice, received twice, deleted twice; processor, worker, publisher and one read
    alone = (6 - quantity["SQS"]) * OF_A_MILLION["sqsRequests"] + (
        4 - quantity["Lambda, requests"]
    ) * OF_A_MILLION["lambdaRequests"]
    assert f"6 SQS requests and 4 invocations, and costs {alone:.2f} a million more" in PAGE
    assert f"which saves up to {alone:.2f}," in PAGE
    assert f"works costs {PRICES['perGbSecond']['arm64'] * 1e6:.2f} a million jobs at 1 GiB" in PAGE
    assert f"each further read of a status is {one - none:.2f}." in PAGE
    polled = money._DEFAULT_TRACE_RATE * (quantity["Lambda, requests"] - 1)
    for rate, said in ((0.01, "at 0.01 X-Ray is {:.2f}"), (1.0, "every request is traced, and it is {:.2f}")):
        assert said.format((2 * rate + polled) * OF_A_MILLION["traces"]) in PAGE


def test_each_knob_s_line_is_that_of_the_table() -> None:
    usd = {row: cells[-1] for row, cells in table(PAGE, "what | for each job").items()}
    knobs = {row: re.findall(r"\d+\.\d+", cells[-1]) for row, cells in table(PAGE, "knob | where").items()}

    assert knobs["**events**"] == [usd["EventBridge"]]
    assert knobs["`log_days`"] == [usd["Logs, kept"]]
    assert knobs["`memory_mib`, `work_memory_mib`"] == [usd["Lambda, arm64"]]
    assert knobs["lines of your own"] == [f"{PRICES['perLogGb']:.2f}"]
    assert knobs["the list index"] == [f"{OF_A_MILLION['writeUnits']}"]


def test_the_ceiling_is_a_day_at_the_throttle(synthesized: Callable[[str], Assembly]) -> None:
    # given prod's throttle, and what submissions cost that nobody reads
    (settings,) = synthesized("prod").only("ApiGateway::Stage")["MethodSettings"]
    rate = settings["ThrottlingRateLimit"]
    millions, unread = 86_400 * rate / 1e6, number(table(MEASURED, "USD per million jobs")["total"][0])

    assert f"At prod's {rate:,} a client gone wild" in PAGE
    assert f"{millions} million jobs a day, which is about {round(millions * unread, -2):,.0f}; at 10," in PAGE
    assert f"about {millions * unread * 10 / rate:.0f}. Set it" in PAGE


# --- by the month


def test_what_a_stage_costs_by_the_month_is_what_it_has(synthesized: Callable[[str], Assembly]) -> None:
    # given a stage without a traffic shift, and what it has of what costs by the month
    dev, month = synthesized("dev"), PRICES["perMonth"]
    here = [metric for metric in CATALOGUE.values() if metric not in OF_EXECUTORS]
    ours = sum(len(metric.dimension_sets) for metric in here if not metric.by_client)
    expected = {
        "Alarms, by the metrics that they read": (metrics_in_alarms(dev), month["alarmMetric"]),
        "Composite alarms": (len(dev.of_type("CloudWatch::CompositeAlarm")), month["compositeAlarm"]),
        "Dashboards": (len(dev.of_type("CloudWatch::Dashboard")), month["dashboard"]),
        "Metrics of ours": (ours, month["customMetric"]),
        "API Gateway's metrics by method": (
            METRICS_OF_A_METHOD * len(dev.of_type("ApiGateway::Method")),
            month["customMetric"],
        ),
        "Key of the alarms' topic": (len(dev.of_type("KMS::Key")), 1.0),
    }

    # then the table says so, line by line
    by_month = table(PAGE, "what | how many")
    totals = by_month.pop("total")
    assert {row: (number(cells[0]), number(cells[1])) for row, cells in by_month.items()} == expected
    for row, (count, price) in expected.items():
        assert number(by_month[row][2]) == pytest.approx(count * price), row
        assert by_month[row][3] in ("", by_month[row][2]), row
    for column in (2, 3):
        assert sum(number(cells[column]) for cells in by_month.values()) == pytest.approx(number(totals[column]))


def test_what_is_said_of_a_month_in_words(synthesized: Callable[[str], Assembly]) -> None:
    watching = metrics_in_alarms(synthesized("prod")) - metrics_in_alarms(synthesized("dev"))
    by_type = sum(metric.by_job_type for metric in CATALOGUE.values() if metric not in OF_EXECUTORS)
    by_client = sum(metric.by_client for metric in CATALOGUE.values())
    each = PRICES["perMonth"]["customMetric"]

    assert f"{watching} more metrics in alarms, {watching * PRICES['perMonth']['alarmMetric']:.2f}," in PAGE
    assert f"Each further job type is {by_type} metrics more, {by_type * each:.2f}." in PAGE
    assert f"load tests ran has {by_client} more, {by_client * each:.2f}." in PAGE
    # CloudWatch's free tier: 3 dashboards, 10 metrics, 10 alarms
    free = 3 * PRICES["perMonth"]["dashboard"] + 10 * (each + PRICES["perMonth"]["alarmMetric"])
    assert f"the first stage is {free:.2f} cheaper" in PAGE


def test_what_runs_by_the_clock(synthesized: Callable[[str], Assembly]) -> None:
    # given Lambda's five pollers for each queue, which wait 20 s (AWS Lambda, "Using Lambda with Amazon SQS")
    dev, minutes = synthesized("dev"), MONTH_S // 60
    queues = [one for one in dev.of_type("Lambda::EventSourceMapping").values() if "ScalingConfig" in one]
    polls = len(queues) * 5 * 3 * minutes
    # and a sweeper that waits a second for each of two dead-letter queues, and is traced, as each second's first
    gigabytes = dev.function("sweeper")[1]["MemorySize"] / 1024
    sweeps = 2 * minutes * gigabytes * PRICES["perGbSecond"]["arm64"]
    traces = minutes * OF_A_MILLION["traces"] / 1e6

    # then the page says so
    polling = polls / 1e6 * OF_A_MILLION["sqsRequests"]
    said = " ".join(PAGE.split())
    assert f"every 20 s: {polls / 1e6:.1f} million requests, {polling:.2f})" in said
    assert f"runs {minutes:,} times for two seconds" in said
    assert f"empty dead-letter queues ({sweeps:.2f}, and {traces:.2f} for its traces)" in said
    calls = minutes * (2 * OF_A_MILLION["sqsRequests"] + OF_A_MILLION["lambdaRequests"]) / 1e6
    assert f"By the clock, about {polling + sweeps + traces + calls:.1f}0:" in said


def test_the_examples_add_up() -> None:
    examples, totals = table(PAGE, "USD a month"), table(PAGE, "what | how many")["total"]
    by_job = number(table(PAGE, "what | for each job")["total"][-1])
    clock = number(re.findall(r"By the clock, about ([\d.]+):", PAGE)[0])
    watching = number(re.findall(r"more metrics in alarms, ([\d.]+),", PAGE)[0])

    for column, millions in enumerate((1, 100)):
        parts = (by_job * millions, number(totals[2]) + watching, clock)
        shown = [number(cells[column]) for cells in examples.values()]
        assert shown == pytest.approx([*parts, sum(parts)])
    idle, working = (round(number(totals[column]) + clock) for column in (3, 2))
    assert f"about {idle} a month while nothing is done, {working} while it works, and {round(by_job)} for" in PAGE


def test_prices_are_of_the_list_s_time_and_place() -> None:
    assert f"AWS's of {PRICES['asOf']} for {PRICES['region']}, in {PRICES['currency']}" in PAGE


# --- being told


@pytest.mark.parametrize("block", re.findall(r"^```sh\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL))
def test_aws_takes_these_commands(block: str) -> None:
    # given a command of the page, with an account's number in place of the question for it
    command = re.sub(r'"\$\(aws sts [^)]*\)"', "123456789012", block).rstrip()

    # when the AWS CLI checks its parameters, and sends nothing
    done = subprocess.run(
        ["bash", "-c", f"{command} --generate-cli-skeleton output"],
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "AWS_DEFAULT_REGION": "us-east-1"},
        capture_output=True,
        text=True,
        check=False,
    )

    # then it has nothing against them
    assert (done.returncode, done.stderr) == (0, "")
