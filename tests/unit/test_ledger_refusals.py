"""Every condition of the ledger, where it fails; and refusals that are none, because an answer was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sluice_core.jobs import EarlierEnd, JobStatus, Submission
from sluice_core.ledger import JobLedger, Outcome, Write
from unit.ledger_steps import (
    CANCELLED_ROW,
    COMPLETED_ROW,
    ENDED,
    ERROR,
    FAILED_ROW,
    HELD_UNTIL,
    JOB,
    LEASE_END,
    MINE,
    NOW,
    OPERATORS,
    OTHER,
    RUNNING_ROW,
    SUBMITTED_ROW,
    WRITTEN,
    a_claimed_row,
    abort,
    begin,
    cancel,
    claim,
    claim_started,
    close,
    complete,
    expire,
    fail,
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
    from sluice_core.ledger import Attempt

    ByAttempt = Callable[[JobLedger, Attempt], list[Write]]
    Change = Callable[[JobLedger], list[Write]]

by_its_attempt = pytest.mark.parametrize("change", [renew, complete, fail, release])


# Nothing new


def test_a_second_record_is_refused_with_the_row_that_stands(ledger: JobLedger) -> None:
    record(ledger)
    other_request = Submission(JOB.key, "scripted", {"other": 1}, NOW)

    refused = Write(Outcome.REFUSED, SUBMITTED_ROW)
    assert ledger.record([other_request]) == [refused]
    assert ledger.record_failed(other_request, ERROR, NOW) == refused
    assert ledger.record_cancelled(JOB.key, NOW, NOW) == refused
    assert row(ledger) == SUBMITTED_ROW


@pytest.mark.parametrize(
    "change",
    [
        *(claim, renew, complete, fail, release, cancel, abort, expire),
        *(begin, note, claim_started, fail_started, close),
    ],
)
def test_a_job_that_is_not_there_is_refused_without_a_row(ledger: JobLedger, change: Change) -> None:
    # An update must never create half a row
    assert change(ledger) == [Write(Outcome.REFUSED, None)]
    assert ledger.get(JOB.key) is None


def test_a_job_that_is_gone_cannot_be_brought_back(ledger: JobLedger) -> None:
    assert reopen(ledger, FAILED_ROW) == [Write(Outcome.REFUSED, None)]
    assert ledger.get(JOB.key) is None


# Another's lease


@pytest.mark.parametrize("now_ms", [NOW, LEASE_END - 1, LEASE_END])
def test_a_second_claim_is_refused_while_the_lease_holds(ledger: JobLedger, now_ms: int) -> None:
    record(ledger)
    claim(ledger)

    assert claim(ledger, OTHER, now_ms) == [Write(Outcome.REFUSED, RUNNING_ROW)]
    assert row(ledger) == RUNNING_ROW


@pytest.mark.parametrize("now_ms", [NOW, LEASE_END - 1, LEASE_END])
def test_a_job_does_not_expire_while_the_lease_holds(ledger: JobLedger, now_ms: int) -> None:
    record(ledger)
    claim(ledger)

    assert expire(ledger, now_ms) == [Write(Outcome.REFUSED, RUNNING_ROW)]
    assert row(ledger) == RUNNING_ROW


@by_its_attempt
def test_only_the_attempt_that_runs_may_change_a_job(ledger: JobLedger, change: ByAttempt) -> None:
    record(ledger)
    claim(ledger)

    assert change(ledger, OTHER) == [Write(Outcome.REFUSED, RUNNING_ROW)]
    assert row(ledger) == RUNNING_ROW


@by_its_attempt
def test_whoever_lost_their_lease_to_another_may_change_nothing(ledger: JobLedger, change: ByAttempt) -> None:
    record(ledger)
    claim(ledger)
    claim(ledger, OTHER, now_ms=LEASE_END + 1)
    others = row(ledger)

    assert change(ledger, MINE) == [Write(Outcome.REFUSED, others)]
    assert row(ledger) == others


# Not running


@by_its_attempt
def test_a_job_that_was_never_claimed_has_no_attempt(ledger: JobLedger, change: ByAttempt) -> None:
    record(ledger)

    assert change(ledger, MINE) == [Write(Outcome.REFUSED, SUBMITTED_ROW)]
    assert row(ledger) == SUBMITTED_ROW


@pytest.mark.parametrize("change", [renew, complete, fail])
def test_a_released_job_is_no_longer_its_attempt_s(ledger: JobLedger, change: ByAttempt) -> None:
    record(ledger)
    claim(ledger)
    release(ledger)
    released = row(ledger)

    assert change(ledger, MINE) == [Write(Outcome.REFUSED, released)]
    assert row(ledger) == released


@by_its_attempt
def test_an_aborted_job_is_no_longer_its_attempt_s(ledger: JobLedger, change: ByAttempt) -> None:
    record(ledger)
    claim(ledger)
    abort(ledger)

    # Its worker's own failure did not end it, although both are failures
    expected = a_claimed_row(status=JobStatus.FAILED, ended_at=ENDED, error=OPERATORS)
    assert change(ledger, MINE) == [Write(Outcome.REFUSED, expected)]
    assert row(ledger) == expected


@by_its_attempt
def test_a_reopened_job_is_no_longer_its_attempt_s(ledger: JobLedger, change: ByAttempt) -> None:
    # Given a worker that does not know that its job was aborted and brought back
    record(ledger)
    claim(ledger)
    abort(ledger)
    reopen(ledger, row(ledger))
    reopened = row(ledger)

    assert change(ledger, MINE) == [Write(Outcome.REFUSED, reopened)]
    assert row(ledger) == reopened


# Ended


@pytest.mark.parametrize(
    ("end", "ended"), [(complete, COMPLETED_ROW), (fail, FAILED_ROW), (cancel, CANCELLED_ROW)]
)
def test_after_its_end_nothing_changes_a_job(ledger: JobLedger, end: Change, ended: Job) -> None:
    record(ledger)
    claim(ledger)
    end(ledger)

    # When everyone tries everything, then all are refused, and told how it ended
    refused = [Write(Outcome.REFUSED, ended)]
    for change in (renew, complete, fail, release):
        assert change(ledger, OTHER) == refused
        assert change is end or change(ledger, MINE) == refused
    for at_any_time in (cancel, abort, expire):
        assert at_any_time(ledger, LEASE_END + 10**9) == refused
    assert claim(ledger, OTHER, now_ms=LEASE_END + 10**9) == refused
    assert record(ledger) == refused
    assert ledger.record_failed(JOB, ERROR, NOW + 9) == refused[0]
    assert ledger.record_cancelled(JOB.key, NOW, NOW + 9) == refused[0]
    assert row(ledger) == ended


@pytest.mark.parametrize("end", [record, claim, complete, cancel])
def test_only_a_failed_job_can_be_asked_back(ledger: JobLedger, end: Change) -> None:
    record(ledger)
    claim(ledger)
    end(ledger)

    with pytest.raises(ValueError, match="only a FAILED job can be brought back"):
        reopen(ledger, row(ledger))


# Stale views


@pytest.mark.parametrize("end", [complete, cancel])
def test_a_job_that_has_since_ended_otherwise_is_not_brought_back(
    ledger: JobLedger, end: Callable[..., list[Write]]
) -> None:
    # Given an operator who saw the failure, and another who has brought the job back since
    seen = failed(ledger)
    reopen(ledger, seen)
    claim(ledger)
    end(ledger, now_ms=ENDED + 9)
    ended = row(ledger)

    assert reopen(ledger, seen) == [Write(Outcome.REFUSED, ended)]
    assert row(ledger) == ended


def test_a_job_that_has_since_failed_anew_is_not_brought_back(ledger: JobLedger) -> None:
    # Given an operator whose view is one failure old
    seen = failed(ledger)
    reopen(ledger, seen)
    abort(ledger, ENDED + 9)
    aborted = row(ledger)

    # Then that view is refused, and what it lacks is not lost
    assert reopen(ledger, seen) == [Write(Outcome.REFUSED, aborted)]
    assert row(ledger) == aborted

    # and a look later it can be
    assert reopen(ledger, row(ledger)) == [WRITTEN]
    assert row(ledger).history == (EarlierEnd(ENDED, ERROR), EarlierEnd(ENDED + 9, OPERATORS))


def test_a_view_from_two_failures_ago_is_refused(ledger: JobLedger) -> None:
    seen = failed(ledger)
    reopen(ledger, seen)
    abort(ledger, ENDED + 9)
    reopen(ledger, row(ledger))
    reopened = row(ledger)

    assert reopen(ledger, seen) == [Write(Outcome.REFUSED, reopened)]
    assert row(ledger) == reopened


# Held


@pytest.mark.parametrize("now_ms", [NOW + 2_000, HELD_UNTIL - 1, HELD_UNTIL])
def test_a_reopened_job_does_not_expire_while_it_is_held(ledger: JobLedger, now_ms: int) -> None:
    reopen(ledger, failed(ledger))
    reopened = row(ledger)

    assert expire(ledger, now_ms) == [Write(Outcome.REFUSED, reopened)]
    assert row(ledger) == reopened


def test_a_hold_is_never_in_the_past(ledger: JobLedger) -> None:
    # Given an operator who asks for a hold that is over
    reopen(ledger, failed(ledger), held_until_ms=NOW - 1)

    # Then it lasts until the job was brought back
    assert outcomes(expire(ledger, NOW + 2_000)) == ["refused"]
    assert expire(ledger, NOW + 2_001) == [WRITTEN]


# Lost answers: the SDK repeats a call on its own, and the refusal's row then says that the first call did it


@pytest.mark.parametrize("change", [claim, renew, complete, fail, release, cancel, abort])
def test_a_change_whose_answer_was_lost_counts_as_written(ledger: JobLedger, change: Change) -> None:
    # Given a change that was made
    record(ledger)
    claim(ledger)
    change(ledger)
    changed = row(ledger)

    # When the same call is made again, then it is told so, and nothing changes
    assert change(ledger) == [WRITTEN]
    assert row(ledger) == changed


def test_an_expiry_whose_answer_was_lost_counts_as_written(ledger: JobLedger) -> None:
    record(ledger)
    expire(ledger)
    expired = row(ledger)

    assert expire(ledger) == [WRITTEN]
    assert row(ledger) == expired


def test_a_reopening_whose_answer_was_lost_counts_as_written(ledger: JobLedger) -> None:
    seen = failed(ledger)
    reopen(ledger, seen)
    reopened = row(ledger)

    assert reopen(ledger, seen) == [WRITTEN]
    assert row(ledger) == reopened


@pytest.mark.parametrize("change", [cancel, abort])
def test_another_s_end_of_the_same_kind_is_not_mine(
    ledger: JobLedger, change: Callable[[JobLedger, int], list[Write]]
) -> None:
    record(ledger)
    change(ledger, ENDED)
    ended = row(ledger)

    # When someone else asks for the same at another time, then they are told that it had been done
    assert change(ledger, ENDED + 1) == [Write(Outcome.REFUSED, ended)]


def test_a_record_whose_answer_was_lost_is_a_duplicate(ledger: JobLedger) -> None:
    """Its request is delivered again, and is then one of two; the row says that they ask for the same."""
    record(ledger)

    assert record(ledger) == [Write(Outcome.REFUSED, SUBMITTED_ROW)]
