from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sluice_core import clients
from sluice_core.jobs import JobKey
from sluice_handlers.batches import Batch
from unit.lambda_events import MAX_RECEIVES, failed_ids, ids, sqs_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from unit.resources import WorkQueue
    from unit.wire_faults import Wire

ONE = JobKey("ann", "one")
TWO = JobKey("ann", "two")
NAMESAKE = JobKey("ben", "one")
Records = list[dict[str, Any]]


@pytest.fixture
def make_batch(lambda_environment: object, wire: Wire, work_queue: WorkQueue) -> Callable[[Records], Batch]:
    assert lambda_environment
    assert wire.calls == []
    sqs = clients.sqs()
    return lambda records: Batch(records, sqs, work_queue.url, MAX_RECEIVES)


@pytest.fixture
def records() -> Records:
    return [sqs_record("{}") for _ in range(4)]


@pytest.fixture
def batch(make_batch: Callable[[Records], Batch], records: Records) -> Batch:
    """Return a batch whose first and third messages are one job's."""
    batch = make_batch(records)
    firsts = [batch.add(key, record) for key, record in zip((ONE, TWO, ONE, NAMESAKE), records, strict=True)]
    assert firsts == [True, True, False, True]
    return batch


def test_an_untroubled_batch_reports_nothing_and_asks_nothing_of_sqs(batch: Batch, wire: Wire) -> None:
    assert batch.response() == {"batchItemFailures": []}
    assert batch.failures == 0
    assert wire.calls == []


def test_all_messages_of_a_job_are_left_in_the_queue(batch: Batch, records: Records) -> None:
    batch.retry([ONE])

    assert failed_ids(batch.response()) == ids(records[0], records[2])
    assert batch.failures == 2


def test_a_job_that_waits_leaves_all_its_messages_too(batch: Batch, records: Records) -> None:
    batch.wait(ONE, 17.4)

    assert failed_ids(batch.response()) == ids(records[0], records[2])


def test_a_message_is_reported_once_however_often_its_job_fails(batch: Batch, records: Records) -> None:
    batch.retry([TWO, TWO])
    batch.retry(iter([TWO]))
    batch.wait(TWO, 5)

    assert failed_ids(batch.response()) == ids(records[1])


def test_a_job_of_another_batch_is_never_reported(batch: Batch) -> None:
    # Lambda would fail the whole batch for an id it does not know
    batch.retry([JobKey("ann", "three")])
    batch.wait(JobKey("cyd", "one"), 5)

    assert batch.response() == {"batchItemFailures": []}


def test_a_message_without_a_job_is_left_in_the_queue(batch: Batch, records: Records) -> None:
    malformed = sqs_record("?")

    batch.fail_message(malformed)

    assert failed_ids(batch.response()) == ids(malformed)
    assert malformed not in records


@pytest.mark.parametrize("receives", [1, MAX_RECEIVES - 1, MAX_RECEIVES, MAX_RECEIVES + 1])
def test_the_last_receive_is_known(make_batch: Callable[[Records], Batch], receives: int) -> None:
    record = sqs_record("{}", receives=receives)
    batch = make_batch([record])
    batch.add(ONE, record)

    assert batch.is_last_receive(ONE) is (receives >= MAX_RECEIVES)
    assert not batch.is_last_receive(TWO)


def test_of_a_job_s_messages_one_last_receive_counts_for_all(make_batch: Callable[[Records], Batch]) -> None:
    records = [sqs_record("{}"), sqs_record("{}", receives=MAX_RECEIVES)]
    batch = make_batch(records)
    for record in records:
        batch.add(ONE, record)

    assert batch.is_last_receive(ONE)
