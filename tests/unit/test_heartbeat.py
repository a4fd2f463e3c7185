"""While work runs its lease and its message are kept, and a job that was lost meanwhile is noticed."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError
from sluice_core import leases
from sluice_core.jobs import JobStatus
from sluice_core.ledger import Attempt
from sluice_handlers import heartbeat
from sluice_handlers.batches import Batch
from unit.beats import BEAT_S, wait_for_beats, wait_until
from unit.lambda_events import MAX_RECEIVES, Context, handle, job, row
from unit.wire_faults import Fault
from unit.workloads_for_tests import Death

if TYPE_CHECKING:
    from types import ModuleType

    from sluice_core.ledger import JobLedger
    from unit.conftest import ClientMaker, Dispatch, Meanwhile
    from unit.resources import WorkQueue
    from unit.wire_faults import Wire

USUAL_BEAT_S = leases.BEAT_EVERY_S
LONG = job("long")
NEXT = job("next")


@pytest.fixture(autouse=True)
def beat_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_EVERY_S", BEAT_S)


def heartbeats() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "heartbeat"]


# --- what is kept


def test_the_lease_is_renewed_while_the_work_runs(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, meanwhile: Meanwhile
) -> None:
    # Given work that takes until its lease has been renewed twice
    ledger.record([LONG])
    leases: list[int | None] = []

    def watch() -> None:
        for _ in range(3):
            leases.append(row(ledger, LONG).lease_until)
            wait_until(lambda: row(ledger, LONG).lease_until != leases[-1])

    meanwhile[LONG.key.job_id] = watch

    # When it runs to its end, then each lease was longer than the one before
    assert handle(simulator, *dispatch(LONG)) == []
    assert leases == sorted(set(leases), key=str)
    assert row(ledger, LONG).status is JobStatus.COMPLETED


@pytest.mark.parametrize(("remaining_ms", "lease_ms"), [(60_000, 35_000), (12_000, 17_000)])
def test_a_renewed_lease_is_as_long_as_a_new_one(
    simulator: ModuleType,
    ledger: JobLedger,
    dispatch: Dispatch,
    *,
    meanwhile: Meanwhile,
    wire: Wire,
    remaining_ms: int,
    lease_ms: int,
) -> None:
    ledger.record([LONG])
    found: list[int] = []

    def watch() -> None:
        wait_for_beats(wire)
        found.append((row(ledger, LONG).lease_until or 0) - time.time_ns() // 1_000_000)

    meanwhile[LONG.key.job_id] = watch

    handle(simulator, *dispatch(LONG), context=Context(remaining_ms))

    assert lease_ms - 3_000 < found[0] <= lease_ms


@pytest.mark.parametrize("beat_s", [0.1, 60])
def test_the_message_stays_hidden_for_as_long_as_the_heart_beats(
    simulator: ModuleType,
    ledger: JobLedger,
    dispatch: Dispatch,
    *,
    meanwhile: Meanwhile,
    work_queue: WorkQueue,
    monkeypatch: pytest.MonkeyPatch,
    beat_s: float,
) -> None:
    # Given a message that would come back in two seconds, and work that takes longer
    monkeypatch.setattr(heartbeat, "BEAT_EVERY_S", beat_s)
    ledger.record([LONG])
    [record] = dispatch(LONG)
    depths: list[tuple[int, int]] = []

    def watch() -> None:
        work_queue.show(record, after_s=2)
        time.sleep(2.3)
        depths.append(work_queue.depth())

    meanwhile[LONG.key.job_id] = watch

    # When it runs, then SQS hides the message if there were beats, and shows it if there were none
    handle(simulator, record)
    assert depths == [(0, 1) if beat_s < 1 else (1, 0)]


def test_all_messages_of_the_batch_are_hidden_until_soon_after_the_lease(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, *, meanwhile: Meanwhile, wire: Wire
) -> None:
    ledger.record([LONG, NEXT])
    meanwhile[LONG.key.job_id] = lambda: wait_for_beats(wire)
    records = dispatch(LONG, NEXT)

    handle(simulator, *records)

    entries = wire.made("ChangeMessageVisibilityBatch")[0].parameters["Entries"]
    assert [one["ReceiptHandle"] for one in entries] == [one["receiptHandle"] for one in records]
    assert {one["VisibilityTimeout"] for one in entries} == {40}


def test_a_job_keeps_its_lease_while_it_waits_for_its_turn(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, *, meanwhile: Meanwhile, wire: Wire
) -> None:
    # Given two jobs, claimed together, of which the second waits for the first
    ledger.record([LONG, NEXT])
    leases: list[int] = []

    def watch() -> None:
        for _ in range(2):
            leases.append(row(ledger, NEXT).lease_until or 0)
            wait_for_beats(wire)

    meanwhile[LONG.key.job_id] = watch

    assert handle(simulator, *dispatch(LONG, NEXT)) == []
    assert leases[0] < leases[1]
    assert row(ledger, NEXT).status is JobStatus.COMPLETED


def test_what_was_let_go_is_renewed_no_longer(
    simulator: ModuleType, ledger: JobLedger, wire: Wire, work_queue: WorkQueue, now_ms: int
) -> None:
    # Given a job that is held, and its lease renewed
    ledger.record([LONG])
    attempt = Attempt(LONG.key, "mine")
    ledger.claim([attempt], now_ms, now_ms + 60_000)
    batch = Batch([], work_queue.sqs, work_queue.url, MAX_RECEIVES)
    with heartbeat.Heartbeat(simulator._ledger, batch, Context()) as beating:
        stop = beating.hold(attempt)
        wait_until(lambda: len(wire.changes("renew")) > 1)

        # When it is let go, then one beat may be on its way, and no other follows
        beating.let_go(attempt)
        renewals = len(wire.changes("renew"))
        time.sleep(10 * BEAT_S)

        assert len(wire.changes("renew")) <= renewals + 1
        assert not stop.is_set()
        assert beating.loss(attempt) is None


def test_an_ordinary_job_ends_before_the_first_beat_and_pays_for_none(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_EVERY_S", USUAL_BEAT_S)
    ledger.record([LONG])

    handle(simulator, *dispatch(LONG))

    assert len(wire.made("BatchExecuteStatement")) == 2  # claim and complete
    assert wire.made("ChangeMessageVisibilityBatch") == []


# --- what fails


@pytest.mark.parametrize("fault", [*Fault])
def test_a_failing_beat_does_not_end_the_work(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, *, meanwhile: Meanwhile, wire: Wire, fault: Fault
) -> None:
    # Given a table that cannot be reached by any beat
    ledger.record([LONG])
    wire.strike_change(fault, "renew")
    meanwhile[LONG.key.job_id] = lambda: wait_until(lambda: len(wire.changes("renew")) > 2)

    assert handle(simulator, *dispatch(LONG)) == []

    assert row(ledger, LONG).status is JobStatus.COMPLETED


@pytest.mark.parametrize("fault", [Fault.THROTTLED, Fault.SERVER_ERROR, Fault.NO_ANSWER, Fault.DENIED])
def test_a_beat_that_cannot_hide_the_message_does_not_end_the_work(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, *, meanwhile: Meanwhile, wire: Wire, fault: Fault
) -> None:
    ledger.record([LONG])
    wire.strike(fault, "ChangeMessageVisibilityBatch")
    meanwhile[LONG.key.job_id] = lambda: wait_for_beats(wire)

    assert handle(simulator, *dispatch(LONG)) == []

    assert row(ledger, LONG).status is JobStatus.COMPLETED


def test_after_a_failed_beat_comes_a_good_one(
    simulator: ModuleType,
    ledger: JobLedger,
    dispatch: Dispatch,
    *,
    meanwhile: Meanwhile,
    wire: Wire,
    stopped: list[str],
    now_ms: int,
) -> None:
    # Given beats of which the first two raise
    long = job("long", wait=True)
    ledger.record([long])
    wire.strike_change(Fault.DENIED, "renew", times=2)
    meanwhile[long.key.job_id] = lambda: ledger.cancel(long.key, now_ms)

    # Then a later one still notices the loss
    assert handle(simulator, *dispatch(long)) == []
    assert stopped == [long.key.job_id]


@pytest.mark.parametrize("ending", ["returns", "dies", "raises"])
def test_no_thread_is_left_however_the_handler_ends(
    simulator: ModuleType,
    ledger: JobLedger,
    dispatch: Dispatch,
    *,
    meanwhile: Meanwhile,
    engine: ClientMaker,
    table: str,
    ending: str,
) -> None:
    # Given an invocation whose heart beats
    long = job("long", do="die" if ending == "dies" else "succeed")
    ledger.record([long])
    during: list[int] = []

    def watch() -> None:
        during.append(len(heartbeats()))
        if ending == "raises":
            engine.client("dynamodb").delete_table(TableName=table)

    meanwhile[long.key.job_id] = watch

    # When it ends
    if ending == "returns":
        handle(simulator, *dispatch(long))
    else:
        with pytest.raises(Death if ending == "dies" else (ClientError, RuntimeError)):
            handle(simulator, *dispatch(long))

    # Then nothing beats on into the next one
    assert during == [1]
    assert heartbeats() == []
