"""The completion function: what the services' events leave of a job."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from sluice_core.executors import MAX_STARTS, ExecutionState
from sluice_core.jobs import JobStatus
from unit.lambda_events import job, sqs_record
from unit.state_changes import REFUSED, SECRET, state_change, without_cause
from unit.state_changes import output as output_of
from unit.wire_faults import Fault

if TYPE_CHECKING:
    from unit.external_stage import ExternalStage
    from unit.resources import Output

MINE = job("mine", n=1)
# How ECS tells of those that were lost.
WHY = {
    "crashed": "exit code 137; EssentialContainerExited; Essential container in task exited",
    "host lost": "InfrastructureHealth; Infrastructure health check failed",
    "gave up": "exit code 75",
    "not started": "TaskFailedToStart; CannotPullContainerError: ref pull failed",
}
CODES = {"stopped": "STOPPED", "timed out": "TIMED_OUT", "overdue": "TIMED_OUT", "failed": "RETRIES_EXHAUSTED"}


# --- how jobs end


def test_a_workflow_that_succeeded_completes_its_job(external: ExternalStage, output: Output, now_ms: int) -> None:
    # Given a workflow whose result is stored
    row, stored = external.workflow(MINE, now_ms)

    # When the event comes that it has succeeded
    assert external.complete(external.event(row, "succeeded", "stepfunctions", output=output_of(stored))) == []

    # Then its job is complete, and nothing else is left of it
    ended = external.row(MINE)
    assert (ended.status, ended.result, ended.handle) == (JobStatus.COMPLETED, stored, row.handle)
    assert external.is_over(MINE, "stepfunctions")
    assert external.woken() == ["stepfunctions"]
    # and it was measured and reported once
    assert output.values("JobsCompleted") == [1]
    assert output.values("ResultBytes") == [stored.size]
    assert ended.started_at is not None
    assert ended.ended_at is not None
    assert output.values("ExternalEndToEnd") == [ended.ended_at - MINE.submitted_at]
    assert output.values("RunTime") == [ended.ended_at - ended.started_at]
    assert output.values("QueueWait") == [ended.started_at - MINE.submitted_at]
    lines = [line for line in output.logs if line["outcome"] == "completed"]
    assert [(line["jobId"], line["executor"]) for line in lines] == [(MINE.key.job_id, "stepfunctions")]


def test_a_container_that_has_completed_its_job_is_closed(
    external: ExternalStage, output: Output, now_ms: int
) -> None:
    # Given a container that put its job's end on record itself
    row, attempt = external.container(MINE, now_ms)
    external.ledger.complete([(attempt, external.store(attempt))], now_ms)

    assert external.complete(external.event(row, "succeeded")) == []

    assert external.row(MINE).status is JobStatus.COMPLETED
    assert external.is_over(MINE)
    assert output.values("JobsCompleted") == [1]


def test_a_container_that_has_failed_its_job_is_closed(
    external: ExternalStage, output: Output, now_ms: int
) -> None:
    row, attempt = external.container(MINE, now_ms)
    external.ledger.fail([(attempt, REFUSED)], now_ms)
    external.store(attempt)  # and left something behind

    assert external.complete(external.event(row, "succeeded")) == []

    assert external.row(MINE).error == REFUSED
    assert external.is_over(MINE)
    assert output.values("JobsFailed") == output.values("JobsFailedPermanent") == [1]
    assert output.values("RunTime") == []


@pytest.mark.parametrize("is_claimed", [True, False])
@pytest.mark.parametrize("change", ["failed", "timed out", "stopped", "overdue"])
def test_a_workflow_that_ended_otherwise_fails_its_job(
    external: ExternalStage, output: Output, now_ms: int, change: str, *, is_claimed: bool
) -> None:
    # Given a workflow that has claimed its job, or has not got so far
    [row] = external.started(MINE, executor="stepfunctions")
    if is_claimed:
        external.claim(row, now_ms, 3_600_000, token=row.start_token)

    assert external.complete(external.event(row, change, "stepfunctions")) == []

    ended = external.row(MINE)
    assert (ended.status, ended.error and ended.error.code) == (JobStatus.FAILED, CODES[change])
    assert external.is_over(MINE, "stepfunctions")
    assert output.values("JobsFailed") == [1]
    assert SECRET not in output.text
    assert SECRET not in str(ended.error)


def test_a_workflow_that_was_refused_fails_its_job_with_the_workload_s_words(
    external: ExternalStage, now_ms: int
) -> None:
    # Given a step that could say so only by the execution's error
    row, _ = external.workflow(MINE, now_ms)

    assert external.complete(external.event(row, "refused", "stepfunctions")) == []

    assert external.row(MINE).error == REFUSED
    assert external.is_over(MINE, "stepfunctions")


def test_what_an_event_leaves_out_is_asked_for(external: ExternalStage, now_ms: int) -> None:
    # Given a workflow's event without its cause, as AWS documents it
    row, _ = external.workflow(MINE, now_ms)
    service = external.services["stepfunctions"]
    service.end(row, ExecutionState.FAILED, error=REFUSED)
    event = state_change("stepfunctions", "refused", key=row.key, start_token=row.start_token, handle=row.handle)

    assert external.complete(sqs_record(json.dumps(without_cause(event)))) == []

    assert external.row(MINE).error == REFUSED


@pytest.mark.parametrize("is_known", [True, False])
def test_an_event_that_its_service_has_yet_to_hear_of_comes_again(
    external: ExternalStage, now_ms: int, *, is_known: bool
) -> None:
    # Given a workflow's event without its cause, and a service that says that it runs still, or knows it not yet
    row, _ = external.workflow(MINE, now_ms)
    event = state_change("stepfunctions", "refused", key=row.key, start_token=row.start_token, handle=row.handle)
    record = sqs_record(json.dumps(without_cause(event)))
    executions = external.services["stepfunctions"].executions
    known = executions.pop(row.start_token)
    if is_known:
        executions[row.start_token] = known

    before = external.row(MINE)

    assert external.complete(record) == [record["messageId"]]

    assert external.row(MINE) == before


@pytest.mark.parametrize("change", ["stopped", "overdue"])
def test_a_container_that_was_stopped_fails_its_job(external: ExternalStage, now_ms: int, change: str) -> None:
    # Given a container that has given its job back, as it does when it is told to stop
    row, attempt = external.container(MINE, now_ms)
    external.ledger.release([attempt])

    assert external.complete(external.event(row, change)) == []

    ended = external.row(MINE)
    assert (ended.status, ended.error and ended.error.code) == (JobStatus.FAILED, CODES[change])
    assert external.is_over(MINE)


def test_a_job_that_was_cancelled_is_closed_when_its_execution_has_stopped(
    external: ExternalStage, output: Output, now_ms: int
) -> None:
    row, stored = external.workflow(MINE, now_ms)
    external.ledger.cancel(MINE.key, now_ms)

    assert external.complete(external.event(row, "cancelled", "stepfunctions")) == []

    # Then its result goes, too, and it counts as neither completed nor failed
    assert stored
    assert external.row(MINE).status is JobStatus.CANCELLED
    assert external.is_over(MINE, "stepfunctions")
    assert output.values("JobsCompleted") == output.values("JobsFailed") == []


def test_a_result_that_comes_after_the_job_was_cancelled_is_deleted(external: ExternalStage, now_ms: int) -> None:
    row, stored = external.workflow(MINE, now_ms)
    external.ledger.cancel(MINE.key, now_ms)

    event = external.event(row, "succeeded", "stepfunctions", output=output_of(stored))
    assert external.complete(event) == []

    assert external.row(MINE).status is JobStatus.CANCELLED
    assert external.is_over(MINE, "stepfunctions")


# --- lost executions


@pytest.mark.parametrize("change", ["crashed", "host lost", "gave up", "not started"])
def test_a_container_that_was_lost_is_started_again(
    external: ExternalStage, output: Output, now_ms: int, change: str
) -> None:
    # Given a container that died, or gave up, and holds its job no more
    row, attempt = external.container(MINE, now_ms)
    external.ledger.release([attempt])

    # When its event comes
    assert external.complete(external.event(row, change)) == []

    # Then an operator is told how, its slot is free, and a message waits for the next start
    [line] = [one for one in output.logs if one["outcome"] in ("attempt lost", "attempt given back")]
    assert WHY[change] in line["why"]
    assert (line["outcome"] == "attempt given back") == (change == "gave up")
    lost = external.row(MINE)
    assert (lost.status, lost.executing, external.held()) == (JobStatus.SUBMITTED, "", set())
    assert output.values("JobsRetried") == [1]
    assert external.woken() == ["ecs"]

    # When the starter comes, then the next start has a token of its own
    external.start()
    again = external.row(MINE)
    assert (again.starts, again.executing) == (2, "ecs")
    assert external.held() == {again.start_token} != {row.start_token}
    assert external.inputs.get(MINE.key).parameters == MINE.parameters


def test_a_container_that_was_lost_with_its_lease_is_started_again_after_that(
    external: ExternalStage, now_ms: int
) -> None:
    row, _ = external.container(MINE, now_ms)

    assert external.complete(external.event(row, "host lost")) == []
    external.start()
    assert external.row(MINE).starts == 1

    external.set_numbers(MINE, leaseUntil=now_ms - 1)
    external.show()
    external.start()
    assert external.row(MINE).starts == 2


@pytest.mark.parametrize(("change", "code"), [("gave up", "RETRIES_EXHAUSTED"), ("crashed", "WORKER_LOST")])
def test_a_job_is_started_so_often_and_no_more(
    external: ExternalStage, output: Output, now_ms: int, change: str, code: str
) -> None:
    # Given a job that was started as often as a job may be
    row, attempt = external.container(MINE, now_ms)
    external.ledger.release([attempt])
    external.set_numbers(MINE, starts=MAX_STARTS)

    assert external.complete(external.event(row, change)) == []

    ended = external.row(MINE)
    assert (ended.status, ended.error and ended.error.code) == (JobStatus.FAILED, code)
    assert external.is_over(MINE)
    assert output.values("JobsFailed") == [1]
    assert output.values("JobsRetried") == []


# --- jobs that were given up


def given_up(external: ExternalStage, now_ms: int) -> dict[str, Any]:
    """Have a job's last container crash, and return the record of that."""
    row, attempt = external.container(MINE, now_ms)
    external.ledger.release([attempt])
    external.set_numbers(MINE, starts=MAX_STARTS)
    return external.event(row, "crashed")


