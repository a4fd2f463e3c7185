"""What a job on each external executor uses is what its price is reckoned with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sluice_core.executors import EXTERNAL
from sluice_harness.bench import executor_money, executors
from sluice_harness.bench.site import BenchSite

if TYPE_CHECKING:
    from stage.running import RunningStage

pytestmark = pytest.mark.xdist_group("longwork")

JOBS = 5


def test_a_job_makes_the_calls_that_are_priced(longwork: RunningStage) -> None:
    # given a few jobs on each executor
    site = BenchSite(longwork.local, longwork.description)
    used = dict(executors.measure(site, jobs=JOBS))
    assert tuple(used) == EXTERNAL

    for executor, job in used.items():
        # then each has left in the bucket, read there and begun what is priced
        priced = executor_money.measured()[executor]
        found = (job.calls["s3 PUT"], job.calls["s3 GET"], job.invocations.get("workflow-step", 0))
        assert found == (priced.s3_puts, priced.s3_gets, 3 if priced.transitions else 0), executor

        # and it has written about as much; how many starts share a look at the slots is up to chance
        assert job.write_units == pytest.approx(priced.write_units, rel=0.2), executor
        # that of slots among it
        assert job.calls["dynamodb UpdateItem"] == pytest.approx(executor_money.SLOTS_WRITES, rel=0.3), executor
        assert job.requests("sqs") == pytest.approx(priced.sqs_requests, rel=0.3), executor
