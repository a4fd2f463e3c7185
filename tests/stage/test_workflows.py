"""Jobs in Step Functions, for real: a backlog to its end, failures, timeouts, cancellations, and lost events."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest
from sluice_core.executors import CANCELLED
from sluice_core.weather import WeatherReport
from sluice_harness.bench.posting import post_many
from stage.containers import left_over
from stage.executions import (
    assert_counted_once,
    cap,
    full,
    now_ms,
    reconcile,
    rows_of,
    slots,
    total,
)
from stage.grants import role_of, without
from stage.running import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stage.running import Person, RunningStage

pytestmark = pytest.mark.xdist_group("longwork")

# With `--full` as many as the proof asks for.
JOBS, FULL_JOBS = 40, 500
SAMPLE = 5
EXECUTOR, JOB_TYPE = "stepfunctions", "weather-workflow"
PARAMETERS = {"records": 5}
REFUSED = {"jobType": JOB_TYPE, "parameters": {"colour": "red"}}
# Starters, two at a time, take what they have slots for; jobs may overtake within that, and no further.
OVERTAKEN = 2


@dataclass
class Backlog:
    """Jobs that waited for slots, and what was seen of them meanwhile."""

    stage: RunningStage
    person: Person
    job_ids: list[str]
    refused: list[str]
    waited_ms: int = 0
    held: list[int] = field(default_factory=list)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    executions: dict[str, dict[str, Any]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def person(longwork: RunningStage) -> Person:
    return longwork.newcomer("workflows")


@pytest.fixture(scope="module")
def backlog(longwork: RunningStage, person: Person, request: pytest.FixtureRequest) -> Backlog:
    """Let jobs queue up while there is no slot, then let them run, and look on."""
    is_full = request.config.getoption("--full")
    count, body = FULL_JOBS if is_full else JOBS, json.dumps({"jobType": JOB_TYPE, "parameters": PARAMETERS})
    queue = longwork.description.queues.stepfunctions
    assert queue
    with full(longwork, EXECUTOR):
        began = now_ms()
        refused = [person.accepted(REFUSED) for _ in range(2)]
        posted = post_many(person.api_url, person.id_token, body.encode(), count, connections=1)
        until(lambda: longwork.depth(queue.url) == count + len(refused), "all of them wait")
        if is_full:  # SQS tells CloudWatch once a minute
            until(lambda: gauge(longwork, queue.url) == count + len(refused), "the backlog is in CloudWatch", 130)
        told = Backlog(longwork, person, posted.job_ids, refused, waited_ms=now_ms() - began)

    def are_over() -> bool:
        told.held.append(len(slots(longwork).held(EXECUTOR)))
        return told.held[-1] == 0 and longwork.depth(queue.url) == 0

    until(are_over, "all are over", 1_200)
    print(f"{count} jobs in {(now_ms() - began - told.waited_ms) / 1000:.0f} s")
    told.rows = rows_of(longwork, person.sub)
    told.executions = executions(longwork)
    return told


def gauge(stage: RunningStage, url: str) -> float:
    """How long a queue is at most, by what SQS tells CloudWatch."""
    now = datetime.now(UTC)
    points = stage.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/SQS",
        MetricName="ApproximateNumberOfMessagesVisible",
        Dimensions=[{"Name": "QueueName", "Value": url.rpartition("/")[2]}],
        StartTime=now - timedelta(minutes=5),
        EndTime=now + timedelta(minutes=1),
        Period=60,
        Statistics=["Maximum"],
    )["Datapoints"]
    return max((point["Maximum"] for point in points), default=0)


def executions(stage: RunningStage) -> dict[str, dict[str, Any]]:
    """The executions by their names, which are start tokens."""
    pages = stage.client("stepfunctions").get_paginator("list_executions")
    listed = pages.paginate(stateMachineArn=stage.description.executors.stateMachine)
    return {one["name"]: one for page in listed for one in page["executions"]}


def execution_of(stage: RunningStage, owner: str, job_id: str) -> dict[str, Any]:
    """What Step Functions says of a job's execution, once the job's row says which it is."""
    handle = until(lambda: (stage.row(owner, job_id) or {}).get("handle"), f"{job_id} has a handle")["S"]
    described: dict[str, Any] = stage.client("stepfunctions").describe_execution(executionArn=handle)
    return described


def is_settled(stage: RunningStage, owner: str, job_id: str) -> bool:
    """Whether a job's execution is closed and its slot is free."""
    row = stage.recorded(owner, job_id)
    return "executing" not in row and row["startToken"]["S"] not in slots(stage).held(EXECUTOR)


