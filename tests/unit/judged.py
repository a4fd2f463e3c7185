"""A load test's evidence, made in code: a run of ten jobs in which all is as it should be, for tests to change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sluice_core.jobs import Job, JobKey, JobStatus, StoredResult
from sluice_harness.loadtest.evidence import (
    ClientJob,
    ClientSide,
    Evidence,
    MetricCount,
    RequestSecond,
    Run,
    StageSide,
)
from sluice_harness.loadtest.scenarios import Scenario, Stage, Threshold
from sluice_harness.review.alarms import AlarmState, Transition
from sluice_harness.review.window import Window
from sluice_harness.stage_clock import StageClock
from unit.alarms import metric_alarm

START = 1_800_000_000
PREFIX = "sluice-local-"
JOBS = 10
CLOCK = StageClock(10.0, START)


def scenario(**changes: Any) -> Scenario:
    usual = Scenario(
        name="small",
        about="ten jobs",
        jobs=JOBS,
        rate=1.0,
        stages=(Stage(10, 1.0),),
        users={"submitter": 1.0},
        owners=2,
        skew=None,
        noisy_share=None,
        expected_alarms=frozenset(),
        allowed_alarms=frozenset(),
        malformed_messages=0,
        thresholds=(Threshold("submit_p95_ms", at_most=500),),
    )
    return replace(usual, **changes)


def key(number: int) -> JobKey:
    return JobKey("ann", f"job-{number:02}")


def client_job(number: int, **changes: Any) -> ClientJob:
    """Return a job that was sent in its second, accepted within 10 ms, and seen to end after 2 s."""
    intended_at = 1000.0 * (START + number)
    usual = ClientJob(
        key=key(number),
        kind="submitter",
        is_quiet=False,
        phase="load",
        expected=JobStatus.COMPLETED,
        intended_at=intended_at,
        accepted_at=intended_at + 10,
        visible_ms=1000.0,
        status=JobStatus.COMPLETED,
        end_seen_at=intended_at + 2000,
        download_ms=5.0,
    )
    return replace(usual, **changes)


def row(number: int, **changes: Any) -> Job:
    """Return its row: it waited 100 ms and ran for 50."""
    submitted_at = 1000 * (START + number)
    usual = Job(
        key=key(number),
        job_type="weather-report",
        status=JobStatus.COMPLETED,
        submitted_at=submitted_at,
        digest="d",
        attempts=1,
        started_at=submitted_at + 100,
        ended_at=submitted_at + 150,
        result=StoredResult(result_key(number), "text/csv", 3),
    )
    return replace(usual, **changes)


def result_key(number: int, attempt: str = "a") -> str:
    return f"results/ann/job-{number:02}/{attempt}"


def client_side(**changes: Any) -> ClientSide:
    jobs = [client_job(number) for number in range(JOBS)]
    run = Run(
        started_at=START,
        ended_at=START + 12,
        workers=1,
        is_complete=True,
        requests={"POST /submit-job": (JOBS, 0), "job: end to end": (JOBS, 0)},
        refused={},
        rejections={},
        exceptions=(),
    )
    seconds = [RequestSecond(START + number, "POST /submit-job", 1, 10.0, 10.0, {}) for number in range(JOBS)]
    return replace(ClientSide(0, jobs, seconds, run), **changes)


def stage_side(**changes: Any) -> StageSide:
    counted = {"ClientSubmissions": JOBS, "SubmissionsRecorded": JOBS, "JobsCompleted": JOBS, "JobsFailed": 0}
    usual = StageSide(
        name="local",
        prefix=PREFIX,
        window=Window(START, START + 180, CLOCK),
        rows={key(number): row(number) for number in range(JOBS)},
        results={key(number): [result_key(number)] for number in range(JOBS)},
        left={"request": 0, "work": 0},
        counts=[
            MetricCount(name, float(count) or None, count, JOBS if name.startswith("Client") else None)
            for name, count in counted.items()
        ],
        alarms=[alarm("quiet")],
        widgets=42,
    )
    return replace(usual, **changes)


def alarm(name: str, *states: str) -> AlarmState:
    """Return an alarm that was OK and went through these states, a minute of the stage's time after another."""
    before = ["OK", *states]
    changes = [
        Transition(START + 60.0 * (number + 1), old, new, f"because of {new}")
        for number, (old, new) in enumerate(zip(before, states, strict=False))
    ]
    return AlarmState(metric_alarm(PREFIX + name), before[-1], START, f"it is {before[-1]}", tuple(changes))


def evidence(**changes: Any) -> Evidence:
    """Return evidence of a run that held; changes are of its own fields."""
    usual = Evidence(scenario=scenario(), asked=JOBS, client=client_side(), stage=stage_side())
    return replace(usual, **changes)