def test_a_job_that_was_given_up_can_be_brought_back(external: ExternalStage, now_ms: int) -> None:
    # Given a job that was started as often as it may be, in vain
    external.complete(given_up(external, now_ms))

    # Then what it asked for lies on its executor's dead-letter queue, once
    [letter] = external.set_aside()
    assert letter == MINE

    # When an operator opens it again and sends that back, then it is started anew
    external.ledger.reopen(external.row(MINE), now_ms, now_ms + 3_600_000)
    external.send(letter)
    external.start()
    assert external.row(MINE).starts == 1
    assert external.inputs.get(MINE.key).parameters == MINE.parameters


@pytest.mark.parametrize("fault", [Fault.NO_ANSWER, Fault.LOST_ANSWER])
def test_a_job_that_could_not_be_set_aside_is_not_closed_yet(
    external: ExternalStage, now_ms: int, fault: Fault
) -> None:
    # Given a job that is given up, while its dead-letter queue does not answer
    event = given_up(external, now_ms)
    external.wire.strike(fault, "SendMessageBatch", times=1)

    # When its event comes, then it has failed, and its input is there until it has been set aside
    assert external.complete(event) == [event["messageId"]]
    assert external.row(MINE).status is JobStatus.FAILED
    assert external.row(MINE).executing == "ecs"

    assert external.complete(event) == []
    # and does so once for each try that reached the queue
    assert [one.key for one in external.set_aside()] == [MINE.key] * (1 + (fault is Fault.LOST_ANSWER))
    assert external.is_over(MINE)


