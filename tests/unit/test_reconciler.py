"""The reconciler asks about what nobody has told, stops what nobody wants, and leaves the rest alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError
from sluice_core.executors import CANCELLED, TIMED_OUT, ExecutionState, Retry
from sluice_core.jobs import JobStatus, now_ms
from unit.external_stage import CAP, TIMEOUT_S
from unit.lambda_events import job
from unit.wire_faults import Fault

if TYPE_CHECKING:
    from sluice_core.jobs import Job
    from unit.external_stage import ExternalStage
    from unit.resources import Output

MINE = job("mine", n=1)
MINUTE, HOUR = 60, 3_600
AT_WORK = 35_000


def begun(external: ExternalStage, *, executor: str = "ecs", ago_s: int = 3 * MINUTE) -> Job:
    """Have a job started so long ago, and return its row."""
    [row] = external.started(MINE, executor=executor)
    external.age(MINE, seconds=ago_s)
    external.services[executor].begin(row, now_ms() - ago_s * 1000)
    return external.row(MINE)


# --- ends that nobody has told


def test_a_workflow_whose_event_never_came_is_settled(
    external: ExternalStage, output: Output, now_ms: int
) -> None:
    # Given a workflow that has succeeded without a word
    row = begun(external, executor="stepfunctions")
    stored = external.store(external.claim(row, now_ms, HOUR * 1000, token=row.start_token))
    external.services["stepfunctions"].end(row, ExecutionState.SUCCEEDED, result=stored)

    # When the reconciler comes
    assert external.reconcile() == (1, 1)

    # Then its job is complete, as if it had been told
    ended = external.row(MINE)
    assert (ended.status, ended.result, ended.executing) == (JobStatus.COMPLETED, stored, "")
    assert external.held("stepfunctions") == set()
    assert external.woken() == ["stepfunctions"]
    assert output.values("CompletionsReconciled") == output.values("JobsCompleted") == [1]
    assert external.reconcile() == (0, 0)


def test_a_container_whose_event_never_came_is_settled(external: ExternalStage, now_ms: int) -> None:
    row = begun(external)
    attempt = external.claim(row, now_ms - 10 * MINUTE * 1000)
    external.ledger.complete([(attempt, external.store(attempt))], now_ms - 5 * MINUTE * 1000)
    external.services["ecs"].end(row, ExecutionState.SUCCEEDED)

    assert external.reconcile() == (1, 1)

    assert external.row(MINE).executing == ""
    assert external.held() == set()


@pytest.mark.parametrize("is_known", [True, False])
def test_a_container_that_died_without_a_word_is_started_again(
    external: ExternalStage, output: Output, now_ms: int, *, is_known: bool
) -> None:
    # Given a container whose lease has lapsed, and a service that says that it is lost, or nothing any more
    row = begun(external)
    external.claim(row, now_ms - 3 * MINUTE * 1000)
    if is_known:
        external.services["ecs"].end(row, ExecutionState.LOST)
    else:
        external.services["ecs"].executions.clear()

    assert external.reconcile() == (1, 1)
    external.start()

    assert external.row(MINE).starts == 2
    assert output.values("JobsRetried") == output.values("CompletionsReconciled") == [1]


def test_what_was_made_a_moment_ago_is_not_given_up(external: ExternalStage, now_ms: int) -> None:
    # Given a start that was put off for an hour, and a service that has just made it and knows it nowhere else yet
    external.services["ecs"].answers.append(Retry("RESOURCE:MEMORY"))
    external.queue(MINE)
    external.start()
    external.age(MINE, seconds=HOUR)
    external.start(None)
    external.services["ecs"].executions.clear()

    # Then it is given the time to become known
    assert external.row(MINE).handle
    assert external.reconcile() == (0, 0)
    assert external.row(MINE).executing == "ecs"

    external.set_numbers(MINE, notedAt=now_ms - 3 * MINUTE * 1000)
    assert external.reconcile() == (1, 1)


def test_executions_that_run_are_counted_by_executor(external: ExternalStage, output: Output) -> None:
    external.started(MINE, job("other"))

    external.reconcile()

    running = {one["Executor"]: one["ExecutionsRunning"] for one in output.emf if "ExecutionsRunning" in one}
    assert running == {"ecs": [2], "stepfunctions": [0]}


# --- what is let alone


@pytest.mark.parametrize("executor", ["ecs", "stepfunctions"])
def test_nobody_is_asked_about_what_has_just_begun(external: ExternalStage, executor: str) -> None:
    begun(external, executor=executor, ago_s=MINUTE)
    external.services[executor].executions.clear()  # a service may not know it yet

    assert external.reconcile() == (0, 0)
    assert external.row(MINE).executing == executor


def test_nobody_is_asked_about_a_container_that_renews_its_lease(external: ExternalStage, now_ms: int) -> None:
    row = begun(external, ago_s=10 * HOUR)
    external.claim(row, now_ms, AT_WORK)

    assert external.reconcile() == (0, 0)


@pytest.mark.parametrize("executor", ["ecs", "stepfunctions"])
def test_what_runs_is_left_to_run(external: ExternalStage, executor: str) -> None:
    row = begun(external, executor=executor, ago_s=TIMEOUT_S)

    assert external.reconcile() == (1, 0)

    assert external.row(MINE) == row
    assert external.services[executor].stopped == []
    assert external.held(executor) == {row.start_token}


def test_a_job_that_has_just_ended_has_its_event_on_the_way(external: ExternalStage, now_ms: int) -> None:
    # Given a container that has completed its job and is about to exit
    row = begun(external)
    attempt = external.claim(row, now_ms)
    external.ledger.complete([(attempt, external.store(attempt))], now_ms)

    assert external.reconcile() == (0, 0)
    assert external.services["ecs"].stopped == []


# --- what is stopped


def test_what_runs_on_after_its_job_was_cancelled_is_stopped(external: ExternalStage, now_ms: int) -> None:
    # Given a job that was cancelled minutes ago, and an execution that nobody could stop
    row = begun(external, executor="stepfunctions", ago_s=10 * MINUTE)
    external.ledger.cancel(MINE.key, now_ms - 3 * MINUTE * 1000)

    # When the reconciler comes, then it stops it, and closes it the next time
    assert external.reconcile() == (1, 0)
    assert external.services["stepfunctions"].stopped == [(row.handle, CANCELLED)]
    assert external.reconcile() == (1, 1)
    assert (external.row(MINE).status, external.row(MINE).executing) == (JobStatus.CANCELLED, "")


@pytest.mark.parametrize("is_claimed", [True, False])
@pytest.mark.parametrize("executor", ["ecs", "stepfunctions"])
def test_what_runs_past_its_time_is_stopped_and_its_job_fails(
    external: ExternalStage, now_ms: int, executor: str, *, is_claimed: bool
) -> None:
    # Given an execution that should long have ended itself, whether it has claimed its job or not
    row = begun(external, executor=executor, ago_s=TIMEOUT_S + 6 * MINUTE)
    if is_claimed:
        token = row.start_token if executor == "stepfunctions" else "container"
        external.claim(row, now_ms - HOUR * 1000, token=token)

    assert external.reconcile() == (1, 0)
    assert external.services[executor].stopped == [(row.handle, TIMED_OUT)]
    assert external.reconcile() == (1, 1)

    ended = external.row(MINE)
    assert (ended.status, ended.error and ended.error.code) == (JobStatus.FAILED, "TIMED_OUT")


def test_what_waits_for_its_host_waits_as_long_as_that_takes(external: ExternalStage) -> None:
    # Given a container that its service could not place for days
    row = begun(external, ago_s=50 * HOUR)
    external.services["ecs"].begin(row, None)

    assert external.reconcile() == (1, 0)

    assert external.services["ecs"].stopped == []
    assert external.row(MINE) == row


def test_the_time_of_a_container_counts_from_when_it_began_its_work(external: ExternalStage, now_ms: int) -> None:
    # Given a container that waited for long for its host, and has not renewed its lease for a while
    row = begun(external, ago_s=TIMEOUT_S + HOUR)
    external.services["ecs"].begin(row, now_ms - 10 * MINUTE * 1000)
    external.claim(row, now_ms - 10 * MINUTE * 1000)

    assert external.reconcile() == (1, 0)
    assert external.services["ecs"].stopped == []


@pytest.mark.parametrize("fault", [Fault.NO_ANSWER, Fault.DENIED])
def test_what_cannot_be_stopped_now_is_stopped_later(external: ExternalStage, now_ms: int, fault: Fault) -> None:
    row = begun(external, ago_s=10 * MINUTE)
    external.ledger.cancel(MINE.key, now_ms - 3 * MINUTE * 1000)
    external.wire.strike(fault, "Stop", times=1)

    external.reconcile()
    external.reconcile()

    assert (row.handle, CANCELLED) in external.services["ecs"].stopped


# --- starts without a handle


def test_a_start_that_is_still_tried_is_left_to_the_starter(external: ExternalStage) -> None:
    external.services["ecs"].answers.append(Retry("RESOURCE:MEMORY"))
    external.queue(MINE)
    external.start()
    external.age(MINE, seconds=11 * HOUR)

    assert external.reconcile() == (0, 0)
    assert external.row(MINE).executing == "ecs"


def test_a_start_that_could_not_be_made_for_too_long_gives_way_to_another(external: ExternalStage) -> None:
    external.services["ecs"].answers.append(Retry("RESOURCE:MEMORY"))
    external.queue(MINE)
    external.start()
    external.age(MINE, seconds=13 * HOUR)

    assert external.reconcile() == (0, 1)
    external.start()

    assert (external.row(MINE).starts, external.held()) == (2, {external.row(MINE).start_token})


def test_a_start_without_a_handle_whose_work_runs_is_let_alone(external: ExternalStage, now_ms: int) -> None:
    # Given a workflow that was started by a starter which died before it knew, and that has claimed its job
    external.services["stepfunctions"].answers.append(Retry("ReadTimeoutError"))
    external.queue(MINE, executor="stepfunctions")
    external.start("stepfunctions")
    row = external.row(MINE)
    external.claim(row, now_ms, 14 * HOUR * 1000, token=row.start_token)
    external.age(MINE, seconds=13 * HOUR)

    assert external.reconcile() == (0, 0)
    assert external.row(MINE).status is JobStatus.RUNNING


def test_a_job_that_ended_before_it_was_started_is_closed(external: ExternalStage, now_ms: int) -> None:
    external.services["ecs"].answers.append(Retry("RESOURCE:MEMORY"))
    external.queue(MINE)
    external.start()
    external.ledger.cancel(MINE.key, now_ms - 6 * MINUTE * 1000)
    external.age(MINE, seconds=10 * MINUTE)

    assert external.reconcile() == (0, 1)

    assert external.row(MINE).executing == ""
    assert external.held() == set()
    assert external.bucket.keys() == []


# --- slots


def test_slots_of_nobody_are_freed(external: ExternalStage, output: Output, now_ms: int) -> None:
    # Given a starter that died with slots that it had taken, minutes ago and just now, beside one in use
    [row] = external.started(MINE)
    old = external.slots.take("ecs", CAP, 1, now_ms - 4 * MINUTE * 1000)
    new = external.slots.take("ecs", CAP, 1, now_ms)

    external.reconcile()

    # Then the old one is free, and the starter is told
    assert external.held() == {row.start_token, *new}
    assert old
    assert external.woken() == ["ecs"]
    assert [line["slots"] for line in output.logs if line["message"] == "slots freed"] == [1]


def test_slots_in_use_are_not_freed_however_old(
    external: ExternalStage, monkeypatch: pytest.MonkeyPatch, now_ms: int
) -> None:
    # Given a start whose token is hours old
    external.queue(MINE)
    monkeypatch.setattr(external.function("starter"), "now_ms", lambda: now_ms - HOUR * 1000)
    external.start()
    external.age(MINE, seconds=-HOUR)  # begun later than its token was made, as far as clocks say

    external.reconcile()

    assert external.held() == {external.row(MINE).start_token}


def test_rows_are_not_read_for_slots_that_are_in_use(external: ExternalStage) -> None:
    external.started(MINE)
    external.age(MINE, seconds=HOUR)
    external.reconcile()

    assert len(external.wire.made("BatchGetItem")) == 2  # the starter's, and the reconciler's sample


# --- calls that fail


@pytest.mark.parametrize("fault", [Fault.NO_ANSWER, Fault.LOST_ANSWER])
@pytest.mark.parametrize("operation", ["Look", "BatchExecuteStatement", "DeleteObject"])
def test_what_could_not_be_found_out_is_found_out_the_next_time(
    external: ExternalStage, now_ms: int, operation: str, fault: Fault
) -> None:
    row = begun(external, executor="stepfunctions")
    stored = external.store(external.claim(row, now_ms, HOUR * 1000, token=row.start_token))
    external.services["stepfunctions"].end(row, ExecutionState.SUCCEEDED, result=stored)
    external.wire.strike(fault, operation, times=1)

    external.reconcile()
    external.age(MINE)
    external.set_numbers(MINE, endedAt=now_ms - HOUR * 1000)
    external.reconcile()

    assert (external.row(MINE).status, external.row(MINE).executing) == (JobStatus.COMPLETED, "")
    assert external.held("stepfunctions") == set()


def test_what_no_retry_mends_fails_the_invocation(external: ExternalStage) -> None:
    begun(external)
    external.wire.strike(Fault.DENIED, "Look")

    with pytest.raises(ClientError, match="AccessDenied"):
        external.reconcile()


def test_one_that_cannot_be_settled_keeps_no_other_s_slot(external: ExternalStage, now_ms: int) -> None:
    # Given a container that has completed its job, and one that was lost and whose input may not be read
    done, lost = external.started(job("done"), job("lost"))
    attempt = external.claim(done, now_ms - 10 * MINUTE * 1000)
    external.ledger.complete([(attempt, external.store(attempt))], now_ms - 5 * MINUTE * 1000)
    for row in (done, lost):
        external.age(row, seconds=HOUR)
        external.services["ecs"].end(row, ExecutionState.SUCCEEDED)
    external.wire.strike(Fault.DENIED, "GetObject")

    # When each run fails at the latter, which comes first or last
    while external.row(done).executing:
        with pytest.raises(ClientError, match="AccessDenied"):
            external.reconcile()

    # Then the slot of the other is free all the same
    assert external.held() == {lost.start_token}


def test_without_time_nothing_is_settled(external: ExternalStage) -> None:
    row = begun(external)
    external.services["ecs"].end(row, ExecutionState.LOST)

    assert external.reconcile(remaining_ms=10_000) == (1, 0)
    assert external.row(MINE).executing == "ecs"


def test_who_works_takes_nobodys_turn(
    external: ExternalStage, monkeypatch: pytest.MonkeyPatch, now_ms: int
) -> None:
    # Given one container that was lost among others that renew their leases
    monkeypatch.setattr(external.function("reconciler"), "_SAMPLE", 1)
    jobs = [job(f"job-{n}") for n in range(CAP)]
    lost, *at_work = external.started(*jobs)
    for row in at_work:
        external.claim(row, now_ms, AT_WORK)
    external.services["ecs"].end(lost, ExecutionState.LOST)
    external.age(*jobs, seconds=HOUR)

    # Then it is the one that is asked about
    assert external.reconcile() == (1, 1)
    assert external.row(lost).executing == ""


def test_each_has_its_turn(external: ExternalStage, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given more executions than one run asks about
    monkeypatch.setattr(external.function("reconciler"), "_SAMPLE", 1)
    jobs = [job(f"job-{n}") for n in range(CAP)]
    for row in external.started(*jobs):
        external.services["ecs"].end(row, ExecutionState.LOST)
    external.age(*jobs, seconds=HOUR)

    # When it runs as often, then each was asked about
    assert [external.reconcile() for _ in jobs] == [(1, 1)] * CAP
    assert external.held() == set()
