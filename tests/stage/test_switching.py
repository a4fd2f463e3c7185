"""A job type goes from one executor to the next while its jobs are open: none is lost, and each runs once.

Among them is one whose request SQS delivers again when its job type is another executor's.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest
from sluice_core.weather import WeatherReport
from sluice_harness import cdk_cli, live_functions
from sluice_harness.local_stage import engine_environment
from stage.containers import left_over
from stage.executions import full, rows_of, settings
from stage.messages import letter_of, send_again
from stage.running import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stage.messages import Message
    from stage.running import Person, RunningStage

pytestmark = pytest.mark.xdist_group("longwork")

JOB_TYPE = "weather-workflow"
PARAMETERS = {"records": 5}
SUBMISSION = {"jobType": JOB_TYPE, "parameters": PARAMETERS}
# Who runs the job type, one after the other; how each one's handle is written; how often it starts a job.
EXECUTORS = {
    "stepfunctions": (r"arn:aws:states:.*:execution:.*", "1"),
    "lambda": (r"[0-9a-f-]{36}", "0"),
    "ecs": (r"arn:aws:ecs:.*:task/.*", "1"),
    "batch": (r"[0-9a-f-]{36}", "1"),
}
FIRST = "stepfunctions"
# Synthesizes a release by which another executor has the job type.
RELEASE = Path(__file__).with_name("moved_stage.py")
# Each has so many jobs at least before the next has its turn.
ENOUGH = 2
EVERY_S = 0.8


@dataclass(frozen=True)
class Switched:
    """What was accepted while the job type went from executor to executor, and the rows in the end."""

    stage: RunningStage
    owner: str
    accepted: list[str]
    rows: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def switched(longwork: RunningStage) -> Switched:
    """Submit all the while, and change the processor's setting, each time to the next executor and then back."""
    processor, lambda_ = longwork.description.functions.processor, longwork.client("lambda")
    usual = settings(longwork, processor)
    with switching(longwork, "switching") as client, live_functions.with_variables(lambda_, processor):
        for executor in [one for one in EXECUTORS if one != FIRST]:
            setting = re.sub(rf"{JOB_TYPE}=\w+", f"{JOB_TYPE}={executor}", usual["EXECUTORS"])
            variables = {**usual, "EXECUTORS": setting}
            live_functions.release(lambda_, processor, Environment={"Variables": variables})
            until_enough(longwork, client.owner, executor)
        deliver_again(longwork, client.request)
    return ended(longwork, client)


@dataclass(frozen=True)
class Client:
    """Whose jobs they are, which were accepted, and the request of one that waits for the first executor."""

    owner: str
    accepted: list[str]
    request: Message


@contextlib.contextmanager
def switching(stage: RunningStage, username: str) -> Iterator[Client]:
    """Submit all the while; the first executor's jobs wait for slots until the others have had their turns."""
    person = stage.newcomer(username)
    with full(stage, FIRST):
        with stage.paused():
            job_id = person.accepted(SUBMISSION)
            request = letter_of(stage, stage.description.queues.request.url, job_id)
        with submitting(person) as accepted:
            accepted.append(job_id)
            until_enough(stage, person.sub, FIRST)
            yield Client(person.sub, accepted, request)


def deliver_again(stage: RunningStage, request: Message) -> None:
    """Have SQS deliver a request a second time, and wait until its job waits twice for the first executor."""
    queue = getattr(stage.description.queues, FIRST)
    before = stage.depth(queue.url)
    send_again(stage, stage.description.queues.request.url, request)
    until(lambda: stage.depth(queue.url) == before + 1, f"{FIRST} has the request again")


def until_enough(stage: RunningStage, owner: str, executor: str) -> None:
    """Wait until some jobs are on record as an executor's."""

    def on_record() -> int:
        return Counter(row["executor"]["S"] for row in rows_of(stage, owner).values())[executor]

    until(lambda: on_record() >= ENOUGH, f"{ENOUGH} jobs of {executor} are on record")


@contextlib.contextmanager
def submitting(person: Person) -> Iterator[list[str]]:
    """Submit all the while, as a client of whom nothing is refused; yield the ids of what is accepted."""
    accepted: list[str] = []
    stop = Event()

    def submit() -> None:
        while not stop.wait(EVERY_S):
            accepted.append(person.accepted(SUBMISSION))

    with ThreadPoolExecutor(1) as pool:
        client = pool.submit(submit)
        try:
            yield accepted
        finally:
            stop.set()
            client.result()


def ended(stage: RunningStage, client: Client) -> Switched:
    """Wait until all is over."""
    owner, accepted = client.owner, client.accepted

    def have_ended() -> bool:
        return sum("endedAt" in row for row in rows_of(stage, owner).values()) == len(accepted)

    until(have_ended, "all have ended", 180)
    until(lambda: left_over(stage, EXECUTORS.keys() - {"lambda"}) == {}, "nothing is left over")
    return Switched(stage, owner, accepted, rows_of(stage, owner))


def test_every_job_that_was_accepted_ran_once(switched: Switched) -> None:
    assert_each_ran_once(switched)


def assert_each_ran_once(switched: Switched) -> None:
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
    # The executors come in the order in which they had the job type
    assert in_order(switched) == list(EXECUTORS)

    # And each row has its executor's handle, and as many starts as that one makes
    for row in switched.rows.values():
        handle, starts = EXECUTORS[row["executor"]["S"]]
        assert re.fullmatch(handle, row["handle"]["S"]), row["handle"]
        assert row["starts"]["N"] == starts


def in_order(switched: Switched) -> list[str]:
    """The executors in the order in which they had their first jobs."""
    rows = sorted(switched.rows.values(), key=lambda row: int(row["submittedAt"]["N"]))
    return list(dict.fromkeys(row["executor"]["S"] for row in rows))


def test_a_release_loses_none_either(
    longwork: RunningStage, assemblies: Callable[[str], Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if not request.config.getoption("--full"):
        pytest.skip("another synthesis and two deployments: with --full")
    # Given a release by which another executor has the job type, and the first one drains
    command = [sys.executable, str(RELEASE), str(tmp_path / "moved"), JOB_TYPE, "ecs"]
    node = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(command, env={**os.environ, "PATH": node, "CDK_VALIDATION": "false"}, check=True)
    environment = engine_environment(longwork.local.endpoint_url)

    # When it is deployed while jobs wait for the first executor, and then what was there before
    with switching(longwork, "releasing") as client:
        cdk_cli.deploy(tmp_path / "moved", environment)
        until_enough(longwork, client.owner, "ecs")
        deliver_again(longwork, client.request)
        cdk_cli.deploy(assemblies("longwork"), environment)

    # Then all that was accepted ran once, where it was to run
    released = ended(longwork, client)
    assert_each_ran_once(released)
    assert in_order(released) == [FIRST, "ecs"]
