from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from sluice_core.jobs import Job, JobError, JobKey, JobStatus, StoredResult, Submission
from sluice_core.ledger import LIST_SHARDS, Attempt, JobLedger, Outcome, Write
from unit.conftest import RETENTION_S
from unit.lambda_events import ANN, BEN, job

if TYPE_CHECKING:
    from collections.abc import Callable

    from unit.conftest import ClientMaker

NOW = 1_790_000_000_000
LEASE_END = NOW + 60_000
RESULT = StoredResult("results/ann/j/1.json", "application/json; charset=utf-8", 1234)
ERROR = JobError("BAD_STATION", "No station „Ö“.")

WRITTEN = Write(Outcome.WRITTEN)
JOB = job("the-job", at=NOW - 5_000)
MINE = Attempt(JOB.key, "attempt-mine")
OTHER = Attempt(JOB.key, "attempt-other")


def outcomes(writes: list[Write]) -> list[str]:
    return [write.outcome.value for write in writes]


def row(ledger: JobLedger) -> Job:
    found = ledger.get(JOB.key)
    assert found is not None
    return found


def record(ledger: JobLedger) -> list[Write]:
    return ledger.record([JOB])


def claim(ledger: JobLedger, attempt: Attempt = MINE, now_ms: int = NOW) -> list[Write]:
    return ledger.claim([attempt], now_ms, now_ms + 60_000)


def complete(ledger: JobLedger, attempt: Attempt = MINE) -> list[Write]:
    return ledger.complete([(attempt, RESULT)], NOW + 1_000)


def fail(ledger: JobLedger, attempt: Attempt = MINE) -> list[Write]:
    return ledger.fail([(attempt, ERROR)], NOW + 1_000)


def release(ledger: JobLedger, attempt: Attempt = MINE) -> list[Write]:
    return ledger.release([attempt])


SUBMITTED_ROW = Job(JOB.key, "scripted", JobStatus.SUBMITTED, NOW - 5_000, JOB.digest, lease_until=0)


def running_row(attempt: Attempt = MINE, **changes: Any) -> Job:
    fields: dict[str, Any] = {
        "attempts": 1,
        "attempt": attempt.token,
        "lease_until": LEASE_END,
        "started_at": NOW,
        "status": JobStatus.RUNNING,
        **changes,
    }
    return Job(JOB.key, "scripted", submitted_at=NOW - 5_000, digest=JOB.digest, **fields)


COMPLETED_ROW = running_row(status=JobStatus.COMPLETED, ended_at=NOW + 1_000, result=RESULT)
FAILED_ROW = running_row(status=JobStatus.FAILED, ended_at=NOW + 1_000, error=ERROR)


# Transitions


def test_an_unknown_job_is_none(ledger: JobLedger) -> None:
    assert ledger.get(JOB.key) is None


def test_a_new_job_is_recorded(ledger: JobLedger) -> None:
    assert record(ledger) == [WRITTEN]
    assert row(ledger) == SUBMITTED_ROW


def test_a_job_is_scoped_to_its_owner(ledger: JobLedger) -> None:
    record(ledger)

    assert ledger.get(JobKey(BEN, JOB.key.job_id)) is None
    assert ledger.record([Submission(JobKey(BEN, JOB.key.job_id), "scripted", {}, NOW)]) == [WRITTEN]


def test_a_job_that_can_never_run_is_recorded_as_failed(ledger: JobLedger) -> None:
    assert ledger.record_failed(JOB, ERROR, NOW) == WRITTEN

    expected = Job(
        JOB.key, "scripted", JobStatus.FAILED, NOW - 5_000, JOB.digest, lease_until=0, ended_at=NOW, error=ERROR
    )
    assert row(ledger) == expected
    # and nothing starts it any more
    assert claim(ledger) == [Write(Outcome.REFUSED, expected)]


