"""What is left in a queue comes back when it is told to, which SQS itself is asked."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from sluice_core import clients
from sluice_core.jobs import JobKey, JobStatus
from sluice_core.ledger import Attempt
from sluice_core.work_queue import read_work_message
from sluice_handlers import batches
from sluice_handlers.batches import Batch
from unit.lambda_events import MAX_RECEIVES, failed_ids, handle, ids, job, row, sqs_record
from unit.wire_faults import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from sluice_core.ledger import JobLedger
    from unit.conftest import Dispatch, Lapse
    from unit.resources import Output, WorkQueue
    from unit.wire_faults import Wire

    MakeBatch = Callable[..., Batch]

CHANGE = "ChangeMessageVisibilityBatch"
KEY = JobKey("ann", "one")
UNLUCKY = job("unlucky", do="transient")
HELD = job("held")
# Full jitter doubles from 4 s; what is received for the last time need not wait to be set aside.
LONGEST_DELAYS = [(1, 4), (2, 8), (3, 16), (4, 32), (5, 0)]


class Dice:
    """Stands in for `random`: falls on the shortest or the longest, and says between what it was thrown."""

    def __init__(self, *, longest: bool) -> None:
        self._longest = longest
        self.thrown: list[tuple[float, float]] = []

    def uniform(self, low: float, high: float) -> float:
        self.thrown.append((low, high))
        return high if self._longest else low


@pytest.fixture
def make_batch(lambda_environment: object, wire: Wire, work_queue: WorkQueue) -> MakeBatch:
    assert lambda_environment
    assert wire.calls == []
    sqs = clients.sqs()

    def make(records: list[dict[str, Any]], max_receives: int = MAX_RECEIVES) -> Batch:
        batch = Batch(records, sqs, work_queue.url, max_receives)
        for record in records:
            batch.add(KEY, record)
        return batch

    return make


def delays(wire: Wire) -> list[int]:
    """Return the delays that SQS was told, in order."""
    return [entry["VisibilityTimeout"] for call in wire.made(CHANGE) for entry in call.parameters["Entries"]]


def wait_until_shown(queue: WorkQueue, number: int = 1) -> None:
    deadline = time.monotonic() + 10
    while queue.depth()[0] < number:
        assert time.monotonic() < deadline, f"the queue shows {queue.depth()[0]} messages"
        time.sleep(0.05)


@pytest.mark.parametrize(("receives", "longest"), LONGEST_DELAYS)
def test_a_retry_waits_up_to_twice_as_long_each_time(
    make_batch: MakeBatch,
    wire: Wire,
    monkeypatch: pytest.MonkeyPatch,
    receives: int,
    longest: int,
) -> None:
    for dice, expected in ((Dice(longest=False), 0), (Dice(longest=True), longest)):
        monkeypatch.setattr(batches, "random", dice)
        batch = make_batch([sqs_record("{}", receives=receives)])

        batch.retry([KEY])
        batch.response()

        assert delays(wire)[-1] == expected
        # over the whole range, zero included: less would bring the failures of one moment back together
        assert dice.thrown == ([(0, longest)] if longest else [])


def test_no_delay_grows_beyond_five_minutes(
    make_batch: MakeBatch, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "random", Dice(longest=True))
    batch = make_batch([sqs_record("{}", receives=n) for n in (6, 7, 8, 99)], max_receives=100)

    batch.retry([KEY])
    batch.response()

    assert delays(wire) == [128, 256, 300, 300]


def test_delays_spread(make_batch: MakeBatch, wire: Wire) -> None:
    random.seed(7)
    batch = make_batch([sqs_record("{}", receives=4) for _ in range(60)])

    batch.retry([KEY])
    batch.response()

    assert len(set(delays(wire))) > 15
    assert 0 <= min(delays(wire)) < 6
    assert 26 < max(delays(wire)) <= 32


def test_more_messages_than_a_call_takes_are_all_told(make_batch: MakeBatch, wire: Wire) -> None:
    records = [sqs_record("{}") for _ in range(23)]
    batch = make_batch(records)

    batch.wait(KEY, 7.6)
    batch.response()

    assert delays(wire) == [8] * 23
    handles = [one["ReceiptHandle"] for call in wire.made(CHANGE) for one in call.parameters["Entries"]]
    assert handles == [record["receiptHandle"] for record in records]
    assert [len(call.parameters["Entries"]) for call in wire.made(CHANGE)] == [10, 10, 3]


# --- at the queue itself


def test_a_retry_s_message_comes_back_after_its_delay_and_not_before(
    simulator: ModuleType,
    ledger: JobLedger,
    dispatch: Dispatch,
    work_queue: WorkQueue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a job whose first attempt fails, and dice that would have it wait one second
    ledger.record([UNLUCKY])
    monkeypatch.setattr(batches, "_FIRST_DELAY_S", 1)
    monkeypatch.setattr(batches, "random", Dice(longest=True))
    records = dispatch(UNLUCKY)
    began = time.monotonic()

    # When it has failed, then its message is hidden
    assert handle(simulator, *records) == ids(*records)
    assert work_queue.depth() == (0, 1)

    # and comes back after that second, as the second receive of the same message
    wait_until_shown(work_queue)
    assert 1 <= time.monotonic() - began < 8
    [again] = work_queue.deliver()
    assert again["messageId"] == records[0]["messageId"]
    assert again["attributes"]["ApproximateReceiveCount"] == "2"


def test_without_a_delay_a_message_is_there_at_once(
    simulator: ModuleType,
    ledger: JobLedger,
    dispatch: Dispatch,
    work_queue: WorkQueue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ledger.record([UNLUCKY])
    monkeypatch.setattr(batches, "random", Dice(longest=False))

    handle(simulator, *dispatch(UNLUCKY))

    assert work_queue.depth() == (1, 0)


def test_after_its_last_receive_a_message_is_a_dead_letter_at_once(
    simulator: ModuleType,
    ledger: JobLedger,
    dispatch: Dispatch,
    *,
    work_queue: WorkQueue,
    work_dlq: WorkQueue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a job that fails whenever it is tried, and its message, received as often as it may be
    monkeypatch.setattr(batches, "random", Dice(longest=True))
    ledger.record([UNLUCKY])
    records = dispatch(UNLUCKY)
    for receives in range(1, MAX_RECEIVES + 1):
        assert [one["attributes"]["ApproximateReceiveCount"] for one in records] == [str(receives)]

        # When it fails, then its message stays
        assert handle(simulator, *records) == ids(*records)
        if receives < MAX_RECEIVES:
            assert row(ledger, UNLUCKY).status is JobStatus.SUBMITTED
            work_queue.show(*records)
        records = work_queue.deliver()

    # Then the job has failed, and its message lies where an operator looks
    assert records == []
    assert (row(ledger, UNLUCKY).status, row(ledger, UNLUCKY).attempts) == (JobStatus.FAILED, MAX_RECEIVES)
    assert (work_queue.depth(), work_dlq.depth()) == ((0, 0), (1, 0))


def test_a_malformed_message_backs_off_too(
    processor: ModuleType, request_queue: WorkQueue, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "random", Dice(longest=True))
    request_queue.sqs.send_message(QueueUrl=request_queue.url, MessageBody="{}")

    records = request_queue.deliver()
    assert handle(processor, *records) == ids(*records)

    assert delays(wire) == [4]
    assert request_queue.depth() == (0, 1)


# --- a job that is another's


def hold(ledger: JobLedger, now_ms: int, *, lease_s: float) -> None:
    ledger.record([HELD])
    ledger.claim([Attempt(HELD.key, "another")], now_ms, now_ms + round(lease_s * 1000))


def test_a_job_that_meets_a_lease_waits_for_its_end(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, wire: Wire, now_ms: int
) -> None:
    hold(ledger, now_ms, lease_s=200)
    records = dispatch(HELD)

    assert handle(simulator, *records) == ids(*records)

    # Then it comes back a little after that, not all at the same time
    [delay] = delays(wire)
    assert 200 - (time.time() - now_ms / 1000) - 1 <= delay <= 200 + 5 + 1


def test_those_that_meet_the_same_lease_do_not_come_back_together(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, monkeypatch: pytest.MonkeyPatch, now_ms: int
) -> None:
    hold(ledger, now_ms, lease_s=200)
    dice = Dice(longest=True)
    monkeypatch.setattr(simulator.random, "uniform", dice.uniform)

    handle(simulator, *dispatch(HELD))

    [(soonest, latest)] = dice.thrown
    assert 0 < soonest < latest


def test_a_lease_that_lapses_meanwhile_keeps_nobody_waiting(
    simulator: ModuleType,
    ledger: JobLedger,
    dispatch: Dispatch,
    *,
    wire: Wire,
    monkeypatch: pytest.MonkeyPatch,
    now_ms: int,
) -> None:
    # Given a lease that ends between the claim and the look at it
    hold(ledger, now_ms, lease_s=30)
    times = iter([now_ms, now_ms, now_ms + 31_000])
    monkeypatch.setattr(simulator, "now_ms", lambda: next(times, now_ms + 31_000))

    handle(simulator, *dispatch(HELD))

    [delay] = delays(wire)
    assert 0 <= delay <= 5


def test_a_message_whose_last_receive_meets_a_lease_is_replaced(
    simulator: ModuleType,
    ledger: JobLedger,
    dispatch: Dispatch,
    *,
    work_queue: WorkQueue,
    lapse: Lapse,
    now_ms: int,
) -> None:
    # Given a message that would be set aside next, while its job is another's, who may yet die
    hold(ledger, now_ms, lease_s=200)
    records = dispatch(HELD, receives=MAX_RECEIVES)

    # When it meets the lease, then it is acknowledged, and a new one of the same job takes its place
    assert handle(simulator, *records) == []
    work_queue.delete(*records)
    [new] = work_queue.deliver()
    assert read_work_message(new["body"]) == replace(HELD, is_again=True)
    assert new["attributes"]["ApproximateReceiveCount"] == "1"
    assert new["attributes"]["MessageGroupId"] == HELD.key.owner

    # and brings the job to its end once the other has died
    lapse(HELD)
    assert handle(simulator, new) == []
    assert row(ledger, HELD).status is JobStatus.COMPLETED


def test_the_last_receive_but_one_is_not_replaced(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, work_queue: WorkQueue, now_ms: int
) -> None:
    hold(ledger, now_ms, lease_s=200)
    records = dispatch(HELD, receives=MAX_RECEIVES - 1)

    assert handle(simulator, *records) == ids(*records)
    assert work_queue.depth() == (0, 1)


@pytest.mark.parametrize("fault", [Fault.NO_ANSWER, Fault.THROTTLED, Fault.DENIED, "refused"])
def test_a_message_that_cannot_be_replaced_stays(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, *, wire: Wire, now_ms: int, fault: Fault | str
) -> None:
    hold(ledger, now_ms, lease_s=200)
    records = dispatch(HELD, receives=MAX_RECEIVES)
    if isinstance(fault, Fault):
        wire.strike(fault, "SendMessageBatch")
    else:
        refusal = {"Id": "0", "Code": "InternalError", "SenderFault": False}
        wire.answer("SendMessageBatch", {"Successful": [], "Failed": [refusal]})

    # Then it waits until the lease ends, and whoever looks into the dead letters then judges by the ledger
    assert handle(simulator, *records) == ids(*records)
    [delay] = delays(wire)
    assert delay >= 190


# --- SQS does not do as it is told


@pytest.mark.parametrize("fault", [Fault.THROTTLED, Fault.SERVER_ERROR, Fault.NO_ANSWER, Fault.DENIED])
def test_a_delay_that_cannot_be_set_harms_nothing(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, *, wire: Wire, output: Output, fault: Fault
) -> None:
    # Given an SQS that changes no visibility
    good = job("good")
    ledger.record([UNLUCKY, good])
    records = dispatch(UNLUCKY, good)
    wire.strike(fault, CHANGE)

    # When a batch fails in part, then the answer is the same, and what happened is logged
    assert handle(simulator, *records) == ids(records[0])
    assert row(ledger, good).status is JobStatus.COMPLETED
    assert row(ledger, UNLUCKY).status is JobStatus.SUBMITTED
    assert [line["messages"] for line in output.logs if line["message"] == "visibility not changed"] == [1]


def test_one_failed_call_does_not_keep_the_next_from_its_messages(make_batch: MakeBatch, wire: Wire) -> None:
    records = [sqs_record("{}") for _ in range(15)]
    batch = make_batch(records)
    wire.strike(Fault.SERVER_ERROR, CHANGE, times=1)

    batch.retry([KEY])

    assert failed_ids(batch.response()) == ids(*records)
    assert [len(call.parameters["Entries"]) for call in wire.made(CHANGE)] == [10, 5]


def test_a_message_that_is_gone_harms_none_of_the_others(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, work_queue: WorkQueue
) -> None:
    # Given two jobs to be tried again, of whose messages one was deleted meanwhile
    jobs: Sequence[Any] = [job("one", do="transient"), job("two", do="transient")]
    ledger.record(jobs)
    records = dispatch(*jobs, receives=MAX_RECEIVES)
    work_queue.delete(records[0])

    assert handle(simulator, *records) == ids(*records)

    assert work_queue.depth() == (1, 0)


@pytest.mark.parametrize("change", ["claim", "complete"])
def test_no_answer_of_the_table_on_the_last_receive_is_no_failure(
    simulator: ModuleType,
    ledger: JobLedger,
    dispatch: Dispatch,
    *,
    work_queue: WorkQueue,
    wire: Wire,
    lapse: Lapse,
    change: str,
) -> None:
    # Given a message that would be set aside next
    ledger.record([HELD])
    records = dispatch(HELD, receives=MAX_RECEIVES)
    wire.strike_change(Fault.SERVER_ERROR, change, times=1)

    # When the table does not answer, then a new message takes its place, and ends the job
    assert handle(simulator, *records) == []
    work_queue.delete(*records)
    [new] = work_queue.deliver()
    if change == "complete":
        lapse(HELD)
    assert handle(simulator, new) == []
    assert row(ledger, HELD).status is JobStatus.COMPLETED
