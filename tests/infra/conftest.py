"""Each stage is synthesized once, by the CDK CLI as a user runs it, for all the tests of this folder.

Every module here is in the xdist group ``infra``, so that one worker runs them all.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from infra.assemblies import STAGES, Assembly
from sluice_harness import cdk_cli

if TYPE_CHECKING:
    from collections.abc import Callable

CONNECTION = "arn:aws:codeconnections:eu-central-1:111122223333:connection/0b7f-4d6e"
_VARIANTS = Path(__file__).with_name("variants.py")


@pytest.fixture(scope="session")
def synthesized(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Assembly]:
    @functools.cache
    def synthesize(stage: str) -> Assembly:
        return Assembly(stage, cdk_cli.synthesize(stage, tmp_path_factory.mktemp("assemblies") / stage))

    return synthesize


@pytest.fixture(scope="session", params=STAGES)
def assembly(request: pytest.FixtureRequest, synthesized: Callable[[str], Assembly]) -> Assembly:
    return synthesized(request.param)


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    """The pipeline's app; the assemblies of the stages that it deploys lie in its folder."""
    context = {"repository": "ann/sluice", "branch": "trunk", "connection": CONNECTION}
    folder = tmp_path_factory.mktemp("assemblies") / "pipeline"
    return Assembly("pipeline", cdk_cli.synthesize_app("pipeline", context, folder))


@pytest.fixture(scope="session")
def variants(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Assembly]:
    """Apps that differ from the local stage in one thing each; see variants.py."""
    folder = tmp_path_factory.mktemp("variants")
    node = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, str(_VARIANTS), str(folder)],
        # Our rules alone: the CDK's own check runs where a stage is synthesized as it is.
        env={**os.environ, "PATH": node, "CDK_VALIDATION": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    names: list[str] = json.loads(done.stdout)
    return {name: Assembly("local", folder / name) for name in names}
