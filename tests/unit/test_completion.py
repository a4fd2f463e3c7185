"""The completion function: what the services' events leave of a job, in any order, as often as they come."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from sluice_core.executors import MAX_STARTS, ExecutionState
from sluice_core.jobs import JobError, JobStatus, StoredResult
from sluice_core.ledger import Attempt
from unit.external_stage import CAP, MADE
from unit.lambda_events import ids, job, sqs_record
from unit.state_changes import REFUSED, SECRET, state_change, without_cause
from unit.state_changes import output as output_of
from unit.wire_faults import TRANSIENT, Fault

if TYPE_CHECKING:
    from sluice_core.jobs import Job
    from unit.external_stage import ExternalStage
    from unit.resources import Output

MINE = job("mine", n=1)
CODES = {"stopped": "STOPPED", "timed out": "TIMED_OUT", "overdue": "TIMED_OUT", "failed": "RETRIES_EXHAUSTED"}


def workflow(external: ExternalStage, now_ms: int) -> tuple[Job, StoredResult]:
    """Have a job's workflow run to where its result is stored; only its end is still to be told."""
    [row] = external.started(MINE, executor="stepfunctions")
    attempt = external.claim(row, now_ms, 3_600_000, token=row.start_token)
    external.staging.put(attempt, MADE)
    return row, external.store(attempt)


def container(external: ExternalStage, now_ms: int, lease_ms: int = 35_000) -> tuple[Job, Attempt]:
    """Have a job's container run it."""
    [row] = external.started(MINE)
    return row, external.claim(row, now_ms, lease_ms)


def is_over(external: ExternalStage, executor: str = "ecs") -> bool:
    """Whether nothing is left of a job but its row and its result."""
    row = external.row(MINE)
    left = [row.result.object_key] if row.result else []
    queued = sum(external.queues[executor].depth())
    return (row.executing, external.held(executor), external.bucket.keys(), queued) == ("", set(), left, 0)


# --- how jobs end


def test_a_workflow_that_succeeded_completes_its_job(external: ExternalStage, output: Output, now_ms: int) -> None:
    # Given a workflow whose result is stored
    row, stored = workflow(external, now_ms)

    # When the event comes that it has succeeded
    assert external.complete(external.event(row, "succeeded", "stepfunctions", output=output_of(stored))) == []

    # Then its job is complete, and nothing else is left of it
    ended = external.row(MINE)
    assert (ended.status, ended.result, ended.handle) == (JobStatus.COMPLETED, stored, row.handle)
    assert is_over(external, "stepfunctions")
    assert external.woken() == ["stepfunctions"]
    # and it was measured and reported once
    assert output.values("JobsCompleted") == [1]
    assert output.values("ResultBytes") == [stored.size]
    assert output.values("EndToEnd") == [ended.ended_at - MINE.submitted_at]
    assert output.values("RunTime") == [ended.ended_at - ended.started_at]
    assert output.values("QueueWait") == [ended.started_at - MINE.submitted_at]
    lines = [line for line in output.logs if line["outcome"] == "completed"]
    assert [(line["jobId"], line["executor"]) for line in lines] == [(MINE.key.job_id, "stepfunctions")]


def test_a_container_that_has_completed_its_job_is_closed(
    external: ExternalStage, output: Output, now_ms: int
) -> None:
    # Given a container that put its job's end on record itself
    row, attempt = container(external, now_ms)
    external.ledger.complete([(attempt, external.store(attempt))], now_ms)

    assert external.complete(external.event(row, "succeeded")) == []

    assert external.row(MINE).status is JobStatus.COMPLETED
    assert is_over(external)
    assert output.values("JobsCompleted") == [1]


def test_a_container_that_has_failed_its_job_is_closed(
    external: ExternalStage, output: Output, now_ms: int
) -> None:
    row, attempt = container(external, now_ms)
    external.ledger.fail([(attempt, REFUSED)], now_ms)
    external.store(attempt)  # and left something behind

    assert external.complete(external.event(row, "succeeded")) == []

    assert external.row(MINE).error == REFUSED
    assert is_over(external)
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
    assert is_over(external, "stepfunctions")
    assert output.values("JobsFailed") == [1]
    assert SECRET not in output.text
    assert SECRET not in str(ended.error)


def test_a_workflow_that_was_refused_fails_its_job_with_the_workload_s_words(
    external: ExternalStage, now_ms: int
) -> None:
    # Given a step that could say so only by the execution's error
    row, _ = workflow(external, now_ms)

    assert external.complete(external.event(row, "refused", "stepfunctions")) == []

    assert external.row(MINE).error == REFUSED
    assert is_over(external, "stepfunctions")


