"""Which metrics are only there once something has happened, so that their absence is no finding.

CloudWatch knows a metric from its first data point on. What counts failures, refusals or cancellations has none
on a healthy stage; what counts each request or invocation has, and is missed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sluice_core import metrics
from sluice_core.metrics import NAMESPACE

if TYPE_CHECKING:
    from sluice_harness.cloudwatch.definitions import Metric
    from sluice_harness.description import Functions

_FAILS: Final = "a job fails"
_WORKS: Final = "Step Functions runs a job"
OCCASIONAL: Final[dict[tuple[str, str], str]] = {
    **{
        (NAMESPACE, metric.name): reason
        for metric, reason in {
            metrics.SUBMISSIONS_DUPLICATE: "a submission comes twice",
            metrics.SUBMISSIONS_CONFLICTING: "a clientToken is used again for something else",
            metrics.SUBMISSIONS_REJECTED: "a submission is invalid",
            metrics.JOBS_CANCELLED: "a job is cancelled",
            metrics.JOBS_RETRIED: "an attempt fails",
            metrics.JOBS_SWEPT: "the sweeper has to end a job",
            metrics.JOBS_FAILED: _FAILS,
            metrics.JOBS_FAILED_PERMANENT: _FAILS,
            metrics.JOBS_FAILED_RETRIES_EXHAUSTED: _FAILS,
            metrics.JOBS_FAILED_WORKER_LOST: _FAILS,
            metrics.JOBS_FAILED_NOT_PROCESSED: _FAILS,
            metrics.JOBS_FAILED_TIMED_OUT: _FAILS,
            metrics.JOBS_FAILED_STOPPED: _FAILS,
            metrics.JOBS_FAILED_NOT_STARTED: _FAILS,
            metrics.EXECUTIONS_NOT_STARTED: "a start is put off",
            metrics.COMPLETIONS_DROPPED: "the end of an unknown execution comes",
            metrics.COMPLETIONS_RECONCILED: "the end of an execution does not come",
            metrics.BATCH_ITEM_FAILURES: "a message fails",
            metrics.RESULTS_DISCARDED: "a result comes too late",
            metrics.AUTHORIZER_DENIALS: "a caller is refused",
            metrics.TOKENS_REFUSED: "a caller's token is wrong",
            metrics.COLD_STARTS: "an execution environment starts",
        }.items()
    },
    **{
        (NAMESPACE, one.name): "a load test runs"
        for one in vars(metrics).values()
        if isinstance(one, metrics.Metric) and one.by_client
    },
    ("AWS/Lambda", "Throttles"): "a function is throttled",
    ("AWS/Lambda", "FailedInvokeEventCount"): "an invocation fails",
    ("AWS/DynamoDB", "ReadThrottleEvents"): "DynamoDB throttles",
    ("AWS/DynamoDB", "WriteThrottleEvents"): "DynamoDB throttles",
    ("AWS/DynamoDB", "SystemErrors"): "DynamoDB itself fails",
    ("AWS/DynamoDB", "ConditionalCheckFailedRequests"): "a condition refuses a write",
    **{("AWS/States", name): _WORKS for name in ("ExecutionsStarted", "ExecutionsSucceeded", "ExecutionTime")},
    ("AWS/States", "ExecutionsFailed"): "a workflow fails",
    ("AWS/States", "ExecutionsTimedOut"): "a workflow takes too long",
    ("AWS/States", "ExecutionsAborted"): "a workflow is stopped",
    ("AWS/States", "ExecutionThrottled"): "Step Functions throttles",
    ("AWS/Events", "FailedInvocations"): "an event cannot be delivered",
    ("AWS/SNS", "NumberOfMessagesPublished"): "an alarm notifies",
    ("AWS/SNS", "NumberOfNotificationsDelivered"): "a subscriber is notified",
    ("AWS/SNS", "NumberOfNotificationsFailed"): "a notification cannot be delivered",
}


def appears_when(metric: Metric, functions: Functions) -> str:
    """Return what has to happen before a metric is there, or nothing if it should always be there."""
    if ("FunctionName", functions.cancelJob) in metric.dimensions:
        return "a job is cancelled"
    if functions.workflowStep and ("FunctionName", functions.workflowStep) in metric.dimensions:
        return _WORKS
    return OCCASIONAL.get((metric.namespace, metric.name), "")
