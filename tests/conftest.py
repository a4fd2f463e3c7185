"""The stage that the tests of ``deployed`` and ``stage`` share: one for each worker that runs any of them."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

import pytest
from sluice_harness import cdk_cli
from stage.running import deployed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stage.running import RunningStage


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="the long proofs of the executors with all their jobs")


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


# The groups that take longest come first, so that no worker is left alone with one at the end.
_LONGEST_FIRST = (
    "broken_stage",
    "loadtest",
    "stage",
    "loadtest-session",
    "backlog",
    "infra",
    "chaos",
    "deploy",
    "package",
    "changes",
    "drill",
    "following",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    mark = item.get_closest_marker("xdist_group")
    group = mark.args[0] if mark else None
    return _LONGEST_FIRST.index(group) if group in _LONGEST_FIRST else len(_LONGEST_FIRST)
