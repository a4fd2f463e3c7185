"""The chaos run in short: its own command, a fixed seed, and every kind of fault."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from sluice_harness.chaos.plan import make_plan
from sluice_harness.chaos.worker_faults import CALL_FAULTS, KILLS
from sluice_harness.description import ROOT, description_path

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.xdist_group("chaos"), pytest.mark.usefixtures("assembly")]

JOBS = 250
# With this seed each kind of fault comes early in the life of the first workers, and no job kills its worker each
# time: five leases must lapse before such a job is a dead letter, which takes longer than all the rest.
SEED = 423436
ARGUMENTS = {
    "jobs": JOBS,
    "seed": SEED,
    "rate": 50,
    "intensity": 3,
    "faults-until": 0.9,
    "settle": 0,
    "minutes": 5,
}


@dataclass(frozen=True)
class Ran:
    exit_code: int
    output: str
    summary: dict[str, Any]
    faults: list[dict[str, Any]]
    name: str


@pytest.fixture(scope="module")
def ran() -> Iterator[Ran]:
    """Run it once, beside whatever else runs here."""
    name = f"test-chaos-{os.getpid()}"
    arguments = [f"--{option}={value}" for option, value in ARGUMENTS.items()]
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "sluice_harness.chaos.session", f"--name={name}", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        folder = ROOT / "build" / name
        summary = folder / "summary.json"
        assert summary.exists(), ended.stdout + ended.stderr
        record = (folder / "faults" / "faults.jsonl").read_text().splitlines()
        faults = [json.loads(line) for line in record]
        yield Ran(ended.returncode, ended.stdout + ended.stderr, json.loads(summary.read_text()), faults, name)
    finally:
        shutil.rmtree(ROOT / "build" / name, ignore_errors=True)
        shutil.rmtree(ROOT / "build" / "cdk.out" / name, ignore_errors=True)
        (ROOT / "build" / "logs" / f"{name}.log").unlink(missing_ok=True)


def test_nothing_is_lost_and_nothing_done_twice(ran: Ran) -> None:
    # Then the command says so by its exit code
    assert ran.exit_code == 0, ran.output
    assert ran.summary["offences"] == []

    # And by its counts: every job was accepted and ended as its role foretells
    plan = make_plan(SEED, JOBS)
    states = ran.summary["states"]
    assert ran.summary["accepted"] == JOBS
    assert states["COMPLETED"] + states["FAILED"] + states["CANCELLED"] == JOBS
    assert states["FAILED"] == sum(job.is_poison for job in plan)
    assert states["CANCELLED"] == ran.summary["cancelAnswers"].get("200", 0)
    assert ran.summary["drainedAfterSeconds"] is not None


def test_faults_of_every_kind_happened(ran: Ran) -> None:
    assert {kind for kind, count in ran.summary["faults"].items() if count} == set(CALL_FAULTS)
    assert {kind for kind, count in ran.summary["kills"].items() if count} == set(KILLS)
    assert ran.summary["poison"]["poison-error"] > 0
    assert ran.summary["retries"]["attempts"] > 0
    functions = {fault["function"] for fault in ran.faults}
    assert {"processor", "batch_simulator"} <= functions


def test_it_says_which_seed_replays_it_and_leaves_no_stage(ran: Ran) -> None:
    assert f"--seed {SEED}" in ran.output
    assert "nothing lost, nothing twice" in ran.output
    assert not description_path(ran.name).exists()
