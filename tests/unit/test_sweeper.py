"""The sweeper reads real dead-letter queues, ends what nobody else will, and consumes nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from sluice_core.executors import Started
from sluice_core.jobs import JobError, JobKey, JobStatus, StoredResult
from sluice_core.ledger import Attempt
from sluice_core.work_queue import WorkQueueExecutor
from unit.lambda_events import ANN, Context, job, row
from unit.wire_faults import TRANSIENT, Fault

if TYPE_CHECKING:
    from types import ModuleType

    from sluice_core.jobs import Job, Submission
    from sluice_core.ledger import JobLedger
    from unit.resources import Bucket, Output, WorkQueue
    from unit.wire_faults import Wire

MINE = job("mine", n=1)
REQUEST = {"jobType": "scripted", "parameters": {"n": 1}}
LOST = JobError("WORKER_LOST", "No worker lived to finish the work; submit it again later.")
NOT_PROCESSED = JobError("NOT_PROCESSED", "The request could not be processed; submit it again.")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine has one server: an empty answer is an empty queue at once."""
    monkeypatch.setattr("sluice_core.dead_letters._WAIT_S", 0)


def sweep(sweeper: ModuleType, remaining_ms: int = 60_000) -> tuple[int, int]:
    answer = sweeper.handler({}, Context(remaining_ms))
    assert set(answer) == {"read", "ended"}
    return answer["read"], answer["ended"]


def dead_letter(queue: WorkQueue, *submissions: Submission) -> None:
    """Put work messages into the work queue's dead-letter queue."""
    results = WorkQueueExecutor(queue.sqs, queue.url).start(submissions)
    assert all(isinstance(one, Started) for one in results)


def claim(ledger: JobLedger, lease_until_ms: int) -> None:
    [write] = ledger.claim([Attempt(MINE.key, "dead")], 10, lease_until_ms)
    assert write.is_written


def found(ledger: JobLedger, job_id: str = "mine") -> Job | None:
    return ledger.get(JobKey(ANN, job_id.ljust(16, "-")))


# --- what is ended


def test_a_job_whose_worker_died_ends(
    sweeper: ModuleType, ledger: JobLedger, work_dlq: WorkQueue, output: Output, now_ms: int
) -> None:
    # Given a RUNNING job whose lease has lapsed, and its message among the dead letters
    ledger.record([MINE])
    claim(ledger, now_ms - 1)
    dead_letter(work_dlq, MINE)

    # When the sweeper looks, then it ends the job
    assert sweep(sweeper) == (1, 1)
    ended = row(ledger, MINE)
    assert (ended.status, ended.error) == (JobStatus.FAILED, LOST)
    assert ended.ended_at is not None
    assert ended.ended_at >= now_ms

    # and says so
    assert output.values("JobsSwept") == output.values("JobsFailed") == [1]
    assert {one["JobType"] for one in output.emf} == {"scripted"}
    [line] = output.logs
    assert (line["outcome"], line["jobId"], line["code"]) == ("swept", MINE.key.job_id, "WORKER_LOST")


def test_a_job_that_was_given_back_ends(sweeper: ModuleType, ledger: JobLedger, work_dlq: WorkQueue) -> None:
    ledger.record([MINE])
    dead_letter(work_dlq, MINE)

    assert sweep(sweeper) == (1, 1)
    assert (row(ledger, MINE).status, row(ledger, MINE).error) == (JobStatus.FAILED, LOST)


def test_what_its_dead_attempts_stored_is_deleted(
    sweeper: ModuleType, ledger: JobLedger, work_dlq: WorkQueue, bucket: Bucket, now_ms: int
) -> None:
    ledger.record([MINE])
    claim(ledger, now_ms - 1)
    dead_letter(work_dlq, MINE)
    others = f"results/{ANN}/{MINE.key.job_id}2/dead.txt"
    for key in (f"results/{ANN}/{MINE.key.job_id}/dead.txt", others):
        bucket.s3.put_object(Bucket=bucket.name, Key=key, Body=b"")

    sweep(sweeper)

    assert bucket.keys() == [others]


