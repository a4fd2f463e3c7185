"""The steps of a workflow: each may come again, and none tells a secret by what it raises."""

from __future__ import annotations

import json
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from sluice_core.jobs import JobStatus
from sluice_core.ledger import Attempt
from unit.external_stage import TIMEOUT_S
from unit.lambda_events import Context, job
from unit.state_changes import lambda_cause
from unit.wire_faults import Fault

if TYPE_CHECKING:
    from sluice_core.jobs import Job, Submission
    from unit.external_stage import ExternalStage
    from unit.resources import Output

MINE = job("mine", n=1)
SECRET = "hunter2-secret"


def begun(external: ExternalStage, mine: Submission = MINE) -> Job:
    """Have a job's execution started; its steps are for the test to do."""
    [row] = external.started(mine, executor="stepfunctions")
    return row


def step(external: ExternalStage, row: Job, name: str) -> dict[str, Any]:
    """Do one step as the state machine has it done."""
    event = {"step": name, "owner": row.key.owner, "jobId": row.key.job_id, "startToken": row.start_token}
    answer: dict[str, Any] = external.function("workflow_step").handler(event, Context())
    return answer


def failed(external: ExternalStage, row: Job, name: str) -> tuple[str, str]:
    """Do a step that fails; return the error's name and message, and see that Lambda would log no secret."""
    with pytest.raises(Exception) as raised:  # noqa: PT011 - its name is looked at
        step(external, row, name)
    assert SECRET not in "".join(traceback.format_exception(raised.value))
    return type(raised.value).__name__, str(raised.value)


def test_a_job_of_three_steps(external: ExternalStage, runs: list[str], output: Output, now_ms: int) -> None:
    # Given a job whose execution has been started
    row = begun(external)

    # When its input is fetched, then the job is this execution's for as long as that may take
    assert step(external, row, "fetch") == {"wanted": True}
    claimed = external.row(MINE)
    assert (claimed.status, claimed.attempt) == (JobStatus.RUNNING, row.start_token)
    assert claimed.lease_until is not None
    assert claimed.lease_until >= now_ms + TIMEOUT_S * 1000

    # When it is transformed, then what the workload made waits for the next step
    assert step(external, row, "transform") == {}
    assert runs == [MINE.key.job_id]
    staged = f"staged/{MINE.key.owner}/{MINE.key.job_id}/{row.start_token}"
    assert external.bucket.read(staged) == f"made for {MINE.key.job_id}".encode()

    # When it is stored, then the execution's output says where
    stored = step(external, row, "store")
    assert external.bucket.read(stored["objectKey"]) == external.bucket.read(staged)
    assert stored == {
        "objectKey": f"results/{MINE.key.owner}/{MINE.key.job_id}/{row.start_token}.txt",
        "contentType": "text/plain",
        "size": len(external.bucket.read(staged)),
    }
    assert external.row(MINE).status is JobStatus.RUNNING

    # When the execution has succeeded, then the job is complete
    external.complete(external.event(row, "succeeded", "stepfunctions", output=json.dumps(stored)))
    assert external.row(MINE).status is JobStatus.COMPLETED
    assert external.bucket.keys() == [stored["objectKey"]]
    assert [line["outcome"] for line in output.logs] == ["started", "stored", "completed"]


def test_each_step_may_come_again(external: ExternalStage) -> None:
    # Given a state machine that tries each step again, for its answer was lost
    row = begun(external)

    answers = [step(external, row, name) for name in ("fetch", "transform", "store") for _ in range(2)]

    assert answers[0] == answers[1] == {"wanted": True}
    assert answers[4] == answers[5]
    external.complete(external.event(row, "succeeded", "stepfunctions", output=json.dumps(answers[5])))
    assert external.bucket.keys() == [answers[5]["objectKey"]]
    assert external.row(MINE).status is JobStatus.COMPLETED


@pytest.mark.parametrize("end", ["cancelled", "lost", "expired"])
def test_a_job_that_is_nobody_s_any_more_is_not_wanted(external: ExternalStage, runs: list[str], end: str) -> None:
    # Given a job that was cancelled, or whose start was given up, or whose row is gone
    row = begun(external)
    if end == "cancelled":
        external.ledger.cancel(MINE.key, 10)
    elif end == "lost":
        external.lose(row)
    else:
        external.forget(row)

    assert step(external, row, "fetch") == {"wanted": False}
    assert runs == []


