"""The metrics that AWS's services send for what these stacks are made of, as AWS's documents list them.

What is not here cannot be watched: an alarm or a widget on it would never have data. Of each service, only those
metrics are listed that exist for our kind of it: a REST API, standard queues, functions behind queues and a
stream, tables on demand, a standard workflow, rules on the default bus.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

Names = frozenset[str]


class Kind(Enum):
    """What a metric's values are, and so which statistics of them mean something; percentiles only of times."""

    COUNT = ("Average", "SampleCount", "Sum")
    LEVEL = ("Average", "Maximum", "Minimum", "SampleCount")
    SIZE = ("Average", "Maximum", "Minimum", "SampleCount", "Sum")
    TIME = ("Average", "Maximum", "Minimum", "SampleCount", "p", "PR")


@dataclass(frozen=True)
class Sent:
    """A metric and the sets of dimension names under which it is sent."""

    kind: Kind
    dimension_sets: frozenset[Names]


def _sets(*names: str) -> frozenset[Names]:
    return frozenset(frozenset(filter(None, one.split("+"))) for one in names)


def _all(kind: Kind, dimension_sets: frozenset[Names], *names: str) -> dict[str, Sent]:
    return {name: Sent(kind, dimension_sets) for name in names}


# API Gateway Developer Guide, "Amazon API Gateway dimensions and metrics". ApiId, 4xx, 5xx and DataProcessed are
# those of HTTP APIs. A method's own are sent only where detailed metrics are enabled.
_REST_API = _sets("ApiName", "ApiName+Stage", "ApiName+Method+Resource+Stage")
# Amazon SQS Developer Guide, "Available CloudWatch metrics for Amazon SQS".
_QUEUE = _sets("QueueName")
# AWS Lambda Developer Guide, "Types of metrics for Lambda functions" and "Viewing metrics for Lambda functions".
_FUNCTION = _sets("", "FunctionName", "FunctionName+Resource", "ExecutedVersion+FunctionName+Resource")
_MAPPING = _sets("EventSourceMappingUUID")
# Amazon DynamoDB Developer Guide, "DynamoDB metrics and dimensions".
_TABLE_OR_INDEX = _sets("TableName", "GlobalSecondaryIndexName+TableName")
_OPERATION = _sets("Operation+TableName")
# Amazon SNS Developer Guide, "Monitoring Amazon SNS topics using CloudWatch".
_TOPIC = _sets("TopicName")
# AWS Step Functions Developer Guide, "Step Functions metrics for CloudWatch".
_MACHINE = _sets("StateMachineArn")
# Amazon EventBridge User Guide, "Monitoring Amazon EventBridge": on the default bus, by rule alone.
_RULE = _sets("RuleName")

AWS_METRICS: Mapping[str, Mapping[str, Sent]] = {
    "AWS/ApiGateway": {
        **_all(Kind.COUNT, _REST_API, "4XXError", "5XXError", "CacheHitCount", "CacheMissCount", "Count"),
        **_all(Kind.TIME, _REST_API, "IntegrationLatency", "Latency"),
    },
    "AWS/SQS": {
        **_all(
            Kind.LEVEL,
            _QUEUE,
            "ApproximateAgeOfOldestMessage",
            "ApproximateAgeOfOldestMessageInQuietGroups",
            "ApproximateNumberOfMessagesDelayed",
            "ApproximateNumberOfMessagesDelayedInQuietGroups",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesNotVisibleInQuietGroups",
            "ApproximateNumberOfMessagesVisible",
            "ApproximateNumberOfMessagesVisibleInQuietGroups",
            "ApproximateNumberOfNoisyGroups",
        ),
        **_all(
            Kind.COUNT,
            _QUEUE,
            "NumberOfEmptyReceives",
            "NumberOfMessagesDeleted",
            "NumberOfMessagesReceived",
            "NumberOfMessagesSent",
        ),
        **_all(Kind.SIZE, _QUEUE, "SentMessageSize"),
    },
    "AWS/Lambda": {
        **_all(
            Kind.COUNT,
            _FUNCTION,
            "AsyncEventsDropped",
            "AsyncEventsReceived",
            "DeadLetterErrors",
            "DestinationDeliveryFailures",
            "Errors",
            "Invocations",
            "RecursiveInvocationsDropped",
            "Throttles",
        ),
        **_all(Kind.TIME, _FUNCTION, "AsyncEventAge", "Duration", "PostRuntimeExtensionsDuration"),
        **_all(Kind.TIME, _sets("FunctionName", "EventSourceMappingUUID+FunctionName"), "IteratorAge"),
        **_all(Kind.LEVEL, _FUNCTION, "ConcurrentExecutions"),
        **_all(Kind.LEVEL, _sets(""), "ClaimedAccountConcurrency", "UnreservedConcurrentExecutions"),
        **_all(
            Kind.COUNT,
            _MAPPING,
            "DeletedEventCount",
            "DroppedEventCount",
            "FailedInvokeEventCount",
            "FilteredOutEventCount",
            "InvokedEventCount",
            "OnFailureDestinationDeliveredEventCount",
            "PolledEventCount",
        ),
    },
    "AWS/DynamoDB": {
        **_all(Kind.COUNT, _TABLE_OR_INDEX, "ReadThrottleEvents", "WriteThrottleEvents"),
        **_all(Kind.SIZE, _TABLE_OR_INDEX, "ConsumedReadCapacityUnits", "ConsumedWriteCapacityUnits"),
        **_all(Kind.COUNT, _sets("TableName"), "ConditionalCheckFailedRequests"),
        **_all(Kind.COUNT, _OPERATION, "SystemErrors", "ThrottledRequests"),
        **_all(Kind.TIME, _OPERATION, "SuccessfulRequestLatency"),
        **_all(Kind.COUNT, _sets(""), "UserErrors"),
    },
    "AWS/Events": {
        **_all(
            Kind.COUNT,
            _RULE,
            "DeadLetterInvocations",
            "FailedInvocations",
            "InvocationAttempts",
            "InvocationsFailedToBeSentToDlq",
            "InvocationsSentToDlq",
            "MatchedEvents",
            "ThrottledRules",
            "TriggeredRules",
        ),
        **_all(Kind.COUNT, _sets("", "RuleName"), "Invocations"),
    },
    "AWS/States": {
        **_all(
            Kind.COUNT,
            _MACHINE,
            "ExecutionThrottled",
            "ExecutionsAborted",
            "ExecutionsFailed",
            "ExecutionsStarted",
            "ExecutionsSucceeded",
            "ExecutionsTimedOut",
        ),
        **_all(Kind.TIME, _MACHINE, "ExecutionTime"),
    },
    "AWS/SNS": {
        **_all(
            Kind.COUNT,
            _TOPIC,
            "NumberOfMessagesPublished",
            "NumberOfNotificationsDelivered",
            "NumberOfNotificationsFailed",
            "NumberOfNotificationsFailedToRedriveToDlq",
            "NumberOfNotificationsFilteredOut",
            "NumberOfNotificationsRedrivenToDlq",
        ),
        **_all(Kind.SIZE, _TOPIC, "PublishSize"),
    },
}