def test_a_request_whose_job_was_recorded_and_no_more_ends(
    sweeper: ModuleType, ledger: JobLedger, request_dlq: WorkQueue
) -> None:
    ledger.record([MINE])
    request_dlq.send_request("mine", REQUEST)

    assert sweep(sweeper) == (1, 1)
    assert (row(ledger, MINE).status, row(ledger, MINE).error) == (JobStatus.FAILED, NOT_PROCESSED)


def test_a_request_that_could_not_be_recorded_becomes_a_failed_job(
    sweeper: ModuleType, ledger: JobLedger, request_dlq: WorkQueue, output: Output
) -> None:
    # Given a request that no processor could enter in the ledger
    request_dlq.send_request("mine", REQUEST)

    assert sweep(sweeper) == (1, 1)

    # Then its client finds out, and the row is that of this very request
    ended = row(ledger, MINE)
    assert (ended.status, ended.error) == (JobStatus.FAILED, NOT_PROCESSED)
    assert (ended.submitted_at, ended.digest, ended.job_type) == (MINE.submitted_at, MINE.digest, "scripted")
    # and it counts as newly entered as well as failed, or more jobs would have failed than were submitted
    for name in ("SubmissionsRecorded", "JobsSwept", "JobsFailed", "JobsFailedNotProcessed"):
        assert output.values(name) == [1], name


@pytest.mark.parametrize("body", ["{", {"jobType": "scripted", "surprise": 1}])
def test_an_invalid_request_that_could_not_be_recorded_becomes_a_failed_job_too(
    sweeper: ModuleType, ledger: JobLedger, request_dlq: WorkQueue, body: Any
) -> None:
    request_dlq.send_request("mine", body)

    assert sweep(sweeper) == (1, 1)
    ended = found(ledger)
    assert ended is not None
    assert (ended.status, ended.error) == (JobStatus.FAILED, NOT_PROCESSED)


def test_many_are_ended_in_one_sweep(
    sweeper: ModuleType, ledger: JobLedger, work_dlq: WorkQueue, request_dlq: WorkQueue
) -> None:
    jobs = [job(f"job-{n}") for n in range(60)]
    ledger.record(jobs)
    dead_letter(work_dlq, *jobs)
    for n in range(12):
        request_dlq.send_request(f"request-{n}", {})

    assert sweep(sweeper) == (72, 72)

    assert {row(ledger, one).status for one in jobs} == {JobStatus.FAILED}
    assert (work_dlq.depth(), request_dlq.depth()) == ((60, 0), (12, 0))


def test_two_messages_of_one_job_end_it_once(
    sweeper: ModuleType, ledger: JobLedger, work_dlq: WorkQueue, request_dlq: WorkQueue, output: Output
) -> None:
    ledger.record([MINE])
    dead_letter(work_dlq, MINE)
    dead_letter(work_dlq, MINE)
    request_dlq.send_request("mine", REQUEST)

    assert sweep(sweeper) == (3, 1)
    assert row(ledger, MINE).error == LOST
    assert output.values("JobsSwept") == [1]


# --- what is let alone


def test_a_job_under_a_live_lease_is_its_holder_s(
    sweeper: ModuleType, ledger: JobLedger, work_dlq: WorkQueue, request_dlq: WorkQueue, now_ms: int
) -> None:
    ledger.record([MINE])
    claim(ledger, now_ms + 100_000)
    dead_letter(work_dlq, MINE)
    request_dlq.send_request("mine", REQUEST)
    before = row(ledger, MINE)

    assert sweep(sweeper) == (2, 0)
    assert row(ledger, MINE) == before


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
def test_a_job_that_has_ended_stays_as_it_is(
    sweeper: ModuleType,
    ledger: JobLedger,
    *,
    work_dlq: WorkQueue,
    request_dlq: WorkQueue,
    bucket: Bucket,
    wire: Wire,
    output: Output,
    end: str,
) -> None:
    # Given a job that ended, with its result if it has one
    ledger.record([MINE])
    claim(ledger, 20)
    stored = StoredResult(f"results/{ANN}/{MINE.key.job_id}/dead.txt", "text/plain", 1)
    bucket.s3.put_object(Bucket=bucket.name, Key=stored.object_key, Body=b"1")
    attempt = Attempt(MINE.key, "dead")
    if end == "completed":
        ledger.complete([(attempt, stored)], 15)
    elif end == "failed":
        ledger.fail([(attempt, JobError("RETRIES_EXHAUSTED", "No."))], 15)
    else:
        ledger.cancel(MINE.key, 15)
    before = row(ledger, MINE)
    dead_letter(work_dlq, MINE)
    request_dlq.send_request("mine", REQUEST)

    # When the sweeper meets it, then reading it was all
    assert sweep(sweeper) == (2, 0)
    assert row(ledger, MINE) == before
    assert bucket.keys() == [stored.object_key]
    assert wire.made("BatchExecuteStatement") == []
    assert output.emf == []


