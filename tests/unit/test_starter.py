"""The starter takes no more than there is room for, starts it once, and leaves nothing behind."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError
from sluice_core.executors import CANCELLED, ExecutionState, Refused, Retry
from sluice_core.jobs import JobError, JobStatus
from sluice_core.ledger import Attempt
from unit.external_stage import CAP
from unit.lambda_events import BEN, MAX_RECEIVES, job
from unit.wire_faults import TRANSIENT, Fault

if TYPE_CHECKING:
    from sluice_core.jobs import Submission
    from unit.external_stage import ExternalStage
    from unit.resources import Output

MINE = job("mine", n=1)
SECRET = "hunter2-secret"
NOT_STARTED = JobError("NOT_STARTED", "The work could not be started; submit it again later.")


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


# --- messages that come again


def test_two_messages_of_one_job_start_it_once(external: ExternalStage) -> None:
    # Given a job whose message was sent twice, as when an answer of SQS was lost
    external.queue(MINE)
    external.send(MINE)

    external.start()

    assert len(external.services["ecs"].of(MINE)) == len(external.held()) == 1
    assert external.queues["ecs"].depth() == (0, 0)


def test_a_message_of_a_job_that_was_started_is_dropped(external: ExternalStage, output: Output) -> None:
    # Given a job that was started, and whose message comes once more
    [row] = external.started(MINE)
    external.send(MINE)

    # When the starter meets it, then nothing changes, and the slot that it took for it is free again
    external.start()
    assert external.row(MINE) == row
    assert external.held() == {row.start_token}
    assert len(external.services["ecs"].of(MINE)) == 1
    assert external.queues["ecs"].depth() == (0, 0)
    assert output.values("JobsStarted") == [1]


@pytest.mark.parametrize("end", ["cancelled", "failed"])
def test_a_job_that_has_ended_is_not_started(external: ExternalStage, end: str) -> None:
    # Given a job that ended before it was started
    external.queue(MINE)
    if end == "cancelled":
        external.ledger.cancel(MINE.key, 10)
    else:
        external.ledger.abort(MINE.key, NOT_STARTED, 10)

    external.start()

    # Then its message goes, and nothing of it stays
    assert external.services["ecs"].executions == {}
    assert external.queues["ecs"].depth() == (0, 0)
    assert external.held() == set()
    assert external.bucket.keys() == []


def test_a_message_without_a_job_becomes_a_dead_letter(external: ExternalStage) -> None:
    external.send(MINE)

    for _ in range(MAX_RECEIVES + 1):
        external.start()

    assert external.services["ecs"].executions == {}
    assert external.held() == set()
    assert external.dead_letters["ecs"].job_ids() == [MINE.key.job_id]


def test_a_malformed_message_keeps_no_other_from_being_started(external: ExternalStage, output: Output) -> None:
    # Given a message that nobody here wrote, beside a good one
    queue = external.queues["ecs"]
    queue.sqs.send_message(QueueUrl=queue.url, MessageBody=f'{{"owner": "{SECRET}"}}')
    external.queue(MINE)

    external.start()

    # Then the good one is started, and the other comes again until it is set aside
    assert external.row(MINE).handle
    assert external.dead_letters["ecs"].depth() == (1, 0)
    assert len(external.held()) == 1
    assert {line["message"] for line in output.logs if line["level"] == "ERROR"} == {"malformed message"}
    assert SECRET not in output.text


def test_a_restart_waits_for_the_lease_of_a_container_that_may_live(external: ExternalStage, now_ms: int) -> None:
    # Given a job whose start was lost, while its container's lease holds
    [row] = external.started(MINE)
    external.claim(row, now_ms, 35_000)
    external.send(replace(MINE, start_token=row.start_token, is_again=True))
    external.lose(row)

    # When the starter meets its message, then it hides that until soon after the lease
    external.start()
    assert external.row(MINE).start_token == row.start_token
    assert external.held() == set()
    [call] = external.wire.made("ChangeMessageVisibilityBatch")
    [entry] = call.parameters["Entries"]
    assert 30 <= entry["VisibilityTimeout"] <= 41

    # When the lease has lapsed, then it makes the next start
    external.set(MINE, leaseUntil=now_ms - 1)
    external.show()
    external.start()
    again = external.row(MINE)
    assert (again.starts, again.status) == (2, JobStatus.SUBMITTED)
    assert again.start_token != row.start_token
    assert external.held() == {again.start_token}


def test_a_restart_that_comes_before_the_start_before_it_is_closed_waits(external: ExternalStage) -> None:
    # Given a start that is lost, whose successor's message is there before the settler has closed it
    [row] = external.started(MINE)
    external.send(replace(MINE, start_token=row.start_token, is_again=True))

    # When the starter meets it, then it leaves it
    external.start()
    assert external.row(MINE) == row
    assert sum(external.queues["ecs"].depth()) == 1

    # When that is closed, then it makes the next start
    external.lose(row)
    external.show()
    external.start()
    assert external.row(MINE).starts == 2


def test_a_restart_that_waits_is_never_set_aside(external: ExternalStage) -> None:
    [row] = external.started(MINE)
    external.send(replace(MINE, start_token=row.start_token, is_again=True))

    for _ in range(MAX_RECEIVES + 2):
        external.start()
        external.show()

    assert sum(external.dead_letters["ecs"].depth()) == 0
    external.lose(row)
    external.start()
    assert external.row(MINE).starts == 2


def test_a_message_of_an_earlier_start_is_dropped_while_the_next_is_on_its_way(external: ExternalStage) -> None:
    # Given a job whose first start was lost; its first message comes once more before that of the next start
    [row] = external.started(MINE)
    external.lose(row)
    external.send(MINE)

    external.start()

    # Then it starts nothing, though the row has no execution at present
    assert external.row(MINE).starts == 1
    assert external.queues["ecs"].depth() == (0, 0)


def test_a_job_that_an_operator_has_brought_back_is_started_anew(external: ExternalStage, now_ms: int) -> None:
    # Given a job that failed after a start, and was brought back with the message of its restart
    [row] = external.started(MINE)
    external.ledger.abort(MINE.key, NOT_STARTED, 10)
    external.lose(row)
    external.ledger.reopen(external.row(MINE), now_ms, now_ms + 3_600_000)
    external.send(replace(MINE, start_token=row.start_token, is_again=True))

    external.start()

    # Then that start's token is worth nothing any more, and the job starts all the same
    again = external.row(MINE)
    assert (again.starts, again.executing) == (1, "ecs")
    assert again.start_token not in {"", row.start_token}
    assert external.queues["ecs"].depth() == (0, 0)


# --- switched from one executor to another


def test_a_job_with_messages_for_two_executors_runs_once(external: ExternalStage) -> None:
    # Given a job whose type was switched between two deliveries of its request
    external.queue(MINE)
    external.send(MINE, executor="stepfunctions")

    # When both starters come, then one of them has it
    external.start("stepfunctions")
    external.start("ecs")
    assert external.row(MINE).executing == "stepfunctions"
    assert external.services["ecs"].executions == {}
    assert external.held("ecs") == set()
    assert external.queues["ecs"].depth() == (0, 0)


def test_a_job_that_a_lambda_has_is_left_to_it(external: ExternalStage, now_ms: int) -> None:
    # Given a job that waits here, too, while a batch simulator runs it
    external.queue(MINE)
    attempt = Attempt(MINE.key, "lambda")
    external.ledger.claim([attempt], now_ms, now_ms + 35_000, "request-1")

    # When the starter meets it, then it waits
    external.start()
    assert external.services["ecs"].executions == {}
    assert external.queues["ecs"].depth() == (0, 1)

    # When it was done, then its message goes
    external.ledger.complete([(attempt, external.store(attempt))], now_ms)
    external.show()
    external.start()
    assert external.services["ecs"].executions == {}
    assert external.queues["ecs"].depth() == (0, 0)
    assert external.held() == set()


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
    assert (row.status, row.error and row.error.code, row.executing) == (JobStatus.FAILED, "WORKER_LOST", "")
    assert output.values("JobsFailedWorkerLost") == [1]


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


# --- calls that fail


@pytest.mark.parametrize("fault", TRANSIENT)
@pytest.mark.parametrize("operation", ["PutObject", "DeleteMessageBatch", "Start"])
def test_a_call_that_fails_once_costs_no_job_and_no_slot(
    external: ExternalStage, operation: str, fault: Fault
) -> None:
    external.queue(MINE)
    external.wire.strike(fault, operation, times=1)

    external.start()
    external.show()
    external.age(MINE)
    external.start(None)

    # Then it was started once, as one start
    [execution] = external.services["ecs"].of(MINE)
    row = external.row(MINE)
    assert (row.handle, row.starts) == (execution.handle, 1)
    assert external.held() == {row.start_token}
    assert external.queues["ecs"].depth() == (0, 0)


@pytest.mark.parametrize("change", ["begin", "note"])
@pytest.mark.parametrize("fault", [*TRANSIENT, Fault.REPEATED])
def test_a_change_whose_answer_is_lost_is_found_to_be_done(
    external: ExternalStage, output: Output, change: str, fault: Fault
) -> None:
    external.queue(MINE)
    external.wire.strike_change(fault, change, times=1)

    external.start()
    external.show()
    external.age(MINE)
    external.start(None)

    [execution] = external.services["ecs"].of(MINE)
    row = external.row(MINE)
    assert (row.handle, row.starts) == (execution.handle, 1)
    assert sum(external.queues["ecs"].depth()) == 0
    # A begin that is not known to be on record keeps its slot; the reconciler finds that it is nobody's.
    assert row.start_token in external.held()
    assert len(output.values("JobsStarted")) <= 1


@pytest.mark.parametrize("operation", ["UpdateItem", "ReceiveMessage", "PutObject", "BatchExecuteStatement"])
def test_what_no_retry_mends_fails_the_invocation(external: ExternalStage, operation: str) -> None:
    external.queue(MINE)
    external.wire.strike(Fault.DENIED, operation)

    with pytest.raises(ClientError, match="AccessDenied"):
        external.start()

    assert external.services["ecs"].executions == {}
    assert sum(external.queues["ecs"].depth()) == 1


def test_a_queue_that_cannot_be_read_keeps_no_slot(external: ExternalStage) -> None:
    external.wire.strike(Fault.DENIED, "ReceiveMessage", times=1)

    with pytest.raises(ClientError, match="AccessDenied"):
        external.start()

    assert external.held() == set()


def test_payloads_stay_out_of_logs(external: ExternalStage, output: Output) -> None:
    external.services["ecs"].answers.extend([Retry("ThrottlingException"), Refused(NOT_STARTED)])
    external.queue(job("one", secret=SECRET), job("two", secret=SECRET), job("three", owner=BEN, secret=SECRET))

    external.start()

    assert SECRET not in output.text
    assert {line["outcome"] for line in output.logs} == {"put off", "failed", "started"}
    assert output.emf
