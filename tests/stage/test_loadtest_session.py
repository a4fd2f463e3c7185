"""A load test's session: a stage of its own, an end before its time, and what makes no sense."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from sluice_harness.description import ROOT, described, load
from stage.loadtests import LoadTest
from stage.processes import is_open, working_in
from stage.running import until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.xdist_group("loadtest-session"), pytest.mark.usefixtures("assembly")]

_SCENARIO = """
[interrupted]
about = "more than anybody waits for"
jobs = 240
rate = 2.0
stages = [{ seconds = 120, rate = 1.0 }]
users = { submitter = 0.2, forgetter = 0.8 }
owners = 2
[interrupted.thresholds]
submit_p95_ms = { at_most = 60000 }
"""
_STAGE = "loadtest-interrupted"


def test_smoke_holds_on_a_stage_that_the_session_brings_up(tmp_path: Path) -> None:
    # when the shipped scenario is run as it is
    ran = LoadTest(tmp_path, "--scenario", "smoke").outcome()

    # then all of it held
    assert (ran.code, ran.failed) == (0, {}), ran.said
    assert ran.verdict["accepted"] >= ran.verdict["asked"] == 60
    # and the stage is gone
    assert "loadtest-smoke" not in described()


def test_ctrl_c_ends_all_in_order_and_leaves_a_verdict_on_what_there_was(tmp_path: Path) -> None:
    # given a session that has brought a stage up and makes load on it
    file = tmp_path / "scenarios.toml"
    file.write_text(_SCENARIO)
    running = LoadTest(tmp_path, "--scenarios", str(file), "--scenario", "interrupted")
    try:
        until(lambda: running.progress().get("submitted", 0) > 3, "the load has begun", 120)
        endpoint = str(load(_STAGE).endpointUrl)

        # when it is interrupted
        running.process.send_signal(signal.SIGINT)
    finally:
        ran = running.outcome()

    # then it says so, and what was accepted until then is judged
    assert ran.code == 1, ran.said
    assert ran.verdict["interrupted"]
    assert ran.failed["harness: uninterrupted"]["measured"] == "interrupted"
    assert 3 < ran.verdict["accepted"] < 240
    assert "requests: submissions" in ran.failed
    assert (ran.folder / "report.html").exists()

    # and nothing of it runs on
    assert _STAGE not in described()
    assert not is_open(endpoint)
    assert working_in(str(tmp_path)) == []


def test_locust_does_not_outlive_its_owner(tmp_path: Path) -> None:
    # given Locust, which would run for minutes
    file = tmp_path / "locustfile.py"
    file.write_text(
        "import pathlib\n"
        "from locust import User, constant, task\n\n"
        "class Idler(User):\n"
        "    wait_time = constant(1)\n\n"
        "    @task\n"
        "    def idle(self):\n"
        f"        pathlib.Path({str(tmp_path / 'began')!r}).touch()\n"
    )
    command = [sys.executable, "-m", "sluice_harness.loadtest.tethered", "-f", str(file), "--headless", "-t", "5m"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet) as locust:
        until((tmp_path / "began").exists, "it runs", 60)

        # when the other end of its input is closed, as happens when its owner is killed
        assert locust.stdin
        locust.stdin.close()

        # then it ends, in order
        assert locust.wait(30) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scenario", "nothing"], "there is no scenario nothing"),
        (["--scenario", "smoke", "--stage", "nowhere"], "no stage describes itself in build/stages/nowhere.json"),
        (["--scenario", "smoke", "--host", "http://127.0.0.1:9/api"], "the apiUrl"),
        (["--scenario", "smoke", "--scenarios", "nowhere.toml"], "nowhere.toml"),
        (["--scenario", "smoke", "--temporary-users", "2"], "--temporary-users goes with --stage"),
    ],
)
def test_what_makes_no_sense_is_said_with_the_next_step(arguments: list[str], said: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sluice_harness.loadtest", "--out", str(tmp_path / "out"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
