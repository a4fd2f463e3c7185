"""Containers that are killed at random points of their lives: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import contextlib
import itertools
import signal
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from stage.containers import Killer, lapse, left_over
from stage.executions import assert_counted_once, rows_of, wake
from stage.running import until

if TYPE_CHECKING:
    from stage.containers import Container
    from stage.running import Person, RunningStage

pytestmark = pytest.mark.xdist_group("longwork")

# With `--full` as many as the proof asks for, which wait for the leases of the dead; else some, which do not.
JOBS, FULL_JOBS = 24, 200
SEED = 20_261_130
EXECUTORS = {"weather-batch": "batch", "weather-task": "ecs"}
# A job is given up after its fifth start: each may be struck as often as that leaves one to spare.
STRUCK_STARTS = 3


@dataclass(frozen=True)
class Proof:
    """What was submitted, what befell it, and what is on record of it."""

    stage: RunningStage
    owner: str
    job_ids: list[str]
    killer: Killer
    rows: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def proof(longwork: RunningStage, request: pytest.FixtureRequest) -> Proof:
    """Run the jobs, kill their containers, and wait until all is over."""
    is_full = request.config.getoption("--full")
    person = longwork.newcomer("containers")
    number = FULL_JOBS if is_full else JOBS
    looks = itertools.count()

    def bury(dead: Container) -> None:
        if not is_full:
            lapse(longwork, person.sub, dead)

    def have_ended() -> bool:
        if not is_full and next(looks) % 20 == 0:  # in a second or two what the schedule does each minute
            for executor in EXECUTORS.values():
                wake(longwork, executor)
        return sum("endedAt" in row for row in rows_of(longwork, person.sub).values()) == number

    with Killer(longwork, SEED, share=0.5, most=STRUCK_STARTS, within_s=2.0, when_dead=bury) as killer:
        job_ids = [_submit(person, one) for one in range(number)]
        until(have_ended, "all jobs have ended", 1_800 if is_full else 240)
        with contextlib.suppress(TimeoutError):  # what is left then is for a test to say
            until(lambda: left_over(longwork, EXECUTORS.values()) == {}, "nothing is left over", 120)
    print(f"seed {SEED}: {number} jobs; {killer.report()}")
    return Proof(longwork, person.sub, job_ids, killer, rows_of(longwork, person.sub))


def _submit(person: Person, number: int) -> str:
    return person.accepted(
        {
            "jobType": [*EXECUTORS][number % len(EXECUTORS)],
            "parameters": {"records": 20, "workSeconds": number % 4 / 2},
            "clientToken": f"killed-{SEED}-{number:04}",
        }
    )


def test_every_job_is_complete_and_has_one_result(proof: Proof) -> None:
    # Given all jobs, when they have ended, then each is complete
    assert {job_id: row["status"]["S"] for job_id, row in proof.rows.items()} == dict.fromkeys(
        proof.job_ids, "COMPLETED"
    )
    assert {job_id: row["executor"]["S"] for job_id, row in proof.rows.items()} == {
        job_id: EXECUTORS[row["jobType"]["S"]] for job_id, row in proof.rows.items()
    }

    # And there is the result that its row names, and none besides
    named = {row["result"]["M"]["objectKey"]["S"] for row in proof.rows.values()}
    assert set(proof.stage.objects(f"results/{proof.owner}/")) == named
    assert len(named) == len(proof.job_ids)


def test_each_was_counted_once(proof: Proof) -> None:
    for job_type in EXECUTORS:
        its = [job_id for job_id, row in proof.rows.items() if row["jobType"]["S"] == job_type]
        assert_counted_once(proof.stage, job_type, its)


def test_nothing_is_left_over(proof: Proof) -> None:
    assert left_over(proof.stage, EXECUTORS.values()) == {}


def test_attempts_and_starts_add_up(proof: Proof) -> None:
    # Given how often a container of each job was started, and how often one was struck
    started = Counter(container.job_id for container in proof.killer.seen)
    struck = Counter(container.job_id for container, _ in proof.killer.struck)

    # Then the rows say so; and there was one start, and one more for each that was struck, but for the last, which
    # may have been struck when it had done its work
    assert {job_id: int(row["starts"]["N"]) for job_id, row in proof.rows.items()} == started
    assert [
        job_id for job_id in proof.job_ids if not struck[job_id] <= started[job_id] <= struck[job_id] + 1
    ] == []

    # And none was claimed more often than it was started
    attempts = {job_id: int(row["attempts"]["N"]) for job_id, row in proof.rows.items()}
    assert [one for one in proof.job_ids if not 1 <= attempts[one] <= started[one]] == []


def test_enough_was_struck_to_prove_something(proof: Proof) -> None:
    signals = Counter(blow.number for _, blow in proof.killer.struck)
    assert signals[signal.SIGKILL] >= len(proof.job_ids) / 4
    assert signals[signal.SIGTERM] > 0
    # some before their claim, some after it
    claimed = sum(int(row["attempts"]["N"]) for row in proof.rows.values())
    assert len(proof.job_ids) < claimed < len(proof.killer.seen)
