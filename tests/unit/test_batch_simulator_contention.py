from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sluice_core.jobs import JobError, JobStatus
from sluice_core.ledger import Attempt
from unit.lambda_events import Context, handle, ids, job, row, work_record
from unit.wire_faults import Fault
from unit.workloads_for_tests import Death

if TYPE_CHECKING:
    from types import ModuleType

    from sluice_core.ledger import JobLedger
    from unit.conftest import Dispatch, Meanwhile
    from unit.resources import Output
    from unit.wire_faults import Wire


SLOW = job("slow")


def test_a_job_that_another_worker_holds_is_left_alone(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, runs: list[str], now_ms: int
) -> None:
    held = job("held")
    ledger.record([held])
    ledger.claim([Attempt(held.key, "another")], now_ms, now_ms + 600_000)
    before = row(ledger, held)
    records = dispatch(held)

    assert handle(simulator, *records) == ids(*records)

    assert runs == []
    assert row(ledger, held) == before


def test_a_job_whose_worker_vanished_is_taken_over(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, now_ms: int
) -> None:
    orphan = job("orphan")
    ledger.record([orphan])
    ledger.claim([Attempt(orphan.key, "vanished")], now_ms - 60_000, now_ms - 1)

    assert handle(simulator, *dispatch(orphan, receives=2)) == []

    assert (row(ledger, orphan).status, row(ledger, orphan).attempts) == (JobStatus.COMPLETED, 2)


def test_an_ended_job_is_acknowledged_without_running(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, runs: list[str], output: Output
) -> None:
    ended = job("ended")
    ledger.record([ended])
    records = dispatch(ended)
    handle(simulator, *records)
    before = row(ledger, ended)

    # When SQS delivers its message once more
    assert handle(simulator, *records) == []

    assert runs == [ended.key.job_id]
    assert row(ledger, ended) == before
    assert output.values("JobsCompleted") == [1]


@pytest.mark.parametrize("do", ["succeed", "permanent", "transient"])
def test_two_messages_of_one_job_share_its_fate(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, runs: list[str], do: str
) -> None:
    twice = job("twice", do=do)
    ledger.record([twice])
    [record] = dispatch(twice)
    copy = work_record(record["body"])

    failed = handle(simulator, record, copy)

    assert runs == [twice.key.job_id]
    assert failed == (ids(record, copy) if do == "transient" else [])


@pytest.fixture
def overtaken(ledger: JobLedger, meanwhile: Meanwhile, now_ms: int) -> Attempt:
    """Have another worker claim the job during its run, as if the lease had lapsed."""
    other = Attempt(SLOW.key, "another")
    meanwhile[SLOW.key.job_id] = lambda: ledger.claim([other], now_ms + 10**6, now_ms + 2 * 10**6)
    return other


@pytest.fixture
def ended_by_them(ledger: JobLedger, meanwhile: Meanwhile, overtaken: Attempt, now_ms: int) -> JobError:
    """Have that worker end the job at once."""
    theirs = JobError("THEIRS", "Their end.")
    claim = meanwhile[SLOW.key.job_id]
    meanwhile[SLOW.key.job_id] = lambda: (claim(), ledger.fail([(overtaken, theirs)], now_ms))
    return theirs


@pytest.mark.parametrize("do", ["succeed", "permanent"])
def test_a_worker_whose_job_another_ended_does_not_end_it_again(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, ended_by_them: JobError, do: str
) -> None:
    ledger.record([SLOW])

    # When this worker comes to its own end, then its message is acknowledged, and the other's end stands
    assert handle(simulator, *dispatch(job("slow", do=do))) == []
    assert row(ledger, SLOW).error == ended_by_them


@pytest.mark.parametrize("do", ["succeed", "permanent", "transient"])
def test_a_worker_whose_job_another_still_runs_leaves_the_message(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, overtaken: Attempt, do: str
) -> None:
    ledger.record([SLOW])
    records = dispatch(job("slow", do=do))

    assert handle(simulator, *records) == ids(*records)
    assert (row(ledger, SLOW).status, row(ledger, SLOW).attempt) == (JobStatus.RUNNING, overtaken.token)


def test_a_claim_whose_answer_was_lost_is_one_s_own(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, wire: Wire, runs: list[str]
) -> None:
    # Given a claim that is written, and repeated by the SDK as its answer does not arrive
    mine = job("mine")
    ledger.record([mine])
    wire.strike_change(Fault.REPEATED, "claim")

    # Then the job is run as usual
    assert handle(simulator, *dispatch(mine)) == []
    assert runs == [mine.key.job_id]
    assert (row(ledger, mine).status, row(ledger, mine).attempts) == (JobStatus.COMPLETED, 1)


def test_a_worker_that_dies_takes_no_finished_job_along(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a batch whose second job ends the worker, and end states that are due after every job
    finished, deadly = job("finished"), job("deadly", do="die")
    ledger.record([finished, deadly])
    monkeypatch.setattr(simulator, "_SETTLE_EVERY_S", 0.0)

    # When the worker dies
    with pytest.raises(Death):
        handle(simulator, *dispatch(finished, deadly))

    # Then the first job has its end state, and the other is held by a lease that will lapse
    assert row(ledger, finished).status is JobStatus.COMPLETED
    assert row(ledger, deadly).status is JobStatus.RUNNING


def test_no_job_is_begun_that_would_not_end_in_time(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given jobs that take 20 s each, by the batch's own experience, and 25 s left after the first
    first, second = job("first"), job("second")
    ledger.record([first, second])
    monkeypatch.setattr(simulator, "_elapsed_ms", lambda _: 20_000.0)
    records = dispatch(first, second)

    # When the batch runs
    failed = handle(simulator, *records, context=Context(60_000, 60_000, 25_000))

    # Then the second goes back to the queue unbegun
    assert runs == [first.key.job_id]
    assert failed == ids(records[1])
    assert row(ledger, second).status is JobStatus.SUBMITTED