def test_a_job_that_was_set_aside_is_closed_though_its_input_is_gone(external: ExternalStage, now_ms: int) -> None:
    # Given a function that died after it had set a job aside and deleted its input
    event = given_up(external, now_ms)
    external.wire.strike_change(Fault.NO_ANSWER, "close", times=1)
    assert external.complete(event) == [event["messageId"]]

    assert external.complete(event) == []

    assert len(external.set_aside()) == 1
    assert external.is_over(MINE)


@pytest.mark.parametrize("change", ["stopped", "overdue", "refused", "cancelled"])
def test_what_ended_for_a_reason_of_its_own_is_not_set_aside(
    external: ExternalStage, now_ms: int, change: str
) -> None:
    row, attempt = external.container(MINE, now_ms)
    if change == "refused":
        external.ledger.fail([(attempt, REFUSED)], now_ms)
    elif change == "cancelled":
        external.ledger.cancel(MINE.key, now_ms)
    else:
        external.ledger.release([attempt])

    assert external.complete(external.event(row, "succeeded" if change == "refused" else change)) == []

    assert external.is_over(MINE)
    assert external.set_aside() == []


def test_a_container_that_ran_nothing_is_started_again(external: ExternalStage) -> None:
    # Given a container that ended well and left its job as it was
    [row] = external.started(MINE)

    assert external.complete(external.event(row, "succeeded")) == []

    assert (external.row(MINE).status, external.row(MINE).executing) == (JobStatus.SUBMITTED, "")
    assert external.queues["ecs"].depth() == (1, 0)


