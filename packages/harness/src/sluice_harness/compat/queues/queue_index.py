"""SQS at depth: standard queues keep their messages in an index instead of a list.

MiniStack scans and copies a queue's whole list on each receive, delete and change of visibility; at 40,000
queued messages it drains 110-250 a second. Those scans run on the event loop and on the event-source poller's
thread at once, and a list that one of them replaces loses what the other appended to it meanwhile.

SQS answers in the same time at any depth, loses nothing, and a standard queue "offers nearly unlimited
throughput" (SQS Developer Guide, "Amazon SQS standard queues"). Per the SQS API reference: deleting with an
outdated handle succeeds and deletes nothing ("DeleteMessage"), changing the visibility of a message that is
not in flight is an error ("ChangeMessageVisibility"), and a message that was received three times moves to
the back of the queue (SQS Developer Guide, "Available CloudWatch metrics").

Closed by putting a `MessageStore` where the engine has its list, for every standard queue however it is
created, and by replacing the functions that scan. FIFO queues stay on the engine's own path.
"""

from __future__ import annotations

import json
import time
from typing import Any

from ministack.services import sqs

from sluice_harness.compat.patching import expect
from sluice_harness.compat.queues.fair_order import Message
from sluice_harness.compat.queues.queue_store import Handle, MessageStore, Redrive

Queue = dict[str, Any]

NOT_AVAILABLE = (
    "Value {} for parameter ReceiptHandle is invalid. "
    "Reason: Message does not exist or is not available for visibility timeout change."
)


class _Queues(dict[Any, Queue]):
    """The engine's queue records; a standard queue's list becomes a store as it is added."""

    def __setitem__(self, key: Any, queue: Queue) -> None:
        if not queue.get("is_fifo") and not isinstance(queue.get("messages"), MessageStore):
            queue["messages"] = MessageStore(queue.get("messages") or (), queue["name"])
        super().__setitem__(key, queue)


def apply() -> None:
    """Replace the functions of the engine's SQS that scan a queue."""
    records = expect(sqs, "_queues")
    if records.has_any():
        raise RuntimeError("queues exist already: apply the compatibility layer before the engine serves")
    records._data = _Queues()
    for replacement, parameters in _REPLACEMENTS.items():
        original = expect(sqs, replacement.__name__, *parameters)
        replacement.fifo = original
        setattr(sqs, replacement.__name__, replacement)
    for action, handler in _HANDLERS.items():
        if sqs._HANDLERS.get(action) is not handler.fifo:
            raise RuntimeError(f"the engine dispatches {action} in another way: adapt {__name__}")
        sqs._HANDLERS[action] = handler


def _store(queue: Queue) -> MessageStore | None:
    messages = queue["messages"]
    return messages if isinstance(messages, MessageStore) else None


def _expire_retained(q: Queue) -> None:
    store = _store(q)
    if store is None:
        _expire_retained.fifo(q)  # type: ignore[attr-defined]
        return
    store.expire(time.time() - float(q["attributes"].get("MessageRetentionPeriod", "345600")))


def _dlq_sweep(q: Queue) -> None:
    if _store(q) is None:  # a store moves spent messages as it comes to them
        _dlq_sweep.fifo(q)  # type: ignore[attr-defined]


def _collect_msgs(q: Queue, max_n: int, vis_timeout: int) -> list[Message]:
    store = _store(q)
    if store is None:
        messages: list[Message] = _collect_msgs.fifo(q, max_n, vis_timeout)  # type: ignore[attr-defined]
        return messages
    return store.receive(max_n, vis_timeout, _redrive(q), sqs._ensure_msg_fields)


def _redrive(queue: Queue) -> Redrive | None:
    policy = queue["attributes"].get("RedrivePolicy")
    if not policy:
        return None
    parsed = json.loads(policy)
    target = sqs._queue_by_arn(parsed["deadLetterTargetArn"])
    if target is None:
        return None
    source = queue["attributes"]["QueueArn"]

    def move(message: Message) -> None:
        # The original attributes and sending time stay: age and retention go on counting from there.
        system = {"DeadLetterQueueSourceArn": source, **message["sys"]}
        moved = message | {"receipt_handle": None, "visible_at": time.time(), "sys": system}
        target["messages"].append(moved)
        sqs.esm_wake.set()

    return Redrive(int(parsed["maxReceiveCount"]), move)


def _refresh_counts(q: Queue) -> None:
    store = _store(q)
    if store is None:
        _refresh_counts.fifo(q)  # type: ignore[attr-defined]
        return
    _expire_retained(q)
    visible, not_visible, delayed = store.counts()
    q["attributes"]["ApproximateNumberOfMessages"] = str(visible)
    q["attributes"]["ApproximateNumberOfMessagesNotVisible"] = str(not_visible)
    q["attributes"]["ApproximateNumberOfMessagesDelayed"] = str(delayed)


