"""AWS/SQS: how many messages wait, how old they are, and how many come and go.

MiniStack publishes none of it. SQS publishes for each active queue, by QueueName and once a minute, how many
messages are visible, in flight and delayed and how old the oldest is; the same without noisy message groups, and
how many those are; and it counts what is sent, received and deleted, and the receives that found nothing. A queue
is active while it holds messages and for six hours after it was last used. Some rules are traps for whoever sets
alarms ("Available CloudWatch metrics for Amazon SQS" and
"Setting-up dead-letter queue retention in Amazon SQS"): a message that was received three times no longer counts
as the oldest, even if it is never deleted; a message that a redrive policy moved was not *sent* to its dead-letter
queue; and there its age counts from the move.

Closed by observing the queues. Event source mappings receive and delete like any consumer; what Lambda's long
polls find empty is not imitated. FIFO queues are left out.
"""

from __future__ import annotations

import json
import time
from typing import Any

from ministack.services import lambda_svc, sqs

from sluice_harness.compat.monitoring import running_evaluator
from sluice_harness.compat.monitoring.metric_store import Dimensions, dimensions, store
from sluice_harness.compat.patching import expect
from sluice_harness.compat.queues.fair_order import Message
from sluice_harness.compat.queues.queue_store import MessageStore, arrivals

NAMESPACE = "AWS/SQS"
ACTIVE_SECONDS = 6 * 3600
COUNTS = (
    *("NumberOfMessagesSent", "NumberOfMessagesReceived", "NumberOfMessagesDeleted", "NumberOfEmptyReceives"),
)

_used: dict[str, float] = {}  # queue -> when it was last used, in the stage's time


def apply() -> None:
    """Count what comes and goes, and look at every queue once a minute."""
    arrivals.append(_sent)
    sqs._collect_msgs = _receiving(expect(sqs, "_collect_msgs", "q", "max_n", "vis_timeout"))
    delete = expect(sqs, "_delete_messages_for_esm", "queue_url", "receipt_handles")
    sqs._delete_messages_for_esm = _deleting_for_mapping(delete)
    for action, count in (("DeleteMessage", lambda _: 1), ("DeleteMessageBatch", _successful)):
        sqs._HANDLERS[action] = _deleting(sqs._HANDLERS[action], count)
    sqs._HANDLERS["ReceiveMessage"] = _receiving_nothing(sqs._HANDLERS["ReceiveMessage"])
    running_evaluator.gauges.append(sample)


def _count(queue: str, name: str, number: int) -> None:
    store.record(NAMESPACE, name, dimensions(QueueName=queue), number, "Count")
    _used[queue] = store.clock.now()


def _sent(queue: MessageStore, message: Message) -> None:
    if "DeadLetterQueueSourceArn" in message.get("sys", {}):
        return  # moved by a redrive policy
    _count(queue.name, "NumberOfMessagesSent", 1)
    store.record(NAMESPACE, "SentMessageSize", dimensions(QueueName=queue.name), _size(message), "Bytes")


def _size(message: Message) -> int:
    attributes = message.get("message_attributes")
    return len(message["body"].encode()) + (len(json.dumps(attributes)) if attributes else 0)


def _receiving(original: Any) -> Any:
    def collect(q: dict[str, Any], max_n: int, vis_timeout: int) -> list[Message]:
        received: list[Message] = original(q, max_n, vis_timeout)
        if received:
            _count(q["name"], "NumberOfMessagesReceived", len(received))
        return received

    return collect


def _receiving_nothing(original: Any) -> Any:
    async def receive(data: dict[str, Any], qurl: str) -> dict[str, Any]:
        answer: dict[str, Any] = await original(data, qurl)
        if not answer.get("Messages"):
            _count(_name(data.get("QueueUrl", qurl)), "NumberOfEmptyReceives", 1)
        return answer

    return receive


def _deleting(original: Any, count: Any) -> Any:
    def delete(data: dict[str, Any], qurl: str) -> dict[str, Any]:
        answer: dict[str, Any] = original(data, qurl)
        if number := count(answer):
            _count(_name(data.get("QueueUrl", qurl)), "NumberOfMessagesDeleted", number)
        return answer

    return delete


def _successful(answer: dict[str, Any]) -> int:
    return len(answer.get("Successful", ()))


def _deleting_for_mapping(original: Any) -> Any:
    def delete(queue_url: str, receipt_handles: set[str]) -> None:
        original(queue_url, receipt_handles)
        if receipt_handles:
            _count(_name(queue_url), "NumberOfMessagesDeleted", len(receipt_handles))

    return delete


def _name(url: str) -> str:
    return url.rpartition("/")[2]


def sample(minute: int) -> None:
    """Record what the active queues hold, and what they did not do, in the minute that ends now."""
    mapped = {mapping.get("EventSourceArn") for _, _, mapping in lambda_svc._iter_all_esms()}
    for queue in list(sqs._queues._data.values()):
        messages = queue["messages"]
        if isinstance(messages, MessageStore) and _is_active(queue, mapped):
            _sample(messages, minute)


def _is_active(queue: dict[str, Any], mapped: set[Any]) -> bool:
    created = store.clock.at(float(queue["attributes"]["CreatedTimestamp"]))
    last = _used.get(queue["name"], created)
    arn = queue["attributes"]["QueueArn"]
    return bool(len(queue["messages"]) or arn in mapped or store.clock.now() - last < ACTIVE_SECONDS)


def _sample(messages: MessageStore, minute: int) -> None:
    where = dimensions(QueueName=messages.name)
    visible, in_flight, delayed = messages.counts()
    oldest = messages.oldest_arrival()
    _gauge("ApproximateNumberOfMessagesVisible", where, minute, visible)
    _gauge("ApproximateNumberOfMessagesNotVisible", where, minute, in_flight)
    _gauge("ApproximateNumberOfMessagesDelayed", where, minute, delayed)
    age = 0 if oldest is None else int(time.time() - oldest)
    _gauge("ApproximateAgeOfOldestMessage", where, minute, age, "Seconds")
    _sample_quiet(messages, minute)
    for name in COUNTS:
        if not store.has((NAMESPACE, name, where), minute):
            _gauge(name, where, minute, 0)


def _sample_quiet(messages: MessageStore, minute: int) -> None:
    where = dimensions(QueueName=messages.name)
    quiet = messages.quiet()
    _gauge("ApproximateNumberOfNoisyGroups", where, minute, quiet.noisy_groups)
    _gauge("ApproximateNumberOfMessagesVisibleInQuietGroups", where, minute, quiet.visible)
    _gauge("ApproximateNumberOfMessagesNotVisibleInQuietGroups", where, minute, quiet.in_flight)
    _gauge("ApproximateNumberOfMessagesDelayedInQuietGroups", where, minute, quiet.delayed)
    age = 0 if quiet.oldest_arrival is None else int(time.time() - quiet.oldest_arrival)
    _gauge("ApproximateAgeOfOldestMessageInQuietGroups", where, minute, age, "Seconds")


def _gauge(name: str, where: Dimensions, minute: int, value: float, unit: str = "Count") -> None:
    store.record_in(minute, (NAMESPACE, name, where), value, unit)
