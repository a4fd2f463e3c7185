"""A stage that is killed in the middle of work: nothing of it is left, and the next one begins with nothing.

That is what the README says the local stage keeps. In AWS queues, table and bucket outlive any process of ours.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sluice_harness.client import JobClient
from sluice_harness.description import StageDescription, description_path, load
from stage.processes import children_of, command, is_open, working_in
from stage.running import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.xdist_group("broken_stage")

NAME = f"test-restart-{os.getpid()}"
# What `nox -s local` does, but for the synthesis, which this run has done already.
OWNER = """
import sys
from pathlib import Path
from sluice_harness.local_stage import LocalStage
with LocalStage(sys.argv[1]) as stage:
    stage.deploy(Path(sys.argv[2]))
    stage.wait()
"""


@dataclass
class Owned:
    """A stage that a process of its own keeps up, and what is needed to tell whether it has gone."""

    owner: subprocess.Popen[bytes]
    description: StageDescription
    engine: int
    state: str
    clients: list[JobClient] = field(default_factory=list)

    def client(self) -> JobClient:
        made = JobClient(self.description, self.description.users[0])
        self.clients.append(made)
        return made


@contextlib.contextmanager
def owned(assembly: Path) -> Iterator[Owned]:
    process = subprocess.Popen([sys.executable, "-c", OWNER, NAME, str(assembly)], stderr=subprocess.DEVNULL)
    stage = None
    try:

        def is_up() -> bool:
            assert process.poll() is None, "the stage did not come up"
            return description_path(NAME).exists()

        until(is_up, "the stage is up", 180)
        (engine,) = [pid for pid in children_of(process.pid) if "sluice_harness.engine" in command(pid)]
        words = command(engine).split("\0")
        stage = Owned(process, load(NAME), engine, words[words.index("--state") + 1])
        yield stage
    finally:
        for client in stage.clients if stage else []:
            client.close()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
        if stage:
            shutil.rmtree(stage.state, ignore_errors=True)  # left behind, which a test has told of


def submit(client: JobClient, **parameters: Any) -> str:
    answer = client.submit({"parameters": parameters})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["jobId"])


def has_reached(client: JobClient, job_id: str, status: str) -> bool:
    return bool(client.status(job_id).json()["status"] == status)


def in_the_middle_of_work(stage: Owned) -> list[str]:
    """Have a job that has ended, one that runs, and some that wait for a worker."""
    client = stage.client()
    ended = submit(client, records=1)
    until(lambda: has_reached(client, ended, "COMPLETED"), "a job has ended")
    running = submit(client, workSeconds=45)
    until(lambda: has_reached(client, running, "RUNNING"), "a job runs")
    return [ended, running, *(submit(client, workSeconds=45) for _ in range(12))]


def assert_nothing_runs(stage: Owned) -> None:
    until(lambda: not working_in(stage.state), "no process of the stage is left", 30)
    until(lambda: not is_open(str(stage.description.endpointUrl)), "the port is closed", 30)


def assert_nothing_lies_about(stage: Owned) -> None:
    until(lambda: not description_path(NAME).exists(), "the description is gone", 30)
    until(lambda: not Path(stage.state).exists(), "the state folder is gone", 30)


@dataclass(frozen=True)
class Killed:
    """A stage that was killed at work, and the jobs that it had accepted."""

    stage: Owned
    job_ids: list[str]


@pytest.fixture(scope="module")
def killed(assembly: Path) -> Iterator[Killed]:
    """The first stage: whoever keeps it up is killed."""
    with owned(assembly) as stage:
        job_ids = in_the_middle_of_work(stage)
        stage.owner.send_signal(signal.SIGKILL)
        yield Killed(stage, job_ids)


@pytest.fixture(scope="module")
def next_one(assembly: Path, killed: Killed) -> Iterator[Owned]:
    """A stage that is started under the name of the first."""
    until(lambda: not description_path(NAME).exists(), "the first stage's description is gone", 30)
    assert killed.stage.owner.wait(30) == -signal.SIGKILL
    with owned(assembly) as stage:
        yield stage


def test_a_stage_killed_in_the_middle_of_work_leaves_no_process_and_no_port(killed: Killed) -> None:
    assert_nothing_runs(killed.stage)


def test_it_leaves_no_description_and_no_folder(killed: Killed) -> None:
    assert_nothing_lies_about(killed.stage)


def test_the_next_stage_begins_with_nothing_and_works(killed: Killed, next_one: Owned) -> None:
    # Given jobs that an earlier stage of this name had accepted
    client = next_one.client()

    # Then this one knows none of them, ended or not, and runs those that it accepts
    assert {client.status(job_id).status_code for job_id in killed.job_ids[:2]} == {404}
    job_id = submit(client, records=1)
    until(lambda: has_reached(client, job_id, "COMPLETED"), "a job completes")


def test_a_killed_engine_takes_its_stage_with_it(next_one: Owned) -> None:
    # Given a stage at work
    in_the_middle_of_work(next_one)

    # When its engine is killed, then its owner says so by ending, and nothing is left
    os.kill(next_one.engine, signal.SIGKILL)
    assert next_one.owner.wait(60) != 0
    assert_nothing_runs(next_one)
    assert_nothing_lies_about(next_one)
