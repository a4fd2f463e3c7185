from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError
from sluice_core.jobs import JobError, JobStatus
from sluice_core.ledger import Attempt
from unit.lambda_events import BEN, MAX_RECEIVES, Context, handle, ids, job, row, sqs_record, work_record

if TYPE_CHECKING:
    from types import ModuleType

    from sluice_core.ledger import JobLedger
    from unit.conftest import ClientMaker, Dispatch, Meanwhile
    from unit.resources import Bucket, Output, WorkQueue


SECRET = "hunter2-secret"


def test_a_job_is_run_and_its_result_stored(
    simulator: ModuleType, ledger: JobLedger, bucket: Bucket, dispatch: Dispatch, runs: list[str]
) -> None:
    # Given a job on record
    mine = job("mine")
    ledger.record([mine])

    # When its message comes
    assert handle(simulator, *dispatch(mine)) == []

    # Then it has run once, and its result lies where the row says, under this attempt's name
    assert runs == [mine.key.job_id]
    found = row(ledger, mine)
    assert (found.status, found.attempts, found.error) == (JobStatus.COMPLETED, 1, None)
    assert found.result is not None
    assert found.attempt is not None
    assert bucket.keys() == [found.result.object_key]
    assert found.attempt in found.result.object_key
    assert bucket.read(found.result.object_key) == f"made for {mine.key.job_id}".encode()
    assert found.result.size == len(f"made for {mine.key.job_id}")


def test_its_times_are_measured(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, output: Output, now_ms: int
) -> None:
    # Given a job that was submitted 5 s ago
    mine = job("mine", at=now_ms - 5_000)
    ledger.record([mine])

    # When it is run
    handle(simulator, *dispatch(mine))

    # Then the row's times are those measured
    found = row(ledger, mine)
    assert found.started_at is not None
    assert found.ended_at is not None
    assert mine.submitted_at < now_ms <= found.started_at <= found.ended_at
    [queue_wait] = output.values("QueueWait")
    assert now_ms - mine.submitted_at <= queue_wait <= found.started_at - mine.submitted_at
    assert output.values("EndToEnd") == [found.ended_at - mine.submitted_at]
    [run_time] = output.values("RunTime")
    assert 0 < run_time < 60_000
    assert output.values("JobsCompleted") == [1]
    assert output.values("ResultBytes") == [len(f"made for {mine.key.job_id}")]
    # and logged in one line
    [line] = output.logs
    assert (line["outcome"], line["jobId"]) == ("completed", mine.key.job_id)
    assert line.keys() >= {"jobType", "attempt", "queueWaitMs", "runMs", "endToEndMs", "bytes"}


@pytest.mark.parametrize(("remaining_ms", "lease_ms"), [(60_000, 35_000), (30_000, 35_000), (12_000, 17_000)])
def test_the_lease_outlives_the_next_beats_or_else_the_invocation(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, remaining_ms: int, lease_ms: int
) -> None:
    mine = job("mine")
    ledger.record([mine])

    handle(simulator, *dispatch(mine), context=Context(remaining_ms))

    found = row(ledger, mine)
    assert found.lease_until is not None
    assert found.started_at is not None
    assert found.lease_until - found.started_at == lease_ms


def test_a_batch_whose_jobs_fare_differently(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, output: Output
) -> None:
    jobs = [job("good"), job("hopeless", do="permanent"), job("unlucky", do="transient"), job("too", owner=BEN)]
    ledger.record(jobs)
    records = dispatch(*jobs)

    assert handle(simulator, *records) == ids(records[2])

    assert [row(ledger, one).status for one in jobs] == ["COMPLETED", "FAILED", "SUBMITTED", "COMPLETED"]
    assert output.values("JobsCompleted") == [1, 1]
    assert output.values("JobsStarted") == [1, 1, 1, 1]
    assert output.values("JobsFailed") == output.values("JobsFailedPermanent") == [1]
    assert output.values("JobsRetried") == [1]
    assert output.values("BatchItemFailures") == [1]


def test_a_permanent_error_ends_the_job_and_acknowledges_it(
    simulator: ModuleType, ledger: JobLedger, bucket: Bucket, dispatch: Dispatch
) -> None:
    hopeless = job("hopeless", do="permanent", secret="X")
    ledger.record([hopeless])

    assert handle(simulator, *dispatch(hopeless)) == []

    found = row(ledger, hopeless)
    assert (found.status, found.error) == (JobStatus.FAILED, JobError("BAD_STATION", "no station X"))
    assert found.ended_at is not None
    assert bucket.keys() == []


