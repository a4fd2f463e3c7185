from __future__ import annotations

import itertools
import json
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from sluice_core import clients
from sluice_core.dead_letters import DeadLetterQueue
from sluice_core.requests import SubmissionParser
from sluice_core.work_queue import WorkQueueExecutor
from sluice_core.workloads import DEFAULT_WORKLOADS, load_workloads
from unit.lambda_events import ANN, job
from unit.wire_faults import Fault

if TYPE_CHECKING:
    from unit.resources import WorkQueue
    from unit.wire_faults import Wire

NUMBER = 23  # more than two receives bring


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine has one server: an empty answer is an empty queue at once."""
    monkeypatch.setattr("sluice_core.dead_letters._WAIT_S", 0)


@pytest.fixture
def letters(lambda_environment: object, wire: Wire, work_dlq: WorkQueue) -> DeadLetterQueue:
    assert lambda_environment
    assert wire.calls == []
    return DeadLetterQueue(clients.sqs(), work_dlq.url)


@pytest.fixture
def filled(work_dlq: WorkQueue) -> WorkQueue:
    WorkQueueExecutor(work_dlq.sqs, work_dlq.url).start([job(f"job-{n:02}") for n in range(NUMBER)])
    assert work_dlq.depth() == (NUMBER, 0)
    return work_dlq


def test_each_message_is_read_once_and_shown_again(letters: DeadLetterQueue, filled: WorkQueue) -> None:
    hidden = []
    ids = []
    for letter in letters.read():
        ids.append(json.loads(letter.body)["jobId"])
        hidden.append(filled.depth()[1])

    assert sorted(ids) == [f"job-{n:02}".ljust(16, "-") for n in range(NUMBER)]
    assert hidden[-1] == NUMBER  # while they are read nobody else meets them
    assert filled.depth() == (NUMBER, 0)


def test_reading_twice_finds_the_same(letters: DeadLetterQueue, filled: WorkQueue) -> None:
    first = {letter.message_id: letter.body for letter in letters.read()}

    assert {letter.message_id: letter.body for letter in letters.read()} == first
    assert filled.depth() == (len(first), 0)


def test_an_empty_queue_gives_nothing(letters: DeadLetterQueue) -> None:
    assert list(letters.read()) == []


@pytest.mark.parametrize("read", [0, 1, 10, 12])
def test_a_reader_that_stops_early_hides_nothing(letters: DeadLetterQueue, filled: WorkQueue, read: int) -> None:
    reading = letters.read()
    assert len(list(itertools.islice(reading, read))) == read

    reading.close()

    assert filled.depth() == (NUMBER, 0)


def test_a_loop_that_is_left_hides_nothing(letters: DeadLetterQueue, filled: WorkQueue) -> None:
    for letter in letters.read():
        assert letter.body
        break

    assert filled.depth() == (NUMBER, 0)


def test_a_reader_that_raises_hides_nothing(letters: DeadLetterQueue, filled: WorkQueue) -> None:
    def read() -> None:
        for letter in letters.read():
            raise LookupError(letter.message_id)

    with pytest.raises(LookupError):
        read()

    assert filled.depth() == (NUMBER, 0)


def test_an_sqs_that_fails_midway_hides_nothing(letters: DeadLetterQueue, filled: WorkQueue, wire: Wire) -> None:
    # Given a reader that has ten messages, and a receive that fails
    reading = letters.read()
    next(reading)
    wire.strike(Fault.SERVER_ERROR, "ReceiveMessage")

    with pytest.raises(Exception, match="InternalServerError"):
        list(reading)

    assert filled.depth() == (NUMBER, 0)


def test_what_the_reader_deletes_stays_gone(letters: DeadLetterQueue, filled: WorkQueue) -> None:
    # When every second message is deleted as it is read
    kept = []
    for number, letter in enumerate(letters.read()):
        if number % 2:
            filled.sqs.delete_message(QueueUrl=filled.url, ReceiptHandle=letter.receipt_handle)
        else:
            kept.append(letter.message_id)

    # Then the others are there again, and they alone
    assert filled.depth() == (len(kept), 0)
    assert sorted(letter.message_id for letter in letters.read()) == sorted(kept)


def test_time_that_is_up_ends_the_reading(letters: DeadLetterQueue, filled: WorkQueue) -> None:
    assert list(letters.read(seconds=0)) == []
    assert list(letters.read(seconds=-5)) == []
    assert filled.depth() == (NUMBER, 0)


def test_a_reading_is_over_before_its_first_message_shows_again(
    letters: DeadLetterQueue, filled: WorkQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a clock on which each look is half a minute later
    clock = itertools.count(0, 30)
    monkeypatch.setattr("sluice_core.dead_letters.time", SimpleNamespace(monotonic=lambda: next(clock)))

    # When it is read for as long as there is time, however long was asked for
    letters_read = list(letters.read(seconds=10_000))

    # Then it ends in time for none to be read twice
    assert 0 < len(letters_read) < NUMBER
    assert filled.depth() == (NUMBER, 0)


def test_a_letter_says_when_it_was_first_sent(letters: DeadLetterQueue, filled: WorkQueue) -> None:
    letter = next(letters.read())

    assert filled.url == letters.url
    assert abs(letter.sent_at - time.time() * 1000) < 60_000


def test_a_request_is_read_as_lambda_would_have_delivered_it(
    letters: DeadLetterQueue, work_dlq: WorkQueue
) -> None:
    work_dlq.send_request("mine", {"parameters": {"records": 3}}, at=1_790_000_000_001, request_id="r-7")

    [letter] = letters.read()
    submission = SubmissionParser(load_workloads(DEFAULT_WORKLOADS)).parse(letter.as_record())

    assert (submission.key.owner, submission.key.job_id) == (ANN, "mine".ljust(16, "-"))
    assert submission.parameters == {"records": 3}
    assert (submission.submitted_at, submission.request_id) == (1_790_000_000_001, "r-7")
