"""A job type goes from one executor to the next while its jobs are open: none is lost, and each runs once."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest
from sluice_core.weather import WeatherReport
from sluice_harness import live_functions
from stage.containers import left_over
from stage.executions import full, rows_of, settings
from stage.running import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stage.running import Person, RunningStage

pytestmark = pytest.mark.xdist_group("longwork")

JOB_TYPE = "weather-workflow"
PARAMETERS = {"records": 5}
# Who runs the job type, one after the other; how each one's handle is written; how often it starts a job.
EXECUTORS = {
    "stepfunctions": (r"arn:aws:states:.*:execution:.*", "1"),
    "lambda": (r"[0-9a-f-]{36}", "0"),
    "ecs": (r"arn:aws:ecs:.*:task/.*", "1"),
    "batch": (r"[0-9a-f-]{36}", "1"),
}
FIRST = "stepfunctions"
# Each has so many jobs at least before the next has its turn.
ENOUGH = 3
EVERY_S = 0.4


@dataclass(frozen=True)
class Switched:
    """What was accepted while the job type went from executor to executor, and the rows in the end."""

    stage: RunningStage
    owner: str
    accepted: list[str]
    rows: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def switched(longwork: RunningStage) -> Switched:
    """Submit all the while, and switch; the first executor's jobs wait for slots until all others have had theirs."""
    person, processor, lambda_ = (
        longwork.newcomer("switching"),
        longwork.description.functions.processor,
        longwork.client("lambda"),
    )
    usual = settings(longwork, processor)

    def has_enough(executor: str) -> bool:
        return Counter(row["executor"]["S"] for row in rows_of(longwork, person.sub).values())[executor] >= ENOUGH

    with full(longwork, FIRST), submitting(person) as accepted:
        until(lambda: has_enough(FIRST), f"{ENOUGH} jobs of {FIRST}")
        with live_functions.with_variables(lambda_, processor):
            for executor in list(EXECUTORS)[1:]:
                setting = re.sub(rf"{JOB_TYPE}=\w+", f"{JOB_TYPE}={executor}", usual["EXECUTORS"])
                live_functions.release(
                    lambda_, processor, Environment={"Variables": {**usual, "EXECUTORS": setting}}
                )
                until(lambda executor=executor: has_enough(executor), f"{ENOUGH} jobs of {executor}")
    until(lambda: have_ended(longwork, person.sub, len(accepted)), "all have ended", 180)
    until(lambda: left_over(longwork, EXECUTORS.keys() - {"lambda"}) == {}, "nothing is left over")
    return Switched(longwork, person.sub, accepted, rows_of(longwork, person.sub))


@contextlib.contextmanager
def submitting(person: Person) -> Iterator[list[str]]:
    """Submit all the while, as a client of whom nothing is refused; yield the ids of what is accepted."""
    accepted: list[str] = []
    stop = Event()

    def submit() -> None:
        while not stop.wait(EVERY_S):
            accepted.append(person.accepted({"jobType": JOB_TYPE, "parameters": PARAMETERS}))

    with ThreadPoolExecutor(1) as pool:
        client = pool.submit(submit)
        try:
            yield accepted
        finally:
            stop.set()
            client.result()


def have_ended(stage: RunningStage, owner: str, number: int) -> bool:
    return sum("endedAt" in row for row in rows_of(stage, owner).values()) == number


def test_every_job_that_was_accepted_ran_once(switched: Switched) -> None:
    # Given all that was accepted, then it is on record, and completed in its one attempt
    assert switched.rows.keys() == {*switched.accepted}
    ends = Counter((row["status"]["S"], row["attempts"]["N"]) for row in switched.rows.values())
    assert ends == {("COMPLETED", "1"): len(switched.accepted)}

    # And has the one result that its row names, and no other
    objects = {key.split("/")[2]: key for key in switched.stage.objects(f"results/{switched.owner}/")}
    named = {one: row["result"]["M"]["objectKey"]["S"] for one, row in switched.rows.items()}
    assert objects == named
    bucket, weather = switched.stage.description.resultBucket, WeatherReport()
    for job_id, key in objects.items():
        stored = switched.stage.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
        assert stored == weather.run(job_id, PARAMETERS, Event()).body


def test_each_row_says_which_executor_ran_it(switched: Switched) -> None:
    # Given the jobs in the order of their submission
    rows = sorted(switched.rows.values(), key=lambda row: int(row["submittedAt"]["N"]))

    # Then the executors come in the order in which they had the job type
    assert list(dict.fromkeys(row["executor"]["S"] for row in rows)) == list(EXECUTORS)

    # And each row has its executor's handle, and as many starts as that one makes
    for row in rows:
        handle, starts = EXECUTORS[row["executor"]["S"]]
        assert re.fullmatch(handle, row["handle"]["S"]), row["handle"]
        assert row["starts"]["N"] == starts
