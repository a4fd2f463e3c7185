"""The grants that only failures need: to tidy up after attempts that died, to sweep, and to publish what ended.

Not shown is the sweeper's ``dynamodb:GetItem``: it reads the row that refuses an insert, which takes a request
that is recorded in the moment between the sweeper's look at the table and its own record.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest
from stage.consumer import EventConsumer
from stage.grants import assert_denied, logged, role_of, without
from stage.messages import discard, letter_of, receive_until, set_aside
from stage.running import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stage.running import Person, RunningStage

pytestmark = pytest.mark.xdist_group("broken_stage")

QUICK = {"parameters": {"records": 1}}
LAST_RECEIVE = 5


@pytest.fixture(scope="module")
def stage(altered_stage: RunningStage) -> Iterator[RunningStage]:
    """The stage; what fails for want of a grant is delivered again soon."""
    with altered_stage.quick_redelivery():
        yield altered_stage


@pytest.fixture(scope="module")
def ann(stage: RunningStage) -> Person:
    return stage.person("ann")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


# The batch simulator


@pytest.fixture
def simulator(stage: RunningStage) -> str:
    return str(stage.description.functions.batchSimulator)


def queued_again(stage: RunningStage, person: Person) -> str:
    """Queue a job whose message has been received before; the worker's mapping is stopped."""
    job_id = person.accepted(QUICK)
    stage.recorded(person.sub, job_id)
    receive_until(stage, stage.description.queues.work.url, job_id, 1)
    return job_id


def left_behind(stage: RunningStage, person: Person, job_id: str) -> str:
    """Store an object as an attempt does that dies before it has said so; return its key."""
    key = f"results/{person.sub}/{job_id}/0123456789abcdef0123456789abcdef.json"
    stage.client("s3").put_object(Bucket=stage.description.resultBucket, Key=key, Body=b"{}")
    return key


def test_a_worker_that_may_not_read_rows_runs_nothing_that_comes_again(
    stage: RunningStage, ann: Person, simulator: str
) -> None:
    # Given a job that comes again, and a worker that may not see how often it was begun
    since_ms = now_ms()
    with without(stage, role_of(stage, simulator), "dynamodb:BatchGetItem"):
        with stage.unworked():
            job_id = queued_again(stage, ann)
        assert_denied(stage, simulator, since_ms)
        assert stage.recorded(ann.sub, job_id)["attempts"] == {"N": "0"}

    # And when the grant is back, the job completes
    assert ann.ended(job_id)["status"] == "COMPLETED"


@pytest.mark.parametrize("action", ["s3:ListBucket", "s3:DeleteObject"])
def test_a_worker_that_may_not_tidy_up_tries_again(
    stage: RunningStage, ann: Person, simulator: str, action: str
) -> None:
    # Given a job that comes again after an attempt has died and left its result behind
    since_ms = now_ms()
    with without(stage, role_of(stage, simulator), action):
        with stage.unworked():
            job_id = queued_again(stage, ann)
            left = left_behind(stage, ann, job_id)

        # When it completes, then what was left is still there, and so is its message
        assert ann.ended(job_id)["status"] == "COMPLETED"
        logged(stage, simulator, since_ms, "result not deleted", job_id)
        assert left in stage.objects(f"results/{ann.sub}/{job_id}/")

    # And when the grant is back, only the result is there
    stage.drained()
    (kept,) = stage.objects(f"results/{ann.sub}/{job_id}/")
    assert kept != left


def test_a_worker_that_may_not_send_lets_a_last_message_go(
    stage: RunningStage, ann: Person, simulator: str
) -> None:
    # Given a job that runs, and a second delivery of its message that will be its last
    queue = stage.description.queues.work
    with stage.unworked():
        job_id = ann.accepted({"parameters": {"workSeconds": 45}})
        body = letter_of(stage, queue.url, job_id)["Body"]
    ann.reached(job_id, "RUNNING")
    since_ms = now_ms()
    with without(stage, role_of(stage, simulator), "sqs:SendMessage"):
        with stage.unworked():
            stage.client("sqs").send_message(QueueUrl=queue.url, MessageBody=body)
            receive_until(stage, queue.url, job_id, LAST_RECEIVE - 1)

        # When it meets the other's lease, then no new message can take its place
        logged(stage, simulator, since_ms, "not queued anew", job_id)

    # And the job is none the worse; that the message becomes a dead letter when the lease ends is not waited for
    assert ann.status(job_id).json()["status"] == "RUNNING"
    assert ann.cancel(job_id).status_code == 200
    stage.client("sqs").purge_queue(QueueUrl=queue.url)


# The sweeper


@pytest.fixture
def sweeper(stage: RunningStage) -> str:
    return str(stage.description.functions.sweeper)


