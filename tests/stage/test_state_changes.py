"""The documented events of the executors' services, put on the bus: what becomes of the jobs that they tell of.

What the stage cannot bring about, such as a host that is lost, is told here in AWS's stead. The executions are in
the ledger only, as a starter leaves them there; the rules, the queue and the completion function are the stage's.
"""

from __future__ import annotations

import json
import random
import secrets
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest
from sluice_core.executors import BATCH, ECS, STEP_FUNCTIONS, ExecutionState
from sluice_core.inputs import InputStore
from sluice_core.jobs import JobKey, Submission
from sluice_core.ledger import Attempt, JobLedger, Start
from sluice_core.weather import WeatherReport
from stage.executions import now_ms, rows_of, slots, total, wake
from stage.messages import discard, job_of, letter_of, letters, receive_until
from stage.running import until
from unit.state_changes import CHANGES, REFUSED, RESULT, bus_entry, state_change

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sluice_harness.description import Queue
    from stage.running import Person, RunningStage

pytestmark = pytest.mark.xdist_group("longwork")

JOB_TYPES = {STEP_FUNCTIONS: "weather-workflow", BATCH: "weather-batch", ECS: "weather-task"}
PARAMETERS = {"records": 5}
STARTS, LAST_START = 1, 5
# The executions are on paper, and may be more than there are slots.
ROOM = 100
# By executor and change, how a job ends whose last start it was: with which code, if it failed.
ENDS = {
    STEP_FUNCTIONS: {
        "succeeded": "COMPLETED",
        "refused": REFUSED.code,
        "failed": "RETRIES_EXHAUSTED",
        "timed out": "TIMED_OUT",
        "a state timed out": "TIMED_OUT",
        "a step timed out": "TIMED_OUT",
        "stopped": "STOPPED",
        "overdue": "TIMED_OUT",
        "cancelled": "CANCELLED",
        "not wanted": "CANCELLED",
    },
    BATCH: {
        "succeeded": "COMPLETED",
        "gave up": "RETRIES_EXHAUSTED",
        "crashed": "WORKER_LOST",
        "host lost": "WORKER_LOST",
        "not started": "WORKER_LOST",
        "timed out": "TIMED_OUT",
        "stopped": "STOPPED",
        "stopped before it ran": "STOPPED",
        "overdue": "TIMED_OUT",
        "cancelled": "CANCELLED",
    },
    ECS: {
        "succeeded": "COMPLETED",
        "gave up": "RETRIES_EXHAUSTED",
        "crashed": "WORKER_LOST",
        "host lost": "WORKER_LOST",
        "spot": "WORKER_LOST",
        "retired": "RETRIES_EXHAUSTED",
        "not started": "WORKER_LOST",
        "stopped": "STOPPED",
        "stopped before it ran": "STOPPED",
        "overdue": "TIMED_OUT",
        "cancelled": "CANCELLED",
        "stopped too late": "COMPLETED",
    },
}
# By no fault of the job's: an operator may bring it back.
GIVEN_UP = {"RETRIES_EXHAUSTED", "WORKER_LOST"}
# Nothing has claimed the job before these.
UNCLAIMED = ("not started", "stopped before it ran")
LAST = [(executor, change) for executor, ends in ENDS.items() for change in ends]
LOST_FIRST = [(BATCH, "host lost"), (ECS, "host lost")]


@dataclass(frozen=True)
class Execution:
    """One start of a job, of which its service is to tell how it ended."""

    executor: str
    change: str
    key: JobKey
    token: str
    handle: str
    starts: int

    @property
    def start(self) -> Start:
        return Start(self.key, self.token, self.executor, self._token_of(self.starts - 1))

    def earlier(self, number: int) -> Start:
        """One of the job's starts before this one; its first is 1."""
        return Start(self.key, self._token_of(number), self.executor, self._token_of(number - 1))

    def _token_of(self, number: int) -> str:
        if number == self.starts:
            return self.token
        return f"{self.token}-{number}" if number else ""


