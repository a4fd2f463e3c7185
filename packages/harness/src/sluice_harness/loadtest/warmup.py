"""Starts each function of a stage that has just come up, before there is load on it.

In AWS a cold start takes nothing from anybody. Here all share the machine's cores: when many requests come before
the first of them is answered, each starts a worker of its own, and the load test is one of Python's imports.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from sluice_harness.client import JobClient
from sluice_harness.loadtest.collect import EDGE_MS
from sluice_harness.local_stage import StageError
from sluice_harness.review.window import MINUTE

if TYPE_CHECKING:
    from collections.abc import Callable

    from sluice_harness.description import StageDescription

_PATIENCE_S = 60.0
_POLL_S = 0.2


def start_functions(stage: StageDescription, tell: Callable[[str], object]) -> None:
    """Run one job to its end and list it, then wait for a minute of the stage's time that has nothing of it.

    Raises
    ------
    StageError
        The job did not end.

    """
    tell("starting the functions")
    client = JobClient(stage, stage.users[0])
    try:
        job_id = client.submit({}).raise_for_status().json()["jobId"]
        deadline = time.monotonic() + _PATIENCE_S
        while "retry-after" in (answer := client.status(job_id)).headers or not answer.is_success:
            if time.monotonic() > deadline:
                raise StageError(f"the first job, {job_id}, did not end: {answer.text}")
            time.sleep(_POLL_S)
        client.jobs().raise_for_status()
    finally:
        client.close()
    clock = stage.clock
    ready = clock.at(time.time() + EDGE_MS / 1000)
    tell("waiting for the next minute of the stage's time")
    time.sleep(clock.real_seconds(math.ceil(ready / MINUTE) * MINUTE - clock.now()))
