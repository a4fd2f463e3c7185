"""Every alarm, as a table: what it watches, when it fires, how bad that is.

Half of it is what AWS recommends for these services (CloudWatch User Guide, "Recommended alarms"), the rest what
that list lacks for a queue: what is in the dead-letter queues, how long the first attempt waited, whether the
backlog drains, and how fast the error budget burns (`objectives`). What was left out of AWS's list, and why, is in
ADR 12.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluice_core import metrics

from sluice_infra import queue_alarms
from sluice_infra.alarm_specs import (
    MINUTE,
    AlarmSpec,
    CompositeSpec,
    Missing,
    Series,
    Severity,
    of_api,
    of_function,
    of_queue,
    own,
)
from sluice_infra.executor_alarms import executor_alarms
from sluice_infra.functions import timeouts_s
from sluice_infra.objectives import burn_alarms, burn_windows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sluice_infra.stages import StageConfig

_OPERATIONS = ("BatchExecuteStatement", "BatchGetItem", "GetItem", "Query", "UpdateItem")
_SLOTS_OPERATIONS = ("GetItem", "UpdateItem")


def alarm_specs(config: StageConfig) -> list[AlarmSpec]:
    """Return all of a stage's metric alarms."""
    return [
        *_of_functions(config),
        *_of_api(config),
        *_of_queues(config),
        *_of_table(config),
        *_of_the_rest(config),
        *executor_alarms(config),
        *burn_windows(config),
    ]


def composite_specs(config: StageConfig) -> list[CompositeSpec]:
    """Return all of a stage's composite alarms, each after its children."""
    burns = burn_alarms()
    return [*burns, *(_of_severity(config, severity, burns) for severity in Severity)]


def _of_severity(config: StageConfig, severity: Severity, burns: list[CompositeSpec]) -> CompositeSpec:
    """One alarm a severity, for whoever wants one message and not thirty."""
    alarms = [spec.name for spec in alarm_specs(config) if spec.notifies and spec.severity is severity]
    return CompositeSpec(
        name=str(severity),
        runbook="severities",
        severity=severity,
        means=f"At least one {severity} alarm fires.",
        children=(*alarms, *(burn.name for burn in burns if burn.severity is severity)),
        # Whoever is at work on a page needs no tickets about its side effects.
        suppressed_by=str(Severity.CRITICAL) if severity is Severity.WARNING else "",
    )


def _of_functions(config: StageConfig) -> Iterator[AlarmSpec]:
    for function, timeout_s in timeouts_s(config).items():
        yield _errors_of(function)
        yield AlarmSpec(
            name=f"function-throttles-{function}",
            runbook="function-throttles",
            severity=_severity_of(function),
            means=f"Lambda refuses to run the {function} function for want of concurrency.",
            series={"throttles": of_function(function, "Throttles", "Sum")},
            comparison="GreaterThanOrEqualToThreshold",
            threshold=1,
            m=5,
            n=5,
        )
        yield AlarmSpec(
            name=f"function-duration-{function}",
            runbook="function-duration",
            severity=Severity.WARNING,
            means=f"The {function} function comes near its timeout of {timeout_s} s.",
            series={"duration": of_function(function, "Duration", "p90")},
            threshold=config.thresholds.timeout_share * timeout_s * 1_000,
            period_s=5 * MINUTE,
            m=3,
            n=3,
        )


# What clients wait for, or what jobs are lost to for as long as it lasts.
_CRITICAL = {
    *("authorizer", "processor", "batch-simulator", "job-status"),
    *("starter", "workflow-step", "completion"),
}


def _severity_of(function: str) -> Severity:
    return Severity.CRITICAL if function in _CRITICAL else Severity.WARNING


def _errors_of(function: str) -> AlarmSpec:
    series = {"errors": of_function(function, "Errors", "Sum")}
    means, expression, threshold = f"The {function} function fails.", "", 0.0
    if function == "authorizer":
        # API Gateway wants a 401 raised, and Lambda counts what is raised: wrong tokens are no failure of ours.
        series["refused"] = own(metrics.TOKENS_REFUSED, "Sum")
        # A share: an error counts when its invocation began, a refusal when it ended, maybe a minute later.
        expression, threshold = "(errors - FILL(refused, 0)) / invocations", 0.05
    if function == "workflow-step":
        # So does Step Functions of work that fails: a share tells a broken function from a bad job.
        means = f"More than half of the {function} function's invocations fail."
        expression, threshold = "errors / invocations", 0.5
    if expression:
        series["invocations"] = of_function(function, "Invocations", "Sum")
    return AlarmSpec(
        name=f"function-errors-{function}",
        runbook="function-errors",
        severity=_severity_of(function),
        means=means,
        series=series,
        expression=expression,
        threshold=threshold,
        m=3,
        n=5,
    )


