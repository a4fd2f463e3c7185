"""What a window costs, against figures reckoned by hand from the price list of ``aws-facts``."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sluice_harness.cloudwatch.definitions import read_alarm
from sluice_harness.review.alarms import AlarmState
from sluice_harness.review.costs import MONTH_S, CostLine, Usage, estimate, prices, total
from sluice_harness.review.figures import duration, figure, money, percent
from sluice_harness.review.series import SeriesReader
from sluice_harness.review.usage import Counts
from unit.reviewed import STAGE, Recorded, alarm, metric, own, query, states, window

# An hour of a thousand jobs.
USAGE = Usage(
    seconds=3_600,
    jobs=1_000,
    api_requests=3_000,
    sqs_requests=6_000,
    lambda_requests=4_000,
    gb_seconds={"arm64": 250.0},
    write_units=5_000,
    read_units=2_000,
    s3_puts=1_000,
    log_bytes=2_000_000,
    custom_metrics=50,
    alarm_metrics=80,
    composite_alarms=6,
    dashboards=2,
)


def lines(usage: Usage) -> dict[str, CostLine]:
    return {line.what: line for line in estimate(usage, prices())}


def test_each_line_by_hand() -> None:
    found = lines(USAGE)
    assert {what: line.window for what, line in found.items() if line.per_month is None} == pytest.approx(
        {
            "API Gateway": 0.0105,  # 3,000 at 3.50 a million
            "SQS": 0.0024,  # 6,000 at 0.40
            "Lambda, requests": 0.0008,  # 4,000 at 0.20
            "Lambda, arm64": 0.00333335,  # 250 GB-s at 0.0000133334
            "DynamoDB, writes": 0.003125,  # 5,000 at 0.625
            "DynamoDB, reads": 0.00025,  # 2,000 at 0.125
            "S3, puts": 0.005,  # 1,000 at 5.00
            "Logs": 0.001,  # 2 MB at 0.50 a GB
        }
    )
    # A thousand times the window's thousand jobs.
    assert found["API Gateway"].per_million == pytest.approx(10.5)


def test_what_stands_by_the_month() -> None:
    found = {what: line for what, line in lines(USAGE).items() if line.per_month is not None}
    assert {what: line.per_month for what, line in found.items()} == pytest.approx(
        {"Custom metrics": 15.0, "Alarms": 8.0, "Composite alarms": 3.0, "Dashboards": 6.0}
    )
    # An hour of it: a 730th. No number of jobs changes it.
    assert found["Custom metrics"].window == pytest.approx(15 / 730)
    assert {line.per_million for line in found.values()} == {None}
    assert MONTH_S == 730 * 3_600


def test_totals_are_of_what_is_known() -> None:
    # Given logs that nobody counts
    found = list(lines(replace(USAGE, log_bytes=None)).values())

    # Then the totals are of the rest
    assert total(found, "per_month") == pytest.approx(32)
    assert total(found, "window") == pytest.approx(0.02540835 + 32 / 730)
    assert lines(replace(USAGE, log_bytes=None))["Logs"].window is None


def test_without_jobs_there_is_no_price_of_one() -> None:
    assert lines(replace(USAGE, jobs=0))["SQS"].per_million is None


def test_architectures_have_prices_of_their_own() -> None:
    found = lines(replace(USAGE, gb_seconds={"x86_64": 1e6, "arm64": 1e6}))
    assert (found["Lambda, x86_64"].window, found["Lambda, arm64"].window) == pytest.approx((16.6667, 13.3334))


# What is counted


def used(source: Recorded) -> Usage:
    listed = {
        namespace: [one for one in source.samples if one.namespace == namespace]
        for namespace in ("Sluice", "AWS/ApiGateway", "AWS/DynamoDB")
    }
    counts = Counts(STAGE, window(), SeriesReader(source))
    return counts.usage(
        listed, states(), {"fn-processor": (512, "arm64"), "fn-sweeper": (1_024, "arm64")}, ["/a", "/b"]
    )


def test_usage_is_counted_from_metrics() -> None:
    # Given what the services measured, some of it of others
    source = Recorded()
    for name in ("NumberOfMessagesSent", "NumberOfMessagesReceived", "NumberOfEmptyReceives"):
        source.add(metric("AWS/SQS", name, QueueName="requests"), 1, 10.0)
        source.add(metric("AWS/SQS", name, QueueName="work-dlq"), 2, 1.0)
        source.add(metric("AWS/SQS", name, QueueName="another"), 2, 500.0)
    source.add(metric("AWS/Lambda", "Invocations", FunctionName="fn-processor"), 1, 1.0, 1.0)
    source.add(metric("AWS/Lambda", "Duration", FunctionName="fn-processor"), 1, 500.0, 1_500.0)
    source.add(metric("AWS/Lambda", "Duration", FunctionName="fn-sweeper"), 1, 3_000.0)
    index = {"TableName": "jobs", "GlobalSecondaryIndexName": "byOwner"}
    source.add(metric("AWS/DynamoDB", "ConsumedWriteCapacityUnits", TableName="jobs"), 3, 4.0)
    source.add(metric("AWS/DynamoDB", "ConsumedWriteCapacityUnits", **index), 3, 2.0)
    source.add(metric("AWS/DynamoDB", "ConsumedWriteCapacityUnits", TableName="others"), 3, 99.0)
    source.add(metric("AWS/DynamoDB", "ConsumedReadCapacityUnits", TableName="jobs"), 3, 0.5)
    source.add(metric("AWS/Logs", "IncomingBytes", LogGroupName="/a"), 3, 300.0)
    source.add(own("JobsCompleted"), 1, 1.0, 1.0)
    source.add(own("ResultsDiscarded"), 1, 1.0)
    source.add(metric("Sluice", "JobsCompleted", Stage="other"), 1, 70.0)
    found = used(source)

    # Then only this stage's is in it
    assert found.sqs_requests == 33
    assert (found.lambda_requests, found.gb_seconds) == (2, {"arm64": 2.0 * 0.5 + 3.0})
    assert (found.write_units, found.read_units) == (6, 0.5)
    assert (found.s3_puts, found.log_bytes, found.custom_metrics) == (3, 300, 2)
    # One metric of each of two alarms, two of each of two, one of each of two more; and the composite.
    assert (found.alarm_metrics, found.composite_alarms, found.dashboards) == (8, 1, 1)
    assert used(Recorded()).log_bytes is None


def test_the_api_is_the_one_that_alarms_watch() -> None:
    # Given two APIs, one of which an alarm is on
    ours, theirs = (metric("AWS/ApiGateway", "Count", ApiName=name, Stage="local") for name in ("ours", "theirs"))
    source = Recorded()
    source.add(ours, 1, 1.0, 1.0, 1.0)
    source.add(theirs, 1, *[1.0] * 50)
    watched = metric("AWS/ApiGateway", "5XXError", ApiName="ours", Stage="local")
    on_it = AlarmState(read_alarm(alarm("api", query("m", watched, "Sum"), threshold=1)), "OK", 0, "")

    # When requests are counted, then those of the other are not
    counts = Counts(STAGE, window(), SeriesReader(source))
    listed = {"Sluice": [], "AWS/DynamoDB": [], "AWS/ApiGateway": [ours, theirs]}
    assert counts.usage(listed, [on_it], {}, []).api_requests == 3


def test_the_summary_counts_each_job_in_the_ledger_once() -> None:
    # Given recorded and rejected submissions, and three cancellations, one of a request that nobody had read
    source = Recorded()
    source.add(own("SubmissionsRecorded"), 1, *[1.0] * 9)
    source.add(own("SubmissionsRejected"), 1, 1.0)
    source.add(own("JobsCancelled"), 2, *[1.0] * 3)
    source.add(own("JobsCancelled", JobType="weather-report"), 2, *[1.0] * 2)
    source.add(metric("Sluice", "JobsCancelled", Stage="other", JobType="weather-report"), 2, 1.0)
    source.add(own("JobsFailed"), 2, 1.0)
    source.add(own("EndToEnd"), 2, 100.0, 200.0)
    found = Counts(STAGE, window(), SeriesReader(source)).summary(list(source.samples))

    # Then that one, which was never recorded, is among the submitted
    assert (found.submitted, found.completed, found.failed, found.cancelled) == (11, 0, 1, 3)
    assert (found.p50_ms, found.p95_ms) == pytest.approx((150, 195))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1234.5678, "1,235"),
        (0.012345, "0.01235"),
        (12.0, "12"),
        (100, "100"),
        (1e9, "1,000,000,000"),
        (None, "—"),
    ],
)
def test_numbers_to_read(value: float | None, text: str) -> None:
    assert figure(value) == text


def test_shares_times_and_sums_to_read() -> None:
    # What failed is never rounded away.
    assert percent(1.0) == "100 %"
    assert percent(0.9999999) == "> 99.99 %"
    assert [duration(value) for value in (12.34, 1_234.0, 75_000.0, None)] == [
        "12.3 ms",
        "1.23 s",
        "1.25 min",
        "—",
    ]
    assert [money(value) for value in (0, 12.345, 0.00345, 0.0000012, None)] == [
        "0.00",
        "12.35",
        "0.0034",
        "< 0.0001",
        "—",
    ]
