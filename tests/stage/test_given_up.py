"""Jobs that an external executor gave up: an operator finds them among its dead letters, and brings them back."""

from __future__ import annotations

import contextlib
import json
import signal
from typing import TYPE_CHECKING, Any

import pytest
from sluice_core.executors import BATCH, ECS, MAX_STARTS, STEP_FUNCTIONS
from sluice_harness.ops.__main__ import main
from stage.containers import Killer
from stage.executions import full, slots, wake
from stage.grants import role_named, role_of, without
from stage.running import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stage.running import Person, RunningStage

    Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.xdist_group("longwork")

JOB_TYPES = {"stepfunctions": "weather-workflow", "batch": "weather-batch", "ecs": "weather-task"}
# Each in its way: steps and a container that cannot store their result, and a container whose host is lost.
ERRORS = {"stepfunctions": "RETRIES_EXHAUSTED", "batch": "WORKER_LOST", "ecs": "RETRIES_EXHAUSTED"}
# With `--full` a container's job is started five times, as it would be: up to a minute of that is backoff, and up
# to a minute each time is until the starter comes by.
PATIENCE_S, FULL_PATIENCE_S = 60.0, 400.0


@pytest.fixture(scope="module")
def person(longwork: RunningStage) -> Person:
    return longwork.newcomer("given-up")


@pytest.mark.parametrize("executor", JOB_TYPES)
def test_a_job_that_was_given_up_is_brought_back(
    longwork: RunningStage, person: Person, capsys: Capture, request: pytest.FixtureRequest, executor: str
) -> None:
    # given a job of which each try failed
    is_full, code = request.config.getoption("--full"), ERRORS[executor]
    with failing(longwork, executor):
        job_id = submitted(longwork, person, executor, before_its_last_start=not is_full)
        failed = person.ended(job_id, FULL_PATIENCE_S if is_full else PATIENCE_S)
    assert (failed["status"], failed["error"]["code"]) == ("FAILED", code)
    assert tries(longwork, person.sub, job_id) == MAX_STARTS

    # then an operator finds it among its executor's dead letters, once
    def letters() -> list[dict[str, Any]]:
        return [one for one in told(longwork, capsys, "dlq", "list")["letters"] if one["jobId"] == job_id]

    (letter,) = until(letters, "its dead letter is listed")
    assert (letter["queue"], letter["owner"], letter["jobType"]) == (executor, person.sub, JOB_TYPES[executor])
    assert (letter["job"]["status"], letter["job"]["error"]["code"]) == ("FAILED", code)
    until(lambda: is_settled(longwork, person.sub, job_id), "its execution is closed, and its slot free")
    assert findings(longwork, capsys, person.sub) == []

    # when the cause is gone, and it is brought back
    assert main(["dlq", "redrive", "--job", job_id, "--yes", "--stage", longwork.name]) == 0
    wake(longwork, executor)

    # then it completes in its first new start, and its failure is kept
    person.reached(job_id, "COMPLETED")
    row = longwork.recorded(person.sub, job_id)
    assert (row["starts"], row["executor"]) == ({"N": "1"}, {"S": executor})
    assert [end["M"]["error"]["M"]["code"]["S"] for end in row["history"]["L"]] == [code]

    # and nothing is left of it but its one result
    until(lambda: is_settled(longwork, person.sub, job_id), "its execution is closed, and its slot free")
    assert letters() == []
    kept = [key for part in ("inputs", "staged", "results") for key in longwork.objects(f"{part}/{person.sub}/")]
    assert [key for key in kept if job_id in key] == [row["result"]["M"]["objectKey"]["S"]]
    assert findings(longwork, capsys, person.sub) == []


def told(stage: RunningStage, capture: Capture, *command: str) -> Any:
    """Run a command of the operator tools, and return what it prints for machines."""
    capture.readouterr()
    main([*command, "--stage", stage.name, "--json"])
    return json.loads(capture.readouterr().out)


def findings(stage: RunningStage, capture: Capture, owner: str) -> list[dict[str, Any]]:
    """What an audit finds of an owner's jobs; others on this stage have jobs on paper only."""
    found = told(stage, capture, "audit")["findings"]
    return [one for one in found if one["job"] is None or one["job"].startswith(f"{owner}#")]


def tries(stage: RunningStage, owner: str, job_id: str) -> int:
    """How often a container was started, or the step that failed was."""
    row = stage.recorded(owner, job_id)
    if row["executor"]["S"] != STEP_FUNCTIONS:
        return int(row["starts"]["N"])
    lines = stage.log_lines(stage.description.functions.workflowStep, int(row["submittedAt"]["N"]))
    return sum('"step failed"' in line and job_id in line for line in lines)


def is_settled(stage: RunningStage, owner: str, job_id: str) -> bool:
    row = stage.recorded(owner, job_id)
    return "executing" not in row and row["startToken"]["S"] not in slots(stage).held(row["executor"]["S"])


@contextlib.contextmanager
def failing(stage: RunningStage, executor: str) -> Iterator[None]:
    """Let an executor's work fail, whatever it is, until there is an end to that."""
    stores = ("s3:PutObject", "/results/")
    with contextlib.ExitStack() as until_mended:
        if executor == BATCH:  # as soon as a container is seen, which has claimed nothing by then
            killer = Killer(stage, seed=0, share=1, most=MAX_STARTS, within_s=0, signals=(signal.SIGKILL,))
            until_mended.enter_context(killer)
        elif executor == ECS:
            until_mended.enter_context(without(stage, role_named(stage, "EcsJobTaskRole"), *stores))
        else:
            step = stage.description.functions.workflowStep
            until_mended.enter_context(without(stage, role_of(stage, step), *stores))
            until_mended.enter_context(quick_retries(stage))
        yield


@contextlib.contextmanager
def quick_retries(stage: RunningStage) -> Iterator[None]:
    """Have Step Functions try steps as often as ever, but a second apart, not up to half a minute."""
    client, machine = stage.client("stepfunctions"), stage.description.executors.stateMachine
    usual = client.describe_state_machine(stateMachineArn=machine)["definition"]
    quick = json.loads(usual)
    waits = [
        retrier
        for state in quick["States"].values()
        for retrier in state.get("Retry", [])
        if retrier["MaxAttempts"]
    ]
    for retrier in waits:
        retrier.update(IntervalSeconds=1, BackoffRate=1)
    client.update_state_machine(stateMachineArn=machine, definition=json.dumps(quick))
    try:
        yield
    finally:
        client.update_state_machine(stateMachineArn=machine, definition=usual)


def submitted(stage: RunningStage, person: Person, executor: str, *, before_its_last_start: bool) -> str:
    """Submit a job; a container's is as after four starts that were lost, if that is wanted.

    An execution of Step Functions is not started again: it tries its steps itself, and does so here.
    """
    body = {"jobType": JOB_TYPES[executor], "parameters": {"records": 5}}
    if executor == STEP_FUNCTIONS or not before_its_last_start:
        return person.accepted(body)
    with full(stage, executor):
        job_id = person.accepted(body)
        stage.recorded(person.sub, job_id)
        stage.client("dynamodb").update_item(
            TableName=stage.description.jobTable,
            Key={"jobKey": {"S": f"{person.sub}#{job_id}"}},
            UpdateExpression="SET starts = :four",
            ConditionExpression="starts = :none",
            ExpressionAttributeValues={":four": {"N": str(MAX_STARTS - 1)}, ":none": {"N": "0"}},
        )
    return job_id
