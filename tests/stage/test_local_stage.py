"""The local stage as a process: stages side by side, what they say of themselves, and that they end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sluice_harness.description import ROOT, description_path
from sluice_harness.local_stage import LocalStage, StageError
from stage.processes import (
    LOOPBACK,
    bound_addresses,
    children_of,
    command,
    engine_of,
    is_open,
    parent_of,
    processes,
    working_in,
)
from stage.running import RunningStage, deployed, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.xdist_group("broken_stage")

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]


@dataclass
class OwnedStage:
    """A stage that a process of its own keeps up."""

    name: str
    owner: subprocess.Popen[str]
    state: str = ""

    @property
    def description_file(self) -> Path:
        return description_path(self.name)

    def find_state(self) -> str:
        """Find the stage's state folder, which its engine is told."""
        (engine,) = [pid for pid in processes() if parent_of(pid) == self.owner.pid and "engine" in command(pid)]
        words = command(engine).split("\0")
        self.state = words[words.index("--state") + 1]
        return self.state


@pytest.fixture(scope="module")
def owned(assembly: Path) -> Iterator[dict[signal.Signals, OwnedStage]]:
    """A stage for each signal; all come up at the same time, of that assembly."""
    assert assembly
    stages = {one: _start(f"test-{one.name.lower()}-{os.getpid()}") for one in SIGNALS}
    yield stages
    for stage in stages.values():
        with contextlib.suppress(ProcessLookupError):
            stage.owner.kill()
        for pid in working_in(stage.state) if stage.state else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # left behind, which a test has told of
        stage.owner.communicate()
        stage.description_file.unlink(missing_ok=True)
        shutil.rmtree(ROOT / "build" / "cdk.out" / stage.name, ignore_errors=True)
        (ROOT / "build" / "logs" / f"{stage.name}.log").unlink(missing_ok=True)


def _start(name: str) -> OwnedStage:
    command_line = [sys.executable, "-m", "sluice_harness.local", "--name", name]
    process = subprocess.Popen(command_line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return OwnedStage(name, process)


def described(stage: OwnedStage) -> str:
    """Wait until a stage is up, and return its endpoint."""

    def look() -> bool:
        assert stage.owner.poll() is None, stage.owner.communicate()[0]
        return stage.description_file.exists()

    until(look, f"{stage.name} is up", 180)
    return str(json.loads(stage.description_file.read_text())["endpointUrl"])


# The end


@pytest.mark.parametrize("how", SIGNALS, ids=lambda one: one.name)
def test_nothing_outlives_a_stage(owned: dict[signal.Signals, OwnedStage], how: signal.Signals) -> None:
    # Given a stage that is up, its engine listening and its workers warm
    stage = owned[how]
    endpoint = described(stage)
    state = stage.find_state()
    assert working_in(state)
    assert Path(state).is_dir()
    assert is_open(endpoint)

    # When its owner is told to end
    stage.owner.send_signal(how)

    # Then no process is left, nor the port, nor the folder
    until(lambda: stage.owner.poll() is not None, "the owner has ended", 30)
    until(lambda: not working_in(state), "no process of the stage is left", 30)
    until(lambda: not is_open(endpoint), "the port is closed", 30)
    until(lambda: not Path(state).exists(), "the state folder is gone", 30)


@pytest.mark.parametrize("how", SIGNALS, ids=lambda one: one.name)
def test_a_stage_takes_its_description_with_it(
    owned: dict[signal.Signals, OwnedStage], how: signal.Signals
) -> None:
    # Given a stage that has ended
    stage = owned[how]
    until(lambda: stage.owner.poll() is not None, "the owner has ended", 30)

    # Then nothing describes it any more
    until(lambda: not stage.description_file.exists(), "the description is gone", 30)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=lambda one: one.name)
def test_to_end_a_stage_is_no_error(owned: dict[signal.Signals, OwnedStage], how: signal.Signals) -> None:
    until(lambda: owned[how].owner.poll() is not None, "the owner has ended", 30)
    assert owned[how].owner.returncode == 0


# Stages in this process


@pytest.fixture(scope="module")
def two(assembly: Path) -> Iterator[tuple[RunningStage, RunningStage]]:
    with deployed("left", assembly) as left, deployed("right", assembly) as right:
        yield left, right


def file_of(stage: RunningStage) -> Path:
    """Find a stage's description by what it says, as a tool would that knows the address."""
    for path in (ROOT / "build" / "stages").glob("*.json"):
        with contextlib.suppress(OSError, ValueError):
            if json.loads(path.read_text())["endpointUrl"] == stage.description.endpointUrl:
                return path
    raise AssertionError("no file describes the stage")


def test_two_stages_stand_side_by_side(two: tuple[RunningStage, RunningStage]) -> None:
    # Given two stages
    left, right = two
    assert left.description.endpointUrl != right.description.endpointUrl

    # When a job is submitted to one of them
    job_id = left.person("ann").accepted({"clientToken": "only-on-the-left-one"})
    left.recorded(left.person("ann").sub, job_id)
    assert left.person("ann").ended(job_id)["status"] == "COMPLETED"

    # Then the other knows nothing of it
    assert right.rows() == []
    assert right.person("ann").status(job_id).status_code == 404