@pytest.mark.parametrize("change", ["succeeded", "stopped", "overdue"])
def test_a_job_whose_lease_holds_is_left_alone(external: ExternalStage, now_ms: int, change: str) -> None:
    # Given a container that may yet be about to end its job
    row, _ = external.container(MINE, now_ms)
    before = external.row(MINE)

    assert external.complete(external.event(row, change)) == []

    # Then the reconciler has it
    assert external.row(MINE) == before
    assert external.held() == {row.start_token}
    assert external.woken() == []


def test_a_workflow_that_is_lost_with_its_job_is_not_started_again(external: ExternalStage, now_ms: int) -> None:
    # Given a workflow that has no result, though it has claimed its job
    row, _ = external.workflow(MINE, now_ms)

    assert external.complete(external.event(row, "not wanted", "stepfunctions")) == []

    ended = external.row(MINE)
    assert (ended.status, ended.error and ended.error.code) == (JobStatus.FAILED, "WORKER_LOST")
    assert external.is_over(MINE, "stepfunctions")


def test_a_lost_job_whose_input_is_gone_ends(external: ExternalStage) -> None:
    [row] = external.started(MINE)
    external.inputs.delete(MINE.key)

    assert external.complete(external.event(row, "crashed")) == []

    ended = external.row(MINE)
    assert (ended.status, ended.error and ended.error.code) == (JobStatus.FAILED, "WORKER_LOST")
    assert external.is_over(MINE)


def test_a_lost_job_whose_input_nobody_can_read_ends(external: ExternalStage) -> None:
    [row] = external.started(MINE)
    external.bucket.s3.put_object(
        Bucket=external.bucket.name, Key=f"inputs/{MINE.key.owner}/{MINE.key.job_id}.json", Body=b"{}"
    )

    assert external.complete(external.event(row, "crashed")) == []

    assert external.row(MINE).status is JobStatus.FAILED
    assert external.is_over(MINE)


def test_an_input_that_may_not_be_read_is_not_taken_for_gone(external: ExternalStage) -> None:
    # Given a lost grant
    [row] = external.started(MINE)
    external.wire.strike(Fault.DENIED, "GetObject")

    with pytest.raises(ClientError, match="AccessDenied"):
        external.complete(external.event(row, "crashed"))

    assert external.row(MINE).status is JobStatus.SUBMITTED
