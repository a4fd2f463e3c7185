"""The benchmark in its short form: every part once, on a local stage of its own, and figures that can be true."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from sluice_harness.description import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.xdist_group("bench"), pytest.mark.usefixtures("assembly")]

JOBS = 50
CONSUMERS = ("processor", "batch-simulator")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run it as a user would, but for its size."""
    out: Path = tmp_path_factory.mktemp("bench") / "bench.json"
    sizes = ["--jobs", str(JOBS), "--rounds", "2", "--functions", "processor", "--batches", "4"]
    done = subprocess.run(
        [sys.executable, "-m", "sluice_harness.bench", *sizes, "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "targets met" in done.stdout
    figures: dict[str, Any] = json.loads(out.read_text())
    return figures


def test_a_cold_start_is_compared_with_boto3s(found: dict[str, Any]) -> None:
    # given the one function that was asked for, with and without a sampled job
    cold = found["cold"]
    assert list(cold) == ["empty", "baseline", "processor", "processor, sampled"]

    # then it costs more than an empty interpreter, and a ratio is to the baseline
    assert 0 < cold["empty"]["minMs"] < cold["processor"]["minMs"]
    assert cold["baseline"]["ratio"] == 1
    assert 0.3 < cold["processor"]["ratio"] < 5


def test_a_warm_handler_makes_the_calls_that_it_is_compared_with(found: dict[str, Any]) -> None:
    warm = found["warm"]

    # then a batch is recorded and sent on in two calls, and claimed, stored and completed in twelve
    assert warm["processor"]["calls"] == ["dynamodb BatchExecuteStatement", "sqs SendMessageBatch"]
    ledger, put = "dynamodb BatchExecuteStatement", "s3 PutObject"
    assert warm["batch-simulator"]["calls"] == [ledger, *[put] * 10, ledger]
    assert warm["job-status open"]["calls"] == warm["job-status completed"]["calls"] == ["dynamodb GetItem"]

    # and costs something beyond them, of which the work itself is known
    assert all(one["bareMs"] > 0 and 0.7 < one["ratio"] < 20 for one in warm.values())
    assert 0 < warm["batch-simulator"]["workloadMs"] < warm["batch-simulator"]["handlerMs"]
    assert warm["job"]["bareMs"] == pytest.approx(sum(warm[name]["bareMs"] for name in CONSUMERS), abs=1e-3)


def test_a_jobs_calls_are_counted_at_the_wire(found: dict[str, Any]) -> None:
    job, read = found["wire"]["job"], found["wire"]["read"]

    # then each job was sent once by the gateway, stored once, and written in four units
    assert job["calls"]["sqs SendMessage, by the gateway"] == 1
    assert job["calls"]["s3 PUT"] == 1
    assert job["writeUnits"] == 4
    assert 1.3 <= job["requests"]["sqs"] < 3

    # and a read is one read unit and no call but its own
    assert (read["calls"], read["readUnits"], read["writeUnits"]) == ({"dynamodb GetItem": 1}, 1, 0)

    # and both leave something in the log
    assert {"processor", "batch-simulator", "access log"} <= set(job["logBytesBy"])
    assert 100 < read["logBytes"] < 10_000


def test_a_million_jobs_have_a_price(found: dict[str, Any]) -> None:
    by_reads = found["cost"]["perMillion"]
    assert list(by_reads) == ["0", "1", "3"]
    for reads, lines in by_reads.items():
        assert lines["API Gateway"] == pytest.approx(3.5 * (1 + int(reads)))
        assert lines["S3, puts"] == pytest.approx(5.0)
        assert lines["total"] == pytest.approx(sum(lines.values()) - lines["total"], abs=1e-3)


def test_a_stage_has_a_rate_and_its_processes_a_share(found: dict[str, Any]) -> None:
    run = found["throughput"]["sizes"][str(JOBS)]
    assert run["jobsPerS"] > 1
    assert run["submissionsAlonePerS"] > 10

    # then latencies are ordered, and the engine and both functions have used CPU
    p50, p95, p99 = (run["endToEndMs"][percent] for percent in ("50", "95", "99"))
    assert 0 < p50 <= p95 <= p99
    assert {"engine", "client", *CONSUMERS} <= set(run["cpuMs"])
    assert run["totalCpuMs"] == pytest.approx(sum(run["cpuMs"].values()), abs=1e-2)
    assert found["throughput"]["limitJobsPerS"] > run["jobsPerS"] / 5


def test_every_target_is_judged(found: dict[str, Any]) -> None:
    names = [one["name"] for one in found["targets"]]
    assert len(set(names)) == len(names)
    for part in (
        "cold start",
        "warm CPU",
        "SQS requests",
        "write units",
        "logged",
        "a million jobs",
        "jobs per second",
    ):
        assert any(part in name for name in names), part
    assert {type(one["isMet"]) for one in found["targets"]} == {bool}
