"""The grants that only failures need: to tidy up after attempts that died, to sweep, and to publish what ended."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sluice_core.jobs import JobKey
from sluice_core.ledger import JobLedger
from sluice_harness.live_functions import live
from stage.consumer import EventConsumer
from stage.grants import assert_denied, logged, proves
from stage.messages import letter_of, receive_until, send_again, set_aside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stage.grants import Grant
    from stage.running import Person, RunningStage

pytestmark = pytest.mark.xdist_group("broken_stage")

QUICK = {"parameters": {"records": 1}}
LAST_RECEIVE = 5
# The gateway's schema cannot say how deep a body may be; the processor does.
TOO_DEEP: dict[str, Any] = json.loads('{"in":' * 150 + "{}" + "}" * 150)
DeadLetter = tuple[str, dict[str, Any]]  # the queue that it is in, and itself


@pytest.fixture(scope="module")
def stage(altered_stage: RunningStage) -> Iterator[RunningStage]:
    """The stage; what fails for want of a grant is delivered again soon."""
    with altered_stage.quick_redelivery(2):
        yield altered_stage


@pytest.fixture(scope="module")
def ann(stage: RunningStage) -> Person:
    return stage.person("ann")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


# The processor


@proves(("ProcessorRole", "dynamodb:PartiQLUpdate"))
def test_a_processor_that_may_not_change_rows_fails_on_what_was_brought_back_in_vain(
    stage: RunningStage, ann: Person, grant: Grant
) -> None:
    # Given a request that can never run, which an operator brings back nevertheless
    with stage.paused():
        job_id = ann.accepted({"parameters": TOO_DEEP})
        request = stage.take_request()
    url = stage.description.queues.request.url
    send_again(stage, url, request)
    assert ann.ended(job_id)["error"]["code"] == "INVALID_REQUEST"
    ledger = JobLedger(stage.client("dynamodb"), stage.description.jobTable, retention_s=0)
    failed = ledger.get(JobKey(ann.sub, job_id))
    assert failed is not None
    ledger.reopen(failed, now_ms(), now_ms())

    # When it comes to a processor that may not change the row, then that is denied
    since_ms = now_ms()
    with grant.missing():
        send_again(stage, url, request)
        assert_denied(stage, grant.function, since_ms)
        assert ann.status(job_id).json()["status"] == "SUBMITTED"

    # And when the grant is back, the job fails again
    assert ann.ended(job_id)["error"]["code"] == "INVALID_REQUEST"


# The batch simulator


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


@proves(("BatchSimulatorRole", "dynamodb:BatchGetItem"))
def test_a_worker_that_may_not_read_rows_runs_nothing_that_comes_again(
    stage: RunningStage, ann: Person, grant: Grant
) -> None:
    # Given a job that comes again, and a worker that may not see how often it was begun
    since_ms = now_ms()
    with grant.missing():
        with stage.unworked():
            job_id = queued_again(stage, ann)
        assert_denied(stage, grant.function, since_ms)
        assert stage.recorded(ann.sub, job_id)["attempts"] == {"N": "0"}

    # And when the grant is back, the job completes
    assert ann.ended(job_id)["status"] == "COMPLETED"


@proves(("BatchSimulatorRole", "s3:ListBucket"), ("BatchSimulatorRole", "s3:DeleteObject"))
def test_a_worker_that_may_not_tidy_up_tries_again(stage: RunningStage, ann: Person, grant: Grant) -> None:
    # Given a job that comes again after an attempt has died and left its result behind
    since_ms = now_ms()
    with grant.missing():
        with stage.unworked():
            job_id = queued_again(stage, ann)
            left = left_behind(stage, ann, job_id)

        # When it completes, then what was left is still there, and so is its message
        assert ann.ended(job_id)["status"] == "COMPLETED"
        logged(stage, grant.function, since_ms, "result not deleted", job_id)
        assert left in stage.objects(f"results/{ann.sub}/{job_id}/")

    # And when the grant is back, only the result is there
    stage.drained()
    (kept,) = stage.objects(f"results/{ann.sub}/{job_id}/")
    assert kept != left


@proves(("BatchSimulatorRole", "sqs:SendMessage"))
def test_a_worker_that_may_not_send_lets_a_last_message_go(stage: RunningStage, ann: Person, grant: Grant) -> None:
    # Given a job that runs, and a second delivery of its message that will be its last
    queue = stage.description.queues.work
    with stage.unworked():
        job_id = ann.accepted({"parameters": {"workSeconds": 45}})
        body = letter_of(stage, queue.url, job_id)["Body"]
    ann.reached(job_id, "RUNNING")
    since_ms = now_ms()
    with grant.missing():
        with stage.unworked():
            stage.client("sqs").send_message(QueueUrl=queue.url, MessageBody=body)
            receive_until(stage, queue.url, job_id, LAST_RECEIVE - 1)

        # When it meets the other's lease, then no new message can take its place
        logged(stage, grant.function, since_ms, "not queued anew", job_id)

    # And the job is none the worse; that the message becomes a dead letter when the lease ends is not waited for
    assert ann.status(job_id).json()["status"] == "RUNNING"
    assert ann.cancel(job_id).status_code == 200
    stage.client("sqs").purge_queue(QueueUrl=queue.url)


# The sweeper


@pytest.fixture(scope="module")
def sweeper(stage: RunningStage) -> Iterator[str]:
    """The sweeper, which runs only when it is told to."""
    events = stage.client("events")
    (rule,) = [rule["Name"] for rule in events.list_rules()["Rules"] if "Sweep" in rule["Name"]]
    events.disable_rule(Name=rule)
    yield stage.description.functions.sweeper
    events.enable_rule(Name=rule)


def swept(stage: RunningStage) -> dict[str, Any]:
    """Run the sweeper, which may fail, and return Lambda's answer."""
    answer: dict[str, Any] = stage.client("lambda").invoke(
        FunctionName=live(stage.description.functions.sweeper), Payload=b"{}"
    )
    answer["Payload"].read()
    return answer


