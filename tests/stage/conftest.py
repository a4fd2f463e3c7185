"""A stage for those tests that change its settings, and the users of the ordinary one."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sluice_harness.description import ROOT
from stage.following import terminal
from stage.grants import Grant
from stage.running import deployed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stage.following import Terminal
    from stage.running import Person, RunningStage


@pytest.fixture(scope="session")
def altered_stage(assembly: Path) -> Iterator[RunningStage]:
    """A stage whose settings tests change and put back; they are of the xdist group ``broken_stage``."""
    with deployed("altered", assembly, faults_api=True) as running:
        yield running


@pytest.fixture(scope="session")
def longwork(assemblies: Callable[[str], Path]) -> Iterator[RunningStage]:
    """The local stage with every executor; its tests share it and are of the xdist group ``longwork``."""
    with deployed("longwork", assemblies("longwork"), stage="longwork") as running:
        yield running


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Terminal]:
    """A reader's, in the repository's root, with the AWS CLI."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = {**kept, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with terminal(ROOT, environment, tmp_path) as opened:
        yield opened


@pytest.fixture
def grant(altered_stage: RunningStage, request: pytest.FixtureRequest) -> Iterator[Grant]:
    """What a test proves to be needed; see `stage.grants.proves`."""
    given = Grant(altered_stage, *request.param)
    yield given
    assert given.was_taken, f"nothing is proved of {request.param}, which the test has not taken away"


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