def _of_api(config: StageConfig) -> Iterator[AlarmSpec]:
    yield AlarmSpec(
        name="api-5xx",
        runbook="api-5xx",
        severity=Severity.CRITICAL,
        means="More than 5 % of requests are answered with a 5xx.",
        series={"errors": of_api("5XXError", "Average")},
        threshold=0.05,
        m=3,
        n=3,
    )
    yield AlarmSpec(
        name="api-4xx",
        runbook="api-4xx",
        severity=Severity.WARNING,
        means=f"More than {config.thresholds.api_4xx_share:.0%} of requests are refused with a 4xx.",
        series={"refusals": of_api("4XXError", "Average")},
        threshold=config.thresholds.api_4xx_share,
        m=5,
        n=5,
    )
    yield AlarmSpec(
        name="api-latency",
        runbook="api-latency",
        severity=Severity.WARNING,
        means=f"One request in ten takes {config.thresholds.api_latency_ms / 1_000:g} s or more.",
        series={"latency": of_api("Latency", "p90")},
        comparison="GreaterThanOrEqualToThreshold",
        threshold=config.thresholds.api_latency_ms,
        m=5,
        n=5,
    )


def _of_queues(config: StageConfig) -> Iterator[AlarmSpec]:
    # A request is received five times within a quarter of an hour, and then it is a dead letter: sooner than that.
    limits = {"request": (config.thresholds.request_age_s, 5), "work": (config.thresholds.work_age_s, 15)}
    first_attempts = {
        "request": metrics.REQUEST_AGE_OF_FIRST_ATTEMPT,
        "work": metrics.WORK_AGE_OF_FIRST_ATTEMPT,
    }
    for queue, (limit_s, minutes) in limits.items():
        yield queue_alarms.dead_letters(queue)
        yield queue_alarms.age_of_oldest(queue, limit_s, minutes)
        yield queue_alarms.age_in_quiet_groups(queue, limit_s)
        yield AlarmSpec(
            name=f"{queue}-age-of-first-attempt",
            runbook="queue-age",
            severity=Severity.WARNING,
            means=f"Messages of the {queue} queue wait {limit_s} s before anyone looks at them.",
            # What was received three times leaves the age of the oldest; this one poison cannot hide from.
            series={"age": own(first_attempts[queue], "Maximum")},
            comparison="GreaterThanOrEqualToThreshold",
            threshold=1_000 * limit_s,
            m=3,
            n=5,
        )
        yield queue_alarms.failed_invokes(queue)
    yield queue_alarms.time_to_drain("work", config.thresholds.drain_s)


def _of_table(config: StageConfig) -> Iterator[AlarmSpec]:
    things = {
        "table": {"TableName": "${JobTable}"},
        "index": {"TableName": "${JobTable}", "GlobalSecondaryIndexName": "${ListIndex}"},
    }
    operations = [("${JobTable}", operation) for operation in _OPERATIONS]
    if config.external_executors:
        things["executions"] = {"TableName": "${JobTable}", "GlobalSecondaryIndexName": "${ExecutionIndex}"}
        things["slots"] = {"TableName": "${SlotsTable}"}
        operations += [("${SlotsTable}", operation) for operation in _SLOTS_OPERATIONS]
    for direction in ("Read", "Write"):
        name = f"{direction}ThrottleEvents"
        yield AlarmSpec(
            name=f"table-{direction.lower()}-throttles",
            runbook="table-throttles",
            severity=Severity.CRITICAL,
            means=f"DynamoDB throttles {direction.lower()}s of the job table or its index.",
            series={key: Series("AWS/DynamoDB", name, "Sum", of) for key, of in things.items()},
            # Alarms on this namespace ignore missing data whatever they say: without FILL one that fired stays.
            expression=f"FILL(SUM([{', '.join(things)}]), 0)",
            m=5,
            n=5,
        )
    errors = {
        f"errors{number}": Series(
            "AWS/DynamoDB", "SystemErrors", "Sum", {"TableName": table, "Operation": operation}
        )
        for number, (table, operation) in enumerate(operations, start=1)
    }
    yield AlarmSpec(
        name="table-system-errors",
        runbook="table-system-errors",
        severity=Severity.CRITICAL,
        means="DynamoDB itself fails.",
        series=errors,
        expression=f"FILL(SUM([{', '.join(errors)}]), 0)",
        m=3,
        n=5,
    )