@dataclass
class Told:
    """The executions of which the events told, the counts before, and what there was after."""

    stage: RunningStage
    person: Person
    executions: list[Execution] = field(default_factory=list)
    before: dict[str, float] = field(default_factory=dict)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    inputs: list[str] = field(default_factory=list)

    def of(self, executor: str, change: str, starts: int = LAST_START) -> Execution:
        what = (executor, change, starts)
        return next(one for one in self.executions if (one.executor, one.change, one.starts) == what)


@pytest.fixture(scope="module")
def completions(longwork: RunningStage) -> Queue:
    found = longwork.description.queues.completion
    assert found
    return found


@pytest.fixture(scope="module")
def told(longwork: RunningStage, completions: Queue) -> Iterator[Told]:
    """Have all of the executions begun, and then told that they are over."""
    story = Told(longwork, longwork.newcomer("told"))
    story.before = counts(longwork)
    planned = [(*one, LAST_START) for one in LAST] + [(*one, STARTS) for one in LOST_FIRST]
    story.executions = begin(longwork, story.person.sub, planned)
    tell(longwork, [event_of(longwork, one) for one in story.executions])
    until(lambda: longwork.depth(completions.url) == 0, "all events are read")
    story.rows = rows_of(longwork, story.person.sub)
    story.held = {token for executor in JOB_TYPES for token in slots(longwork).held(executor)}
    story.inputs = longwork.objects(f"inputs/{story.person.sub}/")
    yield story
    for executor in JOB_TYPES:
        longwork.client("sqs").purge_queue(QueueUrl=getattr(longwork.description.queues, executor).dlqUrl)


def counts(stage: RunningStage) -> dict[str, float]:
    return {name: total(stage, name) for name in ("JobsCompleted", "JobsFailed", "JobsRetried")}


def begin(stage: RunningStage, owner: str, planned: list[tuple[str, str, int]]) -> list[Execution]:
    """Record jobs, and bring them where their starter and their work leave them before their execution ends."""
    ledger = JobLedger(stage.client("dynamodb"), stage.description.jobTable, retention_s=86_400)
    inputs = InputStore(stage.client("s3"), stage.description.resultBucket)
    begun = [execution(stage, owner, *one) for one in planned]
    jobs = [
        Submission(one.key, JOB_TYPES[one.executor], PARAMETERS, now_ms(), executor=one.executor) for one in begun
    ]
    ledger.record(jobs)
    for job in jobs:
        inputs.put(job)
    for number in range(1, LAST_START):
        earlier = [one.earlier(number) for one in begun if number < one.starts]
        ledger.begin(earlier, now_ms())
        ledger.close(earlier)
    assert all(write.is_written for write in ledger.begin([one.start for one in begun], now_ms()))
    ledger.note_handles([(one.start, one.handle) for one in begun], now_ms())
    for one in begun:
        work(ledger, one)
    return begun


def execution(stage: RunningStage, owner: str, executor: str, change: str, starts: int = STARTS) -> Execution:
    """Take a slot for a start of a job."""
    [token] = slots(stage).take(executor, ROOM, 1, now_ms())
    key = JobKey(owner, f"told-{secrets.token_hex(8)}")
    return Execution(executor, change, key, token, handle(stage, executor, token), starts)


def handle(stage: RunningStage, executor: str, token: str) -> str:
    """By what a service would know the execution."""
    executors = stage.description.executors
    return {
        STEP_FUNCTIONS: f"{executors.stateMachine.replace(':stateMachine:', ':execution:')}:{token}",
        BATCH: f"4c7599ae-0a82-49aa-ba5a-{token[-12:]}",
        ECS: f"{executors.ecsCluster.replace(':cluster/', ':task/')}/{token}",
    }[executor]


