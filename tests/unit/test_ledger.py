"""Every change of the ledger, where it holds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sluice_core.jobs import Conflict, EarlierEnd, Job, JobKey, JobStatus, Submission
from sluice_core.ledger import Attempt, JobLedger, Outcome, Write
from sluice_core.rows import LIST_SHARDS
from unit.conftest import RETENTION_S
from unit.lambda_events import ANN, BEN, job
from unit.ledger_steps import (
    CANCELLED_ROW,
    COMPLETED_ROW,
    ENDED,
    ERROR,
    FAILED_ROW,
    HELD_UNTIL,
    JOB,
    LEASE_END,
    LOST,
    MINE,
    NOW,
    OPERATORS,
    OTHER,
    RESULT,
    RUNNING_ROW,
    SUBMITTED_ROW,
    WRITTEN,
    a_claimed_row,
    a_row,
    abort,
    cancel,
    claim,
    complete,
    expire,
    fail,
    failed,
    record,
    release,
    renew,
    reopen,
    row,
)

if TYPE_CHECKING:
    from unit.conftest import ClientMaker

# Recording


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

    expected = a_row(JobStatus.FAILED, ended_at=NOW, error=ERROR)
    assert row(ledger) == expected
    # and nothing starts it any more
    assert claim(ledger) == [Write(Outcome.REFUSED, expected)]


def test_a_job_cancelled_before_it_was_recorded_is_found_ended(ledger: JobLedger) -> None:
    # Given a cancellation that overtook its request
    assert ledger.record_cancelled(JOB.key, NOW - 9_000, NOW) == WRITTEN

    # When the request comes, then it is refused by a row that knows nothing of what it asked for
    expected = replace(a_row(JobStatus.CANCELLED, ended_at=NOW), job_type="", digest="", submitted_at=NOW - 9_000)
    assert record(ledger) == [Write(Outcome.REFUSED, expected)]
    assert claim(ledger) == [Write(Outcome.REFUSED, expected)]
    assert row(ledger) == expected


# Work


def test_a_claim_makes_it_run(ledger: JobLedger) -> None:
    record(ledger)

    assert claim(ledger) == [WRITTEN]
    assert row(ledger) == RUNNING_ROW


def test_a_renewal_moves_the_end_of_the_lease(ledger: JobLedger) -> None:
    record(ledger)
    claim(ledger)

    assert renew(ledger, lease_until_ms=LEASE_END + 60_000) == [WRITTEN]
    assert row(ledger) == a_claimed_row(lease_until=LEASE_END + 60_000)
    # and nobody else gets the job meanwhile
    assert claim(ledger, OTHER, now_ms=LEASE_END + 60_000)[0].outcome is Outcome.REFUSED
    assert claim(ledger, OTHER, now_ms=LEASE_END + 60_001) == [WRITTEN]


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
    assert row(ledger) == a_claimed_row(OTHER, attempts=2)


def test_a_lapsed_lease_lets_another_claim(ledger: JobLedger) -> None:
    record(ledger)
    claim(ledger)

    assert claim(ledger, OTHER, now_ms=LEASE_END + 1) == [WRITTEN]
    assert row(ledger) == a_claimed_row(
        OTHER, attempts=2, lease_until=LEASE_END + 60_001, started_at=LEASE_END + 1
    )


def test_a_late_end_counts_if_no_other_took_the_job(ledger: JobLedger) -> None:
    record(ledger)
    claim(ledger)

    assert complete(ledger, now_ms=LEASE_END + 5_000) == [WRITTEN]


# Ends from outside


def test_a_job_that_waits_is_cancelled(ledger: JobLedger) -> None:
    record(ledger)

    assert cancel(ledger) == [WRITTEN]
    assert row(ledger) == a_row(JobStatus.CANCELLED, ended_at=ENDED)


def test_a_job_that_runs_is_cancelled_and_its_worker_is_told(ledger: JobLedger) -> None:
    record(ledger)
    claim(ledger)

    assert cancel(ledger) == [WRITTEN]
    assert row(ledger) == CANCELLED_ROW
    # and whatever its worker says, it learns that it is over
    for change in (renew, complete, fail, release):
        assert change(ledger) == [Write(Outcome.REFUSED, CANCELLED_ROW)]


def test_a_job_that_waits_is_aborted(ledger: JobLedger) -> None:
    record(ledger)

    assert abort(ledger) == [WRITTEN]
    assert row(ledger) == a_row(JobStatus.FAILED, ended_at=ENDED, error=OPERATORS)


def test_a_job_that_runs_is_aborted(ledger: JobLedger) -> None:
    record(ledger)
    claim(ledger)

    assert abort(ledger) == [WRITTEN]
    assert row(ledger) == a_claimed_row(status=JobStatus.FAILED, ended_at=ENDED, error=OPERATORS)


def test_a_job_that_nobody_ever_claimed_expires(ledger: JobLedger) -> None:
    record(ledger)

    assert expire(ledger) == [WRITTEN]
    assert row(ledger) == a_row(JobStatus.FAILED, ended_at=ENDED, error=LOST)


def test_a_job_whose_worker_vanished_expires(ledger: JobLedger) -> None:
    record(ledger)
    claim(ledger)

    assert expire(ledger, LEASE_END + 1) == [WRITTEN]
    assert row(ledger) == a_claimed_row(status=JobStatus.FAILED, ended_at=LEASE_END + 1, error=LOST)


# Brought back


def test_a_failed_job_is_brought_back_with_its_history(ledger: JobLedger) -> None:
    seen = failed(ledger)

    assert reopen(ledger, seen) == [WRITTEN]

    # Then it is as if new, but for what is history
    assert row(ledger) == a_row(
        JobStatus.SUBMITTED, attempts=1, started_at=NOW, history=(EarlierEnd(ENDED, ERROR),)
    )


def test_no_end_and_no_error_is_left_in_a_reopened_row(ledger: JobLedger, engine: ClientMaker, table: str) -> None:
    reopen(ledger, failed(ledger))

    [item] = engine.client("dynamodb").scan(TableName=table)["Items"]
    assert not {"endedAt", "error", "result"} & set(item)


def test_a_reopened_job_may_be_claimed_at_once_and_completed(ledger: JobLedger) -> None:
    reopen(ledger, failed(ledger))

    assert claim(ledger, OTHER) == [WRITTEN]
    assert complete(ledger, OTHER, ENDED + 9) == [WRITTEN]
    assert row(ledger) == a_claimed_row(
        OTHER,
        JobStatus.COMPLETED,
        attempts=2,
        ended_at=ENDED + 9,
        result=RESULT,
        history=(EarlierEnd(ENDED, ERROR),),
    )


def test_a_reopened_job_is_held_until_the_sweeper_may_end_it(ledger: JobLedger) -> None:
    reopen(ledger, failed(ledger), HELD_UNTIL)

    assert expire(ledger, HELD_UNTIL)[0].outcome is Outcome.REFUSED
    assert expire(ledger, HELD_UNTIL + 1) == [WRITTEN]


def test_a_claim_ends_the_hold(ledger: JobLedger) -> None:
    # Given a job that is brought back, and claimed by a worker that vanishes
    reopen(ledger, failed(ledger), HELD_UNTIL)
    claim(ledger, OTHER)

    # Then its lease alone protects it
    assert LEASE_END + 1 < HELD_UNTIL
    assert expire(ledger, LEASE_END)[0].outcome is Outcome.REFUSED
    assert expire(ledger, LEASE_END + 1) == [WRITTEN]


def test_a_history_grows_in_order(ledger: JobLedger) -> None:
    # Given a job that fails three times, each time brought back
    reopen(ledger, failed(ledger))
    abort(ledger, ENDED + 10)
    reopen(ledger, row(ledger))
    expire(ledger, HELD_UNTIL + 1)
    reopen(ledger, row(ledger))

    # Then its row tells all of it, oldest first
    assert row(ledger).history == (
        EarlierEnd(ENDED, ERROR),
        EarlierEnd(ENDED + 10, OPERATORS),
        EarlierEnd(HELD_UNTIL + 1, LOST),
    )


# Conflicts


def a_conflict(n: int) -> Conflict:
    return Conflict(NOW + n, f"request-{n}")


@pytest.mark.parametrize("end", [claim, cancel, abort])
def test_a_conflict_shows_and_changes_nothing_else(ledger: JobLedger, end: object) -> None:
    # Given a job in some state
    record(ledger)
    assert callable(end)
    end(ledger)
    before = row(ledger)

    # When other submissions under its token are noted, one of them again
    for n in (2, 1, 2):
        ledger.note_conflict(JOB.key, a_conflict(n))

    # Then it shows each once, in order, and is else as it was
    after = row(ledger)
    assert after.conflicts == (a_conflict(1), a_conflict(2))
    assert {field: getattr(after, field) for field in Job.__slots__ if field != "conflicts"} == {
        field: getattr(before, field) for field in Job.__slots__ if field != "conflicts"
    }


def test_ten_conflicts_are_kept(ledger: JobLedger) -> None:
    record(ledger)

    for n in range(12):
        ledger.note_conflict(JOB.key, a_conflict(n))

    assert row(ledger).conflicts == tuple(a_conflict(n) for n in range(10))


def test_a_conflict_with_a_job_that_is_gone_makes_no_row(ledger: JobLedger) -> None:
    ledger.note_conflict(JOB.key, a_conflict(1))

    assert ledger.get(JOB.key) is None


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
    attempts = [Attempt(one.key, MINE.token) for one in jobs[:10]]
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
