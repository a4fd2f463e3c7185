"""A load test's verdict on a real stage, by real runs of Locust: it holds, and it fails for each fault."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from sluice_harness.loadtest.warmup import start_functions
from stage.loadtests import JOBS, short, take_work
from stage.running import deployed, until

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


def test_a_distributed_run_comes_to_the_same_verdict(passed: Outcome, busy: RunningStage, tmp_path: Path) -> None:
    # given the verdict of a run by one process, when a master and two workers make the same load
    ran = short(tmp_path, busy, "--workers", "2").outcome()

    # then every check comes out the same
    assert ran.code == 0, ran.said
    assert ran.results == passed.results
    assert (ran.verdict["workers"], ran.verdict["accepted"]) == (2, JOBS)


def test_a_lost_message(busy: RunningStage, tmp_path: Path) -> None:
    # given work that nobody takes yet, when one message is taken by somebody who does not do it
    with busy.unworked():
        running = short(tmp_path, busy)
        lost = json.loads(take_work(busy, delete=True)["Body"])["jobId"]
    ran = running.outcome()

    # then its job is named
    assert ran.code == 1, ran.said
    check = ran.failed["jobs: ended"]
    assert check["jobs"] == [lost]
    assert "lost: still SUBMITTED, and its message is in neither queue" in check["detail"]
    assert lost in ran.said


def test_a_job_that_is_run_twice(busy: RunningStage, tmp_path: Path) -> None:
    # given a copy of the message of a job that has ended
    with busy.unworked():
        running = short(tmp_path, busy)
        body = take_work(busy, delete=False)["Body"]
    work = json.loads(body)
    owner, twice = work["owner"], work["jobId"]
    until(lambda: busy.recorded(owner, twice)["status"]["S"] == "COMPLETED", "the job has ended")

    # when its row is made to say that it has yet to be run, and the copy is delivered
    busy.client("dynamodb").update_item(
        TableName=busy.description.jobTable,
        Key={"jobKey": {"S": f"{owner}#{twice}"}},
        UpdateExpression="SET #status = :submitted, leaseUntil = :past REMOVE attempt",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":submitted": {"S": "SUBMITTED"}, ":past": {"N": "0"}},
    )
    busy.client("sqs").send_message(QueueUrl=busy.description.queues.work.url, MessageBody=body)
    ran = running.outcome()

    # then attempts, results and metrics each tell
    assert ran.code == 1, ran.said
    assert ran.failed["jobs: run once"]["jobs"] == [twice]
    assert ran.failed["jobs: one result each"]["jobs"] == [twice]
    assert "its work was done 2 times" in ran.failed["jobs: one result each"]["detail"]
    assert ran.failed["metrics: JobsCompleted"]["measured"] == str(JOBS + 1)


def test_a_missing_metric(busy: RunningStage, tmp_path: Path) -> None:
    # given a batch simulator that writes no metrics
    lambda_, function = busy.client("lambda"), busy.description.functions.batchSimulator
    usual = lambda_.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
    silent = {**usual, "POWERTOOLS_METRICS_DISABLED": "true"}
    lambda_.update_function_configuration(FunctionName=function, Environment={"Variables": silent})
    try:
        ran = short(tmp_path, busy).outcome()
    finally:
        lambda_.update_function_configuration(FunctionName=function, Environment={"Variables": usual})

    # then what is not counted is named, and the widgets that show it
    assert ran.code == 1, ran.said
    assert ran.failed.keys() >= {"metrics: JobsStarted", "metrics: JobsCompleted", "dashboard: widgets fed"}
    assert ran.failed["metrics: JobsCompleted"]["measured"] == "no data"
    assert "JobsCompleted" in ran.failed["dashboard: widgets fed"]["detail"]


def test_an_alarm_that_should_have_fired(busy: RunningStage, tmp_path: Path) -> None:
    # given a scenario that expects an alarm, when there is no reason for it
    ran = short(tmp_path, busy, expected=["jobs-swept"]).outcome()

    # then it is named, and nothing else
    assert ran.code == 1, ran.said
    assert ran.failed.keys() == {"alarms: jobs-swept"}
    assert "did not fire" in ran.failed["alarms: jobs-swept"]["measured"]


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


def test_a_missed_threshold(busy: RunningStage, tmp_path: Path) -> None:
    # given a scenario that wants an end before any client asks
    ran = short(tmp_path, busy, thresholds="end_to_end_p95_ms = { at_most = 1 }").outcome()

    # then it is named with the measured value, and nothing else
    assert ran.code == 1, ran.said
    assert ran.failed.keys() == {"thresholds: end_to_end_p95_ms"}
    check = ran.failed["thresholds: end_to_end_p95_ms"]
    assert check["expected"] == "≤ 1"
    assert float(check["measured"].replace(",", "")) > 1000


def test_an_exception_in_the_harness(busy: RunningStage, tmp_path: Path) -> None:
    # given a user whose own code fails once
    ran = short(tmp_path, busy, *own_locustfile(tmp_path, _RAISES)).outcome()

    # then its words are there, and Locust's exit code tells, too
    assert ran.code == 1, ran.said
    assert "the user lost its way" in ran.failed["harness: exceptions"]["detail"]
    assert "harness: exit code" in ran.failed