def test_what_an_event_leaves_out_is_asked_for(external: ExternalStage, now_ms: int) -> None:
    # Given a workflow's event without its cause, as AWS documents it
    row, _ = workflow(external, now_ms)
    service = external.services["stepfunctions"]
    service.end(row, ExecutionState.FAILED, error=REFUSED)
    event = state_change("stepfunctions", "refused", key=row.key, start_token=row.start_token, handle=row.handle)

    assert external.complete(sqs_record(json.dumps(without_cause(event)))) == []

    assert external.row(MINE).error == REFUSED


@pytest.mark.parametrize("change", ["stopped", "overdue"])
def test_a_container_that_was_stopped_fails_its_job(external: ExternalStage, now_ms: int, change: str) -> None:
    # Given a container that has given its job back, as it does when it is told to stop
    row, attempt = container(external, now_ms)
    external.ledger.release([attempt])

    assert external.complete(external.event(row, change)) == []

    ended = external.row(MINE)
    assert (ended.status, ended.error and ended.error.code) == (JobStatus.FAILED, CODES[change])
    assert is_over(external)


def test_a_job_that_was_cancelled_is_closed_when_its_execution_has_stopped(
    external: ExternalStage, output: Output, now_ms: int
) -> None:
    row, stored = workflow(external, now_ms)
    external.ledger.cancel(MINE.key, now_ms)

    assert external.complete(external.event(row, "cancelled", "stepfunctions")) == []

    # Then its result goes, too, and it counts as neither completed nor failed
    assert stored
    assert external.row(MINE).status is JobStatus.CANCELLED
    assert is_over(external, "stepfunctions")
    assert output.values("JobsCompleted") == output.values("JobsFailed") == []


def test_a_result_that_comes_after_the_job_was_cancelled_is_deleted(external: ExternalStage, now_ms: int) -> None:
    row, stored = workflow(external, now_ms)
    external.ledger.cancel(MINE.key, now_ms)

    event = external.event(row, "succeeded", "stepfunctions", output=output_of(stored))
    assert external.complete(event) == []

    assert external.row(MINE).status is JobStatus.CANCELLED
    assert is_over(external, "stepfunctions")


# --- lost executions


@pytest.mark.parametrize("change", ["crashed", "host lost", "gave up", "not started"])
def test_a_container_that_was_lost_is_started_again(
    external: ExternalStage, output: Output, now_ms: int, change: str
) -> None:
    # Given a container that died, or gave up, and holds its job no more
    row, attempt = container(external, now_ms)
    external.ledger.release([attempt])

    # When its event comes
    assert external.complete(external.event(row, change)) == []

    # Then its slot is free, and a message waits for the next start
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
    row, _ = container(external, now_ms)

    assert external.complete(external.event(row, "host lost")) == []
    external.start()
    assert external.row(MINE).starts == 1

    external.set(MINE, leaseUntil=now_ms - 1)
    external.show()
    external.start()
    assert external.row(MINE).starts == 2


@pytest.mark.parametrize(("change", "code"), [("gave up", "RETRIES_EXHAUSTED"), ("crashed", "WORKER_LOST")])
def test_a_job_is_started_so_often_and_no_more(
    external: ExternalStage, output: Output, now_ms: int, change: str, code: str
) -> None:
    # Given a job that was started as often as a job may be
    row, attempt = container(external, now_ms)
    external.ledger.release([attempt])
    external.set(MINE, starts=MAX_STARTS)

    assert external.complete(external.event(row, change)) == []

    ended = external.row(MINE)
    assert (ended.status, ended.error and ended.error.code) == (JobStatus.FAILED, code)
    assert is_over(external)
    assert output.values("JobsFailed") == [1]
    assert output.values("JobsRetried") == []


def test_a_container_that_ran_nothing_is_started_again(external: ExternalStage) -> None:
    # Given a container that ended well and left its job as it was
    [row] = external.started(MINE)

    assert external.complete(external.event(row, "succeeded")) == []

    assert (external.row(MINE).status, external.row(MINE).executing) == (JobStatus.SUBMITTED, "")
    assert external.queues["ecs"].depth() == (1, 0)


@pytest.mark.parametrize("change", ["succeeded", "stopped", "overdue"])
def test_a_job_whose_lease_holds_is_left_alone(external: ExternalStage, now_ms: int, change: str) -> None:
    # Given a container that may yet be about to end its job
    row, _ = container(external, now_ms)
    before = external.row(MINE)

    assert external.complete(external.event(row, change)) == []

    # Then the reconciler has it
    assert external.row(MINE) == before
    assert external.held() == {row.start_token}
    assert external.woken() == []


