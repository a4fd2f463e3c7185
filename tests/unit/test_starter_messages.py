"""The starter's messages: each comes once at least, in any order, and of each job one start is made."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError
from sluice_core.executors import Refused, Retry
from sluice_core.jobs import NOT_STARTED, JobStatus
from sluice_core.ledger import Attempt
from unit.lambda_events import BEN, MAX_RECEIVES, job
from unit.wire_faults import Fault

if TYPE_CHECKING:
    from sluice_core.jobs import Submission
    from unit.external_stage import ExternalStage
    from unit.resources import Output

MINE = job("mine", n=1)
SECRET = "hunter2-secret"


def jobs(number: int) -> list[Submission]:
    return [job(f"job-{n}", n=n) for n in range(number)]


# --- messages that come again


def test_two_messages_of_one_job_start_it_once(external: ExternalStage) -> None:
    # Given a job whose message was sent twice, as when an answer of SQS was lost
    external.queue(MINE)
    external.send(MINE)

    external.start()

    assert len(external.services["ecs"].of(MINE)) == len(external.held()) == 1
    assert external.queues["ecs"].depth() == (0, 0)


def test_of_two_messages_in_one_batch_the_later_start_s_counts(external: ExternalStage) -> None:
    # Given a lost job that waits for another start, and its first message, which comes once more before that one's
    [row] = external.started(MINE)
    external.lose(row)
    external.send(MINE, replace(MINE, start_token=row.start_token, is_again=True))

    external.start()

    # Then the job is started again, and both messages are done with
    assert (external.row(MINE).starts, len(external.held())) == (2, 1)
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
    external.set_numbers(MINE, leaseUntil=now_ms - 1)
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


def test_a_restart_that_waits_is_never_set_aside(external: ExternalStage, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a message that is received more often than a message may be; a new one's delay is over at once
    monkeypatch.setattr(external.function("starter"), "_LONGEST_DELAY_S", 0)
    [row] = external.started(MINE)
    external.send(replace(MINE, start_token=row.start_token, is_again=True))

    for _ in range(MAX_RECEIVES + 2):
        external.start()
        external.show()

    assert sum(external.dead_letters["ecs"].depth()) == 0
    external.lose(row)
    external.start()
    assert external.row(MINE).starts == 2


def test_a_restart_that_meets_a_lease_comes_back_after_it(
    external: ExternalStage, output: Output, now_ms: int
) -> None:
    # Given a container that is taken for lost, whose lease lasts, and the message of the next start, once more
    row, _ = external.container(MINE, now_ms)
    external.lose(row)
    external.send(replace(MINE, start_token=row.start_token, is_again=True))
    ages = len(output.values("WorkAgeOfFirstAttempt"))

    # When it was received as often as it may be
    for _ in range(MAX_RECEIVES):
        external.start()
        external.show()

    # Then a new one takes its place when the lease is over, and that is no job's first receive
    [sent] = external.wire.made("SendMessageBatch")[-1].parameters["Entries"]
    assert 30 <= sent["DelaySeconds"] <= 40
    assert sum(external.dead_letters["ecs"].depth()) == 0
    assert len(output.values("WorkAgeOfFirstAttempt")) == ages


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


# --- calls that fail


@pytest.mark.parametrize("fault", [Fault.NO_ANSWER, Fault.LOST_ANSWER])
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
@pytest.mark.parametrize("fault", [Fault.NO_ANSWER, Fault.LOST_ANSWER, Fault.REPEATED])
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


@pytest.mark.parametrize("operation", ["PutObject", "BatchExecuteStatement"])
def test_a_store_that_does_not_answer_is_let_alone_for_a_while(external: ExternalStage, operation: str) -> None:
    external.queue(MINE)
    external.wire.strike(Fault.NO_ANSWER, operation, times=1)

    external.start()

    # Then the message was put back, and not taken again at once
    assert len(external.wire.made("ReceiveMessage")) == 1
    assert external.queues["ecs"].depth() == (1, 0)


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
