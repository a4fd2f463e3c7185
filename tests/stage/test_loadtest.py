"""A load test's verdict on a real stage, by real runs of Locust: it holds, and it fails for each fault."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from sluice_harness.live_functions import with_variables
from sluice_harness.loadtest.warmup import start_functions
from stage.loadtests import JOBS, short, take_work
from stage.recorded_calls import RecordedCalls
from stage.running import deployed, until
from unit.sessions import ACTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stage.loadtests import Outcome
    from stage.running import RunningStage

pytestmark = pytest.mark.xdist_group("loadtest")

# A stage minute takes two seconds.
SPEED = 30.0
# Locust's own way to end early, and users of one's own beside those of the scenario.
_GIVES_UP = """
from locustfile import *
import gevent
from locust import events

@events.test_start.add_listener
def give_up(environment, **_):
    gevent.spawn_later(3, environment.runner.quit)
"""
_RAISES = """
from locustfile import *
from users import Forgetter

comes = iter(range(100))

def act(self, arrival, intended_at, act=Forgetter.act):
    if next(comes) == 2:
        raise LookupError("the user lost its way")
    act(self, arrival, intended_at)

Forgetter.act = act
"""


@pytest.fixture(scope="module")
def busy(assembly: Path) -> Iterator[RunningStage]:
    with deployed("loadtest", assembly, speed=SPEED, owners=4) as running:
        # As a session does with a stage of its own.
        start_functions(running.description, print)
        yield running


@pytest.fixture(scope="module")
def passed(busy: RunningStage, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A run with nothing wrong."""
    return short(tmp_path_factory.mktemp("passed"), busy).outcome()


def own_locustfile(folder: Path, content: str) -> tuple[str, str]:
    file = folder / "own_locustfile.py"
    file.write_text(content)
    return "--locustfile", str(file)


def test_a_run_with_nothing_wrong_holds(passed: Outcome) -> None:
    assert (passed.code, passed.failed) == (0, {}), passed.said
    assert passed.verdict["accepted"] == JOBS
    # and everything that can be counted is the same everywhere
    counts = {one["name"]: one for one in passed.verdict["counts"]}
    submitted = counts["ClientSubmissions"]
    assert [submitted[side] for side in ("summed", "ledger", "client")] == [JOBS] * 3
    assert [counts["JobsCompleted"][side] for side in ("summed", "ledger")] == [JOBS] * 2
    assert "short held" in passed.said


def test_a_distributed_run_comes_to_the_same_verdict(
    passed: Outcome, busy: RunningStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given the verdict of a run by one process, when a master and two workers make the same load, as other users
    owners, users, recorded = owners_of_jobs(busy), usernames(busy), RecordedCalls(tmp_path, monkeypatch)
    ran = short(tmp_path, busy, "--workers", "2", "--temporary-users", "4").outcome()

    # then every check comes out the same
    assert ran.code == 0, ran.said
    assert ran.results == passed.results
    assert (ran.verdict["workers"], ran.verdict["accepted"]) == (2, JOBS)

    # and the users have gone again, who owned all these jobs
    assert usernames(busy) == users
    assert len(owners_of_jobs(busy) - owners) == 4

    # and it took the actions that pipelines grant, but for what it does with dead letters, of which there are none
    assert recorded.actions == ACTIONS["loadtest"] - {"sqs:ChangeMessageVisibility"}


def owners_of_jobs(stage: RunningStage) -> set[str]:
    return {row["jobKey"]["S"].partition("#")[0] for row in stage.rows()}


def usernames(stage: RunningStage) -> set[str]:
    listed = stage.client("cognito-idp").list_users(UserPoolId=stage.description.userPoolId)
    return {user["Username"] for user in listed["Users"]}


def test_a_lost_message_and_a_job_that_is_run_twice(busy: RunningStage, tmp_path: Path) -> None:
    # given work that nobody takes yet, one message of which is taken by somebody who does not do it
    with busy.unworked():
        running = short(tmp_path, busy)
        lost = json.loads(take_work(busy, delete=True)["Body"])["jobId"]
        # and a copy of another's message
        body = take_work(busy, delete=False)["Body"]
    work = json.loads(body)
    owner, twice = work["owner"], work["jobId"]
    until(lambda: busy.recorded(owner, twice)["status"]["S"] == "COMPLETED", "the job has ended")

    # when that job's row is made to say that it has yet to be run, and the copy is delivered
    busy.client("dynamodb").update_item(
        TableName=busy.description.jobTable,
        Key={"jobKey": {"S": f"{owner}#{twice}"}},
        UpdateExpression="SET #status = :submitted, leaseUntil = :past REMOVE attempt",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":submitted": {"S": "SUBMITTED"}, ":past": {"N": "0"}},
    )
    busy.client("sqs").send_message(QueueUrl=busy.description.queues.work.url, MessageBody=body)
    ran = running.outcome()

    # then the one is named as lost
    assert ran.code == 1, ran.said
    check = ran.failed["jobs: ended"]
    assert check["jobs"] == [lost]
    assert "lost: still SUBMITTED, and its message is in neither queue" in check["detail"]
    assert lost in ran.said

    # and attempts and results tell of the other
    assert ran.failed["jobs: run once"]["jobs"] == [twice]
    assert ran.failed["jobs: one result each"]["jobs"] == [twice]
    assert "its work was done 2 times" in ran.failed["jobs: one result each"]["detail"]