def test_a_workflow_that_is_lost_with_its_job_is_not_started_again(external: ExternalStage, now_ms: int) -> None:
    # Given a workflow that has no result, though it has claimed its job
    row, _ = workflow(external, now_ms)

    assert external.complete(external.event(row, "not wanted", "stepfunctions")) == []

    ended = external.row(MINE)
    assert (ended.status, ended.error and ended.error.code) == (JobStatus.FAILED, "WORKER_LOST")
    assert is_over(external, "stepfunctions")


def test_a_lost_job_whose_input_is_gone_ends(external: ExternalStage) -> None:
    [row] = external.started(MINE)
    external.inputs.delete(MINE.key)

    assert external.complete(external.event(row, "crashed")) == []

    ended = external.row(MINE)
    assert (ended.status, ended.error and ended.error.code) == (JobStatus.FAILED, "WORKER_LOST")
    assert is_over(external)


# --- again, late, and of something else


def test_events_that_repeat_change_nothing(external: ExternalStage, output: Output, now_ms: int) -> None:
    row, stored = workflow(external, now_ms)
    event = external.event(row, "succeeded", "stepfunctions", output=output_of(stored))
    external.complete(event, event)
    before = external.row(MINE)

    assert external.complete(event) == []

    assert external.row(MINE) == before
    assert output.values("JobsCompleted") == [1]
    assert output.values("CompletionsDropped") == []
    assert external.bucket.keys() == [stored.object_key]


def test_a_second_loss_of_one_start_is_no_second_restart(external: ExternalStage, output: Output) -> None:
    [row] = external.started(MINE)
    event = external.event(row, "crashed")

    external.complete(event, event)
    external.complete(event)

    assert external.queues["ecs"].depth() == (1, 0)
    assert output.values("JobsRetried") == [1]


def test_an_event_of_an_earlier_start_is_counted_and_dropped(
    external: ExternalStage, output: Output, now_ms: int
) -> None:
    # Given a job that was started again
    [first] = external.started(MINE)
    external.complete(external.event(first, "crashed"))
    external.start()
    second = external.row(MINE)

    # When another event of the first start comes, whatever it says
    for change in ("crashed", "succeeded", "stopped"):
        assert external.complete(external.event(first, change)) == []

    # Then the second is left alone
    assert external.row(MINE) == second
    assert external.held() == {second.start_token}
    assert output.values("CompletionsDropped") == [1, 1, 1]


def test_an_event_of_an_unknown_job_is_counted_and_dropped(external: ExternalStage, output: Output) -> None:
    # Given a slot that such a job still holds
    [token] = external.slots.take("ecs", CAP, 1, 1_790_000_000_000)
    event = state_change("ecs", "succeeded", start_token=token)

    assert external.complete(sqs_record(json.dumps(event))) == []

    assert output.values("CompletionsDropped") == [1]
    assert external.held() == set()


def test_the_end_of_another_execution_of_one_start_is_dropped_and_frees_nothing(
    external: ExternalStage, output: Output, now_ms: int
) -> None:
    # Given a start that two tasks were run for, of which one is on record
    row, _ = container(external, now_ms)
    before = external.row(MINE)
    other = state_change("ecs", "crashed", key=row.key, start_token=row.start_token, handle="arn:another")

    assert external.complete(sqs_record(json.dumps(other))) == []

    assert external.row(MINE) == before
    assert external.held() == {row.start_token}
    assert external.queues["ecs"].depth() == (0, 0)
    assert output.values("CompletionsDropped") == [1]


@pytest.mark.parametrize("executor", ["stepfunctions", "ecs"])
def test_what_is_no_end_changes_nothing(external: ExternalStage, output: Output, executor: str) -> None:
    [row] = external.started(MINE, executor=executor)
    before = external.row(MINE)

    assert external.complete(external.event(row, "running", executor)) == []

    assert external.row(MINE) == before
    assert output.values("CompletionsDropped") == []


@pytest.mark.parametrize("order", list(itertools.permutations(["running", "crashed", "succeeded"])))
def test_events_in_any_order_leave_the_job_right(
    external: ExternalStage, now_ms: int, order: tuple[str, ...]
) -> None:
    # Given a container that completed its job
    row, attempt = container(external, now_ms)
    external.ledger.complete([(attempt, external.store(attempt))], now_ms)

    # When events come in any order, one of which cannot be true
    assert external.complete(*(external.event(row, change) for change in order)) == []

    # Then the ledger is believed
    assert external.row(MINE).status is JobStatus.COMPLETED
    assert is_over(external)


def test_an_event_may_come_before_the_handle_is_on_record(
    external: ExternalStage, monkeypatch: pytest.MonkeyPatch, now_ms: int
) -> None:
    # Given a job that is done and told before its starter has got so far
    external.queue(MINE)
    service = external.services["ecs"]
    start = service.start

    def done_at_once(submissions: list[Any]) -> object:
        started = start(submissions)
        row = external.row(MINE)
        attempt = external.claim(row, now_ms)
        external.ledger.complete([(attempt, external.store(attempt))], now_ms)
        assert external.complete(external.event(row, "succeeded")) == []
        return started

    monkeypatch.setattr(service, "start", done_at_once)
    external.start()

    assert external.row(MINE).handle
    assert is_over(external)


