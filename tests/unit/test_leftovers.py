"""What dead attempts have stored is deleted when their job ends; its result never is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sluice_core.jobs import JobError, JobStatus, StoredResult
from sluice_core.ledger import Attempt
from unit.lambda_events import MAX_RECEIVES, handle, ids, job, row
from unit.wire_faults import Fault
from unit.workloads_for_tests import Death

if TYPE_CHECKING:
    from types import ModuleType

    from sluice_core.ledger import JobLedger
    from unit.conftest import Dispatch, Lapse
    from unit.resources import Bucket, Output
    from unit.wire_faults import Wire

MINE = job("mine")


def leave(bucket: Bucket, *names: str) -> list[str]:
    """Put objects where dead attempts of the job would have left them."""
    keys = [f"results/{MINE.key.owner}/{MINE.key.job_id}/{name}.txt" for name in names]
    for key in keys:
        bucket.s3.put_object(Bucket=bucket.name, Key=key, Body=b"left")
    return keys


def test_what_a_dead_attempt_stored_goes_when_a_later_one_completes(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, bucket: Bucket, lapse: Lapse
) -> None:
    # Given a job whose result was stored by a worker that then died of its neighbour
    deadly = job("deadly", do="die")
    ledger.record([MINE, deadly])
    with pytest.raises(Death):
        handle(simulator, *dispatch(MINE, deadly))
    [left] = bucket.keys()
    lapse(MINE)

    # When it is run again
    assert handle(simulator, *dispatch(MINE, receives=2)) == []

    # Then the new result is there alone
    result = row(ledger, MINE).result
    assert result is not None
    assert bucket.keys() == [result.object_key] != [left]


@pytest.mark.parametrize(("do", "receives"), [("permanent", 2), ("transient", MAX_RECEIVES)])
def test_of_a_job_that_fails_at_last_nothing_is_left(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, *, bucket: Bucket, do: str, receives: int
) -> None:
    ledger.record([MINE])
    leave(bucket, "dead-1", "dead-2")

    handle(simulator, *dispatch(job("mine", do=do), receives=receives))

    assert row(ledger, MINE).status is JobStatus.FAILED
    assert bucket.keys() == []


def test_a_job_to_be_tried_again_keeps_what_it_has(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, bucket: Bucket
) -> None:
    # An open job's newest object may be about to become its result
    ledger.record([MINE])
    left = leave(bucket, "dead-1")

    handle(simulator, *dispatch(job("mine", do="transient"), receives=2))

    assert bucket.keys() == left


@pytest.mark.parametrize("end", ["cancelled", "failed"])
def test_of_a_job_that_ended_meanwhile_nothing_is_left(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, bucket: Bucket, end: str
) -> None:
    ledger.record([MINE])
    leave(bucket, "dead-1")
    if end == "cancelled":
        ledger.cancel(MINE.key, 7)
    else:
        ledger.abort(MINE.key, JobError("ABORTED", "By an operator."), 7)

    assert handle(simulator, *dispatch(MINE, receives=2)) == []

    assert bucket.keys() == []


def test_a_completed_job_s_result_outlives_its_message_s_repetition(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, bucket: Bucket
) -> None:
    # Given a job that completed with a worker which died before it could acknowledge
    ledger.record([MINE])
    _, result = leave(bucket, "dead-1", "attempt-2")
    attempt = Attempt(MINE.key, "attempt-2")
    ledger.claim([attempt], 10, 20)
    ledger.complete([(attempt, StoredResult(result, "text/plain", 4))], 15)
    before = row(ledger, MINE)

    # When its message comes back
    assert handle(simulator, *dispatch(MINE, receives=2)) == []

    # Then the result is there still, alone
    assert bucket.keys() == [result]
    assert row(ledger, MINE) == before


def test_a_job_that_is_another_s_keeps_all_it_has(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, bucket: Bucket, now_ms: int
) -> None:
    ledger.record([MINE])
    left = leave(bucket, "dead-1", "theirs")
    ledger.claim([Attempt(MINE.key, "theirs")], now_ms, now_ms + 100_000)

    handle(simulator, *dispatch(MINE, receives=2))

    assert bucket.keys() == left


def test_a_job_that_was_never_begun_before_costs_no_look(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, wire: Wire
) -> None:
    ledger.record([MINE])

    assert handle(simulator, *dispatch(MINE)) == []

    assert wire.made("ListObjectsV2") == wire.made("DeleteObject") == []


@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.NO_ANSWER, Fault.DENIED])
@pytest.mark.parametrize("operation", ["ListObjectsV2", "DeleteObject"])
def test_what_could_not_be_deleted_is_deleted_when_the_message_comes_back(
    simulator: ModuleType,
    ledger: JobLedger,
    dispatch: Dispatch,
    *,
    bucket: Bucket,
    wire: Wire,
    output: Output,
    fault: Fault,
    operation: str,
) -> None:
    # Given a bucket that deletes nothing for a while
    ledger.record([MINE])
    leave(bucket, "dead-1")
    wire.strike(fault, operation, times=1)
    records = dispatch(MINE, receives=2)

    # When the job completes, then it has, and its message stays
    assert handle(simulator, *records) == ids(*records)
    assert row(ledger, MINE).status is JobStatus.COMPLETED
    assert len(bucket.keys()) == 2

    # When it comes back, then what was left is gone, and the job has not run again
    assert handle(simulator, *records) == []
    result = row(ledger, MINE).result
    assert result is not None
    assert bucket.keys() == [result.object_key]
    assert output.values("JobsCompleted") == [1]


def test_a_late_result_that_could_not_be_deleted_is_deleted_later(
    simulator: ModuleType,
    ledger: JobLedger,
    dispatch: Dispatch,
    *,
    bucket: Bucket,
    wire: Wire,
    meanwhile: dict[str, object],
    now_ms: int,
) -> None:
    # Given a job that is cancelled while it runs, and a bucket that deletes nothing for a while
    ledger.record([MINE])
    meanwhile[MINE.key.job_id] = lambda: ledger.cancel(MINE.key, now_ms)
    wire.strike(Fault.SERVER_ERROR, "DeleteObject", times=1)
    [record] = dispatch(MINE)
    assert handle(simulator, record) == ids(record)
    assert len(bucket.keys()) == 1

    # When its message comes back
    record["attributes"]["ApproximateReceiveCount"] = "2"
    assert handle(simulator, record) == []

    # Then nothing is left
    assert bucket.keys() == []


def test_what_cannot_be_deleted_makes_no_dead_letter(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, bucket: Bucket, wire: Wire
) -> None:
    # The job has ended well: nobody should look for its message among those that did not
    ledger.record([MINE])
    leave(bucket, "dead-1")
    wire.strike(Fault.SERVER_ERROR, "DeleteObject")

    assert handle(simulator, *dispatch(MINE, receives=MAX_RECEIVES)) == []
    assert row(ledger, MINE).status is JobStatus.COMPLETED


def test_a_message_in_another_s_place_counts_as_a_repetition(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, bucket: Bucket
) -> None:
    # Given what a dead attempt stored, and a message that took the place of the one that knew of it
    ledger.record([MINE])
    leave(bucket, "dead-1")

    assert handle(simulator, *dispatch(replace(MINE, is_again=True))) == []

    result = row(ledger, MINE).result
    assert result is not None
    assert bucket.keys() == [result.object_key]


def test_one_of_a_job_s_messages_is_enough_to_know(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, bucket: Bucket
) -> None:
    ledger.record([MINE])
    leave(bucket, "dead-1")

    assert handle(simulator, *dispatch(MINE), *dispatch(MINE, receives=2)) == []

    result = row(ledger, MINE).result
    assert result is not None
    assert bucket.keys() == [result.object_key]


def test_what_was_stored_without_an_answer_goes_with_a_cancelled_job(
    simulator: ModuleType,
    ledger: JobLedger,
    dispatch: Dispatch,
    *,
    bucket: Bucket,
    wire: Wire,
    meanwhile: dict[str, object],
    now_ms: int,
) -> None:
    # Given a job that is cancelled while it runs, and a put that S3 does and nobody is told of
    ledger.record([MINE])
    meanwhile[MINE.key.job_id] = lambda: ledger.cancel(MINE.key, now_ms)
    wire.strike(Fault.LOST_ANSWER, "PutObject")

    # When it is given back in vain, then nothing is left
    assert handle(simulator, *dispatch(MINE)) == []
    assert row(ledger, MINE).status is JobStatus.CANCELLED
    assert wire.made("PutObject")
    assert bucket.keys() == []