def test_a_missing_metric(busy: RunningStage, tmp_path: Path) -> None:
    # given a batch simulator that writes no metrics
    lambda_, function = busy.client("lambda"), busy.description.functions.batchSimulator
    with with_variables(lambda_, function, POWERTOOLS_METRICS_DISABLED="true"):
        ran = short(tmp_path, busy).outcome()

    # then what is not counted is named, and the widgets that show it
    assert ran.code == 1, ran.said
    assert ran.failed.keys() >= {"metrics: JobsStarted", "metrics: JobsCompleted", "dashboard: widgets fed"}
    assert ran.failed["metrics: JobsCompleted"]["measured"] == "no data"
    assert "JobsCompleted" in ran.failed["dashboard: widgets fed"]["detail"]


def test_an_alarm_that_should_have_fired_a_missed_threshold_and_an_exception(
    busy: RunningStage, tmp_path: Path
) -> None:
    # given a scenario that expects an alarm for which there is no reason, and an end before any client asks,
    # and a user whose own code fails once
    raises = own_locustfile(tmp_path, _RAISES)
    wanted = "end_to_end_p95_ms = { at_most = 1 }"
    ran = short(tmp_path, busy, *raises, expected=["jobs-swept"], thresholds=wanted).outcome()

    # then the alarm is named
    assert ran.code == 1, ran.said
    assert "did not fire" in ran.failed["alarms: jobs-swept"]["measured"]

    # and the threshold with the measured value
    check = ran.failed["thresholds: end_to_end_p95_ms"]
    assert check["expected"] == "≤ 1"
    assert float(check["measured"].replace(",", "")) > 1000

    # and the exception's words; Locust's exit code tells, too
    assert "the user lost its way" in ran.failed["harness: exceptions"]["detail"]

    # and nothing else but that one submission never was
    said = {"alarms: jobs-swept", "thresholds: end_to_end_p95_ms", "harness: exceptions", "harness: exit code"}
    assert said <= ran.failed.keys() <= said | {"requests: submissions"}, ran.failed.keys()


def test_an_alarm_that_should_not_have_fired(busy: RunningStage, tmp_path: Path) -> None:
    # given a scenario that allows no alarm
    with busy.unworked():
        running = short(tmp_path, busy, strict=True, patience_s=60)
        until(lambda: running.progress().get("submitted"), "the load has begun")

        # when one fires, for a job that somebody had to sweep
        cloudwatch = busy.client("cloudwatch")
        swept = {"MetricName": "JobsSwept", "Dimensions": [{"Name": "Stage", "Value": "local"}], "Value": 1.0}
        cloudwatch.put_metric_data(Namespace="Sluice", MetricData=[swept])

        def has_fired() -> bool:
            (alarm,) = cloudwatch.describe_alarms(AlarmNames=["sluice-local-jobs-swept"])["MetricAlarms"]
            return bool(alarm["StateValue"] == "ALARM")

        until(has_fired, "the alarm fires", 30)
    ran = running.outcome()

    # then it is named
    assert ran.code == 1, ran.said
    assert "jobs-swept" in ran.failed["alarms: no others"]["measured"]


def test_too_few_requests(busy: RunningStage, tmp_path: Path) -> None:
    # given a load generator that gives up after three seconds of five
    ran = short(tmp_path, busy, *own_locustfile(tmp_path, _GIVES_UP)).outcome()

    # then it is told how many there were
    assert ran.code == 1, ran.said
    check = ran.failed["requests: submissions"]
    assert check["expected"] == f"at least {JOBS}"
    assert 0 < ran.verdict["accepted"] < JOBS
    assert check["measured"] == str(ran.verdict["accepted"])
