"""Redrive: failed jobs come back and complete, whatever interrupts it; what must not come back is left."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from sluice_core.jobs import EarlierEnd, JobStatus
from sluice_core.ledger import JobLedger
from sluice_harness.ops import move_tasks
from sluice_harness.ops.audit import audit
from sluice_harness.ops.stage import Access
from unit.lambda_events import BEN, handle, job, row
from unit.operated import EXHAUSTED, TRACE, MoveTasks, now_ms

if TYPE_CHECKING:
    from types import ModuleType

    from sluice_core.jobs import Submission
    from sluice_core.ledger import Write
    from unit.operated import Operated

    Capture = pytest.CaptureFixture[str]

HOUR_MS = 3_600_000


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> boto3.Session:
    """Return the session that the tools' clients are made of, to stand on their line to SQS."""
    session = boto3.Session()
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", session)
    return session


@pytest.fixture
def letters(operated: Operated) -> list[Submission]:
    """Return three failed jobs, each with a dead letter."""
    jobs = [operated.failed(name) for name in ("one", "two", "three")]
    for one in jobs:
        operated.work_letter(one)
    return jobs


def statuses(operated: Operated, jobs: list[Submission]) -> list[JobStatus]:
    return [row(operated.ledger, one).status for one in jobs]


def test_without_yes_nothing_changes_and_the_command_is_said(
    operated: Operated, letters: list[Submission], capsys: Capture
) -> None:
    assert operated.run("dlq", "redrive", "--all") == 0
    shown = capsys.readouterr().out
    assert "To do it: sluice-ops dlq redrive --all --stage operated --yes" in shown
    assert all(one.key.job_id in shown for one in letters)
    assert set(statuses(operated, letters)) == {JobStatus.FAILED}
    assert operated.queues.work_dlq.depth() == (3, 0)
    assert operated.queues.work.depth() == (0, 0)


def test_a_redriven_job_keeps_its_history_and_completes(
    operated: Operated, simulator: ModuleType, runs: list[str]
) -> None:
    # given a failed job, whose cause is mended
    failed = operated.failed("failed")
    end = row(operated.ledger, failed).ended_at
    assert end is not None
    operated.work_letter(failed)

    # when it is redriven
    assert operated.run("dlq", "redrive", "--job", failed.key.job_id, "--yes") == 0

    # then it is open again, with its failure in its history, and its message is back as it was
    again = row(operated.ledger, failed)
    assert again.status is JobStatus.SUBMITTED
    assert again.history == (EarlierEnd(end, EXHAUSTED),)
    assert operated.queues.work_dlq.depth() == (0, 0)
    [record] = operated.queues.work.deliver()
    assert record["attributes"]["MessageGroupId"] == failed.key.owner
    assert record["attributes"]["AWSTraceHeader"] == TRACE

    # and it completes
    assert handle(simulator, record) == []
    assert runs == [failed.key.job_id]
    assert row(operated.ledger, failed).status is JobStatus.COMPLETED
    operated.queues.work.delete(record)
    assert audit(operated.description).findings == []


def test_a_redriven_job_is_held_from_the_sweeper(operated: Operated, sweeper: ModuleType) -> None:
    # given a job that was opened again, while its message is still among the dead letters
    failed = operated.failed("failed")
    operated.work_letter(failed)
    operated.work_letter(failed)
    assert operated.run("dlq", "redrive", "--job", failed.key.job_id, "--yes") == 0
    operated.work_letter(failed)

    # then no sweep ends it for an hour
    assert sweeper.handler({}, _Context()) == {"read": 1, "ended": 0}
    assert row(operated.ledger, failed).status is JobStatus.SUBMITTED