def test_a_job_that_was_brought_back_is_held_until_its_message_is_through(
    sweeper: ModuleType, ledger: JobLedger, work_dlq: WorkQueue, now_ms: int
) -> None:
    # Given a job that failed and was brought back, whose message is on its way still
    ledger.record([MINE])
    dead_letter(work_dlq, MINE)
    sweep(sweeper)
    assert ledger.reopen(row(ledger, MINE), now_ms, now_ms + 3_600_000).is_written

    # Then no sweep ends it
    assert sweep(sweeper) == (1, 0)
    assert row(ledger, MINE).status is JobStatus.SUBMITTED


def test_a_job_that_was_brought_back_long_ago_is_not_held(
    sweeper: ModuleType, ledger: JobLedger, work_dlq: WorkQueue, now_ms: int
) -> None:
    ledger.record([MINE])
    dead_letter(work_dlq, MINE)
    sweep(sweeper)
    assert ledger.reopen(row(ledger, MINE), now_ms - 9_000, now_ms - 1).is_written

    assert sweep(sweeper) == (1, 1)


def test_work_without_a_row_is_nobody_s_job(sweeper: ModuleType, ledger: JobLedger, work_dlq: WorkQueue) -> None:
    # Its row has expired: to record it now would show its client a job that is long over
    dead_letter(work_dlq, MINE)

    assert sweep(sweeper) == (1, 0)
    assert ledger.get(MINE.key) is None


def test_malformed_messages_are_an_operator_s(
    sweeper: ModuleType, ledger: JobLedger, *, work_dlq: WorkQueue, request_dlq: WorkQueue, output: Output
) -> None:
    # Given one between good ones in each queue
    others = [job("one"), job("two")]
    ledger.record(others)
    for queue in (work_dlq, request_dlq):
        queue.sqs.send_message(QueueUrl=queue.url, MessageBody='{"a": 1}')
    dead_letter(work_dlq, *others)
    request_dlq.send_request("mine", REQUEST)

    # Then it keeps none of them from their end
    assert sweep(sweeper) == (5, 3)
    assert [line["message"] for line in output.logs].count("malformed dead letter") == 2
    assert (work_dlq.depth(), request_dlq.depth()) == ((3, 0), (2, 0))


# --- again, and when it fails


def test_nothing_is_consumed_and_a_second_sweep_changes_nothing(
    sweeper: ModuleType, ledger: JobLedger, *, work_dlq: WorkQueue, request_dlq: WorkQueue, output: Output
) -> None:
    ledger.record([MINE])
    dead_letter(work_dlq, MINE)
    request_dlq.send_request("unrecorded", {})

    assert sweep(sweeper) == (2, 2)
    after = (found(ledger), found(ledger, "unrecorded"))
    assert sweep(sweeper) == (2, 0)

    assert (found(ledger), found(ledger, "unrecorded")) == after
    assert (work_dlq.depth(), request_dlq.depth()) == ((1, 0), (1, 0))
    assert output.values("JobsSwept") == [1, 1]
    [message] = work_dlq.receive()
    assert json.loads(message["Body"])["jobId"] == MINE.key.job_id


