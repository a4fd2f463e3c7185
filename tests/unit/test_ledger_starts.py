"""Starts and executions: what the ledger knows of a job that an external executor runs, and refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from sluice_core.executors import BATCH, ECS, LAMBDA
from sluice_core.jobs import JobStatus
from sluice_core.ledger import JobLedger, Outcome, Start, Write
from unit.ledger_steps import (
    ENDED,
    ERROR,
    FIRST,
    HANDLE,
    HELD_UNTIL,
    JOB,
    LEASE_END,
    MINE,
    NOW,
    OTHER,
    SECOND,
    WRITTEN,
    a_begun_row,
    abort,
    begin,
    begun,
    cancel,
    claim,
    claim_started,
    close,
    complete,
    expire,
    fail_started,
    failed,
    note,
    outcomes,
    record,
    release,
    renew,
    reopen,
    row,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sluice_core.jobs import Job
    from unit.conftest import ClientMaker

    Change = Callable[[JobLedger], list[Write]]

RUNNING: dict[str, Any] = {
    "status": JobStatus.RUNNING,
    "attempt": MINE.token,
    "attempts": 1,
    "lease_until": LEASE_END,
    "started_at": NOW,
}


def refused(ledger: JobLedger, change: Change) -> bool:
    """Whether a change is refused, with the row as it is, and leaves it so."""
    before = row(ledger)
    return change(ledger) == [Write(Outcome.REFUSED, before)] and row(ledger) == before


# From begin to close


def test_a_row_says_which_executor_it_is_for(ledger: JobLedger) -> None:
    ledger.record([replace(JOB, executor=ECS)])

    assert row(ledger).executor == ECS


def test_a_start_is_begun_before_there_is_an_execution(ledger: JobLedger) -> None:
    record(ledger)

    assert begin(ledger) == [WRITTEN]
    assert row(ledger) == a_begun_row()


def test_a_start_shows_by_which_handle_it_is_known(ledger: JobLedger) -> None:
    begun(ledger)

    assert note(ledger) == [WRITTEN]
    assert row(ledger) == a_begun_row(handle=HANDLE, noted_at=NOW)


def test_what_was_started_claims_its_job_and_completes_it(ledger: JobLedger) -> None:
    begun(ledger)

    assert claim_started(ledger) == [WRITTEN]
    assert row(ledger) == a_begun_row(**RUNNING)

    # When it has completed the job, then its execution is over only once somebody has seen to it
    assert complete(ledger) == [WRITTEN]
    assert row(ledger).executing == BATCH
    assert close(ledger) == [WRITTEN]
    assert (row(ledger).executing, row(ledger).executing_since) == ("", None)
    assert row(ledger).status is JobStatus.COMPLETED


def test_a_start_that_failed_fails_its_job(ledger: JobLedger) -> None:
    begun(ledger)

    assert fail_started(ledger) == [WRITTEN]
    assert row(ledger) == a_begun_row(status=JobStatus.FAILED, ended_at=ENDED, error=ERROR)


def test_another_start_takes_the_place_of_one_that_is_over(ledger: JobLedger) -> None:
    # Given a container that vanished with its host
    begun(ledger)
    note(ledger)
    claim_started(ledger)
    close(ledger)

    # Then another start begins anew once the lease has lapsed, and knows nothing of the first one's attempt
    assert begin(ledger, SECOND, LEASE_END + 1) == [WRITTEN]
    assert row(ledger) == a_begun_row(SECOND, starts=2, attempts=1, started_at=NOW, executing_since=LEASE_END + 1)


def test_a_job_goes_on_with_another_executor(ledger: JobLedger) -> None:
    # Given a job type that went from one external executor to another, then to `lambda`
    begun(ledger)
    close(ledger)
    begin(ledger, replace(SECOND, executor=ECS))
    assert (row(ledger).executor, row(ledger).executing) == (ECS, ECS)
    close(ledger, SECOND)

    assert claim(ledger) == [WRITTEN]
    assert (row(ledger).executor, row(ledger).executing) == (LAMBDA, "")


def test_a_reopened_job_is_as_if_it_had_never_been_started(ledger: JobLedger) -> None:
    begun(ledger)
    note(ledger)
    fail_started(ledger)
    close(ledger)

    reopen(ledger, row(ledger))

    assert (row(ledger).start_token, row(ledger).starts, row(ledger).handle) == ("", 0, "")
    assert begin(ledger) == [WRITTEN]


def test_the_index_has_the_executions_that_are_not_over(ledger: JobLedger) -> None:
    # Given jobs that were begun with one executor, in some order, one with another, and one with none
    jobs = [replace(JOB, key=replace(JOB.key, job_id=f"job-{n}")) for n in range(5)]
    ledger.record(jobs)
    starts = [Start(one.key, f"start-{n}", ECS if n == 3 else BATCH) for n, one in enumerate(jobs)]
    for n in (2, 0, 1, 3):
        ledger.begin([starts[n]], NOW - n)
    assert list(ledger.executing(BATCH).items()) == [(jobs[n].key, NOW - n) for n in (2, 1, 0)]
    assert ledger.executing(ECS) == {jobs[3].key: NOW - 3}

    # When one is closed, and another job ends and is not yet
    ledger.close([starts[1]])
    ledger.cancel(jobs[2].key, ENDED)

    # Then just the former has left
    assert list(ledger.executing(BATCH)) == [jobs[2].key, jobs[0].key]


# Whoever takes what is not theirs


by_anyone = pytest.mark.parametrize(
    "change",
    [lambda ledger: claim(ledger, OTHER), expire, lambda ledger: begin(ledger, replace(FIRST, token="another"))],
)


@by_anyone
def test_nobody_else_takes_or_ends_a_job_that_is_executing(ledger: JobLedger, change: Change) -> None:
    # Given a job that was started, and which nothing has claimed yet
    begun(ledger)

    assert refused(ledger, change)


@by_anyone
def test_nobody_else_takes_or_ends_a_job_whose_container_vanished(ledger: JobLedger, change: Change) -> None:
    begun(ledger)
    claim_started(ledger, now_ms=NOW - 120_000)

    assert refused(ledger, change)


def test_a_job_is_not_brought_back_while_its_last_execution_is_not_over(ledger: JobLedger) -> None:
    begun(ledger)
    abort(ledger)
    seen = row(ledger)

    assert refused(ledger, lambda ledger: reopen(ledger, seen))
    close(ledger)
    assert reopen(ledger, seen) == [WRITTEN]


@pytest.mark.parametrize("change", [claim_started, fail_started, close, note])
def test_an_older_start_changes_nothing(ledger: JobLedger, change: Change) -> None:
    # Given a start in whose place there is another
    begun(ledger)
    close(ledger)
    begin(ledger, SECOND)

    assert refused(ledger, change)


@pytest.mark.parametrize("change", [claim_started, fail_started, close])
def test_what_comes_up_after_it_was_given_up_changes_nothing(ledger: JobLedger, change: Change) -> None:
    # Given a start that was taken for lost, before another has taken its place
    begun(ledger)
    close(ledger)

    assert refused(ledger, change)


@pytest.mark.parametrize("change", [claim_started, fail_started, close, note])
def test_a_job_that_was_not_started_has_no_start(ledger: JobLedger, change: Change) -> None:
    record(ledger)

    assert refused(ledger, change)


@pytest.mark.parametrize("now_ms", [NOW, LEASE_END])
def test_of_two_containers_of_one_start_one_works(ledger: JobLedger, now_ms: int) -> None:
    begun(ledger)
    claim_started(ledger, MINE)

    assert refused(ledger, lambda ledger: claim_started(ledger, OTHER, now_ms))
    assert refused(ledger, lambda ledger: fail_started(ledger, now_ms=now_ms))
    # and once it has vanished the other may
    assert claim_started(ledger, OTHER, LEASE_END + 1) == [WRITTEN]


def test_a_job_whose_container_vanished_fails_once_its_lease_has_lapsed(ledger: JobLedger) -> None:
    begun(ledger)
    claim_started(ledger)

    assert fail_started(ledger, now_ms=LEASE_END + 1) == [WRITTEN]


@pytest.mark.parametrize("now_ms", [NOW, LEASE_END])
def test_no_start_begins_while_a_lease_holds(ledger: JobLedger, now_ms: int) -> None:
    # Given a job that a worker of `lambda` has, or a container of a start that was closed
    record(ledger)
    claim(ledger)

    assert refused(ledger, lambda ledger: begin(ledger, now_ms=now_ms))
    assert begin(ledger, now_ms=LEASE_END + 1) == [WRITTEN]


@pytest.mark.parametrize("start", [replace(FIRST, token="another"), replace(SECOND, after="start-0")])
def test_a_start_takes_the_place_of_the_last_one_only(ledger: JobLedger, start: Start) -> None:
    # Given a message that comes twice, and one that is older than what it asks for
    begun(ledger)
    close(ledger)

    assert refused(ledger, lambda ledger: begin(ledger, start))


@pytest.mark.parametrize("change", [complete, renew, release])
def test_what_ran_before_the_last_start_has_lost_its_job(ledger: JobLedger, change: Change) -> None:
    # Given a container that was cut off, and another start
    begun(ledger)
    claim_started(ledger)
    close(ledger)
    begin(ledger, SECOND, LEASE_END + 1)

    assert refused(ledger, change)


@pytest.mark.parametrize("end", [cancel, abort])
@pytest.mark.parametrize("change", [begin, claim_started, fail_started])
def test_a_job_that_has_ended_is_neither_started_nor_ended_again(
    ledger: JobLedger, change: Change, end: Change
) -> None:
    record(ledger)
    if change is not begin:
        begin(ledger)
    end(ledger)

    assert refused(ledger, change)


def test_a_handle_is_noted_of_a_job_that_was_quicker(ledger: JobLedger) -> None:
    # Given a container that had come up, worked and ended before its starter could note the handle
    begun(ledger)
    claim_started(ledger)
    complete(ledger)
    close(ledger)

    assert note(ledger) == [WRITTEN]
    assert row(ledger).handle == HANDLE


def test_a_hold_does_not_keep_a_job_from_being_started(ledger: JobLedger) -> None:
    reopen(ledger, failed(ledger), HELD_UNTIL)

    assert begin(ledger) == [WRITTEN]


# Lost answers


@pytest.mark.parametrize("change", [begin, note, claim_started, fail_started])
def test_a_change_of_a_start_whose_answer_was_lost_counts_as_written(ledger: JobLedger, change: Change) -> None:
    record(ledger)
    if change is not begin:
        begin(ledger)
    change(ledger)
    changed = row(ledger)

    assert change(ledger) == [WRITTEN]
    assert row(ledger) == changed


def test_a_close_is_written_once(ledger: JobLedger) -> None:
    """What is counted by it is counted once; if the answer was lost, never."""
    begun(ledger)

    assert outcomes(close(ledger) + close(ledger)) == ["written", "refused"]


def test_a_start_that_was_begun_by_another_is_not_mine(ledger: JobLedger) -> None:
    before: Job = begun(ledger)

    assert begin(ledger, replace(FIRST, token="another")) == [Write(Outcome.REFUSED, before)]


def test_the_same_failure_of_an_older_start_is_not_mine(ledger: JobLedger) -> None:
    # Given a start that failed in the very millisecond, with the same error, in which another is said to have
    begun(ledger)
    close(ledger)
    begin(ledger, SECOND)
    fail_started(ledger, SECOND)

    assert refused(ledger, fail_started)


# Rows of before


def test_a_row_of_before_there_were_starts_is_not_begun(
    ledger: JobLedger, engine: ClientMaker, table: str
) -> None:
    """Its message is left, for an operator to look at; its job has been `lambda`'s."""
    record(ledger)
    engine.client("dynamodb").update_item(
        TableName=table,
        Key={"jobKey": {"S": str(JOB.key)}},
        UpdateExpression="REMOVE executor, startToken, starts",
    )

    assert refused(ledger, begin)
    assert claim(ledger) == [WRITTEN]
