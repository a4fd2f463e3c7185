"""USD for a million jobs, by line, from what one job and one read of its status use.

Lambda's time is this machine's: functions here wait for two cores that the whole stage shares, in AWS for the
share of a core that their memory buys. Calls, units and bytes are the same in both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluice_harness.bench.wire import NOT_PER_JOB
from sluice_harness.review.costs import CostLine, Usage, estimate, prices, total

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sluice_harness.bench.assembly import Settings
    from sluice_harness.bench.wire import Use

_MB_PER_GB = 1024
_MS_PER_S = 1000
_ARCHITECTURE = "arm64"
# The share that X-Ray's default rule records of what no rule of ours covers, which is what Lambda polls for
# ("Configuring sampling rules"). At a million jobs the first of each second do not count.
_DEFAULT_TRACE_RATE = 0.05
_LOG_MONTHS = 1.0
# Of a job's workflow: into each of its four states, and out of the last. Step Functions bills "each time a step
# of your workflow is executed" (AWS Step Functions pricing), by which it may be one fewer.
_TRANSITIONS = 5
FREE: Mapping[str, str] = {
    "DynamoDB Streams": "reads by a function's own mapping are not billed",
    "SNS": "the topic carries alarms, none of them of a job that goes well",
    "KMS": "the table's key is used once in five minutes for each connection of DynamoDB's own, not for each job; "
    "queues and bucket have keys of SQS's and S3's own, free of charge",
    "CloudWatch metrics": "EMF's metrics are billed by the month, whatever goes into them",
    "X-Ray segments": "billed by trace, however many segments one has",
    "S3 storage and downloads": "not in it, nor are egress and Cognito's users",
    "Authorizer": "once for a token in five minutes; see authorizationsPerMillion",
}


def per_million(
    job: Use, read: Use, settings: Settings, reads: int, durations: Mapping[str, float] | None = None
) -> list[CostLine]:
    """Return the lines for jobs whose status is read so many times.

    Parameters
    ----------
    job, read : Use
        What one of each uses.
    settings : Settings
        The functions' memory and the share of traced requests.
    reads : int
        How often each job's status is read.
    durations : mapping, optional
        Milliseconds of Lambda per job by function, where there are better ones than the tapped functions'.

    """
    return estimate(usage(job, read, settings, reads, durations or job.duration_ms), prices())


def authorizations_per_million(duration_ms: float, memory_mb: int) -> float:
    """Return USD for a million runs of the authorizer: its requests and its time."""
    listed = prices()
    gb_seconds = duration_ms / _MS_PER_S * memory_mb / _MB_PER_GB
    return float(listed["perMillion"]["lambdaRequests"] + gb_seconds * listed["perGbSecond"][_ARCHITECTURE] * 1e6)


def shown(lines: list[CostLine]) -> dict[str, float]:
    """Return the lines as bench.json has them, with their total."""
    told = {line.what: round(line.per_million, 4) for line in lines if line.per_million is not None}
    return {**told, "total": round(total(lines, "per_million"), 4)}


def usage(job: Use, read: Use, settings: Settings, reads: int, durations: Mapping[str, float]) -> Usage:
    """Return what one job uses whose status is read so many times; see `per_million`."""
    api = 1.0 + reads
    invocations = _of_jobs(job.invocations) + reads * _of_jobs(read.invocations)
    milliseconds = {
        name: durations.get(name, 0.0) + reads * read.duration_ms.get(name, 0.0)
        for name in settings.memory_mb
        if name not in NOT_PER_JOB
    }
    logged = job.all_log_bytes + reads * read.all_log_bytes
    # What is invoked through the gateway is in its request's trace; what Lambda polls for has traces of its own.
    # A workflow's steps are in its execution's.
    executions = job.calls.get("states StartExecution", 0.0)
    by_themselves = _of_jobs(job.invocations) - job.invocations.get("workflow-step", 0.0) + executions
    traces = settings.trace_rate * api + _DEFAULT_TRACE_RATE * by_themselves
    return Usage(
        seconds=0,
        jobs=1,
        api_requests=api,
        sqs_requests=job.requests("sqs") + reads * read.requests("sqs"),
        lambda_requests=invocations,
        gb_seconds={
            _ARCHITECTURE: sum(
                spent / _MS_PER_S * settings.memory_mb[name] / _MB_PER_GB for name, spent in milliseconds.items()
            )
        },
        write_units=job.write_units + reads * read.write_units,
        read_units=job.read_units + reads * read.read_units,
        s3_puts=job.calls.get("s3 PUT", 0.0),
        log_bytes=logged,
        custom_metrics=0,
        alarm_metrics=0,
        composite_alarms=0,
        dashboards=0,
        events=job.requests("events") and 1.0,
        traces=traces,
        log_months=_LOG_MONTHS,
        transitions=executions * _TRANSITIONS or None,
        s3_gets=job.calls.get("s3 GET", 0.0) or None,
    )


def _of_jobs(figures: Mapping[str, float]) -> float:
    return sum(value for name, value in figures.items() if name not in NOT_PER_JOB)