def work(ledger: JobLedger, one: Execution) -> None:
    """Do what the execution's work put on record before it ended; the lease of what runs no more has lapsed."""
    now = now_ms()
    attempt = Attempt(one.key, one.token if one.executor == STEP_FUNCTIONS else "the-containers-own")
    if one.change not in UNCLAIMED:
        assert ledger.claim_started(attempt, one.token, now, now).is_written
    end = ENDS[one.executor][one.change]
    if end == "CANCELLED":
        assert ledger.cancel(one.key, now).is_written
    if end == "COMPLETED" and one.executor != STEP_FUNCTIONS:  # which leaves that to its event
        [write] = ledger.complete([(attempt, RESULT)], now)
        assert write.is_written


def event_of(stage: RunningStage, one: Execution, change: str = "") -> dict[str, Any]:
    """The event that tells of an execution's end, or of another change."""
    return state_change(
        one.executor,
        change or one.change,
        key=one.key,
        start_token=one.token,
        handle=one.handle,
        source=source(stage, one.executor),
    )


def source(stage: RunningStage, executor: str) -> str:
    executors = stage.description.executors
    return {
        STEP_FUNCTIONS: executors.stateMachine,
        BATCH: executors.batchJobQueue,
        ECS: executors.ecsCluster,
    }[executor]


def tell(stage: RunningStage, events: list[dict[str, Any]]) -> None:
    """Put events on the default bus, in this order."""
    for first in range(0, len(events), 10):
        entries = [bus_entry(event) for event in events[first : first + 10]]
        assert stage.client("events").put_events(Entries=entries)["FailedEntryCount"] == 0


# One event of each


def test_each_end_that_is_documented_is_told() -> None:
    assert {executor: {*ends} for executor, ends in ENDS.items()} == {
        executor: {change for change, one in changes.items() if one.state is not ExecutionState.OPEN}
        for executor, changes in CHANGES.items()
    }


@pytest.mark.parametrize(("executor", "change"), LAST)
def test_the_event_ends_the_job(told: Told, executor: str, change: str) -> None:
    # Given a job whose last start's execution is over, then it has ended as it should
    one = told.of(executor, change)
    row = told.rows[one.key.job_id]
    code = row["error"]["M"]["code"] if "error" in row else row["status"]
    assert code["S"] == ENDS[executor][change]
    assert row["status"]["S"] == (ENDS[executor][change] if code is row["status"] else "FAILED")

    # And its execution is closed, its slot free, and its input deleted
    assert "executing" not in row
    assert one.token not in told.held
    assert [key for key in told.inputs if one.key.job_id in key] == []


@pytest.mark.parametrize("executor", JOB_TYPES)
def test_what_was_given_up_and_no_more_is_set_aside(told: Told, executor: str) -> None:
    # Given how each job of an executor has ended, then there is one dead letter of each that may be brought back
    ends = ENDS[executor].items()
    given_up = [told.of(executor, change).key.job_id for change, end in ends if end in GIVEN_UP]
    dead_letters = letters(told.stage, getattr(told.stage.description.queues, executor).dlqUrl)
    assert sorted(map(job_of, dead_letters)) == sorted(given_up)


@pytest.mark.parametrize(("executor", "change"), LOST_FIRST)
def test_a_lost_host_leads_to_a_second_start(told: Told, executor: str, change: str) -> None:
    # Given a job whose first start's host was lost
    one = told.of(executor, change, STARTS)
    queue = getattr(told.stage.description.queues, executor)

    # When its turn has come again, then another container completes it
    until(lambda: delayed(told.stage, queue.url) == 0, "it may be taken from its queue")
    wake(told.stage, executor)
    assert told.person.ended(one.key.job_id)["status"] == "COMPLETED"
    row = told.stage.recorded(one.key.owner, one.key.job_id)
    assert row["starts"] == {"N": "2"}
    assert row["startToken"] != {"S": one.token}
    stored = told.stage.client("s3").get_object(
        Bucket=told.stage.description.resultBucket, Key=row["result"]["M"]["objectKey"]["S"]
    )
    assert stored["Body"].read() == WeatherReport().run(one.key.job_id, PARAMETERS, Event()).body