def test_a_transient_error_is_tried_again(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, runs: list[str]
) -> None:
    # Given a job whose first attempt fails
    unlucky = job("unlucky", do="transient")
    ledger.record([unlucky])
    [record] = dispatch(unlucky)
    assert handle(simulator, record) == ids(record)

    # Then it is free at once
    found = row(ledger, unlucky)
    assert (found.status, found.lease_until, found.error) == (JobStatus.SUBMITTED, 0, None)

    # When it is delivered again, and nothing is wrong any more
    again = work_record(record["body"].replace("transient", "succeed"), receives=2)
    assert handle(simulator, again) == []

    # Then it completes
    assert (row(ledger, unlucky).status, row(ledger, unlucky).attempts) == (JobStatus.COMPLETED, 2)
    assert len(runs) == 2


def test_the_last_attempt_ends_the_job_and_sends_its_message_to_the_dead_letters(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, output: Output
) -> None:
    unlucky = job("unlucky", do="transient", secret=SECRET)
    ledger.record([unlucky])
    records = dispatch(unlucky, receives=MAX_RECEIVES)

    assert handle(simulator, *records) == ids(*records)

    found = row(ledger, unlucky)
    assert found.status is JobStatus.FAILED
    assert found.error is not None
    assert found.error.code == "RETRIES_EXHAUSTED"
    assert SECRET not in found.error.message
    assert output.values("JobsFailed") == [1]
    assert output.values("JobsRetried") == []


def test_the_last_but_one_attempt_does_not(simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch) -> None:
    unlucky = job("unlucky", do="transient")
    ledger.record([unlucky])
    records = dispatch(unlucky, receives=MAX_RECEIVES - 1)

    assert handle(simulator, *records) == ids(*records)

    assert row(ledger, unlucky).status is JobStatus.SUBMITTED


def test_a_job_that_is_not_on_record_is_not_run(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, runs: list[str]
) -> None:
    stray = job("stray")
    records = dispatch(stray)

    assert handle(simulator, *records) == ids(*records)

    assert runs == []
    assert ledger.get(stray.key) is None


def test_what_there_is_no_time_for_goes_back(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, runs: list[str], output: Output
) -> None:
    # Given three jobs, and an invocation whose time is up after the first
    jobs = [job(f"job-{n}") for n in range(3)]
    ledger.record(jobs)
    records = dispatch(*jobs)

    # When they are run: the lease takes the first look at the clock, then each job one
    failed = handle(simulator, *records, context=Context(60_000, 5_000, 4_999))

    # Then the first has ended, and the others are free at once
    assert runs == [jobs[0].key.job_id]
    assert failed == ids(*records[1:])
    assert [row(ledger, one).status for one in jobs] == ["COMPLETED", "SUBMITTED", "SUBMITTED"]
    assert row(ledger, jobs[2]).lease_until == 0
    assert output.values("JobsRetried") == [1, 1]


def test_no_time_on_the_last_receive_is_no_failure(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, work_queue: WorkQueue, runs: list[str]
) -> None:
    # Given a job whose message goes to the dead letters next, though it was never begun
    late = job("late")
    ledger.record([late])
    records = dispatch(late, receives=MAX_RECEIVES)

    # When there is no time for it, then a new message takes the place of this one
    assert handle(simulator, *records, context=Context(1_000)) == []
    assert runs == []
    assert (row(ledger, late).status, row(ledger, late).attempts) == (JobStatus.SUBMITTED, 0)
    work_queue.delete(*records)
    [new] = work_queue.deliver()

    # and brings it to its end
    assert handle(simulator, new) == []
    assert row(ledger, late).status is JobStatus.COMPLETED


def test_an_unknown_job_type_is_tried_again_for_a_deployment_may_bring_it(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch
) -> None:
    foreign = job("foreign")
    ledger.record([foreign])
    [record] = dispatch(foreign)
    record["body"] = record["body"].replace("scripted", "from-tomorrow")

    assert handle(simulator, record) == ids(record)
    assert row(ledger, foreign).status is JobStatus.SUBMITTED


def test_a_bucket_that_is_gone_is_a_transient_error(
    simulator: ModuleType, ledger: JobLedger, bucket: Bucket, dispatch: Dispatch
) -> None:
    mine = job("mine")
    ledger.record([mine])
    records = dispatch(mine)
    bucket.s3.delete_bucket(Bucket=bucket.name)

    assert handle(simulator, *records) == ids(*records)

    assert row(ledger, mine).status is JobStatus.SUBMITTED