def _of_the_rest(config: StageConfig) -> Iterator[AlarmSpec]:
    yield AlarmSpec(
        name="batch-item-failures",
        runbook="batch-item-failures",
        severity=Severity.WARNING,
        means="Single messages keep failing, which Lambda does not count as errors.",
        series={"failures": own(metrics.BATCH_ITEM_FAILURES, "Sum")},
        threshold=config.thresholds.batch_item_failures,
        m=5,
        n=5,
    )
    yield AlarmSpec(
        name="jobs-swept",
        runbook="jobs-swept",
        severity=Severity.WARNING,
        means="The sweeper ended jobs that their own workers had left open.",
        series={"swept": own(metrics.JOBS_SWEPT, "Sum")},
    )
    yield _silent("sweeper", "jobs that nobody ends stay open")
    if config.external_executors:
        yield _silent("reconciler", "what still runs of jobs that have ended is not stopped, nor lost ends found")
    yield AlarmSpec(
        name="events-late",
        runbook="events-late",
        severity=Severity.WARNING,
        means="Job events are published late; what waits a day in the table's stream is lost.",
        series={"age": of_function("event-publisher", "IteratorAge", "Maximum")},
        threshold=1_000 * config.thresholds.iterator_age_s,
        m=5,
        n=5,
        missing=Missing.IGNORE,  # a publisher that stands still says nothing
    )
    yield AlarmSpec(
        name="events-silent",
        runbook="events-late",
        severity=Severity.WARNING,
        means="Jobs end, and nothing of it is published.",
        series={
            "completed": own(metrics.JOBS_COMPLETED, "Sum"),
            "failed": own(metrics.JOBS_FAILED, "Sum"),
            "cancelled": own(metrics.JOBS_CANCELLED, "Sum"),
            "published": own(metrics.EVENTS_PUBLISHED, "Sum"),
        },
        expression="IF(FILL(published, 0) > 0, 0, FILL(SUM([completed, failed, cancelled]), 0))",
        period_s=5 * MINUTE,
        m=3,
        n=3,
    )
    yield AlarmSpec(
        name="account-concurrency",
        runbook="account-concurrency",
        severity=Severity.WARNING,
        means="The account's Lambda concurrency is nearly used up, by this stage or another.",
        series={"concurrent": Series("AWS/Lambda", "ConcurrentExecutions", "Maximum", {})},
        threshold=0.9 * config.thresholds.account_concurrency,
        m=10,
        n=10,
    )
    yield AlarmSpec(
        name="notifications-failed",
        runbook="notifications-failed",
        severity=Severity.WARNING,
        means="An alarm's notification did not reach one of its subscribers.",
        series={"failed": Series("AWS/SNS", "NumberOfNotificationsFailed", "Sum", {"TopicName": "${AlarmTopic}"})},
        # An hour: it tells the broken subscriber too, so that each OK of its own would fire it again at once.
        n=60,
    )


def _silent(function: str, consequence: str) -> AlarmSpec:
    return AlarmSpec(
        name=f"{function}-silent",
        runbook="sweeper-silent",
        severity=Severity.WARNING,
        means=f"The {function}, which runs each minute, has not run: {consequence}.",
        # Silence is no data, so it is counted against something that is there whenever the stage is; and before
        # the stage was there is no silence, or each first deployment would fire it.
        series={
            "invocations": of_function(function, "Invocations", "Sum"),
            "alive": of_queue("RequestQueue", "ApproximateNumberOfMessagesVisible", "SampleCount"),
        },
        expression="FILL(invocations, 0) * alive / alive",
        comparison="LessThanThreshold",
        threshold=1,
        m=3,
        n=3,
        period_s=5 * MINUTE,
    )
