"""AWS/SNS: how many messages were published, and how many notifications arrived or did not.

MiniStack publishes none of it and only logs a delivery that fails. SNS counts NumberOfMessagesPublished,
NumberOfNotificationsDelivered and NumberOfNotificationsFailed by TopicName; a failed attempt to deliver by HTTP
counts each time ("Monitoring Amazon SNS topics using CloudWatch"). Closed around the engine's own deliveries. A
subscription whose messages are filtered out counts neither way.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

from ministack.services import lambda_svc, sns

from sluice_harness.compat.monitoring.metric_store import dimensions, store
from sluice_harness.compat.patching import expect
from sluice_harness.compat.queues.fair_order import Message
from sluice_harness.compat.queues.queue_store import MessageStore, arrivals

if TYPE_CHECKING:
    from collections.abc import Coroutine

NAMESPACE = "AWS/SNS"
_FAILED_ANSWER = 300

_topic: ContextVar[str] = ContextVar("sluice_topic", default="")
# Where a delivery to a queue notes that it arrived.
_arrived: ContextVar[list[str] | None] = ContextVar("sluice_arrived", default=None)


def apply() -> None:
    """Count publications and deliveries."""
    fanout = expect(
        sns,
        "_fanout",
        *("topic_arn", "msg_id", "message", "subject", "message_structure", "message_attributes"),
        *("message_group_id", "message_dedup_id"),
    )
    to_queue = expect(
        sns,
        "_deliver_to_sqs",
        *("endpoint", "envelope", "raw", "raw_message", "message_group_id", "message_dedup_id"),
        *("message_attributes", "topic_arn"),
    )
    to_function = expect(
        sns,
        "_deliver_to_lambda",
        *("endpoint", "envelope", "topic_arn", "sub_arn", "msg_id", "raw_message", "message_attributes"),
    )
    expect(sns, "_deliver_to_http", "endpoint", "payload")
    expect(sns, "_http_post_sync", "endpoint", "payload", "sns_message_type")
    arrivals.append(_note_arrival)
    sns._fanout = _published(fanout)
    sns._deliver_to_sqs = _queued(to_queue)
    sns._deliver_to_lambda = _invoked(to_function)
    sns._deliver_to_http = _deliver_to_http


def _count(topic_arn: str, name: str) -> None:
    store.record(NAMESPACE, name, dimensions(TopicName=topic_arn.rpartition(":")[2]), 1, "Count")


def _delivered(topic_arn: str, *, arrived: bool) -> None:
    _count(topic_arn, "NumberOfNotificationsDelivered" if arrived else "NumberOfNotificationsFailed")


def _published(original: Any) -> Any:
    def fanout(topic_arn: str, msg_id: str, message: str, *rest: Any, **options: Any) -> None:
        _count(topic_arn, "NumberOfMessagesPublished")
        token = _topic.set(topic_arn)
        try:
            original(topic_arn, msg_id, message, *rest, **options)
        finally:
            _topic.reset(token)

    return fanout


def _queued(original: Any) -> Any:
    def deliver(endpoint: str, *rest: Any, **options: Any) -> None:
        arrived: list[str] = []
        token = _arrived.set(arrived)
        try:
            original(endpoint, *rest, **options)
        finally:
            _arrived.reset(token)
        _delivered(_topic.get(), arrived=bool(arrived))

    return deliver


def _note_arrival(queue: MessageStore, _: Message) -> None:
    noted = _arrived.get()
    if noted is not None:
        noted.append(queue.name)


def _invoked(original: Any) -> Any:
    def deliver(endpoint: str, *rest: Any) -> None:
        function, config, _ = lambda_svc._get_func_record_for_ref(endpoint)
        _delivered(_topic.get(), arrived=bool(function and config))
        original(endpoint, *rest)

    return deliver


def _deliver_to_http(endpoint: str, payload: str) -> Coroutine[Any, Any, None]:
    # Called in the publisher's context, awaited on a thread that has none.
    return _post(_topic.get(), endpoint, payload)


async def _post(topic_arn: str, endpoint: str, payload: str) -> None:
    try:
        status = await asyncio.to_thread(sns._http_post_sync, endpoint, payload, "Notification")
    except (OSError, HTTPException) as error:  # a refused connection, an answer of 4xx or 5xx, no HTTP at all
        sns.logger.warning("SNS HTTP delivery to %s failed: %s", endpoint, error)
        _delivered(topic_arn, arrived=False)
        return
    _delivered(topic_arn, arrived=status < _FAILED_ANSWER)