def test_a_table_that_is_gone_fails_the_invocation(
    simulator: ModuleType, engine: ClientMaker, table: str, dispatch: Dispatch, runs: list[str]
) -> None:
    records = dispatch(job("mine"))
    engine.client("dynamodb").delete_table(TableName=table)

    with pytest.raises((ClientError, RuntimeError), match="ResourceNotFound"):
        handle(simulator, *records)

    assert runs == []


@pytest.mark.parametrize("body", ["{", "{}", json.dumps({"owner": "ann", "jobId": SECRET})])
def test_a_malformed_message_alone_is_left_in_the_queue(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, output: Output, body: str
) -> None:
    good = job("good")
    ledger.record([good])
    malformed = sqs_record(body)

    assert handle(simulator, malformed, *dispatch(good)) == ids(malformed)

    assert row(ledger, good).status is JobStatus.COMPLETED
    assert SECRET not in output.text


def test_only_ids_of_this_batch_are_ever_reported(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, now_ms: int
) -> None:
    """Lambda fails the whole batch for an id it does not know."""
    jobs = [job(f"job-{n}", do=do) for n, do in enumerate(["succeed", "permanent", "transient"] * 2)]
    held = job("held")
    ledger.record([*jobs, held])
    ledger.claim([Attempt(held.key, "another")], now_ms, now_ms + 600_000)
    records = [
        *dispatch(*jobs[:3]),
        *dispatch(*jobs[3:], receives=MAX_RECEIVES),
        *dispatch(held),
        sqs_record("malformed"),
        work_record(dispatch(jobs[2])[0]["body"]),
    ]

    failed = handle(simulator, *records)

    assert failed == ids(records[2], records[5], records[6], records[7], records[8])
    assert len(failed) == len(set(failed))


def test_payloads_stay_out_of_logs_and_ids_out_of_dimensions(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, output: Output
) -> None:
    # Given jobs that carry a secret, and errors that repeat it
    jobs = [
        job(f"job-{do}-{r}", do=do, secret=SECRET) for do in ("succeed", "permanent", "transient") for r in (1, 5)
    ]
    ledger.record(jobs)
    records = [dispatch(one, receives=int(one.key.job_id.strip("-")[-1]))[0] for one in jobs]

    handle(simulator, *records, sqs_record(SECRET))

    assert SECRET not in output.text
    assert "made for" not in output.text
    assert "Traceback" not in output.text
    # One line a job, and one for each attempt that failed, and one for the malformed message
    per_job = [line["jobId"] for line in output.logs if line.get("outcome") in ("completed", "failed")]
    assert len(per_job) == len(set(per_job)) == 5
    # and dimensions are these two sets exactly
    for document in output.emf:
        [directive] = document["_aws"]["CloudWatchMetrics"]
        by_type = [["Stage", "JobType"], ["Stage"]]
        assert directive["Dimensions"] == (by_type if "JobType" in document else [["Stage"]])
        assert document["Stage"] == "unit"
        assert document.get("JobType", "scripted") == "scripted"
        assert set(document) == {
            "_aws",
            *directive["Dimensions"][0],
            *(one["Name"] for one in directive["Metrics"]),
        }
        assert not re.search("job-(succeed|permanent|transient)", json.dumps(document))


def test_what_is_settled_is_counted_though_the_worker_dies_later(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, *, output: Output, meanwhile: Meanwhile
) -> None:
    # Given two jobs that come again, the second of which kills its worker
    first, second = job("first"), job("second")
    ledger.record([first, second])
    records = [dispatch(one, receives=2)[0] for one in (first, second)]
    counted: list[float] = []

    def die() -> None:
        counted.extend(output.values("JobsCompleted"))
        raise SystemExit

    meanwhile[first.key.job_id] = meanwhile[second.key.job_id] = lambda: die() if first_is_done() else None

    def first_is_done() -> bool:
        return any(row(ledger, one).status == "COMPLETED" for one in (first, second))

    with pytest.raises(SystemExit):
        handle(simulator, *records)

    # Then the one that was completed had been counted by then
    assert counted == [1]


def test_the_last_attempt_of_a_job_is_one_line(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, output: Output
) -> None:
    unlucky = job("unlucky", do="transient")
    ledger.record([unlucky])

    handle(simulator, *dispatch(unlucky, receives=5))

    [line] = output.logs
    assert (line["outcome"], line["code"], line["attempt"]) == ("failed", "RETRIES_EXHAUSTED", 5)
    assert line["error"]
