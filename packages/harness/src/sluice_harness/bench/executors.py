"""What one job on an external executor makes of AWS, counted at the wire in a backlog, as `wire` counts others.

The functions' calls pass the tap; what a container calls does not, and is known from its code (`CONTAINER_CALLS`).
Lambda polls two queues, the requests' and the completions'; the starter receives by itself, through the tap.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from sluice_core.executors import BATCH, ECS, EXTERNAL, STEP_FUNCTIONS

from sluice_harness.bench.posting import post_many
from sluice_harness.bench.tap import tapped
from sluice_harness.bench.wire import log_bytes, now_ms, use
from sluice_harness.local_stage import StageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sluice_harness.bench.site import BenchSite
    from sluice_harness.bench.tap import Tap
    from sluice_harness.bench.wire import Use

JOBS = 60
# Of the stage ``longwork``.
JOB_TYPES: Mapping[str, str] = {STEP_FUNCTIONS: "weather-workflow", BATCH: "weather-batch", ECS: "weather-task"}
_TAPPED = ("processor", "starter", "completion", "workflow-step", "event-publisher")
_CONSUMERS = ("processor", "completion")
# `sluice_core.container_run`: its input, its claim, its result and its end. Its lease it renews besides.
CONTAINER_CALLS: Mapping[str, int] = {"s3 GET": 1, "s3 PUT": 1, "dynamodb BatchExecuteStatement": 2}
_POLL_S, _PATIENCE_S = 0.25, 900.0


def measure(
    site: BenchSite, *, jobs: int = JOBS, progress: Callable[[str], object] = lambda _: None
) -> Iterator[tuple[str, Use]]:
    """Yield each external executor with what a job of its backlog used.

    The stage has all of them, and nothing to do before and after.

    Raises
    ------
    StageError
        Not all jobs ended in time.

    """
    with tapped(site, *(site.functions[name] for name in _TAPPED)) as tap:
        for executor in EXTERNAL:
            progress(f"{executor}: {jobs} jobs")
            yield executor, _measure(site, executor, jobs, tap)


def _measure(site: BenchSite, executor: str, jobs: int, tap: Tap) -> Use:
    body = json.dumps({"jobType": JOB_TYPES[executor]}).encode()
    site.set_mappings("processor", enabled=False)
    before, called, since_ms = site.counters(), tap.counts(), now_ms()
    post_many(site.description.apiUrl, site.token, body, jobs)
    site.set_mappings("processor", enabled=True)
    _settle(site, before, jobs)
    site.settle(jobs, before)
    counted = {name: value - before[name] for name, value in site.counters().items()}
    calls = tap.counts() - called
    if executor != STEP_FUNCTIONS:
        calls.update({name: each * jobs for name, each in CONTAINER_CALLS.items()})
    return use(counted, calls, log_bytes(site, since_ms, jobs), jobs, consumers=_CONSUMERS)


def _settle(site: BenchSite, before: Mapping[str, float], jobs: int) -> None:
    """Wait until each job's execution is closed, which is when it is counted; reading rows would count, too."""
    deadline = time.monotonic() + _PATIENCE_S
    while (ended := site.counters()["JobsCompleted"] - before["JobsCompleted"]) < jobs:
        if time.monotonic() > deadline:
            raise StageError(f"{ended:.0f} of {jobs} jobs were completed")
        time.sleep(_POLL_S)
