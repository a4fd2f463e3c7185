"""A short form of ``nox -s drill``: alarms fire, tell somebody and stop, and healthy load fires none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from sluice_harness.description import ROOT
from sluice_harness.drill.drills import DRILLS
from sluice_harness.drill.executor_drills import EXECUTOR_DRILLS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("drill")

NAME = f"test-drill-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}-{os.getpid()}"


@pytest.fixture
def folder() -> Iterator[str]:
    yield NAME
    shutil.rmtree(ROOT / "build" / NAME, ignore_errors=True)
    (ROOT / "build" / "logs" / f"{NAME}.log").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("stage", "healthy_s", "drills"),
    [
        # Of a client's fault and of ours.
        ("local", 10, ("hostile-client", "throttled-table")),
        ("longwork", 0, ("foreign-workflows",)),
    ],
)
def test_alarms_fire_tell_somebody_and_stop(
    assemblies: Callable[[str], Path],
    folder: str,
    request: pytest.FixtureRequest,
    *,
    stage: str,
    healthy_s: int,
    drills: tuple[str, ...],
) -> None:
    if stage == "longwork" and not request.config.getoption("--full"):
        pytest.skip("a stage of its own: only with --full")
    # When some drills are run
    assemblies(stage)
    command = [sys.executable, "-m", "sluice_harness.drill", "--stage", stage, "--name", folder]
    command += ["--healthy", str(healthy_s)]
    # Slower than the session: the other tests' work on the same cores is no fault of this stage.
    command += ["--speed", "20"]
    command += [part for drill in drills for part in ("--only", drill)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False, cwd=ROOT)

    # Then they were as they should be
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((ROOT / "build" / folder / "report.json").read_text())
    assert report["faults"] == []
    alarms = report["alarms"]
    planned = [drill for drill in (*DRILLS, *EXECUTOR_DRILLS) if drill.name in drills]
    assert alarms.keys() == {alarm for drill in planned for alarm in drill.alarms}
    for name, seen in alarms.items():
        assert seen["fired"], name
        assert seen["notified"], name
        assert 0 < seen["alarmAfterS"] < seen["okAfterS"], name
    # and what was seen is on a page
    page = (ROOT / "build" / folder / "review.html").read_text()
    assert page.count("Drill passed") == len(alarms)