def left_of(stage: RunningStage, owner: str, job_id: str) -> list[str]:
    """The objects that there still are of a job."""
    return [key for part in ("inputs", "staged", "results") for key in stage.objects(f"{part}/{owner}/{job_id}")]


# A backlog


def test_every_job_of_a_backlog_completes_once_with_its_own_result(backlog: Backlog) -> None:
    # Given all that was accepted, when it is over, then each has completed in its one start
    stage, person = backlog.stage, backlog.person
    ran = Counter(
        tuple(row[name].popitem()[1] for name in ("status", "executor", "starts", "attempts"))
        for row in (dict(backlog.rows[one]) for one in backlog.job_ids)
    )
    assert ran == {("COMPLETED", EXECUTOR, "1", "1"): len(set(backlog.job_ids))}

    # And its row names the one execution there was of it
    ours = {row["startToken"]["S"]: row["handle"]["S"] for row in backlog.rows.values()}
    assert ours.items() <= {name: one["executionArn"] for name, one in backlog.executions.items()}.items()
    assert len(ours) == len(backlog.rows) == len(backlog.job_ids) + len(backlog.refused)

    # And there is one result of each, which is its own
    objects = {key.split("/")[2]: key for key in stage.objects(f"results/{person.sub}/")}
    assert objects == {one: backlog.rows[one]["result"]["M"]["objectKey"]["S"] for one in backlog.job_ids}
    weather = WeatherReport()
    for job_id, key in objects.items():
        stored = stage.client("s3").get_object(Bucket=stage.description.resultBucket, Key=key)["Body"].read()
        assert stored == weather.run(job_id, PARAMETERS, Event()).body
    for job_id in backlog.job_ids[:: len(backlog.job_ids) // SAMPLE]:
        url = person.status(job_id).json()["result"]["url"]
        assert person.http.get(url).content == weather.run(job_id, PARAMETERS, Event()).body


def test_each_was_counted_once(backlog: Backlog) -> None:
    assert_counted_once(backlog.stage, JOB_TYPE, backlog.job_ids)


def test_no_more_ran_at_once_than_may(backlog: Backlog) -> None:
    # Given when each execution began and ended
    ours = [backlog.executions[row["startToken"]["S"]] for row in backlog.rows.values()]
    changes = sorted([(one["startDate"], 1) for one in ours] + [(one["stopDate"], -1) for one in ours])

    # Then there were never more at once than there are slots, and never more slots were taken; and all were used
    most = cap(backlog.stage, EXECUTOR)
    running = [sum(step for _, step in changes[: end + 1]) for end in range(len(changes))]
    assert max(running) <= most
    assert max(backlog.held) == most


def test_the_oldest_were_started_first(backlog: Backlog) -> None:
    # Given the order in which jobs came to their queue, and that in which they were started
    lines = map(json.loads, backlog.stage.log_lines(backlog.stage.description.functions.processor))
    came = [line["jobId"] for line in lines if line.get("outcome") == "recorded" and line["jobId"] in backlog.rows]
    started = sorted(came, key=lambda one: backlog.executions[backlog.rows[one]["startToken"]["S"]]["startDate"])

    # Then none was overtaken by more than may be under way together
    furthest = max(abs(started.index(one) - place) for place, one in enumerate(came))
    assert furthest <= OVERTAKEN * cap(backlog.stage, EXECUTOR)
    assert len(came) == len(backlog.rows)


def test_the_backlog_and_its_age_show_in_metrics(backlog: Backlog) -> None:
    # The queue had all of them (which SQS tells CloudWatch each minute; the fixture waits for that with `--full`),
    # and the starter measured how long they waited in it
    def waited() -> float:
        return total(backlog.stage, "WorkAgeOfFirstAttempt", "Maximum", JobType=JOB_TYPE)

    until(lambda: waited() >= backlog.waited_ms / 2, "the age of the oldest is measured")


def test_what_can_never_succeed_fails_with_its_own_code(backlog: Backlog) -> None:
    for job_id in backlog.refused:
        # Given a job that its work refused, then it has failed, and says why in the work's words
        shown = backlog.person.status(job_id).json()
        assert (shown["status"], shown["error"]["code"]) == ("FAILED", "INVALID_PARAMETERS")
        assert "'colour'" in shown["error"]["message"]

        # And it was tried once, in an execution that failed
        row = backlog.rows[job_id]
        assert (row["starts"], row["attempts"]) == ({"N": "1"}, {"N": "1"})
        assert backlog.executions[row["startToken"]["S"]]["status"] == "FAILED"


def test_nothing_is_left_behind(backlog: Backlog) -> None:
    stage, owner = backlog.stage, backlog.person.sub
    until(lambda: left_over(stage, [EXECUTOR]) == {}, "nothing is left over")
    assert stage.objects(f"staged/{owner}/") == []


# What goes wrong


def test_a_step_that_fails_is_tried_again(longwork: RunningStage, person: Person) -> None:
    # Given a job whose second step cannot do its work
    step, since_ms = longwork.description.functions.workflowStep, now_ms()
    with without(longwork, role_of(longwork, step), "s3:PutObject", "/staged/"):
        job_id = person.accepted({"jobType": JOB_TYPE, "parameters": PARAMETERS})
        until(
            lambda: any("step failed" in line and job_id in line for line in longwork.log_lines(step, since_ms)),
            "the step has failed",
        )

    # When it can, then the same execution goes on, and the job completes
    assert person.ended(job_id)["status"] == "COMPLETED"
    row = longwork.recorded(person.sub, job_id)
    assert (row["starts"], row["attempts"]) == ({"N": "1"}, {"N": "1"})


@contextlib.contextmanager
def timeout(stage: RunningStage, seconds: int) -> Iterator[None]:
    """Give the executions that begin meanwhile so long and no longer."""
    client, machine = stage.client("stepfunctions"), stage.description.executors.stateMachine
    usual = client.describe_state_machine(stateMachineArn=machine)["definition"]
    short = json.dumps({**json.loads(usual), "TimeoutSeconds": seconds})
    client.update_state_machine(stateMachineArn=machine, definition=short)
    try:
        yield
    finally:
        client.update_state_machine(stateMachineArn=machine, definition=usual)


def test_what_takes_too_long_is_timed_out(longwork: RunningStage, person: Person) -> None:
    # Given a job with more work than its execution has time
    with timeout(longwork, 1):
        job_id = person.accepted({"jobType": JOB_TYPE, "parameters": {"workSeconds": 3}})

        # When the time is up, then it has failed
        shown = person.ended(job_id)
    assert (shown["status"], shown["error"]["code"]) == ("FAILED", "TIMED_OUT")
    assert execution_of(longwork, person.sub, job_id)["status"] == "TIMED_OUT"
    until(lambda: is_settled(longwork, person.sub, job_id), "its slot is free")


# Cancelling


def test_a_job_that_runs_is_cancelled_with_its_execution(longwork: RunningStage, person: Person) -> None:
    # Given a job in the middle of its work
    step, since_ms = longwork.description.functions.workflowStep, now_ms()
    job_id = person.accepted({"jobType": JOB_TYPE, "parameters": {"workSeconds": 3}})
    person.reached(job_id, "RUNNING")
    execution_of(longwork, person.sub, job_id)

    # When it is cancelled, then its execution has been stopped, and says why
    assert person.cancel(job_id).json()["status"] == "CANCELLED"
    stopped = execution_of(longwork, person.sub, job_id)
    assert (stopped["status"], stopped["cause"]) == ("ABORTED", CANCELLED)
    until(lambda: is_settled(longwork, person.sub, job_id), "its slot is free")

    # And when the step that was under way is done, too, nothing of it is left, and the job is as it was
    until(
        lambda: any("NOT_WANTED" in line and job_id in line for line in longwork.log_lines(step, since_ms)),
        "the step has found that its job is not wanted",
    )
    assert left_of(longwork, person.sub, job_id) == []
    assert person.status(job_id).json()["status"] == "CANCELLED"


def test_a_job_that_waits_for_a_slot_is_cancelled(longwork: RunningStage, person: Person) -> None:
    # Given a job that waits
    queue = longwork.description.queues.stepfunctions
    assert queue
    with full(longwork, EXECUTOR):
        job_id = person.accepted({"jobType": JOB_TYPE})
        until(lambda: longwork.depth(queue.url) == 1, "its message waits")

        # When it is cancelled, and then there is a slot
        assert person.cancel(job_id).json()["status"] == "CANCELLED"

    # Then its message is acknowledged, and it is never started
    until(lambda: longwork.depth(queue.url) == 0, "its message is gone")
    row = longwork.recorded(person.sub, job_id)
    assert (row["status"], row["starts"]) == ({"S": "CANCELLED"}, {"N": "0"})
    until(lambda: left_of(longwork, person.sub, job_id) == [], "its input is deleted")


# How an end becomes known


@pytest.fixture
def untold(longwork: RunningStage, person: Person) -> Iterator[str]:
    """A job whose execution has succeeded, of which nobody has read the event."""
    completions = longwork.description.queues.completion
    assert completions
    with longwork.stopped(longwork.description.functions.completion):
        job_id = person.accepted({"jobType": JOB_TYPE, "parameters": PARAMETERS})
        until(lambda: execution_of(longwork, person.sub, job_id)["status"] == "SUCCEEDED", "it has succeeded")
        until(lambda: longwork.depth(completions.url) == 1, "its event has come")
        assert person.status(job_id).json()["status"] == "RUNNING"
        yield job_id


def test_a_job_completes_by_its_executions_event(longwork: RunningStage, person: Person, untold: str) -> None:
    # Given an event that nobody reads, when it is read
    longwork.set_mapping(longwork.description.functions.completion, enabled=True)

    # Then the job has completed
    assert person.ended(untold)["status"] == "COMPLETED"
    until(lambda: is_settled(longwork, person.sub, untold), "its slot is free")


def test_a_job_whose_event_is_lost_completes_all_the_same(
    longwork: RunningStage, person: Person, untold: str
) -> None:
    # Given an execution that has long been over, and whose event is lost
    completions = longwork.description.queues.completion
    assert completions
    longwork.client("sqs").purge_queue(QueueUrl=completions.url)
    before = total(longwork, "CompletionsReconciled")
    began_long_ago(longwork, person.sub, untold)

    # When the reconciler comes by, then the job has completed, and it is counted that this was how
    reconcile(longwork)
    assert person.status(untold).json()["status"] == "COMPLETED"
    assert is_settled(longwork, person.sub, untold)
    until(lambda: total(longwork, "CompletionsReconciled") == before + 1, "it is counted")


def began_long_ago(stage: RunningStage, owner: str, job_id: str) -> None:
    """Let a start be as old as one whose event should have come."""
    stage.client("dynamodb").update_item(
        TableName=stage.description.jobTable,
        Key={"jobKey": {"S": f"{owner}#{job_id}"}},
        UpdateExpression="SET executingSince = :past, notedAt = :past",
        ConditionExpression="attribute_exists(executing)",
        ExpressionAttributeValues={":past": {"N": str(now_ms() - 10 * 60_000)}},
    )