def test_a_slow_redrive_holds_for_twice_its_time(operated: Operated, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a redrive that takes longer than half an hour
    monkeypatch.setattr("sluice_harness.ops.redrive._SHORTEST_HOLD_MS", 1)
    jobs = [operated.failed(f"job-{n}") for n in range(2)]
    for one in jobs:
        operated.work_letter(one)
    began = now_ms()
    assert operated.run("dlq", "redrive", "--all", "--rate", "1", "--yes") == 0

    # then each is held for twice as long, and the rate was kept
    assert now_ms() - began >= 1000
    for one in jobs:
        record = Access(operated.description).ledger.get(one.key)
        assert record is not None
        assert 4000 <= record.held_until - began <= 10_000


def test_a_request_keeps_its_attributes_and_is_recorded(
    operated: Operated, processor: ModuleType, capsys: Capture
) -> None:
    # given a request that was never recorded
    request = job("request", at=now_ms())
    operated.request_letter(request)

    # when it is redriven
    assert operated.run("dlq", "redrive", "--all", "--queue", "request", "--yes") == 0

    # then the processor records it as if nothing had been
    assert "Of 1 dead letters 1 moved back." in capsys.readouterr().out
    [record] = operated.queues.requests.deliver()
    assert record["messageAttributes"]["requestId"]["stringValue"] == "request-7"
    assert handle(processor, record) == []
    assert row(operated.ledger, request).status is JobStatus.SUBMITTED
    assert operated.queues.work.job_ids() == [request.key.job_id]


def test_a_request_that_the_sweeper_failed_runs_again(
    operated: Operated, sweeper: ModuleType, processor: ModuleType
) -> None:
    # given a request that the sweeper has put on record as FAILED
    request = job("request", at=now_ms())
    operated.request_letter(request)
    sweeper.handler({}, _Context())
    assert row(operated.ledger, request).status is JobStatus.FAILED

    # when it is redriven
    assert operated.run("dlq", "redrive", "--job", request.key.job_id, "--yes") == 0

    # then its work is started
    handle(processor, *operated.queues.requests.deliver())
    assert operated.queues.work.job_ids() == [request.key.job_id]


def test_an_open_job_is_moved_as_it_is(operated: Operated) -> None:
    waiting = operated.submitted("waiting")
    operated.work_letter(waiting)
    assert operated.run("dlq", "redrive", "--all", "--yes") == 0
    assert row(operated.ledger, waiting).history == ()
    assert operated.queues.work.job_ids() == [waiting.key.job_id]


def test_what_must_not_come_back_is_left_and_named(operated: Operated, capsys: Capture) -> None:
    # given dead letters of jobs that have ended well, one of a job without a row, one of nobody, and one that may
    done, _ = operated.completed("done")
    cancelled, unknown, failed = operated.cancelled("cancelled"), job("unknown"), operated.failed("failed")
    for one in (done, cancelled, unknown, failed):
        operated.work_letter(one)
    operated.malformed_letter()

    # when all are redriven
    assert operated.run("dlq", "redrive", "--all", "--yes") == 0

    # then only that one is
    shown = capsys.readouterr().out
    assert shown.count("left: its job has ended") >= 2
    assert "left: its job has no row" in shown
    assert "left: it is malformed" in shown
    assert operated.queues.work.job_ids() == [failed.key.job_id]
    assert operated.queues.work_dlq.depth() == (4, 0)


def test_dead_letters_of_ended_jobs_are_dropped_if_asked_for(operated: Operated, capsys: Capture) -> None:
    done, _ = operated.completed("done")
    operated.work_letter(done)
    assert operated.run("dlq", "redrive", "--all", "--drop-ended") == 0
    assert operated.queues.work_dlq.depth() == (1, 0)
    assert operated.run("dlq", "redrive", "--all", "--drop-ended", "--yes") == 0
    assert "1 deleted, for their jobs have ended" in capsys.readouterr().out
    assert operated.queues.work_dlq.depth() == (0, 0)
    assert operated.queues.work.depth() == (0, 0)


def test_one_job_is_brought_back_and_others_stay(operated: Operated, letters: list[Submission]) -> None:
    assert operated.run("dlq", "redrive", "--job", letters[1].key.job_id, "--yes") == 0
    assert statuses(operated, letters) == [JobStatus.FAILED, JobStatus.SUBMITTED, JobStatus.FAILED]
    assert operated.queues.work.job_ids() == [letters[1].key.job_id]
    assert operated.queues.work_dlq.depth() == (2, 0)


def test_an_id_of_several_owners_needs_its_owner(operated: Operated, capsys: Capture) -> None:
    # given two owners' jobs of the same id
    anns, bens = operated.failed("same"), operated.failed("same", owner=BEN)
    operated.work_letter(anns)
    operated.work_letter(bens)

    # then nobody guesses
    assert operated.run("dlq", "redrive", "--job", anns.key.job_id, "--yes") == 2
    assert BEN in capsys.readouterr().err
    assert operated.run("dlq", "redrive", "--job", anns.key.job_id, "--owner", BEN, "--yes") == 0
    assert statuses(operated, [anns, bens]) == [JobStatus.FAILED, JobStatus.SUBMITTED]


def test_a_job_without_a_dead_letter_cannot_be_brought_back(operated: Operated, capsys: Capture) -> None:
    assert operated.run("dlq", "redrive", "--job", "no-such-job-0000", "--yes") == 1
    assert "dlq list" in capsys.readouterr().err


def test_ctrl_c_stops_between_two_messages(
    operated: Operated, letters: list[Submission], session: boto3.Session, capsys: Capture
) -> None:
    # given an operator who presses Ctrl-C while the first message is on its way
    session.events.register("before-call.sqs.SendMessage", lambda **_: os.kill(os.getpid(), signal.SIGINT))

    # when all are redriven
    assert operated.run("dlq", "redrive", "--all", "--yes") == 1

    # then that one has arrived, the others lie where they were, and the tool says so
    assert "Of 3 dead letters 1 moved back." in capsys.readouterr().out
    assert sorted(statuses(operated, letters)) == [JobStatus.FAILED, JobStatus.FAILED, JobStatus.SUBMITTED]
    assert sum(operated.queues.work_dlq.depth()) == 2
    assert len(operated.queues.work.receive()) == 1


@pytest.mark.parametrize("call", ["SendMessage", "DeleteMessage"])
def test_whatever_fails_the_message_is_in_a_queue_and_a_second_run_goes_on(
    operated: Operated, session: boto3.Session, capsys: Capture, call: str
) -> None:
    # given a connection that breaks between opening the job and the end of the move
    failed = operated.failed("failed")
    operated.work_letter(failed)
    breaks = [True]

    def fail_once(**_: Any) -> None:
        if breaks:
            breaks.clear()
            raise EndpointConnectionError(endpoint_url="http://gone")

    session.events.register(f"before-call.sqs.{call}", fail_once)
    assert operated.run("dlq", "redrive", "--all", "--yes") == 1
    assert "Of 1 dead letters 0 moved back." in capsys.readouterr().out

    # then the job is open, its message still a dead letter, and running it again completes the move
    assert row(operated.ledger, failed).status is JobStatus.SUBMITTED
    assert operated.queues.work_dlq.depth() == (1, 0)
    assert operated.run("dlq", "redrive", "--all", "--yes") == 0
    assert operated.queues.work_dlq.depth() == (0, 0)
    assert set(operated.queues.work.job_ids()) == {failed.key.job_id}
    assert len(row(operated.ledger, failed).history) == 1


@pytest.fixture
def move_task(operated: Operated, session: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> MoveTasks:
    monkeypatch.setattr(move_tasks, "_POLL_S", 0.01)
    return MoveTasks(operated, session)


def test_where_sqs_can_it_moves_the_whole_queue(
    operated: Operated, letters: list[Submission], move_task: MoveTasks, capsys: Capture
) -> None:
    assert operated.run("dlq", "redrive", "--all", "--rate", "30", "--yes") == 0
    [started] = move_task.started
    assert started["MaxNumberOfMessagesPerSecond"] == 30
    assert started["SourceArn"].rpartition(":")[2] == operated.queues.work_dlq.url.rpartition("/")[2]
    assert started["DestinationArn"].rpartition(":")[2] == operated.queues.work.url.rpartition("/")[2]
    assert set(statuses(operated, letters)) == {JobStatus.SUBMITTED}
    assert "Of 3 dead letters 3 moved back." in capsys.readouterr().out
    assert len(operated.queues.work.receive()) == 3


def test_sqs_moves_nothing_where_something_is_to_be_left(
    operated: Operated, letters: list[Submission], move_task: MoveTasks
) -> None:
    operated.malformed_letter()
    assert operated.run("dlq", "redrive", "--all", "--yes") == 0
    assert move_task.started == []
    assert operated.queues.work_dlq.depth() == (1, 0)
    assert len(letters) == len(operated.queues.work.receive())


def test_sqs_moves_nothing_that_came_while_jobs_were_opened(
    operated: Operated, letters: list[Submission], move_task: MoveTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a job whose letter comes after the plan was made, when the planned jobs are open already
    late = operated.failed("late")
    reopen = JobLedger.reopen

    def reopen_last(ledger: JobLedger, *arguments: Any) -> Write:
        if arguments[0].key == letters[-1].key:
            operated.work_letter(late)
        return reopen(ledger, *arguments)

    monkeypatch.setattr(JobLedger, "reopen", reopen_last)

    # When all are brought back, then SQS is not asked, and the late one is left for the next time
    assert operated.run("dlq", "redrive", "--all", "--yes") == 0
    assert move_task.started == []
    assert operated.queues.work_dlq.depth() == (1, 0)
    assert row(operated.ledger, late).status is JobStatus.FAILED
    assert len(operated.queues.work.receive()) == len(letters)


def test_ctrl_c_cancels_sqs_move(
    operated: Operated, letters: list[Submission], move_task: MoveTasks, capsys: Capture
) -> None:
    move_task.on_look = lambda: os.kill(os.getpid(), signal.SIGINT)
    assert operated.run("dlq", "redrive", "--all", "--yes") == 1
    assert move_task.task["Status"] == "CANCELLED"
    shown = capsys.readouterr().out
    assert "Of 3 dead letters 1 moved back." in shown
    assert "run the command again" in shown
    assert operated.queues.work_dlq.depth()[0] == 2
    assert set(statuses(operated, letters)) == {JobStatus.SUBMITTED}


def test_two_moves_of_one_queue_do_not_mix(
    operated: Operated, letters: list[Submission], move_task: MoveTasks, capsys: Capture
) -> None:
    move_task.task = {"Status": "CANCELLING", "ApproximateNumberOfMessagesMoved": 7}
    assert operated.run("dlq", "redrive", "--all", "--yes") == 1
    assert "another move" in capsys.readouterr().err
    assert set(statuses(operated, letters)) == {JobStatus.FAILED}


class _Context:
    """What is left of a function's time."""

    aws_request_id = "request"

    def __init__(self) -> None:
        self._until = time.monotonic() + 60

    def get_remaining_time_in_millis(self) -> int:
        return round(1000 * (self._until - time.monotonic()))


def test_a_later_request_under_a_failed_job_s_token_does_not_open_the_job(operated: Operated) -> None:
    # Given a job that failed for good, and another request under its token that was set aside
    failed = operated.failed("one")
    operated.request_letter(replace(failed, submitted_at=failed.submitted_at + 5))

    assert operated.run("dlq", "redrive", "--all", "--yes") == 0

    # Then the request is on its way, where it will be told that it is a repetition, and the job is as it was
    assert row(operated.ledger, failed).status is JobStatus.FAILED
