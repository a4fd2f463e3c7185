"""The starter takes no more than there is room for, starts it once, and leaves nothing behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sluice_core.executors import CANCELLED, ExecutionState, Refused, Retry
from sluice_core.jobs import NOT_STARTED, JobStatus
from unit.external_stage import CAP
from unit.lambda_events import job

if TYPE_CHECKING:
    from sluice_core.jobs import Submission
    from unit.external_stage import ExternalStage
    from unit.resources import Output

MINE = job("mine", n=1)
SECRET = "hunter2-secret"


def jobs(number: int) -> list[Submission]:
    return [job(f"job-{n}", n=n) for n in range(number)]


# --- a start


def test_a_job_that_waits_is_started(external: ExternalStage, output: Output, now_ms: int) -> None:
    # Given a job on record that waits for its executor
    external.queue(MINE)

    # When the starter is woken
    external.start()

    # Then the service was asked once, and the row says who has it, as which start, and by which handle
    [execution] = external.services["ecs"].of(MINE)
    row = external.row(MINE)
    assert (row.executor, row.executing, row.handle) == ("ecs", "ecs", execution.handle)
    assert (row.status, row.start_token, row.starts) == (JobStatus.SUBMITTED, execution.start_token, 1)
    assert row.executing_since is not None
    assert row.executing_since >= now_ms
    # and the start holds a slot, the input lies where the work looks for it, and nothing is left in the queue
    assert external.held() == {row.start_token}
    assert external.inputs.get(MINE.key) == MINE
    assert external.queues["ecs"].depth() == (0, 0)
    # and it was measured and reported once
    assert output.values("JobsStarted") == [1]
    assert len(output.values("WorkAgeOfFirstAttempt")) == 1
    [line] = output.logs
    assert (line["outcome"], line["jobId"], line["executor"]) == ("started", MINE.key.job_id, "ecs")
    assert line["handle"] == execution.handle


def test_no_more_are_taken_than_there_is_room_for(external: ExternalStage) -> None:
    # Given more jobs than may run at once
    waiting = jobs(CAP + 2)
    external.queue(*waiting)

    # When the starter is woken twice
    external.start()
    external.start()

    # Then as many run as may, and the others were not even received
    assert len(external.services["ecs"].executions) == len(external.held()) == CAP
    assert external.queues["ecs"].depth() == (2, 0)
    left = external.queues["ecs"].deliver()
    assert [one["attributes"]["ApproximateReceiveCount"] for one in left] == ["1", "1"]


def test_without_room_nothing_is_received(external: ExternalStage) -> None:
    external.started(*jobs(CAP))
    external.queue(MINE)
    before = len(external.wire.made("ReceiveMessage"))

    external.start()

    assert len(external.wire.made("ReceiveMessage")) == before


def test_what_was_freed_is_used(external: ExternalStage) -> None:
    # Given a full executor, and a job that waits
    first, *_ = external.started(*jobs(CAP))
    external.queue(MINE)

    # When one of its slots is freed
    external.slots.free("ecs", [first.start_token])
    external.start()

    # Then the job that waited has it
    assert external.row(MINE).start_token in external.held()
    assert len(external.held()) == CAP


def test_an_empty_queue_takes_no_slot(external: ExternalStage, output: Output) -> None:
    external.start()

    assert external.held() == set()
    assert output.text == ""


def test_a_wake_is_for_one_executor_and_the_schedule_for_all(external: ExternalStage) -> None:
    # Given a job for each executor
    other = job("other")
    external.queue(MINE)
    external.queue(other, executor="stepfunctions")

    # When one of them is woken, then the other's waits
    external.start("ecs")
    assert external.services["stepfunctions"].executions == {}

    # When the minute is over, then it is started too, with a slot of its own
    external.start(None)
    assert external.row(other).executing == "stepfunctions"
    assert len(external.held("stepfunctions")) == len(external.held("ecs")) == 1


def test_without_time_nothing_is_taken(external: ExternalStage) -> None:
    external.queue(MINE)

    external.start("ecs", 20_000)

    assert external.queues["ecs"].depth() == (1, 0)
    assert external.held() == set()


def test_it_goes_on_while_there_are_jobs_and_room_and_time(
    external: ExternalStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given room for many, and more jobs than one call receives
    monkeypatch.setattr("unit.external_stage.CAP", 50)
    external.queue(*jobs(25))

    # When time is over after two looks, then the rest is left to the next
    external.start("ecs", 60_000, 60_000, 60_000, 60_000, 15_000)
    assert len(external.services["ecs"].executions) == 20

    external.start()
    assert len(external.services["ecs"].executions) == 25


def test_the_messages_are_hidden_for_as_long_as_it_may_live(external: ExternalStage) -> None:
    external.queue(MINE)

    external.start("ecs", 47_000)

    call, *_ = external.wire.made("ReceiveMessage")
    assert call.parameters["VisibilityTimeout"] == 52


# --- starts that are not made


def test_a_start_that_is_put_off_is_made_later_as_the_same(external: ExternalStage, output: Output) -> None:
    # Given a service that is busy
    external.services["ecs"].answers.append(Retry("ThrottlingException"))
    external.queue(MINE, job("other"))

    # When the starter is woken
    external.start()

    # Then the start has begun and keeps its slot, its message is gone, and nothing else is pulled
    row = external.row(MINE)
    assert (row.handle, row.executing, row.starts) == ("", "ecs", 1)
    assert row.start_token in external.held()
    assert external.queues["ecs"].depth() == (0, 0)
    assert output.values("ExecutionsNotStarted") == [1]
    assert len(external.wire.made("ReceiveMessage")) == 1

    # When its minute comes, then nobody is in the midst of it any more, and it is made
    external.start(None)
    assert external.services["ecs"].of(MINE) == []
    external.age(MINE)
    external.start(None)
    [execution] = external.services["ecs"].of(MINE)
    again = external.row(MINE)
    assert (again.handle, again.start_token, again.starts) == (execution.handle, row.start_token, 1)
    *_, call = external.wire.made("Start")
    assert call.parameters["job"].is_again
    assert output.values("JobsStarted") == [1, 1]
    assert len(external.held()) == 2


def test_starts_that_are_put_off_keep_no_other_job_of_theirs_waiting_for_ever(external: ExternalStage) -> None:
    # Given an executor whose slots are all held by starts that its service put off
    external.services["ecs"].answers.extend([Retry("RESOURCE:CPU")] * CAP)
    waiting = jobs(CAP)
    external.queue(*waiting)
    external.start()
    assert len(external.held()) == CAP

    # When the service has room again, then they are made: they need no other slot
    external.age(*waiting)
    external.start(None)
    assert all(external.row(one).handle for one in waiting)


def test_a_service_that_is_busy_still_is_asked_for_ten_at_most(
    external: ExternalStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unit.external_stage.CAP", 50)
    external.services["ecs"].answers.extend([Retry("ThrottlingException")] * 30)
    waiting = jobs(12)
    external.queue(*waiting)
    external.start()
    external.start()
    external.age(*waiting)
    before = len(external.wire.made("Start"))

    external.start(None)

    assert len(external.wire.made("Start")) == before + 10


def test_a_job_whose_input_is_gone_before_it_was_started_ends(external: ExternalStage, output: Output) -> None:
    # Given a start that was put off, and whose input somebody deleted
    external.services["ecs"].answers.append(Retry("ThrottlingException"))
    external.queue(MINE)
    external.start()
    external.inputs.delete(MINE.key)
    external.age(MINE)

    external.start(None)

    # Then it can never be made
    row = external.row(MINE)
    assert (row.status, row.error and row.error.code, row.executing) == (JobStatus.FAILED, "NOT_STARTED", "")
    assert output.values("JobsFailedNotStarted") == [1]


def test_a_job_that_has_ended_is_not_resumed(external: ExternalStage) -> None:
    external.services["ecs"].answers.append(Retry("ThrottlingException"))
    external.queue(MINE)
    external.start()
    external.ledger.cancel(MINE.key, 10)
    external.age(MINE)

    external.start(None)

    assert external.services["ecs"].executions == {}


def test_a_job_that_is_refused_ends(external: ExternalStage, output: Output) -> None:
    # Given a service that will never take a job
    external.services["ecs"].answers.append(Refused(NOT_STARTED))
    other = job("other")
    external.queue(MINE, other)

    external.start()

    # Then that job has failed, is over in all respects, and has kept no other from being started
    row = external.row(MINE)
    assert (row.status, row.error, row.executing) == (JobStatus.FAILED, NOT_STARTED, "")
    assert external.row(other).handle
    assert [one.key for one in external.set_aside()] == [MINE.key]
    assert external.held() == {external.row(other).start_token}
    assert external.bucket.keys() == [f"inputs/{other.key.owner}/{other.key.job_id}.json"]
    assert external.queues["ecs"].depth() == (0, 0)
    assert output.values("JobsFailed") == output.values("JobsFailedNotStarted") == [1]
    assert output.values("JobsStarted") == [1]


# --- cancelled meanwhile


def test_a_job_that_is_cancelled_while_it_is_started_is_stopped(
    external: ExternalStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an owner who cancels while the service is asked: there was no handle to be found then
    external.queue(MINE)
    service = external.services["ecs"]
    start = service.start

    def cancelled_meanwhile(submissions: list[Submission]) -> object:
        started = start(submissions)
        assert external.ledger.cancel(MINE.key, 10).is_written
        return started

    monkeypatch.setattr(service, "start", cancelled_meanwhile)
    external.start()

    # Then what was started is stopped
    [execution] = service.of(MINE)
    assert service.stopped == [(execution.handle, CANCELLED)]
    assert execution.state is ExecutionState.STOPPED
    assert external.row(MINE).handle == execution.handle
    assert external.queues["ecs"].depth() == (0, 0)


def test_a_job_that_is_done_before_its_handle_is_on_record_is_not_stopped(
    external: ExternalStage, monkeypatch: pytest.MonkeyPatch, now_ms: int
) -> None:
    external.queue(MINE)
    service = external.services["ecs"]
    start = service.start

    def done_at_once(submissions: list[Submission]) -> object:
        started = start(submissions)
        attempt = external.claim(external.row(MINE), now_ms)
        external.ledger.complete([(attempt, external.store(attempt))], now_ms)
        return started

    monkeypatch.setattr(service, "start", done_at_once)
    external.start()

    assert service.stopped == []
    assert external.row(MINE).handle
