"""A short form of ``nox -s drill``: two alarms fire, tell somebody and stop, and healthy load fires none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from sluice_harness.description import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.xdist_group("drill"), pytest.mark.usefixtures("assembly")]

NAME = f"test-drill-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}-{os.getpid()}"


@pytest.fixture
def folder() -> Iterator[str]:
    yield NAME
    shutil.rmtree(ROOT / "build" / NAME, ignore_errors=True)
    (ROOT / "build" / "logs" / f"{NAME}.log").unlink(missing_ok=True)


def test_alarms_fire_tell_somebody_and_stop(folder: str) -> None:
    # When two drills are run, of a client's fault and of ours
    command = [sys.executable, "-m", "sluice_harness.drill", "--name", folder, "--healthy", "10"]
    # Slower than the session: the other tests' work on the same cores is no fault of this stage.
    command += ["--speed", "20"]
    command += ["--only", "hostile-client", "--only", "throttled-table"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False, cwd=ROOT)

    # Then both were as they should be
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((ROOT / "build" / folder / "report.json").read_text())
    assert report["faults"] == []
    alarms = report["alarms"]
    assert alarms.keys() == {"api-4xx", "warning", "table-read-throttles", "table-write-throttles"}
    for name, seen in alarms.items():
        assert seen["fired"], name
        assert seen["notified"], name
        assert 0 < seen["alarmAfterS"] < seen["okAfterS"], name
    # and what was seen is on a page
    page = (ROOT / "build" / folder / "review.html").read_text()
    assert page.count("Drill passed") == len(alarms)