def abandoned(stage: RunningStage, person: Person) -> tuple[str, DeadLetter]:
    """Leave an open job without a message but for a dead letter."""
    queue = stage.description.queues.work
    with stage.unworked():
        job_id = person.accepted(QUICK)
        stage.recorded(person.sub, job_id)
        letter = set_aside(stage, queue.url, queue.dlqUrl)
    return job_id, (queue.dlqUrl, letter)


def unrecorded(stage: RunningStage, person: Person) -> tuple[str, DeadLetter]:
    """Leave a request that is not on record without a message but for a dead letter."""
    queue = stage.description.queues.request
    with stage.paused():
        job_id = person.accepted(QUICK)
        letter = set_aside(stage, queue.url, queue.dlqUrl)
    return job_id, (queue.dlqUrl, letter)


def assert_sweep_fails(stage: RunningStage, sweeper: str) -> None:
    since_ms = now_ms()
    assert "FunctionError" in swept(stage)
    assert_denied(stage, sweeper, since_ms)


def ends_failed(stage: RunningStage, person: Person, job_id: str, dead_letter: DeadLetter) -> None:
    """Sweep over a job's dead letter alone, see it fail, and be done with the letter."""
    url, letter = dead_letter
    sqs = stage.client("sqs")
    sqs.purge_queue(QueueUrl=url)  # what a sweep had in its hands when it failed may be hidden for two minutes
    send_again(stage, url, letter)
    assert "FunctionError" not in swept(stage)
    assert person.status(job_id).json()["status"] == "FAILED"
    sqs.purge_queue(QueueUrl=url)


@proves(
    ("SweeperRole", "sqs:ReceiveMessage", "WorkDeadLetters"),
    ("SweeperRole", "sqs:ChangeMessageVisibility", "WorkDeadLetters"),
    ("SweeperRole", "dynamodb:BatchGetItem"),
    ("SweeperRole", "dynamodb:PartiQLUpdate"),
)
def test_a_sweeper_without_a_grant_fails(stage: RunningStage, ann: Person, sweeper: str, grant: Grant) -> None:
    # Given a job that nobody else will end
    job_id, letter = abandoned(stage, ann)

    # When the sweeper lacks a grant, then it is denied and fails
    with grant.missing():
        assert_sweep_fails(stage, sweeper)
    assert ann.status(job_id).json()["status"] == "SUBMITTED"

    # And when the grant is back, the job ends
    ends_failed(stage, ann, job_id, letter)


