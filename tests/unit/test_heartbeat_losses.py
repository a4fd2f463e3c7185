"""A job that was lost while its work ran: the work is told to stop, and whatever it gives is discarded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sluice_core.jobs import JobStatus
from sluice_handlers import heartbeat
from unit.beats import BEAT_S, THEIRS, overtake, wait_for_beats
from unit.lambda_events import handle, ids, job, row

if TYPE_CHECKING:
    from types import ModuleType

    from sluice_core.ledger import JobLedger
    from unit.conftest import Dispatch, Meanwhile
    from unit.resources import Bucket, Output
    from unit.wire_faults import Wire

LONG = job("long")
NEXT = job("next")


@pytest.fixture(autouse=True)
def beat_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_EVERY_S", BEAT_S)


@pytest.mark.parametrize("do", ["succeed", "permanent", "transient"])
@pytest.mark.parametrize("receives", [1, 5])
def test_a_cancelled_job_s_work_is_told_to_stop_and_whatever_it_gives_is_discarded(
    simulator: ModuleType,
    ledger: JobLedger,
    dispatch: Dispatch,
    *,
    meanwhile: Meanwhile,
    stopped: list[str],
    bucket: Bucket,
    output: Output,
    now_ms: int,
    do: str,
    receives: int,
) -> None:
    # Given work that goes on until it is told to stop
    long = job("long", do=do, wait=True)
    ledger.record([long])
    meanwhile[long.key.job_id] = lambda: ledger.cancel(long.key, now_ms)

    # When the job is cancelled, then its work is stopped, and its message is acknowledged
    assert handle(simulator, *dispatch(long, receives=receives)) == []
    assert stopped == [long.key.job_id]

    # Then it is as if the work had never been
    found = row(ledger, long)
    assert (found.status, found.ended_at, found.error) == (JobStatus.CANCELLED, now_ms, None)
    assert bucket.keys() == []
    for metric in ("JobsCompleted", "JobsFailed", "JobsRetried", "RunTime"):
        assert output.values(metric) == []
    assert not [line for line in output.logs if line.get("outcome") == "attempt failed"]


@pytest.mark.parametrize("do", ["succeed", "permanent", "transient"])
def test_work_that_another_has_taken_over_is_stopped_and_its_message_left(
    simulator: ModuleType,
    ledger: JobLedger,
    dispatch: Dispatch,
    *,
    meanwhile: Meanwhile,
    stopped: list[str],
    bucket: Bucket,
    now_ms: int,
    do: str,
) -> None:
    long = job("long", do=do, wait=True)
    ledger.record([long])
    meanwhile[long.key.job_id] = lambda: overtake(ledger, LONG, now_ms)
    records = dispatch(long)

    assert handle(simulator, *records) == ids(*records)

    assert stopped == [long.key.job_id]
    assert (row(ledger, long).status, row(ledger, long).attempt) == (JobStatus.RUNNING, THEIRS)
    assert bucket.keys() == []


@pytest.mark.parametrize("loss", ["cancelled", "overtaken"])
def test_a_result_that_comes_too_late_is_discarded_and_its_object_deleted(
    simulator: ModuleType,
    ledger: JobLedger,
    dispatch: Dispatch,
    *,
    meanwhile: Meanwhile,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    output: Output,
    wire: Wire,
    now_ms: int,
    loss: str,
) -> None:
    # Given work that ends before the next beat could tell it that its job is lost
    monkeypatch.setattr(heartbeat, "BEAT_EVERY_S", 60)
    ledger.record([LONG])
    lose = {
        "cancelled": lambda: ledger.cancel(LONG.key, now_ms),
        "overtaken": lambda: overtake(ledger, LONG, now_ms),
    }
    meanwhile[LONG.key.job_id] = lose[loss]
    records = dispatch(LONG)

    # When it ends, then its message is acknowledged if the job has ended, and left if it is another's
    assert handle(simulator, *records) == ([] if loss == "cancelled" else ids(*records))

    # Then the result was stored, and is gone
    assert len(wire.made("PutObject")) == 1
    assert bucket.keys() == []
    assert row(ledger, LONG).result is None
    assert output.values("ResultsDiscarded") == [1]
    assert output.values("JobsCompleted") == []


def test_a_job_lost_while_it_waits_for_its_turn_is_not_begun(
    simulator: ModuleType,
    ledger: JobLedger,
    dispatch: Dispatch,
    *,
    meanwhile: Meanwhile,
    runs: list[str],
    wire: Wire,
    now_ms: int,
) -> None:
    # Given two jobs of one batch, of which the second is cancelled during the first, and the heart beats
    ledger.record([LONG, NEXT])

    def cancel_next() -> None:
        ledger.cancel(NEXT.key, now_ms)
        wait_for_beats(wire)

    meanwhile[LONG.key.job_id] = cancel_next

    # When the batch has run, then only the first has
    assert handle(simulator, *dispatch(LONG, NEXT)) == []
    assert runs == [LONG.key.job_id]
    assert row(ledger, NEXT).status is JobStatus.CANCELLED


def test_one_job_s_loss_stops_no_other(
    simulator: ModuleType,
    ledger: JobLedger,
    dispatch: Dispatch,
    *,
    meanwhile: Meanwhile,
    stopped: list[str],
    now_ms: int,
) -> None:
    lost = job("lost", wait=True)
    ledger.record([lost, NEXT])
    meanwhile[lost.key.job_id] = lambda: ledger.cancel(lost.key, now_ms)

    assert handle(simulator, *dispatch(lost, NEXT)) == []

    assert stopped == [lost.key.job_id]
    assert row(ledger, NEXT).status is JobStatus.COMPLETED
