"""What a million jobs cost, from calls, units and bytes of one job, reckoned by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sluice_harness.bench import money
from sluice_harness.bench.assembly import Settings
from sluice_harness.bench.wire import Use, bytes_per_job, use

SETTINGS = Settings(
    {"processor": 512, "batch-simulator": 1024, "job-status": 512, "sweeper": 512, "authorizer": 512},
    trace_rate=0.01,
)
JOB = Use(
    calls={
        "sqs SendMessage, by the gateway": 1.0,
        "sqs ReceiveMessage, by Lambda": 0.2,
        "sqs DeleteMessageBatch, by Lambda": 0.2,
        "sqs SendMessageBatch": 0.1,
        "s3 PUT": 1.0,
        "events PutEvents": 0.1,
    },
    log_bytes={"processor": 400.0, "batch-simulator": 500.0, "access log": 300.0, "sweeper": 9_999.0},
    write_units=4.0,
    read_units=0.0,
    invocations={"processor": 0.1, "batch-simulator": 0.1, "sweeper": 7.0},
    duration_ms={"processor": 4.0, "batch-simulator": 10.0, "sweeper": 9_999.0},
)
READ = Use(
    calls={"dynamodb GetItem": 1.0},
    log_bytes={"job-status": 500.0, "access log": 300.0},
    write_units=0.0,
    read_units=1.0,
    invocations={"job-status": 1.0},
    duration_ms={"job-status": 6.0},
)


def test_each_line_of_jobs_that_are_read_once() -> None:
    # given jobs and reads as above
    lines = money.shown(money.per_million(JOB, READ, SETTINGS, 1))

    # then what runs by the clock, the sweeper here, is no part of a job
    assert lines == pytest.approx(
        {
            "API Gateway": 7.0,  # two requests at 3.50
            "SQS": 0.6,  # 1.5 requests at 0.40
            "DynamoDB, writes": 2.5,
            "DynamoDB, reads": 0.125,
            "S3, puts": 5.0,
            "Lambda, requests": 0.24,  # 1.2 at 0.20
            "EventBridge": 1.0,
            "X-Ray": 0.15,  # 1 % of two requests and 5 % of 0.2 polled batches, at 5.00
            "Lambda, arm64": 0.2,  # (4 + 6) ms of half a GB and 10 ms of a whole one: 0.015 GB-s
            "Logs": 1.0,  # 2,000 bytes at 0.50 a GB
            "Logs, kept": 0.06,
            "total": 17.875,
        },
        abs=1e-3,
    )


def test_a_read_more_costs_what_a_read_costs() -> None:
    # given the totals with none, one and three reads
    none, one, three = (money.shown(money.per_million(JOB, READ, SETTINGS, n))["total"] for n in (0, 1, 3))

    # then each read costs the same, but for rounding
    assert three - one == pytest.approx(2 * (one - none), abs=1e-3)


def test_better_durations_take_the_place_of_the_tapped_functions() -> None:
    # given a run without a tap
    untapped = money.per_million(JOB, READ, SETTINGS, 0, {"processor": 2.0, "batch-simulator": 5.0})

    # then only Lambda's time changes
    tapped = money.per_million(JOB, READ, SETTINGS, 0)
    assert {a.what for a, b in zip(tapped, untapped, strict=True) if a != b} == {"Lambda, arm64"}


def test_jobs_without_events_cost_nothing_on_the_bus() -> None:
    calls = {name: count for name, count in JOB.calls.items() if not name.startswith("events")}
    assert money.shown(money.per_million(replace(JOB, calls=calls), READ, SETTINGS, 0))["EventBridge"] == 0


def test_authorizations_are_priced_apart() -> None:
    # given a token's check of a millisecond in 512 MB: 0.0005 GB-s
    assert money.authorizations_per_million(1.0, 512) == pytest.approx(0.2 + 500 * 0.0000133334)


def test_what_cannot_be_tapped_is_counted_by_what_it_does() -> None:
    # given a hundred jobs in eleven and twelve batches
    counted = {
        "sent request": 100.0,
        "invocations processor": 11.0,
        "invocations batch-simulator": 12.0,
        "duration processor": 110.0,
        "duration batch-simulator": 240.0,
        "write units table": 300.0,
        "write units index": 100.0,
        "read units table": 0.0,
        "read units index": 0.0,
    }

    # when the functions themselves sent eleven batches of messages
    found = use(counted, {"sqs SendMessageBatch": 11.0}, {"processor": 400.0}, 100)

    # then a receive and a deletion go with each batch
    assert found.requests("sqs") == pytest.approx(1.0 + 0.11 + 2 * 0.23)
    assert found.write_units == 4.0
    assert found.duration_ms == {"processor": 1.1, "batch-simulator": 2.4}


def test_bytes_are_those_of_the_jobs_whose_lines_are_left() -> None:
    # given two jobs' lines of 30 and 31 bytes, in both forms of JSON, of a thousand jobs
    lines = ['{"outcome":"recorded","job":1}', '{"outcome": "recorded","job":2}', "REPORT 9 é"]

    # then bytes are counted in UTF-8
    assert bytes_per_job(lines, '"outcome":"recorded"', 1_000) == (30 + 31 + 11) / 2
    assert bytes_per_job(lines, None, 1_000) == 72 / 1_000
    assert bytes_per_job([], '"outcome":"recorded"', 10) == 0