@proves(
    ("SweeperRole", "sqs:ReceiveMessage", "RequestsDeadLetters"),
    ("SweeperRole", "sqs:ChangeMessageVisibility", "RequestsDeadLetters"),
    ("SweeperRole", "dynamodb:PartiQLInsert"),
)
def test_a_sweeper_without_a_grant_records_nothing(
    stage: RunningStage, ann: Person, sweeper: str, grant: Grant
) -> None:
    # Given a request that is not on record, and that nobody else will record
    job_id, letter = unrecorded(stage, ann)

    # When the sweeper lacks a grant, then it is denied and fails
    with grant.missing():
        assert_sweep_fails(stage, sweeper)
    assert stage.row(ann.sub, job_id) is None

    # And when the grant is back, the job ends
    ends_failed(stage, ann, job_id, letter)


@contextlib.contextmanager
def second_write_unanswered(stage: RunningStage) -> Iterator[None]:
    """Lose the answer to every other batch of writes, and let the first be one that is answered."""
    faults = f"{stage.description.endpointUrl}/_sluice/faults"
    lost = {"error": {"status": 500, "code": "InternalServerError"}, "done": True, "share": 0.5}
    rule = {"service": "dynamodb", "actions": ["BatchExecuteStatement"], **lost}
    httpx.put(faults, json=[rule]).raise_for_status()
    nobody = f"SELECT * FROM \"{stage.description.jobTable}\" WHERE jobKey = 'nobody'"
    stage.client("dynamodb").batch_execute_statement(Statements=[{"Statement": nobody}])
    try:
        yield
    finally:
        httpx.put(faults, json=[]).raise_for_status()


@proves(("SweeperRole", "dynamodb:GetItem"))
def test_a_sweeper_that_may_not_read_does_not_know_its_own_record(
    stage: RunningStage, ann: Person, sweeper: str, grant: Grant
) -> None:
    # Given a request that is not on record, and a sweeper that may not read the row which refuses it
    first, (url, _) = unrecorded(stage, ann)

    # When it is not told that it has recorded the request, tries again and is refused, then it is denied and fails
    with grant.missing(), second_write_unanswered(stage):
        assert_sweep_fails(stage, sweeper)
    stage.client("sqs").purge_queue(QueueUrl=url)

    # And with the grant it knows its own record, and says that it has ended the job
    second, _ = unrecorded(stage, ann)
    with second_write_unanswered(stage):
        assert stage.sweep() == {"read": 1, "ended": 1}
    assert {ann.status(one).json()["status"] for one in (first, second)} == {"FAILED"}
    stage.client("sqs").purge_queue(QueueUrl=url)


@proves(("SweeperRole", "s3:ListBucket"), ("SweeperRole", "s3:DeleteObject"))
def test_a_sweeper_that_may_not_tidy_up_says_so(
    stage: RunningStage, ann: Person, sweeper: str, grant: Grant
) -> None:
    # Given two jobs that nobody else will end, whose attempts have left a result behind
    job_id, letter = abandoned(stage, ann)
    left = left_behind(stage, ann, job_id)
    since_ms = now_ms()

    # When the one ends without the grant, then what was left is there still
    with grant.missing():
        ends_failed(stage, ann, job_id, letter)
    logged(stage, sweeper, since_ms, "result not deleted", job_id)
    assert stage.objects(f"results/{ann.sub}/{job_id}/") == [left]

    # And with the grant the other's is deleted
    other, letter = abandoned(stage, ann)
    left_behind(stage, ann, other)
    ends_failed(stage, ann, other, letter)
    assert stage.objects(f"results/{ann.sub}/{other}/") == []


# The event publisher


@proves(("EventPublisherRole", "events:PutEvents"))
def test_a_publisher_that_may_not_publish_does_so_later(stage: RunningStage, ann: Person, grant: Grant) -> None:
    # Given a publisher that may not put events on the bus
    with EventConsumer(stage, "sluice-test-grants") as consumer:
        since_ms = now_ms()
        with grant.missing():
            # When a job ends, then it is denied
            job_id = ann.accepted(QUICK)
            assert ann.ended(job_id)["status"] == "COMPLETED"
            assert_denied(stage, grant.function, since_ms)
            assert consumer.receive() == []

        # And when the grant is back, the end is published
        consumer.wait_for(lambda detail: bool(detail["jobId"] == job_id), "the end is published")
