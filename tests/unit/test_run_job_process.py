"""A container's entry point as the process that it is: its exit codes, its signals and its death."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from sluice_core import run_job
from sluice_core.external import TRY_AGAIN
from sluice_core.jobs import TIMED_OUT, JobStatus
from sluice_harness.description import ROOT
from unit import workloads_for_tests
from unit.container_runs import DEAF, FOREVER_S, QUICK, Containers, begun
from unit.lambda_events import job, row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sluice_core.ledger import JobLedger
    from unit.conftest import ClientMaker, Lapse
    from unit.resources import Bucket

GUIDE = (ROOT / "docs" / "containers.md").read_text()
# Not the ten seconds that work is given to stop: nobody is to wait for these.
IMPATIENT = (
    "-c",
    "import runpy; from sluice_core import container_run; container_run._GRACE_S = 0.1;"
    "runpy.run_module('sluice_core.run_job', run_name='__main__')",
)


@pytest.fixture
def containers(engine: ClientMaker, ledger: JobLedger, table: str, bucket: Bucket) -> Iterator[Containers]:
    containers = Containers(ledger, table, bucket, engine.endpoint_url)
    yield containers
    containers.end()


def test_it_ends_with_zero_and_writes_json_lines(containers: Containers, ledger: JobLedger) -> None:
    mine = job("mine")
    containers.begin(mine)

    process = containers.process(mine)
    out, err = process.communicate(timeout=FOREVER_S)

    assert (process.returncode, err) == (0, "")
    assert row(ledger, mine).status is JobStatus.COMPLETED
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["outcome"] for line in lines] == ["attempt begun", "attempt completed"]
    assert all(line.keys() >= {"level", "message", "timestamp", "service", "jobId"} for line in lines)


@pytest.mark.parametrize("workloads", [workloads_for_tests.SETTING, DEAF])
def test_sigterm_frees_the_job_whatever_the_work_does(
    containers: Containers, ledger: JobLedger, workloads: str
) -> None:
    # Given work that heeds the event that tells it to stop, and work that does not
    mine = job("mine", wait=True)
    containers.begin(mine)
    process = containers.process(mine, *IMPATIENT, WORKLOADS=workloads)
    begun(process)

    # When its container is to end, then it does, and asks for another try
    process.terminate()
    process.communicate(timeout=FOREVER_S / 4)
    assert process.returncode == TRY_AGAIN
    assert (row(ledger, mine).status, row(ledger, mine).lease_until) == (JobStatus.SUBMITTED, 0)


def test_a_deadline_ends_work_that_heeds_no_event_and_threads_that_it_has_left(
    containers: Containers, ledger: JobLedger
) -> None:
    mine = job("mine")
    containers.begin(mine)

    process = containers.process(mine, *IMPATIENT, WORKLOADS=DEAF, WORK_TIMEOUT_SECONDS="1")
    process.communicate(timeout=FOREVER_S / 4)

    assert process.returncode == 0
    assert row(ledger, mine).error == TIMED_OUT
    assert containers.results() == []


def test_a_container_that_was_killed_is_followed_by_another(
    containers: Containers, ledger: JobLedger, lapse: Lapse
) -> None:
    # Given a container that is killed while it works
    mine = job("mine", wait=True)
    containers.begin(mine)
    killed = containers.process(mine)
    begun(killed)
    killed.kill()
    killed.communicate(timeout=FOREVER_S)
    assert killed.returncode == -signal.SIGKILL
    assert row(ledger, mine).status is JobStatus.RUNNING

    # When its lease has lapsed and the service runs it once more
    lapse(mine)
    again = containers.process(mine, WORKLOADS=QUICK)
    again.communicate(timeout=FOREVER_S)

    # Then the job is complete, and has one result
    assert again.returncode == 0
    assert (row(ledger, mine).status, row(ledger, mine).attempts) == (JobStatus.COMPLETED, 2)
    assert len(containers.results()) == 1


def test_a_crash_is_one_line_with_its_trace(containers: Containers) -> None:
    # Given a stage whose table is not there
    mine = job("mine")

    process = containers.process(mine, JOB_TABLE="nowhere")
    out, err = process.communicate(timeout=FOREVER_S)

    # Then the container says so, in one event of the log
    assert (process.returncode, err) == (run_job.CRASHED, "")
    [line] = [json.loads(one) for one in out.splitlines()]
    assert (line["outcome"], line["level"]) == ("crashed", "ERROR")
    assert "ResourceNotFound" in line["trace"]


def test_the_guide_s_job_by_hand_is_one_that_a_container_runs(
    containers: Containers, ledger: JobLedger, tmp_path: Path
) -> None:
    # Given the guide's programs, and a stage that describes itself as the local one does
    programs = re.findall("```python\n(.*?)```", GUIDE, re.DOTALL)
    program, close = [block for block in programs if "SLUICE_" in block]
    stages = tmp_path / "build" / "stages"
    stages.mkdir(parents=True)
    described = {"jobTable": containers.table, "resultBucket": containers.bucket.name}
    (stages / "local.json").write_text(json.dumps(described))

    # When it is run, and the entry point with what it prints
    environment = containers.aws()
    made = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    settings = dict(line.removeprefix("export ").split("=", 1) for line in made.stdout.splitlines())
    settings = {name: shlex.split(value)[0] for name, value in settings.items()}
    ended = subprocess.run(
        [sys.executable, "-m", "sluice_core.run_job"],
        env=environment | settings,
        capture_output=True,
        text=True,
        check=False,
    )

    # Then there are the two lines of which it speaks, and a result
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(ended.stdout.splitlines()) == 2
    assert len(containers.results()) == 1

    # And what closes it leaves nothing that executes
    assert len(ledger.executing("ecs")) == 1
    subprocess.run([sys.executable, "-c", close], env=environment | settings, check=True)
    assert ledger.executing("ecs") == {}