def delayed(stage: RunningStage, url: str) -> int:
    name = "ApproximateNumberOfMessagesDelayed"
    answer = stage.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=[name])
    return int(answer["Attributes"][name])


# Events that come again, late, or of nobody


def test_events_that_come_again_or_out_of_order_change_nothing(told: Told, completions: Queue) -> None:
    # Given jobs that have ended
    stage, owner = told.stage, told.person.sub
    until(lambda: all(map(is_over, rows_of(stage, owner).values())), "all are over")
    before, dropped = rows_of(stage, owner), total(stage, "CompletionsDropped")

    # When each event comes again, and with it another that should have come before, or contradicts it
    draw = random.Random(20_261_130)
    again = [(one, one.change) for one in told.executions]
    again += [(one, draw.choice([*ENDS[one.executor], "running"])) for one in told.executions]
    draw.shuffle(again)
    tell(stage, [event_of(stage, one, change) for one, change in again])
    until(lambda: stage.depth(completions.url) == 0, "all events are read")

    # Then no row is another, and the ends of older starts, and only these, are dropped and counted
    assert rows_of(stage, owner) == before
    older = [change for one, change in again if one.starts == STARTS and change != "running"]
    until(lambda: total(stage, "CompletionsDropped") == dropped + len(older), f"{len(older)} are counted")


def is_over(row: dict[str, Any]) -> bool:
    return "endedAt" in row and "executing" not in row


def test_each_end_was_counted_once(told: Told) -> None:
    # Given what has ended, of which the cancelled are counted by whoever cancels them
    ends = [ENDS[one.executor][one.change] for one in told.executions if one.starts == LAST_START]
    completed, cancelled = ends.count("COMPLETED"), ends.count("CANCELLED")
    wanted = {
        "JobsCompleted": completed + len(LOST_FIRST),
        "JobsFailed": len(ends) - completed - cancelled,
        "JobsRetried": len(LOST_FIRST),
    }

    # Then it has been counted so
    def counted() -> dict[str, float]:
        return {name: after - told.before[name] for name, after in counts(told.stage).items()}

    until(lambda: counted() == wanted, f"{wanted} are counted")


def test_what_is_of_no_job_is_dropped_and_counted(longwork: RunningStage, completions: Queue) -> None:
    dropped = total(longwork, "CompletionsDropped")
    with longwork.stopped(longwork.description.functions.completion):
        # Given events of another stage's executions, of ours that are not over, and of ours that are of no job
        unknown = [execution(longwork, "nobody", executor, "succeeded") for executor in JOB_TYPES]
        others = [state_change(one.executor, "succeeded") for one in unknown]
        running = [event_of(longwork, one, "running") for one in unknown]
        tell(longwork, [*others, *running, *(event_of(longwork, one) for one in unknown)])

        # Then only the last are let through
        assert longwork.depth(completions.url) == len(unknown)

    # And when they are read, they are dropped and counted, and make no job
    until(lambda: longwork.depth(completions.url) == 0, "all events are read")
    until(lambda: total(longwork, "CompletionsDropped") == dropped + len(unknown), "they are counted")
    assert rows_of(longwork, "nobody") == {}

    # And the slots that they had are free
    assert [one for one in unknown if one.token in slots(longwork).held(one.executor)] == []


def test_what_is_no_event_ends_among_the_dead_letters(longwork: RunningStage, completions: Queue) -> None:
    # Given a message that no rule of ours sent, which has been received in vain before
    with longwork.stopped(longwork.description.functions.completion):
        longwork.client("sqs").send_message(QueueUrl=completions.url, MessageBody='{"what": "is this?"}')
        receive_until(longwork, completions.url, "", 4)

    # When it is read once more, then it is set aside, for somebody to look at
    letter = letter_of(longwork, completions.dlqUrl, "")
    assert json.loads(letter["Body"]) == {"what": "is this?"}
    assert longwork.depth(completions.url) == 0
    discard(longwork, completions.dlqUrl, "")
    assert letters(longwork, completions.dlqUrl) == []
