"""The completion function's events: each comes once at least, in any order, and late; or something fails."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from sluice_core.inputs import InputStore
from sluice_core.jobs import JobError, JobStatus
from sluice_core.ledger import Attempt
from unit.external_stage import CAP
from unit.lambda_events import ids, job, sqs_record
from unit.state_changes import SECRET, state_change
from unit.state_changes import output as output_of
from unit.wire_faults import Fault

if TYPE_CHECKING:
    from sluice_core.jobs import JobKey
    from unit.external_stage import ExternalStage
    from unit.resources import Output

MINE = job("mine", n=1)
# To the code under test all transient faults are one; to the world, whether a call was acted upon.
ACTED_OR_NOT = [Fault.NO_ANSWER, Fault.LOST_ANSWER]


# --- again, late, and of something else


def test_events_that_repeat_change_nothing(external: ExternalStage, output: Output, now_ms: int) -> None:
    row, stored = external.workflow(MINE, now_ms)
    event = external.event(row, "succeeded", "stepfunctions", output=output_of(stored))
    external.complete(event, event)
    before = external.row(MINE)

    assert external.complete(event) == []

    assert external.row(MINE) == before
    assert output.values("JobsCompleted") == [1]
    assert output.values("CompletionsDropped") == []
    assert external.bucket.keys() == [stored.object_key]


def test_two_that_settle_one_end_at_once_count_it_once(
    external: ExternalStage, output: Output, monkeypatch: pytest.MonkeyPatch, now_ms: int
) -> None:
    # Given an event that comes once more while it is being settled
    row, attempt = external.container(MINE, now_ms)
    external.ledger.complete([(attempt, external.store(attempt))], now_ms)
    event = external.event(row, "succeeded")
    delete = InputStore.delete

    def meanwhile(inputs: InputStore, key: JobKey) -> None:
        monkeypatch.setattr(InputStore, "delete", delete)
        assert external.complete(event) == []
        delete(inputs, key)

    monkeypatch.setattr(InputStore, "delete", meanwhile)
    assert external.complete(event) == []

    assert output.values("JobsCompleted") == [1]
    assert external.is_over(MINE)


def test_a_second_loss_of_one_start_is_no_second_restart(external: ExternalStage, output: Output) -> None:
    [row] = external.started(MINE)
    event = external.event(row, "crashed")

    external.complete(event, event)
    external.complete(event)

    assert external.queues["ecs"].depth() == (1, 0)
    assert output.values("JobsRetried") == [1]


def test_an_event_of_an_earlier_start_is_counted_and_dropped(external: ExternalStage, output: Output) -> None:
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
    row, _ = external.container(MINE, now_ms)
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
    row, attempt = external.container(MINE, now_ms)
    external.ledger.complete([(attempt, external.store(attempt))], now_ms)

    # When events come in any order, one of which cannot be true
    assert external.complete(*(external.event(row, change) for change in order)) == []

    # Then the ledger is believed
    assert external.row(MINE).status is JobStatus.COMPLETED
    assert external.is_over(MINE)


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
    assert external.is_over(MINE)


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


@pytest.mark.parametrize("fault", ACTED_OR_NOT)
@pytest.mark.parametrize("operation", ["GetItem", "BatchExecuteStatement"])
def test_an_end_that_could_not_be_settled_is_settled_later(
    external: ExternalStage, output: Output, now_ms: int, operation: str, fault: Fault
) -> None:
    row, stored = external.workflow(MINE, now_ms)
    event = external.event(row, "succeeded", "stepfunctions", output=output_of(stored))
    external.wire.strike(fault, operation, times=1)

    assert external.complete(event) == ids(event)
    assert external.complete(event) == []

    assert external.row(MINE).status is JobStatus.COMPLETED
    assert external.is_over(MINE, "stepfunctions")
    assert output.values("JobsCompleted") == [1]


@pytest.mark.parametrize("fault", ACTED_OR_NOT)
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


@pytest.mark.parametrize("fault", [Fault.NO_ANSWER, Fault.DENIED])
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
    row, stored = external.workflow(MINE, now_ms)
    event = external.event(row, "succeeded", "stepfunctions", output=output_of(stored))
    external.wire.strike(Fault.DENIED, operation, times=1)

    with pytest.raises(ClientError, match="AccessDenied"):
        external.complete(event)

    assert external.complete(event) == []
    assert external.is_over(MINE, "stepfunctions")


def test_a_slot_that_could_not_be_freed_is_freed_when_the_event_comes_again(
    external: ExternalStage, now_ms: int
) -> None:
    row, attempt = external.container(MINE, now_ms)
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
    row, _ = external.workflow(MINE, now_ms)
    external.ledger.fail(
        [(Attempt(MINE.key, row.start_token), JobError("BAD_STATION", f"no station {SECRET}"))], now_ms
    )

    external.complete(external.event(row, "failed", "stepfunctions"))

    assert SECRET not in output.text