def test_a_job_that_can_never_succeed_ends_at_once(external: ExternalStage, output: Output) -> None:
    # Given a workload that refuses its job, in words that repeat the payload
    row = begun(external, mine := job("mine", do="permanent", secret=SECRET))
    step(external, row, "fetch")

    # When it is transformed
    name, message = failed(external, row, "transform")

    # Then the job's row says why, and what is raised only says so
    error = external.row(mine).error
    assert (error and error.code, error and error.message) == ("BAD_STATION", f"no station {SECRET}")
    assert name == "WorkRefused"
    assert json.loads(message) == {"code": "BAD_STATION", "message": "The job's row says why."}
    assert SECRET not in output.text

    # When the execution has failed by that, then the job is closed as it is
    cause = lambda_cause(message, name)
    external.complete(external.event(row, "refused", "stepfunctions", error=name, cause=cause))
    assert external.row(mine).error == error
    assert external.bucket.keys() == []
    assert output.values("JobsFailedPermanent") == [1]


def test_an_attempt_that_fails_is_tried_again(external: ExternalStage, output: Output) -> None:
    row = begun(external, mine := job("mine", do="transient", secret=SECRET))
    step(external, row, "fetch")

    assert failed(external, row, "transform") == ("StepFailed", "ConnectionError")

    assert external.row(mine).status is JobStatus.RUNNING
    assert SECRET not in output.text
    [line] = [line for line in output.logs if line["outcome"] == "step failed"]
    assert (line["step"], line["error"]) == ("transform", "ConnectionError")


@pytest.mark.parametrize("fault", [Fault.NO_ANSWER, Fault.LOST_ANSWER, Fault.REPEATED])
def test_a_claim_whose_answer_is_lost_is_made_again(external: ExternalStage, fault: Fault) -> None:
    row = begun(external)
    external.wire.strike_change(fault, "claim_started", times=1)

    if fault is not Fault.REPEATED:
        assert failed(external, row, "fetch") == ("StepFailed", "the ledger does not answer")

    assert step(external, row, "fetch") == {"wanted": True}


@pytest.mark.parametrize(("name", "operation"), [("transform", "PutObject"), ("store", "PutObject")])
def test_what_could_not_be_stored_is_stored_again(external: ExternalStage, name: str, operation: str) -> None:
    row = begun(external)
    for one in ("fetch", "transform")[: ["transform", "store"].index(name) + 1]:
        step(external, row, one)
    external.wire.strike(Fault.SERVER_ERROR, operation, times=1)

    assert failed(external, row, name) == ("StepFailed", "ClientError")
    step(external, row, name)


def test_a_failure_that_could_not_be_written_is_written_later(external: ExternalStage) -> None:
    row = begun(external, mine := job("mine", do="permanent"))
    step(external, row, "fetch")
    external.wire.strike_change(Fault.LOST_ANSWER, "fail", times=1)

    assert failed(external, row, "transform") == ("StepFailed", "the ledger does not answer")
    assert failed(external, row, "transform")[0] == "WorkRefused"

    assert external.row(mine).status is JobStatus.FAILED


@pytest.mark.parametrize(("name", "before"), [("transform", ["fetch"]), ("store", ["fetch", "transform"])])
def test_what_comes_after_the_job_was_cancelled_is_deleted(
    external: ExternalStage, name: str, before: list[str]
) -> None:
    # Given a job that is cancelled, stopped and closed while one of its steps is about to store something
    row = begun(external)
    for one in before:
        step(external, row, one)
    staged = [external.staging.get(Attempt(row.key, row.start_token))] if "transform" in before else []
    external.ledger.cancel(MINE.key, 10)
    external.complete(external.event(row, "cancelled", "stepfunctions"))
    for made in staged:
        external.staging.put(Attempt(row.key, row.start_token), made)
    external.inputs.put(MINE)

    # When it has done so, then it takes that away again
    assert failed(external, row, name) == (
        "WorkRefused",
        json.dumps({"code": "NOT_WANTED", "message": "The job's row says why."}),
    )
    left = {key.partition("/")[0] for key in set(external.bucket.keys())}
    assert left == ({"inputs", "staged"} if name == "store" else {"inputs"})


@pytest.mark.parametrize(("is_cancelled", "error"), [(True, "WorkRefused"), (False, "StepFailed")])
def test_an_input_that_is_gone_is_an_error_unless_the_job_has_ended(
    external: ExternalStage, *, is_cancelled: bool, error: str
) -> None:
    # Given a job whose input was deleted, as it is when it has been cancelled and closed
    row = begun(external)
    step(external, row, "fetch")
    if is_cancelled:
        external.ledger.cancel(MINE.key, 10)
    external.inputs.delete(MINE.key)

    assert failed(external, row, "transform")[0] == error


def test_a_step_that_there_is_not_is_an_error(external: ExternalStage) -> None:
    row = begun(external)

    assert failed(external, row, "load") == ("StepFailed", "KeyError")
