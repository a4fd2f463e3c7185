"""Calls that fail, or whose answers are lost: no job is lost by it, and none is done twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from sluice_core.jobs import JobStatus
from unit.lambda_events import failed_ids, handle, ids, job, request_record, row
from unit.wire_faults import TRANSIENT, Fault

if TYPE_CHECKING:
    from types import ModuleType

    from sluice_core.ledger import JobLedger
    from unit.conftest import Dispatch, Lapse
    from unit.resources import Bucket, Output, WorkQueue
    from unit.wire_faults import Wire

JOBS = [job("one", n=1), job("two", n=2)]
JOB_IDS = [one.key.job_id for one in JOBS]
REQUESTS = [
    ("one", {"jobType": "scripted", "parameters": {"n": 1}}),
    ("two", {"jobType": "scripted", "parameters": {"n": 2}}),
]
lost_or_not = pytest.mark.parametrize("fault", TRANSIENT)


def statuses(ledger: JobLedger) -> set[JobStatus]:
    return {row(ledger, one).status for one in JOBS}


def told_to_wait(wire: Wire, records: list[dict[str, Any]]) -> bool:
    """Whether SQS was told a delay for each of these messages, and no other."""
    calls = wire.made("ChangeMessageVisibilityBatch")
    told = [entry["ReceiptHandle"] for call in calls for entry in call.parameters["Entries"]]
    return sorted(told) == sorted(record["receiptHandle"] for record in records)


# --- the worker


@lost_or_not
def test_a_claim_that_failed_leaves_the_messages_until_it_can_be_had(
    simulator: ModuleType,
    ledger: JobLedger,
    dispatch: Dispatch,
    *,
    wire: Wire,
    runs: list[str],
    lapse: Lapse,
    fault: Fault,
) -> None:
    # Given a table that does not answer to one claim
    ledger.record(JOBS)
    records = dispatch(*JOBS)
    wire.strike_change(fault, "claim", times=1)

    # When the batch comes, then no work is begun that may be another's, and all of it comes back later
    assert handle(simulator, *records) == ids(*records)
    assert runs == []
    assert told_to_wait(wire, records)

    # When it comes back, a claim whose answer was lost keeps it waiting until its lease has lapsed
    if fault is Fault.LOST_ANSWER:
        assert statuses(ledger) == {JobStatus.RUNNING}
        assert handle(simulator, *records) == ids(*records)
        lapse(*JOBS)
    assert handle(simulator, *records) == []

    # Then each job has run once
    assert sorted(runs) == sorted(JOB_IDS)
    assert statuses(ledger) == {JobStatus.COMPLETED}


@lost_or_not
def test_a_completion_that_failed_leaves_the_messages_until_it_is_known(
    simulator: ModuleType,
    ledger: JobLedger,
    dispatch: Dispatch,
    *,
    wire: Wire,
    lapse: Lapse,
    bucket: Bucket,
    fault: Fault,
) -> None:
    # Given work that is done, and a table that does not answer
    ledger.record(JOBS)
    records = dispatch(*JOBS)
    wire.strike_change(fault, "complete", times=1)
    assert handle(simulator, *records) == ids(*records)
    assert told_to_wait(wire, records)

    # When the messages come back, after the lease where there still is one
    if fault is not Fault.LOST_ANSWER:
        assert statuses(ledger) == {JobStatus.RUNNING}
        lapse(*JOBS)
    results = [row(ledger, one).result for one in JOBS]
    for record in records:
        record["attributes"]["ApproximateReceiveCount"] = "2"
    assert handle(simulator, *records) == []

    # Then the jobs are complete, with one object each; a completion that was written stands
    assert statuses(ledger) == {JobStatus.COMPLETED}
    after = [row(ledger, one).result for one in JOBS]
    assert results in ([None, None], after)
    assert bucket.keys() == sorted(result.object_key for result in after if result is not None)
    assert len(bucket.keys()) == 2


@lost_or_not
def test_a_failure_that_could_not_be_written_is_written_later(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, *, wire: Wire, lapse: Lapse, fault: Fault
) -> None:
    hopeless = job("hopeless", do="permanent")
    ledger.record([hopeless])
    records = dispatch(hopeless)
    wire.strike_change(fault, "fail", times=1)

    assert handle(simulator, *records) == ids(*records)
    assert told_to_wait(wire, records)
    if fault is not Fault.LOST_ANSWER:
        lapse(hopeless)
    assert handle(simulator, *records) == []

    found = row(ledger, hopeless)
    assert (found.status, found.error and found.error.code) == (JobStatus.FAILED, "BAD_STATION")


@lost_or_not
def test_a_job_that_could_not_be_given_back_comes_back_all_the_same(
    simulator: ModuleType,
    ledger: JobLedger,
    dispatch: Dispatch,
    *,
    wire: Wire,
    work_queue: WorkQueue,
    output: Output,
    fault: Fault,
) -> None:
    unlucky = job("unlucky", do="transient")
    ledger.record([unlucky])
    records = dispatch(unlucky)
    wire.strike_change(fault, "release")

    assert handle(simulator, *records) == ids(*records)

    assert told_to_wait(wire, records)
    assert sum(work_queue.depth()) == 1
    expected = JobStatus.SUBMITTED if fault is Fault.LOST_ANSWER else JobStatus.RUNNING
    assert row(ledger, unlucky).status is expected
    assert output.values("BatchItemFailures") == [1]


@pytest.mark.parametrize("change", ["claim", "complete", "fail", "release"])
def test_a_worker_whose_answers_the_sdk_asks_for_again_notices_nothing(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, *, wire: Wire, output: Output, change: str
) -> None:
    # Given answers that were lost, so that each write is refused when the SDK sends it once more
    do = {"fail": "permanent", "release": "transient"}.get(change, "succeed")
    mine = job("mine", do=do)
    ledger.record([mine])
    records = dispatch(mine)
    wire.strike_change(Fault.REPEATED, change)

    # Then everything is as if they had come at once
    assert handle(simulator, *records) == (ids(*records) if do == "transient" else [])
    expected = {"permanent": "FAILED", "transient": "SUBMITTED", "succeed": "COMPLETED"}[do]
    assert (row(ledger, mine).status, row(ledger, mine).attempts) == (expected, 1)
    metric = {"FAILED": "JobsFailed", "SUBMITTED": "JobsRetried", "COMPLETED": "JobsCompleted"}[expected]
    assert output.values(metric) == [1]
    assert output.values("ResultsDiscarded") == []


@pytest.mark.parametrize("change", ["claim", "complete", "fail", "release"])
def test_what_no_retry_mends_fails_the_worker_s_invocation(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, *, wire: Wire, change: str
) -> None:
    do = {"fail": "permanent", "release": "transient"}.get(change, "succeed")
    mine = job("mine", do=do)
    ledger.record([mine])
    wire.strike_change(Fault.DENIED, change)

    with pytest.raises(ClientError, match="AccessDenied"):
        handle(simulator, *dispatch(mine))

    assert row(ledger, mine).status.is_open


@lost_or_not
def test_a_result_that_could_not_be_stored_is_stored_by_the_next_attempt(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, *, wire: Wire, bucket: Bucket, fault: Fault
) -> None:
    ledger.record(JOBS[:1])
    [record] = dispatch(JOBS[0])
    wire.strike(fault, "PutObject", times=1)

    assert handle(simulator, record) == ids(record)
    assert row(ledger, JOBS[0]).status is JobStatus.SUBMITTED
    record["attributes"]["ApproximateReceiveCount"] = "2"
    assert handle(simulator, record) == []

    # Then the object whose answer was lost is not left beside it
    result = row(ledger, JOBS[0]).result
    assert result is not None
    assert bucket.keys() == [result.object_key]


# --- the processor


def deliver(request_queue: WorkQueue) -> list[dict[str, Any]]:
    for job_id, body in REQUESTS:
        request_queue.send_request(job_id, body)
    return request_queue.deliver()


@lost_or_not
@pytest.mark.parametrize("operation", ["BatchExecuteStatement", "SendMessageBatch"])
def test_requests_that_could_not_be_recorded_or_started_come_back(
    processor: ModuleType,
    ledger: JobLedger,
    request_queue: WorkQueue,
    *,
    work_queue: WorkQueue,
    wire: Wire,
    fault: Fault,
    operation: str,
) -> None:
    # Given a table or a work queue that does not answer once
    records = deliver(request_queue)
    wire.strike(fault, operation, times=1)

    # When requests come, then they stay in their queue, with a delay
    assert handle(processor, *records) == ids(*records)
    assert told_to_wait(wire, records)
    assert sum(request_queue.depth()) == 2
    started = work_queue.job_ids()
    assert started == (JOB_IDS if (operation, fault) == ("SendMessageBatch", Fault.LOST_ANSWER) else [])

    # When they come back, then both jobs are on record and on their way
    assert handle(processor, *records) == []
    assert work_queue.job_ids() == JOB_IDS
    assert statuses(ledger) == {JobStatus.SUBMITTED}


def test_work_that_was_started_twice_is_done_once(
    processor: ModuleType,
    simulator: ModuleType,
    ledger: JobLedger,
    *,
    request_queue: WorkQueue,
    work_queue: WorkQueue,
    wire: Wire,
    runs: list[str],
) -> None:
    # Given two messages of each job, for the first answer of the work queue was lost
    records = deliver(request_queue)
    wire.strike(Fault.LOST_ANSWER, "SendMessageBatch", times=1)
    for _ in range(2):
        processor.handler({"Records": records}, None)
    messages = work_queue.deliver()
    assert len(messages) == 4

    # When they are worked on one by one
    for message in messages:
        assert handle(simulator, message) == []

    # Then each job has run once
    assert sorted(runs) == JOB_IDS
    assert [row(ledger, one).attempts for one in JOBS] == [1, 1]


@lost_or_not
def test_a_duplicate_whose_row_cannot_be_read_comes_back(
    processor: ModuleType, ledger: JobLedger, wire: Wire, work_queue: WorkQueue, fault: Fault
) -> None:
    ledger.record(JOBS[:1])
    record = request_record("one", REQUESTS[0][1])
    wire.strike(fault, "GetItem", times=1)

    assert handle(processor, record) == ids(record)
    assert work_queue.receive() == []
    assert handle(processor, record) == []
    assert work_queue.job_ids() == JOB_IDS[:1]


@lost_or_not
def test_a_rejection_that_could_not_be_written_is_written_later(
    processor: ModuleType, ledger: JobLedger, wire: Wire, fault: Fault
) -> None:
    record = request_record("one", "{")
    wire.strike(fault, "BatchExecuteStatement", times=1)

    assert handle(processor, record) == ids(record)
    assert handle(processor, record) == []

    found = row(ledger, JOBS[0])
    assert (found.status, found.conflicts) == (JobStatus.FAILED, ())


@pytest.mark.parametrize("body", [REQUESTS[0][1], "{"])
def test_a_processor_whose_answers_the_sdk_asks_for_again_notices_nothing(
    processor: ModuleType, ledger: JobLedger, *, wire: Wire, work_queue: WorkQueue, body: Any
) -> None:
    wire.strike(Fault.REPEATED, "BatchExecuteStatement")

    assert handle(processor, request_record("one", body)) == []

    assert work_queue.job_ids() == (JOB_IDS[:1] if body != "{" else [])
    assert row(ledger, JOBS[0]).conflicts == ()


@pytest.mark.parametrize("operation", ["BatchExecuteStatement", "SendMessageBatch"])
def test_what_no_retry_mends_fails_the_processor_s_invocation(
    processor: ModuleType, request_queue: WorkQueue, wire: Wire, operation: str
) -> None:
    records = deliver(request_queue)
    wire.strike(Fault.DENIED, operation)

    with pytest.raises(ClientError, match="AccessDenied"):
        failed_ids(processor.handler({"Records": records}, None))