@pytest.mark.parametrize(
    "body", ["{", "[]", "{}", '{"source": "aws.ecs"}', '{"source": "aws.ec2", "detail-type": "x", "detail": {}}']
)
def test_a_malformed_message_is_left_in_the_queue(external: ExternalStage, output: Output, body: str) -> None:
    [row] = external.started(MINE)
    malformed = sqs_record(body)

    assert external.complete(malformed, external.event(row, "crashed")) == ids(malformed)

    assert external.row(MINE).executing == ""
    assert output.values("BatchItemFailures") == [1]
    assert [line["messageId"] for line in output.logs if line["level"] == "ERROR"] == [malformed["messageId"]]


# --- calls that fail


@pytest.mark.parametrize("fault", TRANSIENT)
@pytest.mark.parametrize("operation", ["GetItem", "BatchExecuteStatement"])
def test_an_end_that_could_not_be_settled_is_settled_later(
    external: ExternalStage, output: Output, now_ms: int, operation: str, fault: Fault
) -> None:
    row, stored = workflow(external, now_ms)
    event = external.event(row, "succeeded", "stepfunctions", output=output_of(stored))
    external.wire.strike(fault, operation, times=1)

    assert external.complete(event) == ids(event)
    assert external.complete(event) == []

    assert external.row(MINE).status is JobStatus.COMPLETED
    assert is_over(external, "stepfunctions")
    assert output.values("JobsCompleted") == [1]


@pytest.mark.parametrize("fault", TRANSIENT)
@pytest.mark.parametrize("operation", ["SendMessageBatch", "GetObject", "BatchExecuteStatement"])
def test_a_restart_that_could_not_be_made_is_made_later(
    external: ExternalStage, fault: Fault, operation: str
) -> None:
    [row] = external.started(MINE)
    event = external.event(row, "crashed")
    external.wire.strike(fault, operation, times=1)

    first = external.complete(event)
    assert first in ([], ids(event))
    external.complete(event)
    external.start()

    assert (external.row(MINE).starts, external.held()) == (2, {external.row(MINE).start_token})
    assert sum(external.queues["ecs"].depth()) == 0


@pytest.mark.parametrize("fault", [*TRANSIENT, Fault.DENIED])
@pytest.mark.parametrize("operation", ["DeleteObject", "ListObjectsV2", "Invoke"])
def test_what_the_bucket_and_the_starter_do_keeps_no_job_open(
    external: ExternalStage, output: Output, fault: Fault, operation: str
) -> None:
    [row] = external.started(MINE)
    external.ledger.cancel(MINE.key, 10)
    external.wire.strike(fault, operation)

    assert external.complete(external.event(row, "cancelled")) == []

    assert external.row(MINE).executing == ""
    assert external.held() == set()
    assert [line for line in output.logs if line["message"] in {"not deleted", "starter not woken"}]


@pytest.mark.parametrize("operation", ["GetItem", "BatchExecuteStatement", "UpdateItem"])
def test_what_no_retry_mends_fails_the_invocation(external: ExternalStage, now_ms: int, operation: str) -> None:
    row, stored = workflow(external, now_ms)
    event = external.event(row, "succeeded", "stepfunctions", output=output_of(stored))
    external.wire.strike(Fault.DENIED, operation, times=1)

    with pytest.raises(ClientError, match="AccessDenied"):
        external.complete(event)

    assert external.complete(event) == []
    assert is_over(external, "stepfunctions")


def test_a_slot_that_could_not_be_freed_is_freed_when_the_event_comes_again(
    external: ExternalStage, now_ms: int
) -> None:
    row, attempt = container(external, now_ms)
    external.ledger.complete([(attempt, external.store(attempt))], now_ms)
    event = external.event(row, "succeeded")
    external.wire.strike(Fault.SERVER_ERROR, "UpdateItem", times=1)

    with pytest.raises(ClientError, match="InternalServerError"):
        external.complete(event)
    assert external.held() == {row.start_token}
    assert external.complete(event) == []

    assert external.held() == set()
    assert external.woken() == ["ecs"]


def test_errors_that_repeat_the_payload_stay_out_of_logs(
    external: ExternalStage, output: Output, now_ms: int
) -> None:
    row, _ = workflow(external, now_ms)
    external.ledger.fail(
        [(Attempt(MINE.key, row.start_token), JobError("BAD_STATION", f"no station {SECRET}"))], now_ms
    )

    external.complete(external.event(row, "failed", "stepfunctions"))

    assert SECRET not in output.text