def _act_delete_message(data: dict[str, Any], qurl: str) -> dict[str, Any]:
    store = _store(queue := sqs._get_q(data.get("QueueUrl", qurl)))
    if store is None:
        return dict(_act_delete_message.fifo(data, qurl))  # type: ignore[attr-defined]
    sqs._enforce_queue_policy(queue, "sqs:DeleteMessage")
    if not data.get("ReceiptHandle"):
        raise sqs._Err("MissingParameter", "The request must contain the parameter ReceiptHandle.")
    _delete(store, data["ReceiptHandle"])
    return {}


def _delete(store: MessageStore, handle: str) -> None:
    if not store.delete(handle) and store.find(handle) is Handle.UNKNOWN:
        raise sqs._Err("ReceiptHandleIsInvalid", "The input receipt handle is invalid.")


def _act_delete_message_batch(data: dict[str, Any], qurl: str) -> dict[str, Any]:
    store = _store(queue := sqs._get_q(data.get("QueueUrl", qurl)))
    if store is None:
        return dict(_act_delete_message_batch.fifo(data, qurl))  # type: ignore[attr-defined]
    sqs._enforce_queue_policy(queue, "sqs:DeleteMessage")
    entries = data.get("Entries", [])
    sqs._validate_batch_entries(entries, "DeleteMessageBatchRequestEntry")
    return _each(entries, lambda entry: _delete(store, entry.get("ReceiptHandle", "")))


def _act_change_visibility(data: dict[str, Any], qurl: str) -> dict[str, Any]:
    store = _store(queue := sqs._get_q(data.get("QueueUrl", qurl)))
    if store is None:
        return dict(_act_change_visibility.fifo(data, qurl))  # type: ignore[attr-defined]
    sqs._enforce_queue_policy(queue, "sqs:ChangeMessageVisibility")
    _change_visibility(store, data)
    return {}


def _change_visibility(store: MessageStore, data: dict[str, Any]) -> None:
    handle, timeout = data.get("ReceiptHandle", ""), int(data.get("VisibilityTimeout", 30))
    found = store.change_visibility(handle, timeout)
    if found is Handle.UNKNOWN:
        raise sqs._Err("ReceiptHandleIsInvalid", "The input receipt handle is invalid.")
    if found is Handle.OUTDATED:
        raise sqs._Err("InvalidParameterValue", NOT_AVAILABLE.format(handle))
    if found is Handle.VISIBLE:
        raise sqs._Err("MessageNotInflight", "The specified message isn't in flight.")
    # Whatever the new time, the poller may be sleeping until the old one.
    sqs.esm_wake.set()


def _act_change_visibility_batch(data: dict[str, Any], qurl: str) -> dict[str, Any]:
    store = _store(queue := sqs._get_q(data.get("QueueUrl", qurl)))
    if store is None:
        return dict(_act_change_visibility_batch.fifo(data, qurl))  # type: ignore[attr-defined]
    sqs._enforce_queue_policy(queue, "sqs:ChangeMessageVisibility")
    entries = data.get("Entries", [])
    sqs._validate_batch_entries(entries, "ChangeMessageVisibilityBatchRequestEntry")
    return _each(entries, lambda entry: _change_visibility(store, entry))


def _each(entries: list[dict[str, Any]], act: Any) -> dict[str, Any]:
    """Run a batch request entry by entry, and report each one's outcome."""
    done, failed = [], []
    for entry in entries:
        try:
            act(entry)
        except sqs._Err as error:
            failed.append({"Id": entry["Id"], "Code": error.code, "Message": error.message, "SenderFault": True})
        else:
            done.append({"Id": entry["Id"]})
    return {"Successful": done, "Failed": failed}


def _delete_messages_for_esm(queue_url: str, receipt_handles: set[str]) -> None:
    store = _store(sqs._get_q(queue_url))
    if store is None:
        _delete_messages_for_esm.fifo(queue_url, receipt_handles)  # type: ignore[attr-defined]
        return
    for handle in receipt_handles:
        store.delete(handle)


_REPLACEMENTS: dict[Any, tuple[str, ...]] = {
    _expire_retained: ("q",),
    _dlq_sweep: ("q",),
    _collect_msgs: ("q", "max_n", "vis_timeout"),
    _refresh_counts: ("q",),
    _act_delete_message: ("data", "qurl"),
    _act_delete_message_batch: ("data", "qurl"),
    _act_change_visibility: ("data", "qurl"),
    _act_change_visibility_batch: ("data", "qurl"),
    _delete_messages_for_esm: ("queue_url", "receipt_handles"),
}
_HANDLERS: dict[str, Any] = {
    "DeleteMessage": _act_delete_message,
    "DeleteMessageBatch": _act_delete_message_batch,
    "ChangeMessageVisibility": _act_change_visibility,
    "ChangeMessageVisibilityBatch": _act_change_visibility_batch,
}