def test_a_token_of_one_stage_is_none_of_the_others(two: tuple[RunningStage, RunningStage]) -> None:
    left, right = two
    assert right.person("ann").post(b"{}", token=left.person("ann").id_token).status_code == 401


def test_the_description_says_all_that_tools_need(two: tuple[RunningStage, RunningStage]) -> None:
    # When a stage's file is read
    stage = two[0]
    described = json.loads(file_of(stage).read_text())

    # Then it has all members, none of them empty but what only other executors need, and says what the stage's own
    # description says
    assert described.keys() >= {
        *("stage", "region", "account", "endpointUrl", "apiUrl", "userPoolId", "userPoolClientId"),
        *("jobTable", "resultBucket", "queues", "functions", "eventBus", "users"),
    }
    assert all(described.values())
    assert described == asdict(stage.description)
    assert described["stage"] == "local"
    assert described["apiUrl"].startswith(described["endpointUrl"])
    assert [user["username"] for user in described["users"]] == ["ann", "ben", "ada"]
    queues = {name: queue for name, queue in described["queues"].items() if queue}
    assert {*queues} == {"request", "work"}
    assert all(queue.keys() == {"url", "dlqUrl"} for queue in queues.values())
    assert not any(described["executors"].values())
    assert {role for role, name in described["functions"].items() if name} == {
        *("authorizer", "processor", "batchSimulator", "jobStatus"),
        *("cancelJob", "sweeper", "eventPublisher"),
    }


def test_what_the_description_names_exists(two: tuple[RunningStage, RunningStage]) -> None:
    stage = two[0]
    described = stage.description
    stage.client("dynamodb").describe_table(TableName=described.jobTable)
    stage.client("s3").head_bucket(Bucket=described.resultBucket)
    assert [stage.depth(url) for url in stage.queue_urls] == [0, 0, 0, 0]
    for function in described.functions.by_handler().values():
        stage.client("lambda").get_function(FunctionName=function)
    stage.client("events").describe_event_bus(Name=described.eventBus)
    cognito = stage.client("cognito-idp")
    cognito.describe_user_pool_client(UserPoolId=described.userPoolId, ClientId=described.userPoolClientId)


def test_the_description_is_for_its_owner_only(two: tuple[RunningStage, RunningStage]) -> None:
    assert stat.S_IMODE(file_of(two[0]).stat().st_mode) == 0o600


def test_an_old_description_that_others_can_read_is_closed_to_them(two: tuple[RunningStage, RunningStage]) -> None:
    # Given a file of that name, left behind and readable by all
    path = description_path(f"test-left-behind-{os.getpid()}")
    path.touch(mode=0o644)
    path.chmod(0o644)

    # When a stage of that name describes itself, then only its owner can read it
    try:
        two[0].description.save(path.stem)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        path.unlink()


def test_a_stage_listens_on_loopback_only(two: tuple[RunningStage, RunningStage]) -> None:
    # Given a stage that has run a job, so that its workers are up
    stage = two[0]
    ann = stage.person("ann")
    ann.ended(ann.accepted({}))

    # When everything is looked at on which its processes listen
    engine = engine_of(stage)
    children = children_of(engine)
    assert children

    # Then it is the loopback interface
    assert bound_addresses(engine)
    assert set().union(*map(bound_addresses, [engine, *children])) <= LOOPBACK


def test_the_description_goes_with_the_stage(assembly: Path) -> None:
    # Given a stage that is described
    with deployed("brief", assembly) as stage:
        path = file_of(stage)
        endpoint = str(stage.description.endpointUrl)

    # When it has been taken down, then so is its description, and nothing listens
    assert not path.exists()
    assert not is_open(endpoint)


def test_a_stage_does_not_take_another_server_for_its_own() -> None:
    # Given a port on which another server answers
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as other:
        answering = threading.Thread(target=other.serve_forever)
        answering.start()
        port = other.server_port

        # When a stage is to come up there
        try:
            with pytest.raises(StageError, match=f"did not start on port {port}"), LocalStage("taken", port=port):
                pytest.fail("it came up")
        finally:
            other.shutdown()
            answering.join()


def test_an_engine_that_is_told_to_end_cleans_up() -> None:
    # Given a running engine and its folder
    with LocalStage(f"test-term-{os.getpid()}") as stage:
        (engine,) = [
            pid for pid in processes() if parent_of(pid) == os.getpid() and str(stage.state) in command(pid)
        ]

        # When it gets a SIGTERM
        os.kill(engine, signal.SIGTERM)

        # Then its owner learns of it, and the folder is gone
        with pytest.raises(StageError, match="the engine has ended"):
            stage.wait()
        assert not stage.state.exists()
