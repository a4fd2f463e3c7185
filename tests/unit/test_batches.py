from __future__ import annotations

from sluice_core.jobs import JobKey
from sluice_handlers.batches import Batch
from unit.lambda_events import failed_ids

ONE = JobKey("ann", "one")
TWO = JobKey("ann", "two")
NAMESAKE = JobKey("ben", "one")


def message(name: str) -> dict[str, str]:
    return {"messageId": name}


def test_an_untroubled_batch_reports_nothing() -> None:
    batch = Batch()
    batch.add(ONE, message("m1"))

    assert batch.response() == {"batchItemFailures": []}
    assert batch.failures == 0


def test_only_the_first_message_of_a_job_counts_as_its_first() -> None:
    batch = Batch()

    firsts = [batch.add(key, message(name)) for name, key in zip("abcd", (ONE, TWO, ONE, NAMESAKE), strict=True)]

    assert firsts == [True, True, False, True]


def test_all_messages_of_a_failed_job_are_left_in_the_queue() -> None:
    batch = Batch()
    for name, key in zip("abcd", (ONE, TWO, ONE, NAMESAKE), strict=True):
        batch.add(key, message(name))

    batch.fail([ONE])

    assert failed_ids(batch.response()) == ["a", "c"]
    assert batch.failures == 2


def test_a_message_is_reported_once_however_often_its_job_fails() -> None:
    batch = Batch()
    batch.add(ONE, message("a"))

    batch.fail([ONE, ONE])
    batch.fail(iter([ONE]))

    assert failed_ids(batch.response()) == ["a"]


def test_a_job_of_another_batch_is_never_reported() -> None:
    # Lambda would fail the whole batch for an id it does not know
    batch = Batch()
    batch.add(ONE, message("a"))

    batch.fail([TWO, NAMESAKE])

    assert batch.response() == {"batchItemFailures": []}


def test_a_message_without_a_job_is_left_in_the_queue() -> None:
    batch = Batch()
    batch.add(ONE, message("a"))
    batch.fail_message(message("b"))

    assert failed_ids(batch.response()) == ["b"]
