"""The alarms of external executors: what a stage that has some has beside the others (`alarms`).

Jobs wait for each executor in a queue of its own, so each has a queue's alarms, but for those on a consumer: the
starter takes from them without a mapping. That their ends are told late, or not at all, has alarms of its own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sluice_core import metrics
from sluice_core.executors import STEP_FUNCTIONS
from sluice_core.metrics import EXECUTOR, NAMESPACE, STAGE

from sluice_infra import queue_alarms
from sluice_infra.alarm_specs import HOUR, MINUTE, AlarmSpec, Series, Severity, of_queue, own
from sluice_infra.executor_settings import retention_s

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sluice_infra.stages import StageConfig

# As long as the age of all of a work queue takes to fire.
_MINUTES = 15
# A period has no more (CloudWatch, "Statistics definitions": 86,400 s).
_LONGEST_PERIOD_S = 24 * HOUR
# One or two workflows that fail are jobs that cannot succeed, however few there were.
_FEWEST_FAILED = 3


def executor_alarms(config: StageConfig) -> Iterator[AlarmSpec]:
    """Return the alarms that only a stage with external executors has; none for one without."""
    if not config.external_executors:
        return
    for executor in config.external_executors:
        yield from _of_work_queue(config, executor)
    yield _not_started()
    yield from _of_completions(config)
    if STEP_FUNCTIONS in config.external_executors:
        yield from _of_workflows(config)


def _of_work_queue(config: StageConfig, executor: str) -> Iterator[AlarmSpec]:
    limit_s, page = _wait_s(config, executor), "executor-backlog"
    yield queue_alarms.dead_letters(executor)
    yield queue_alarms.age_of_oldest(executor, limit_s, _MINUTES, runbook=page)
    yield queue_alarms.age_in_quiet_groups(executor, limit_s, runbook=page)
    yield _near_retention(executor, retention_s(config, executor))
    if _wait_s(config, executor) <= _LONGEST_PERIOD_S:
        yield _time_to_drain(config, executor)
    cap: int = getattr(config, executor).max_running
    yield AlarmSpec(
        name=f"{executor}-saturated",
        runbook=page,
        severity=Severity.WARNING,
        means=f"All {cap} slots of {executor} are taken, and jobs have waited {limit_s} s for one.",
        series={
            "running": Series(
                NAMESPACE, metrics.EXECUTIONS_RUNNING.name, "Maximum", {STAGE: "${Stage}", EXECUTOR: executor}
            ),
            "age": of_queue(f"{executor.capitalize()}Queue", "ApproximateAgeOfOldestMessage", "Maximum"),
        },
        expression=f"IF(FILL(running, 0) >= {cap} AND FILL(age, 0) >= {limit_s}, 1, 0)",
        # Between the end of one execution and the start of the next a slot is free for a moment.
        m=10,
        n=_MINUTES,
    )


def _wait_s(config: StageConfig, executor: str) -> int:
    """Return how long a job may wait: as long as a run may take, if the queue keeps it much longer than that."""
    timeout_s: int = getattr(config, executor).timeout_s
    return min(max(config.thresholds.work_age_s, timeout_s), retention_s(config, executor) // 4)


def _time_to_drain(config: StageConfig, executor: str) -> AlarmSpec:
    wait_s, thresholds = _wait_s(config, executor), config.thresholds
    # As much longer than usual as a job may wait longer, but within what the queue keeps.
    limit_s = min(thresholds.drain_s * wait_s // thresholds.work_age_s, retention_s(config, executor) // 2)
    # Jobs that were started at a time end at a time, and none in between: a rate is one of a whole run.
    period_s = MINUTE * math.ceil(max(_MINUTES * MINUTE, wait_s) / MINUTE)
    return queue_alarms.time_to_drain(executor, limit_s, runbook="executor-backlog", period_s=period_s, m=2, n=2)


def _near_retention(executor: str, kept_s: int) -> AlarmSpec:
    return AlarmSpec(
        name=f"{executor}-near-retention",
        runbook="executor-backlog",
        severity=Severity.CRITICAL,
        means=f"The oldest job has waited for half of the {kept_s / HOUR:g} hours that the {executor} queue keeps "
        "it; what waits longer than these is lost.",
        series={"age": of_queue(f"{executor.capitalize()}Queue", "ApproximateAgeOfOldestMessage", "Maximum")},
        comparison="GreaterThanOrEqualToThreshold",
        threshold=kept_s / 2,
        m=_MINUTES,
        n=_MINUTES,
    )


def _not_started() -> AlarmSpec:
    return AlarmSpec(
        name="executions-not-started",
        runbook="executions-not-started",
        severity=Severity.WARNING,
        means="An external executor's service puts off starts, for minutes now.",
        series={"put_off": own(metrics.EXECUTIONS_NOT_STARTED, "Sum")},
        m=5,
        n=5,
    )


def _of_completions(config: StageConfig) -> Iterator[AlarmSpec]:
    yield queue_alarms.dead_letters("completion")
    yield queue_alarms.age_of_oldest("completion", config.thresholds.request_age_s, 5, runbook="completions-late")
    yield queue_alarms.failed_invokes("completion")
    rules = {executor: f"{executor.capitalize()}Rule" for executor in config.external_executors}
    yield AlarmSpec(
        name="completions-undelivered",
        runbook="completions-lost",
        severity=Severity.WARNING,
        means="EventBridge could not put an execution's end on the completion queue, and has given it up.",
        series={
            executor: Series("AWS/Events", "FailedInvocations", "Sum", {"RuleName": f"${{{rule}}}"})
            for executor, rule in rules.items()
        },
        expression=f"SUM([{', '.join(rules)}])",
    )
    yield AlarmSpec(
        name="completions-reconciled",
        runbook="completions-lost",
        severity=Severity.WARNING,
        means="Executions end again and again without an event: the reconciler finds them by asking.",
        # Events may get lost, and a container that is killed is settled so: now and then it is no fault.
        series={"found": own(metrics.COMPLETIONS_RECONCILED, "Sum")},
        period_s=5 * MINUTE,
        m=3,
        n=5,
    )
    yield AlarmSpec(
        name="completions-dropped",
        runbook="completions-dropped",
        severity=Severity.WARNING,
        means="Ends of executions keep coming that are of no job's current start.",
        series={"dropped": own(metrics.COMPLETIONS_DROPPED, "Sum")},
        m=3,
        n=5,
    )


def _of_workflows(config: StageConfig) -> Iterator[AlarmSpec]:
    # What takes long ends seldom.
    period_s = min(
        MINUTE * math.ceil(max(_MINUTES * MINUTE, config.stepfunctions.timeout_s) / MINUTE), _LONGEST_PERIOD_S
    )

    def of_machine(name: str) -> Series:
        return Series("AWS/States", name, "Sum", {"StateMachineArn": "${StateMachineArn}"})

    yield AlarmSpec(
        name="workflows-throttled",
        runbook="workflows-failed",
        severity=Severity.WARNING,
        means="Step Functions holds up the workflows' steps: the account's rate of transitions is used up.",
        series={"throttled": of_machine("ExecutionThrottled")},
        comparison="GreaterThanOrEqualToThreshold",
        threshold=1,
        m=5,
        n=5,
    )
    yield AlarmSpec(
        name="workflows-failed",
        runbook="workflows-failed",
        # Jobs that can never succeed are among them, so nobody is woken: what fails by no fault of its job burns
        # the budget of availability, too.
        severity=Severity.WARNING,
        means="Workflows fail or time out: three or more at a time, and more than half of those that end.",
        series={
            "failed": of_machine("ExecutionsFailed"),
            "late": of_machine("ExecutionsTimedOut"),
            "succeeded": of_machine("ExecutionsSucceeded"),
        },
        expression=f"IF(FILL(SUM([failed, late]), 0) < {_FEWEST_FAILED}, 0, "
        "SUM([failed, late]) / SUM([failed, late, succeeded]))",
        threshold=0.5,
        period_s=period_s,
    )