def swept(stage: RunningStage) -> dict[str, Any]:
    """Run the sweeper, which may fail, and return Lambda's answer."""
    answer: dict[str, Any] = stage.client("lambda").invoke(
        FunctionName=stage.description.functions.sweeper, Payload=b"{}"
    )
    answer["Payload"].read()
    return answer


def abandoned(stage: RunningStage, person: Person) -> str:
    """Leave an open job without a message but for a dead letter."""
    queue = stage.description.queues.work
    with stage.unworked():
        job_id = person.accepted(QUICK)
        stage.recorded(person.sub, job_id)
        set_aside(stage, queue.url, queue.dlqUrl)
    return job_id


def unrecorded(stage: RunningStage, person: Person) -> str:
    """Leave a request that is not on record without a message but for a dead letter."""
    queue = stage.description.queues.request
    with stage.paused():
        job_id = person.accepted(QUICK)
        set_aside(stage, queue.url, queue.dlqUrl)
    return job_id


def ends_failed(stage: RunningStage, person: Person, job_id: str) -> None:
    """Sweep until a job has failed, then be done with its dead letter."""

    def look() -> bool:
        swept(stage)
        return bool(person.status(job_id).json()["status"] == "FAILED")

    until(look, f"job {job_id} has failed")
    queues = stage.description.queues
    for url in (queues.request.dlqUrl, queues.work.dlqUrl):
        discard(stage, url, job_id)


@contextlib.contextmanager
def failing_sweeps(stage: RunningStage, sweeper: str, action: str) -> Iterator[None]:
    """Let the sweeper fail for want of a grant over a dead letter; afterwards there is none."""
    since_ms = now_ms()
    with without(stage, role_of(stage, sweeper), action):
        yield
        until(lambda: "FunctionError" in swept(stage), "the sweeper fails")
        assert_denied(stage, sweeper, since_ms)
    # What a sweep had in its hands when it failed is hidden for two minutes.
    for queue in (stage.description.queues.request, stage.description.queues.work):
        stage.client("sqs").purge_queue(QueueUrl=queue.dlqUrl)


@pytest.mark.parametrize(
    "action",
    ["sqs:ReceiveMessage", "sqs:ChangeMessageVisibility", "dynamodb:BatchGetItem", "dynamodb:PartiQLUpdate"],
)
def test_a_sweeper_without_a_grant_fails(stage: RunningStage, ann: Person, sweeper: str, action: str) -> None:
    # Given a sweeper that lacks a grant, and a job that nobody else will end: then it is denied and fails
    with failing_sweeps(stage, sweeper, action):
        first = abandoned(stage, ann)
    ann.cancel(first)

    # And when the grant is back, the next such job ends
    ends_failed(stage, ann, abandoned(stage, ann))


def test_a_sweeper_that_may_not_record_fails(stage: RunningStage, ann: Person, sweeper: str) -> None:
    # Given a sweeper that may not record, and a request that nobody else will: then it is denied and fails
    with failing_sweeps(stage, sweeper, "dynamodb:PartiQLInsert"):
        first = unrecorded(stage, ann)
    assert ann.status(first).json()["status"] == "SUBMITTED"
    ann.cancel(first)

    # And when the grant is back, the next such job ends
    ends_failed(stage, ann, unrecorded(stage, ann))


@pytest.mark.parametrize("action", ["s3:ListBucket", "s3:DeleteObject"])
def test_a_sweeper_that_may_not_tidy_up_says_so(
    stage: RunningStage, ann: Person, sweeper: str, action: str
) -> None:
    # Given two jobs that nobody else will end, whose attempts have left a result behind
    since_ms = now_ms()
    with without(stage, role_of(stage, sweeper), action):
        job_id = abandoned(stage, ann)
        left = left_behind(stage, ann, job_id)

        # When the one ends, then what was left is there still
        ends_failed(stage, ann, job_id)
        logged(stage, sweeper, since_ms, "result not deleted", job_id)
        assert stage.objects(f"results/{ann.sub}/{job_id}/") == [left]

    # And with the grant the other's is deleted
    other = abandoned(stage, ann)
    left_behind(stage, ann, other)
    ends_failed(stage, ann, other)
    assert stage.objects(f"results/{ann.sub}/{other}/") == []


# The event publisher


def test_a_publisher_that_may_not_publish_does_so_later(stage: RunningStage, ann: Person) -> None:
    # Given a publisher that may not put events on the bus
    publisher = stage.description.functions.eventPublisher
    with EventConsumer(stage, "sluice-test-grants") as consumer:
        since_ms = now_ms()
        with without(stage, role_of(stage, publisher), "events:PutEvents"):
            # When a job ends, then it is denied
            job_id = ann.accepted(QUICK)
            assert ann.ended(job_id)["status"] == "COMPLETED"
            assert_denied(stage, publisher, since_ms)
            assert consumer.receive() == []

        # And when the grant is back, the end is published
        consumer.wait_for(lambda detail: bool(detail["jobId"] == job_id), "the end is published")
