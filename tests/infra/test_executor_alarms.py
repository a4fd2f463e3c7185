"""The alarms of external executors fire for what is long there, and for nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from infra.test_alarms import DAY_S, HOUR_S, external, metric_alarms, said, watched_things
from infra.watched import STAGES, operands
from sluice_core import metrics
from sluice_core.executors import STEP_FUNCTIONS
from sluice_harness.cloudwatch.expressions import parse
from sluice_infra.alarms import alarm_specs
from sluice_infra.executor_settings import Workflows
from sluice_infra.stages import stage_config

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.assemblies import Assembly

pytestmark = pytest.mark.xdist_group("infra")


@pytest.fixture(scope="module", params=STAGES)
def assembly(request: pytest.FixtureRequest, synthesized: Callable[[str], Assembly]) -> Assembly:
    return synthesized(request.param)


def test_an_executor_is_saturated_when_its_slots_are_taken_and_jobs_wait(assembly: Assembly) -> None:
    config = stage_config(assembly.stage)
    for executor in external(assembly):
        # given an executor's cap, and how long a job may wait
        alarm = metric_alarms(assembly)[f"{executor}-saturated"]
        (expression,) = [parse(query["Expression"]) for query in alarm["Metrics"] if "Expression" in query]
        settings = getattr(config, executor)
        cap, limit_s = float(settings.max_running), float(max(config.thresholds.work_age_s, settings.timeout_s))

        # when there is a free slot, nobody waits for long, or both are as they must not be
        running = {0: cap - 1, 60: cap, 120: cap}
        age = {0: limit_s, 60: limit_s - 1, 120: limit_s}
        saturated = expression.evaluate({"running": running, "age": age}, 60, [0, 60, 120])

        # then the last alone breaches
        assert [value > alarm["Threshold"] for value in saturated.values()] == [False, False, True]


@pytest.mark.parametrize(
    ("timeout_s", "wait_s", "drains"),
    [
        (60, 900, (HOUR_S, 900)),  # the usual thresholds
        (HOUR_S, HOUR_S, (4 * HOUR_S, HOUR_S)),
        (DAY_S, DAY_S, (4 * DAY_S, DAY_S)),
        (2 * DAY_S, 2 * DAY_S, None),  # no period is as long as a run
        (5 * DAY_S, 13 * DAY_S // 4, None),  # a quarter of what the queue keeps
    ],
)
def test_a_wait_is_long_by_what_a_job_of_the_executor_may_take(
    timeout_s: int, wait_s: int, drains: tuple[int, int] | None
) -> None:
    # given an executor whose jobs may take so long
    config = replace(
        stage_config("prod"), draining=(STEP_FUNCTIONS,), stepfunctions=Workflows(timeout_s=timeout_s)
    )
    alarms = {one.name: one for one in alarm_specs(config)}

    # then its queue's ages and its slots go by that, before jobs are lost, and so does the rate at which it drains
    for kind in ("age-of-oldest", "age-in-quiet-groups"):
        assert alarms[f"stepfunctions-{kind}"].threshold == wait_s
    assert f"FILL(age, 0) >= {wait_s}," in alarms["stepfunctions-saturated"].expression
    assert wait_s < alarms["stepfunctions-near-retention"].threshold
    drain = alarms.get("stepfunctions-time-to-drain")
    assert (drain and (drain.threshold, drain.period_s)) == drains
    # and those of the others as before
    assert (alarms["work-age-of-oldest"].threshold, alarms["work-time-to-drain"].threshold) == (900, HOUR_S)


def test_what_does_not_drain_takes_longer_than_any_alarm_on_it_allows(assembly: Assembly) -> None:
    for name, alarm in metric_alarms(assembly).items():
        if name.endswith("-time-to-drain"):
            # given a backlog of which nothing is taken
            (expression,) = [parse(query["Expression"]) for query in alarm["Metrics"] if "Expression" in query]
            found = expression.evaluate({"visible": {0: 500.0}, "deleted": {}, "sent": {}}, 60, [0])
            assert found[0] > alarm["Threshold"], name


@pytest.mark.parametrize(
    ("ended", "fires"),
    [
        ({"failed": 1}, False),  # the only one of the day
        ({"failed": 1, "late": 1}, False),
        ({"failed": 2, "late": 1}, True),
        ({"failed": 3}, True),
        ({"late": 3, "succeeded": 2}, True),
        ({"failed": 3, "succeeded": 3}, False),
        ({"succeeded": 3}, False),
    ],
)
def test_workflows_fail_when_several_do_and_most_of_them(
    synthesized: Callable[[str], Assembly], ended: dict[str, float], fires: bool
) -> None:
    # given how many workflows ended within a period, and how; of what did not happen there are no data
    alarm = metric_alarms(synthesized("longwork"))["workflows-failed"]
    (expression,) = [parse(query["Expression"]) for query in alarm["Metrics"] if "Expression" in query]
    series = {name: {0: ended[name]} if name in ended else {} for name in expression.names}

    # then a single bad job wakes nobody, and a broken state machine does
    share = expression.evaluate(series, 900, [0])
    assert any(value > alarm["Threshold"] for value in share.values()) == fires


def test_the_latency_objective_is_of_lambda_s_jobs(assembly: Assembly) -> None:
    # given that the jobs of external executors take as long as they may, and have a metric of their own
    windows = [alarm for name, alarm in metric_alarms(assembly).items() if name.startswith("latency-burn-")]

    # then no window looks at that
    assert {use.name for alarm in windows for use in operands(alarm)} == {metrics.END_TO_END.name}


def test_half_of_an_executor_s_retention_is_left_when_someone_is_told_that_jobs_will_be_lost(
    assembly: Assembly,
) -> None:
    queues = assembly.of_type("SQS::Queue")
    for executor in external(assembly):
        # given an executor's queue
        alarm = metric_alarms(assembly)[f"{executor}-near-retention"]
        queue = assembly.outputs[f"{executor.capitalize()}QueueUrl"]["Ref"]
        watching = watched_things(assembly)["ApproximateAgeOfOldestMessage", queue]
        assert f"{executor}-near-retention" in watching

        # then somebody is woken when a job has waited for half of the time that it keeps jobs
        assert alarm["Threshold"] == queues[queue]["MessageRetentionPeriod"] / 2
        assert said(alarm)["severity"] == "critical"
        hours = queues[queue]["MessageRetentionPeriod"] // 3_600
        assert f"half of the {hours} hours that the {executor} queue keeps it" in said(alarm)["means"]