def test_a_claim_makes_it_run(ledger: JobLedger) -> None:
    record(ledger)

    assert claim(ledger) == [WRITTEN]
    assert row(ledger) == running_row()


def test_completion_ends_it_with_its_result(ledger: JobLedger) -> None:
    record(ledger)
    claim(ledger)

    assert complete(ledger) == [WRITTEN]
    assert row(ledger) == COMPLETED_ROW


def test_failure_ends_it_with_its_error(ledger: JobLedger) -> None:
    record(ledger)
    claim(ledger)

    assert fail(ledger) == [WRITTEN]
    assert row(ledger) == FAILED_ROW


def test_a_released_job_is_free_at_once(ledger: JobLedger) -> None:
    record(ledger)
    claim(ledger)

    assert release(ledger) == [WRITTEN]
    assert row(ledger).status is JobStatus.SUBMITTED
    # and another may claim it in the same millisecond
    assert claim(ledger, OTHER) == [WRITTEN]
    assert row(ledger) == running_row(OTHER, attempts=2)


def test_a_lapsed_lease_lets_another_claim(ledger: JobLedger) -> None:
    record(ledger)
    claim(ledger)

    assert claim(ledger, OTHER, now_ms=LEASE_END + 1) == [WRITTEN]
    assert row(ledger) == running_row(OTHER, attempts=2, lease_until=LEASE_END + 60_001, started_at=LEASE_END + 1)


# Refusals


def test_a_second_record_is_refused_with_the_row_that_stands(ledger: JobLedger) -> None:
    record(ledger)
    other_request = Submission(JOB.key, "scripted", {"other": 1}, NOW)

    assert ledger.record([other_request]) == [Write(Outcome.REFUSED, SUBMITTED_ROW)]
    assert ledger.record_failed(other_request, ERROR, NOW) == Write(Outcome.REFUSED, SUBMITTED_ROW)
    assert row(ledger) == SUBMITTED_ROW


@pytest.mark.parametrize("now_ms", [NOW, LEASE_END - 1, LEASE_END])
def test_a_second_claim_is_refused_while_the_lease_holds(ledger: JobLedger, now_ms: int) -> None:
    record(ledger)
    claim(ledger)

    assert claim(ledger, OTHER, now_ms) == [Write(Outcome.REFUSED, running_row())]
    assert row(ledger) == running_row()


@pytest.mark.parametrize("change", [complete, fail, release])
def test_only_the_attempt_that_runs_may_change_a_job(
    ledger: JobLedger, change: Callable[[JobLedger, Attempt], list[Write]]
) -> None:
    record(ledger)
    claim(ledger)

    assert change(ledger, OTHER) == [Write(Outcome.REFUSED, running_row())]
    assert row(ledger) == running_row()


@pytest.mark.parametrize("change", [complete, fail, release])
def test_whoever_lost_their_lease_to_another_may_change_nothing(
    ledger: JobLedger, change: Callable[[JobLedger, Attempt], list[Write]]
) -> None:
    record(ledger)
    claim(ledger)
    claim(ledger, OTHER, now_ms=LEASE_END + 1)
    others = row(ledger)

    assert change(ledger, MINE) == [Write(Outcome.REFUSED, others)]
    assert row(ledger) == others


def test_a_late_end_counts_if_no_other_took_the_job(ledger: JobLedger) -> None:
    record(ledger)
    claim(ledger)

    assert ledger.complete([(MINE, RESULT)], LEASE_END + 5_000) == [WRITTEN]


@pytest.mark.parametrize("change", [complete, fail, release])
def test_a_job_that_does_not_run_cannot_end(
    ledger: JobLedger, change: Callable[[JobLedger, Attempt], list[Write]]
) -> None:
    record(ledger)

    assert change(ledger, MINE) == [Write(Outcome.REFUSED, SUBMITTED_ROW)]
    assert row(ledger) == SUBMITTED_ROW


