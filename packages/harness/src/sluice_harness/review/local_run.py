"""Gives a stage something to be reviewed for: jobs over HTTP, a cancellation, a listing, a trace."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

import httpx

from sluice_harness.client import sign_in
from sluice_harness.cloudwatch.definitions import Metric, MetricStat
from sluice_harness.cloudwatch.sources import AccountSource
from sluice_harness.demo import drive
from sluice_harness.local_stage import StageError
from sluice_harness.review.window import MINUTE

if TYPE_CHECKING:
    from rich.progress import Progress

    from sluice_harness.review.collect import Observer

_TRIES = 50
_PATIENCE_S = 30.0
_POLL_S = 0.2


def run(observer: Observer, count: int, progress: Progress) -> None:
    """Run so many jobs and a few more to their ends, and wait until the stage has measured what they left.

    Raises
    ------
    StageError
        The stage did not do what every stage does.

    """
    drive(observer.stage, count, progress)
    waiting = progress.add_task("cancelling, listing, tracing", total=None)
    with httpx.Client(
        base_url=observer.stage.apiUrl,
        headers={"Authorization": sign_in(observer.stage, observer.stage.users[0])["IdToken"]},
        timeout=30,
    ) as api:
        trace = f"Root=1-{int(time.time()):08x}-{secrets.token_hex(12)};Sampled=1"
        _ended(api, _submit(api, {"X-Amzn-Trace-Id": trace}))
        _cancel(api)
        api.get("/job-status").raise_for_status()
    progress.update(waiting, description="waiting for a stage minute")
    _await_gauges(observer)
    progress.update(waiting, total=1, completed=1)


def _submit(api: httpx.Client, headers: dict[str, str] | None = None) -> str:
    job_id: str = api.post("/submit-job", json={}, headers=headers).raise_for_status().json()["jobId"]
    return job_id


def _cancel(api: httpx.Client) -> None:
    """Cancel a job, or submit another if it was quicker."""
    for _ in range(_TRIES):
        job_id = _submit(api)
        if api.post(f"/cancel-job/{job_id}").is_success:
            return
        _ended(api, job_id)
    raise StageError(f"none of {_TRIES} jobs could be cancelled")


def _ended(api: httpx.Client, job_id: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while "retry-after" in (answer := api.get(f"/job-status/{job_id}")).headers or not answer.is_success:
        if time.monotonic() > deadline:
            raise StageError(f"job {job_id} did not end: {answer.text}")
        time.sleep(_POLL_S)


def _await_gauges(observer: Observer) -> None:
    """Wait for the queues' depths, which are measured once in a minute of the stage's time."""
    clock = observer.stage.clock
    minute = int(clock.now()) // MINUTE * MINUTE
    queue = observer.stage.queues.work.url.rpartition("/")[2]
    depth = MetricStat(
        Metric("AWS/SQS", "ApproximateNumberOfMessagesVisible", (("QueueName", queue),)), "Maximum", MINUTE
    )
    source = AccountSource(observer.cloudwatch)
    deadline = time.monotonic() + clock.real_seconds(3 * MINUTE) + _PATIENCE_S
    while not source.fetch([depth], minute, minute + 10 * MINUTE)[0]:
        if time.monotonic() > deadline:
            raise StageError("the stage measured no depth of its queues")
        time.sleep(_POLL_S)
