"""A stage each for those tests that leave it as they find it, and for those that change its settings."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

import pytest
from sluice_harness import cdk_cli
from stage.running import Person, RunningStage, deployed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def assembly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthesize the local stage once a run, whichever worker comes first."""
    base = tmp_path_factory.getbasetemp()
    # The folder above a worker's own belongs to this run; without workers it is shared with earlier runs.
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = shared / "assembly", shared / "assembly.done"
    with (shared / "assembly.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            cdk_cli.synthesize("local", folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def stage(assembly: Path) -> Iterator[RunningStage]:
    """The ordinary stage: its tests share it and are of the xdist group ``stage``."""
    with deployed("ordinary", assembly) as running:
        yield running


@pytest.fixture(scope="session")
def altered_stage(assembly: Path) -> Iterator[RunningStage]:
    """A stage whose settings tests change and put back; they are of the xdist group ``broken_stage``."""
    with deployed("altered", assembly) as running:
        yield running


@pytest.fixture(scope="session")
def ann(stage: RunningStage) -> Person:
    return stage.person("ann")


@pytest.fixture(scope="session")
def ben(stage: RunningStage) -> Person:
    return stage.person("ben")


@pytest.fixture(scope="session")
def ada(stage: RunningStage) -> Person:
    """The admin."""
    return stage.person("ada")