@pytest.mark.parametrize("change", [complete, fail, release])
def test_a_released_job_is_no_longer_its_attempt_s(
    ledger: JobLedger, change: Callable[[JobLedger, Attempt], list[Write]]
) -> None:
    record(ledger)
    claim(ledger)
    release(ledger)

    assert outcomes(change(ledger, MINE)) == ["refused"]
    assert row(ledger).status is JobStatus.SUBMITTED


@pytest.mark.parametrize("change", [claim, complete, fail, release])
def test_a_job_that_is_not_there_is_refused_without_a_row(
    ledger: JobLedger, change: Callable[[JobLedger, Attempt], list[Write]]
) -> None:
    # An update must never create half a row
    assert change(ledger, MINE) == [Write(Outcome.REFUSED, None)]
    assert ledger.get(JOB.key) is None


@pytest.mark.parametrize(("end", "ended"), [(complete, COMPLETED_ROW), (fail, FAILED_ROW)])
def test_after_its_end_nothing_changes_a_job(
    ledger: JobLedger, end: Callable[[JobLedger], list[Write]], ended: Job
) -> None:
    record(ledger)
    claim(ledger)
    end(ledger)

    # When everyone tries everything, then all are refused, and told how it ended
    refused = [Write(Outcome.REFUSED, ended)]
    for change in (complete, fail, release):
        for attempt in (MINE, OTHER):
            assert change(ledger, attempt) == refused
    assert claim(ledger, OTHER, now_ms=LEASE_END + 10**9) == refused
    assert record(ledger) == refused
    assert ledger.record_failed(JOB, ERROR, NOW + 9) == refused[0]
    assert row(ledger) == ended


def test_a_write_whose_answer_was_lost_may_be_repeated(ledger: JobLedger) -> None:
    """The SDK repeats a call on its own; the refusal's row then says that the first call did it."""
    record(ledger)
    assert record(ledger) == [Write(Outcome.REFUSED, SUBMITTED_ROW)]

    claim(ledger)
    assert claim(ledger) == [Write(Outcome.REFUSED, running_row())]

    complete(ledger)
    assert complete(ledger) == [Write(Outcome.REFUSED, COMPLETED_ROW)]
    assert row(ledger) == COMPLETED_ROW


# Batches


