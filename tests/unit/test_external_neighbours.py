"""What the functions of every stage do where there are external executors: submit, cancel, run, sweep."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from sluice_core.executors import CANCELLED, MAX_STARTS, Retry
from sluice_core.jobs import JobKey, JobStatus
from sluice_core.work_queue import read_work_message
from unit.lambda_events import ANN, Context, ask, handle, ids, job, request_record
from unit.wire_faults import Fault

if TYPE_CHECKING:
    from types import ModuleType

    from sluice_core.jobs import Job
    from unit.conftest import Dispatch, Load
    from unit.external_stage import ExternalStage
    from unit.resources import Output, WorkQueue

MINE = job("mine", n=1)
WORKLOADS = ",".join(
    f"{name}=unit.workloads_for_tests:Scripted" for name in ("scripted", "by-workflow", "by-container")
)
EXECUTORS = "by-workflow=stepfunctions,by-container=ecs"


def request(job_type: str, job_id: str = "mine") -> dict[str, Any]:
    return request_record(job_id, {"jobType": job_type, "parameters": {"n": 1}})


def on_record(external: ExternalStage, job_id: str = "mine") -> Job:
    found = external.ledger.get(JobKey(ANN, job_id.ljust(16, "-")))
    assert found is not None
    return found


# --- the processor


@pytest.fixture
def processor(load: Load, external: ExternalStage, request_queue: WorkQueue, work_queue: WorkQueue) -> ModuleType:
    settings = external.settings() | {"WORKLOADS": WORKLOADS, "QUEUE_URL": request_queue.url}
    return load("processor", **settings, WORK_QUEUE_URL=work_queue.url, EXECUTORS=EXECUTORS)


def test_each_job_goes_to_its_type_s_executor(
    processor: ModuleType, external: ExternalStage, work_queue: WorkQueue
) -> None:
    # Given requests of three types in one batch
    types = {"one": "scripted", "two": "by-workflow", "three": "by-container", "four": "by-container"}

    assert handle(processor, *(request(job_type, job_id) for job_id, job_type in types.items())) == []

    # Then each waits in its executor's queue, and its row says which that is
    assert work_queue.job_ids() == ["one".ljust(16, "-")]
    assert external.queues["stepfunctions"].job_ids() == ["two".ljust(16, "-")]
    assert external.queues["ecs"].job_ids() == sorted(one.ljust(16, "-") for one in ("three", "four"))
    assert [on_record(external, one).executor for one in types] == ["lambda", "stepfunctions", "ecs", "ecs"]
    # and each external executor's starter was woken once
    assert external.woken() == ["ecs", "stepfunctions"]


def test_jobs_of_lambda_wake_nobody(processor: ModuleType, external: ExternalStage) -> None:
    assert handle(processor, request("scripted")) == []

    assert external.woken() == []


def test_messages_carry_the_job_whole(processor: ModuleType, external: ExternalStage) -> None:
    handle(processor, request("by-container"))

    [message] = external.queues["ecs"].receive()
    assert message["Attributes"]["MessageGroupId"] == ANN
    submission = read_work_message(message["Body"])
    assert submission == replace(MINE, job_type="by-container")
    assert submission.start_token == ""


@pytest.mark.parametrize("fault", [Fault.NO_ANSWER, Fault.DENIED])
def test_a_wake_that_is_lost_loses_no_job(
    processor: ModuleType, external: ExternalStage, output: Output, fault: Fault
) -> None:
    external.wire.strike(fault, "Invoke")

    assert handle(processor, request("by-container")) == []

    assert external.queues["ecs"].depth() == (1, 0)
    assert [line["executor"] for line in output.logs if line["message"] == "starter not woken"] == ["ecs"]


@pytest.mark.parametrize("fault", [Fault.NO_ANSWER, Fault.LOST_ANSWER])
def test_one_executor_s_queue_that_fails_keeps_no_other_waiting(
    processor: ModuleType, external: ExternalStage, work_queue: WorkQueue, fault: Fault
) -> None:
    # Given a queue that does not answer once
    records = [request("by-container", "one"), request("scripted", "two")]
    external.wire.strike(fault, "SendMessageBatch", times=1)

    # When the requests come, then the other's job is on its way, and this one's comes back
    assert handle(processor, *records) == ids(records[0])
    assert work_queue.job_ids() == ["two".ljust(16, "-")]
    assert handle(processor, records[0]) == []
    assert set(external.queues["ecs"].job_ids()) == {"one".ljust(16, "-")}


def test_a_type_that_is_switched_between_deliveries_stays_with_its_executor(
    processor: ModuleType, external: ExternalStage, work_queue: WorkQueue
) -> None:
    # Given a job that was recorded for `lambda` by an invocation which died before it queued it
    external.ledger.record([replace(MINE, job_type="by-container", executor="lambda")])

    # When its request comes again, and its type has been given to another executor
    assert handle(processor, request("by-container")) == []

    # Then it goes where it may already be
    assert work_queue.job_ids() == [MINE.key.job_id]
    assert external.queues["ecs"].depth() == (0, 0)


def test_an_executor_that_the_stage_has_no_more_gives_its_jobs_to_the_next(
    processor: ModuleType, external: ExternalStage
) -> None:
    external.ledger.record([replace(MINE, job_type="by-container", executor="batch")])

    assert handle(processor, request("by-container")) == []

    assert external.queues["ecs"].job_ids() == [MINE.key.job_id]


def test_a_request_of_a_job_that_was_started_is_only_acknowledged(
    processor: ModuleType, external: ExternalStage
) -> None:
    # Given a job that its executor has, though nobody has claimed it yet
    mine = replace(MINE, job_type="by-container")
    external.started(mine)

    assert handle(processor, request("by-container")) == []

    assert external.queues["ecs"].depth() == (0, 0)
    assert on_record(external).starts == 1


# --- the batch simulator


@pytest.fixture
def simulator(load: Load, external: ExternalStage, work_queue: WorkQueue) -> ModuleType:
    return load("batch_simulator", **external.settings() | {"QUEUE_URL": work_queue.url})


def test_a_claim_says_who_has_the_job(simulator: ModuleType, external: ExternalStage, dispatch: Dispatch) -> None:
    external.ledger.record([MINE])

    handle(simulator, *dispatch(MINE))

    assert (external.row(MINE).executor, external.row(MINE).handle) == ("lambda", Context.aws_request_id)


@pytest.mark.parametrize("is_claimed", [True, False])
def test_a_job_that_another_executor_has_is_left_to_it(
    simulator: ModuleType,
    external: ExternalStage,
    dispatch: Dispatch,
    *,
    runs: list[str],
    now_ms: int,
    is_claimed: bool,
) -> None:
    # Given a job with a message here, too, that a container was started for
    [row] = external.started(MINE)
    if is_claimed:
        external.claim(row, now_ms)
    before = external.row(MINE)

    # When its message comes, then it is acknowledged, and the container goes on
    assert handle(simulator, *dispatch(MINE)) == []
    assert runs == []
    assert external.row(MINE) == before


def test_a_job_that_ran_here_first_starts_nothing_there(
    simulator: ModuleType, external: ExternalStage, dispatch: Dispatch, runs: list[str]
) -> None:
    external.queue(MINE)
    handle(simulator, *dispatch(MINE))

    external.start()

    assert runs == [MINE.key.job_id]
    assert external.services["ecs"].executions == {}
    assert external.queues["ecs"].depth() == (0, 0)


# --- cancel


@pytest.fixture
def cancel_job(load: Load, external: ExternalStage) -> ModuleType:
    return load("cancel_job", **external.settings(), REQUEST_RETENTION_SECONDS="345600")


@pytest.mark.parametrize("executor", ["ecs", "stepfunctions"])
def test_cancel_stops_the_execution(
    cancel_job: ModuleType, external: ExternalStage, output: Output, executor: str
) -> None:
    [row] = external.started(MINE, executor=executor)

    status, view, _ = ask(cancel_job, MINE.key.job_id)

    assert (status, view["status"]) == (200, "CANCELLED")
    assert external.services[executor].stopped == [(row.handle, CANCELLED)]
    assert external.row(MINE).executing == executor  # until its event says that it has stopped
    assert output.values("JobsCancelled") == [1]


@pytest.mark.parametrize("fault", [Fault.NO_ANSWER, Fault.DENIED])
def test_a_job_is_cancelled_though_its_execution_cannot_be_stopped(
    cancel_job: ModuleType, external: ExternalStage, output: Output, fault: Fault
) -> None:
    external.started(MINE)
    external.wire.strike(fault, "Stop")

    status, _, _ = ask(cancel_job, MINE.key.job_id)

    assert status == 200
    assert external.row(MINE).status is JobStatus.CANCELLED
    assert [line["jobId"] for line in output.logs if line["message"] == "not stopped"] == [MINE.key.job_id]


def test_a_job_without_an_execution_is_only_cancelled(cancel_job: ModuleType, external: ExternalStage) -> None:
    # Given one job that waits, and one whose execution is over
    other = job("other")
    [row] = external.started(other)
    external.lose(row)
    external.queue(MINE)

    for one in (MINE, other):
        status, _, _ = ask(cancel_job, one.key.job_id)
        assert status == 200

    assert external.services["ecs"].stopped == []


def test_a_job_that_has_ended_is_not_stopped(cancel_job: ModuleType, external: ExternalStage, now_ms: int) -> None:
    [row] = external.started(MINE)
    attempt = external.claim(row, now_ms)
    external.ledger.complete([(attempt, external.store(attempt))], now_ms)

    status, _, _ = ask(cancel_job, MINE.key.job_id)

    assert status == 409
    assert external.services["ecs"].stopped == []


# --- the sweeper


@pytest.fixture
def sweeper(
    load: Load,
    external: ExternalStage,
    work_dlq: WorkQueue,
    request_dlq: WorkQueue,
    monkeypatch: pytest.MonkeyPatch,
) -> ModuleType:
    monkeypatch.setattr("sluice_core.dead_letters._WAIT_S", 0)
    return load("sweeper", **external.settings(), WORK_DLQ_URL=work_dlq.url, REQUEST_DLQ_URL=request_dlq.url)


def sweep(sweeper: ModuleType) -> tuple[int, int]:
    answer = sweeper.handler({}, Context())
    return answer["read"], answer["ended"]


def set_aside(external: ExternalStage, mine: Any = MINE) -> None:
    """Put a job's message among the dead letters of its executor's queue."""
    queue = external.dead_letters["ecs"]
    external.queues["ecs"], before = queue, external.queues["ecs"]
    external.send(mine)
    external.queues["ecs"] = before


def test_a_job_that_was_never_started_ends(sweeper: ModuleType, external: ExternalStage, output: Output) -> None:
    external.ledger.record([MINE])
    set_aside(external)

    assert sweep(sweeper) == (1, 1)

    ended = external.row(MINE)
    assert (ended.status, ended.error and ended.error.code) == (JobStatus.FAILED, "WORKER_LOST")
    assert output.values("JobsSwept") == [1]


@pytest.mark.parametrize("has_handle", [True, False])
def test_a_job_that_is_executing_is_the_reconciler_s(
    sweeper: ModuleType, external: ExternalStage, *, has_handle: bool
) -> None:
    # Given a job with a message among the dead letters that an executor has all the same
    if not has_handle:
        external.services["ecs"].answers.append(Retry("ThrottlingException"))
    external.queue(MINE)
    external.start()
    set_aside(external)
    before = external.row(MINE)

    assert sweep(sweeper) == (1, 0)
    assert external.row(MINE) == before


def test_a_job_that_is_to_be_started_again_by_another_message_is_let_alone(
    sweeper: ModuleType, external: ExternalStage
) -> None:
    # Given a job whose next start waits, and a message of its first start among the dead letters
    [row] = external.started(MINE)
    external.complete(external.event(row, "crashed"))
    set_aside(external)

    assert sweep(sweeper) == (1, 0)
    external.start()
    assert external.row(MINE).starts == 2


def test_a_job_whose_next_start_was_set_aside_ends(sweeper: ModuleType, external: ExternalStage) -> None:
    [row] = external.started(MINE)
    external.lose(row)
    set_aside(external, replace(MINE, start_token=row.start_token, is_again=True))

    assert sweep(sweeper) == (1, 1)
    assert external.row(MINE).status is JobStatus.FAILED


def test_a_job_that_was_brought_back_and_set_aside_again_ends(
    sweeper: ModuleType, external: ExternalStage, now_ms: int
) -> None:
    # Given a job of a failed restart, brought back by an operator, whose message is a dead letter again
    [row] = external.started(MINE)
    external.lose(row)
    set_aside(external, replace(MINE, start_token=row.start_token, is_again=True))
    assert sweep(sweeper) == (1, 1)
    external.ledger.reopen(external.row(MINE), now_ms - 10, now_ms - 5)
    set_aside(external)

    # Then it ends again: no message will begin it
    assert sweep(sweeper) == (2, 1)
    assert len(external.row(MINE).history) == 1


def test_a_second_letter_of_a_job_that_was_brought_back_says_nothing(
    sweeper: ModuleType, external: ExternalStage, now_ms: int
) -> None:
    # Given a job that was given up and set aside twice, and of which one letter was redriven an hour ago
    row, attempt = external.container(MINE, now_ms)
    external.ledger.release([attempt])
    external.set_numbers(MINE, starts=MAX_STARTS)
    external.wire.strike(Fault.LOST_ANSWER, "SendMessageBatch", times=1)
    for _ in range(2):
        external.complete(external.event(row, "crashed"))
    assert external.dead_letters["ecs"].depth() == (2, 0)
    external.ledger.reopen(external.row(MINE), now_ms - 10, now_ms - 5)
    external.send(MINE)

    # Then what waits in a long queue is not ended for the sake of the other
    assert sweep(sweeper) == (2, 0)
    external.start()
    assert external.row(MINE).starts == 1