def test_an_empty_stage_costs_a_receive_a_queue(sweeper: ModuleType, wire: Wire, output: Output) -> None:
    assert sweep(sweeper) == (0, 0)

    assert [call.operation for call in wire.calls] == ["ReceiveMessage"] * 2
    assert output.text == ""


def test_without_time_nothing_is_begun(sweeper: ModuleType, ledger: JobLedger, work_dlq: WorkQueue) -> None:
    ledger.record([MINE])
    dead_letter(work_dlq, MINE)

    assert sweep(sweeper, remaining_ms=15_000) == (0, 0)
    assert work_dlq.depth() == (1, 0)


@pytest.mark.parametrize("fault", TRANSIENT)
def test_what_could_not_be_ended_is_ended_by_the_next_sweep(
    sweeper: ModuleType, ledger: JobLedger, *, work_dlq: WorkQueue, wire: Wire, fault: Fault
) -> None:
    ledger.record([MINE])
    dead_letter(work_dlq, MINE)
    wire.strike_change(fault, "expire", times=1)

    assert sweep(sweeper) == (1, 0)
    assert work_dlq.depth() == (1, 0)
    sweep(sweeper)

    assert row(ledger, MINE).error == LOST


@pytest.mark.parametrize("fault", [*TRANSIENT, Fault.DENIED])
def test_a_sweep_that_fails_hides_nothing(
    sweeper: ModuleType, ledger: JobLedger, *, work_dlq: WorkQueue, wire: Wire, fault: Fault
) -> None:
    ledger.record([MINE])
    dead_letter(work_dlq, MINE)
    wire.strike(fault, "BatchGetItem", times=1)

    with pytest.raises(Exception, match=r"BatchGetItem|timeout"):
        sweep(sweeper)

    assert work_dlq.depth() == (1, 0)
    assert sweep(sweeper) == (1, 1)


def test_a_bucket_that_deletes_nothing_keeps_no_job_open(
    sweeper: ModuleType, ledger: JobLedger, *, work_dlq: WorkQueue, wire: Wire, output: Output
) -> None:
    jobs = [MINE, job("other")]
    ledger.record(jobs)
    dead_letter(work_dlq, *jobs)
    wire.strike(Fault.SERVER_ERROR, "ListObjectsV2")

    assert sweep(sweeper) == (2, 2)
    assert [line["message"] for line in output.logs].count("result not deleted") == 2


def test_a_queue_that_is_gone_raises(sweeper: ModuleType, work_dlq: WorkQueue) -> None:
    work_dlq.sqs.delete_queue(QueueUrl=work_dlq.url)

    with pytest.raises(ClientError, match="NonExistentQueue"):
        sweep(sweeper)


def test_another_request_under_its_token_says_nothing_of_a_job(
    sweeper: ModuleType, ledger: JobLedger, request_dlq: WorkQueue
) -> None:
    # Given a job that waits for its worker, and a later request under its token that was set aside
    ledger.record([MINE])
    request_dlq.sqs.send_message(
        QueueUrl=request_dlq.url,
        MessageBody=json.dumps(REQUEST),
        MessageAttributes={
            name: {"DataType": "String", "StringValue": value}
            for name, value in {
                "owner": ANN,
                "jobId": MINE.key.job_id,
                "submittedAt": str(MINE.submitted_at + 5),
            }.items()
        },
    )

    assert sweep(sweeper) == (1, 0)
    assert row(ledger, MINE).status is JobStatus.SUBMITTED


def test_a_job_that_was_brought_back_and_lost_again_is_held_no_longer(
    sweeper: ModuleType, ledger: JobLedger, work_dlq: WorkQueue, now_ms: int
) -> None:
    # Given a job that was brought back, held for an hour, begun, and lost with its worker once more
    ledger.record([MINE])
    ledger.abort(MINE.key, LOST, 5)
    ledger.reopen(row(ledger, MINE), now_ms, now_ms + 3_600_000)
    claim(ledger, 20)
    dead_letter(work_dlq, MINE)

    # When the sweeper comes, then the job ends at once: its message has been through
    assert sweep(sweeper) == (1, 1)
    assert row(ledger, MINE).error == LOST
