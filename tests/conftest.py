"""The stage that the tests of ``deployed`` and ``stage`` share: one for each worker that runs any of them."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

import pytest
from sluice_harness import cdk_cli
from stage.running import deployed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stage.running import RunningStage


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="the long proofs of the executors with all their jobs")


@pytest.fixture(scope="session")
def assemblies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Synthesize a stage once a run, whichever worker comes first; sessions that tests start take it too."""
    base = tmp_path_factory.getbasetemp()
    # The folder above a worker's own belongs to this run; without workers it is shared with earlier runs.
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "assemblies"
    folder.mkdir(exist_ok=True)

    def synthesized(stage: str) -> Path:
        made = folder / stage
        with (shared / f"{stage}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                # Not where it is looked for: that it is there says that it is complete.
                cdk_cli.synthesize(stage, shared / f"{stage}.draft").rename(made)
        return made

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(cdk_cli.ASSEMBLIES, str(folder))
        yield synthesized


@pytest.fixture(scope="session")
def assembly(assemblies: Callable[[str], Path]) -> Path:
    """The local stage, synthesized."""
    return assemblies("local")


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
    "longwork",
    "drill",
    "chaos",
    "deploy",
    "changes",
    "package",
    "following",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    mark = item.get_closest_marker("xdist_group")
    group = mark.args[0] if mark else None
    return _LONGEST_FIRST.index(group) if group in _LONGEST_FIRST else len(_LONGEST_FIRST)