def test_no_jobs_are_no_calls() -> None:
    # Given a client that refuses every call
    dynamodb = boto3.client(
        "dynamodb", region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
    with Stubber(dynamodb):
        ledger = JobLedger(dynamodb, "jobs", RETENTION_S)
        writes = [
            ledger.record([]),
            ledger.claim([], NOW, LEASE_END),
            ledger.complete([], NOW),
            ledger.fail([], NOW),
            ledger.release([]),
        ]
        assert writes == [[]] * 5


def test_sixty_jobs_keep_their_order_through_every_change(ledger: JobLedger) -> None:
    # Given sixty jobs, which take three calls; every seventh is on record already
    jobs = [job(f"job-{n:02}", at=NOW) for n in range(60)]
    ledger.record(jobs[::7])

    # When all are recorded, then just those are refused, each with its own row
    writes = ledger.record(jobs)
    assert [n for n, write in enumerate(writes) if write.outcome is Outcome.REFUSED] == list(range(0, 60, 7))
    assert [write.job.key for write in writes if write.job] == [one.key for one in jobs[::7]]

    # When all are claimed, and all but every ninth completed by their holders
    attempts = [Attempt(one.key, f"attempt-{n}") for n, one in enumerate(jobs)]
    assert ledger.claim(attempts, NOW, LEASE_END) == [WRITTEN] * 60
    done = [
        (Attempt(one.key, "a stranger's") if n % 9 == 0 else one, StoredResult(f"key-{n}", "text/plain", n))
        for n, one in enumerate(attempts)
    ]
    writes = ledger.complete(done, NOW + 1)

    # Then just those are refused, and each row has its own result
    assert [n for n, write in enumerate(writes) if write.outcome is Outcome.REFUSED] == list(range(0, 60, 9))
    for n, one in enumerate(jobs):
        found = ledger.get(one.key)
        assert found is not None
        assert found.result == (None if n % 9 == 0 else StoredResult(f"key-{n}", "text/plain", n))


def test_one_refusal_holds_up_no_other(ledger: JobLedger) -> None:
    jobs = [job(f"job-{n}", at=NOW) for n in range(3)]
    ledger.record([jobs[0], jobs[2]])

    writes = ledger.claim([Attempt(one.key, "mine") for one in jobs], NOW, LEASE_END)

    assert outcomes(writes) == ["written", "refused", "written"]


def test_a_throttled_write_is_unavailable_and_a_broken_one_raises() -> None:
    # The engine never throttles, so the answers are recorded ones (BatchStatementError, DynamoDB API Reference)
    dynamodb = boto3.client(
        "dynamodb", region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
    ledger = JobLedger(dynamodb, "jobs", RETENTION_S)
    with Stubber(dynamodb) as answers:
        codes = ["ThrottlingError", "ProvisionedThroughputExceeded", "InternalServerError", "TransactionConflict"]
        errors: list[dict[str, Any]] = [{"Error": {"Code": code, "Message": "later"}} for code in codes]
        answers.add_response("batch_execute_statement", {"Responses": [*errors, {}]})
        writes = ledger.release([Attempt(job(f"job-{n}").key, "mine") for n in range(5)])
        assert writes == [Write(Outcome.UNAVAILABLE)] * 4 + [WRITTEN]

        for code in ("ValidationError", "AccessDenied", "ResourceNotFound"):
            broken = {"Error": {"Code": code, "Message": "never"}}
            answers.add_response("batch_execute_statement", {"Responses": [broken]})
            with pytest.raises(RuntimeError, match=f"{code}: never"):
                ledger.release([MINE])


def test_a_table_that_is_not_there_raises(engine: ClientMaker) -> None:
    ledger = JobLedger(engine.client("dynamodb"), "no-such-table", RETENTION_S)

    with pytest.raises((ClientError, RuntimeError), match="ResourceNotFound"):
        record(ledger)


# The row


def test_a_row_holds_no_payload_and_expires(ledger: JobLedger, engine: ClientMaker, table: str) -> None:
    ledger.record([job("the-job", at=NOW, secret="hunter2")])

    [item] = engine.client("dynamodb").scan(TableName=table)["Items"]
    assert "hunter2" not in str(item)
    assert item["expiresAt"] == {"N": str(NOW // 1000 + RETENTION_S)}


def test_the_listing_index_holds_keys_that_no_change_rewrites(
    ledger: JobLedger, engine: ClientMaker, table: str
) -> None:
    # Given an owner's jobs, some of which have moved on
    jobs = [job(f"job-{n:02}", at=NOW + n) for n in range(20)]
    ledger.record(jobs)
    attempts = [Attempt(one.key, "mine") for one in jobs[:10]]
    ledger.claim(attempts, NOW, LEASE_END)
    ledger.complete([(one, RESULT) for one in attempts[:5]], NOW)

    # When the owner's shards are read
    shards = [
        engine.client("dynamodb").query(
            TableName=table,
            IndexName="byOwner",
            KeyConditionExpression="listKey = :key",
            ExpressionAttributeValues={":key": {"S": f"{ANN}#{shard}"}},
        )["Items"]
        for shard in range(LIST_SHARDS)
    ]

    # Then every job is in one of them, ordered by time, and several are in use
    times = [[int(item["submittedAt"]["N"]) for item in shard] for shard in shards]
    assert sorted(time for shard in times for time in shard) == [NOW + n for n in range(20)]
    assert all(shard == sorted(shard) for shard in times)
    assert sum(map(bool, times)) > 1
    assert {name for shard in shards for item in shard for name in item} == {"jobKey", "listKey", "submittedAt"}
