"""AWS/Events: how often a rule invoked its targets, and how often it could not.

MiniStack publishes none of it. EventBridge counts Invocations, which include those that failed for good, and
FailedInvocations, each "only if it isn't zero"; of the default bus by RuleName, of another by EventBusName as well
(Amazon EventBridge User Guide, "Monitoring Amazon EventBridge"). Closed around the delivery to a target. Whether a
queue took an event is seen in the queue; other targets count as invoked.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from ministack.services import eventbridge

from sluice_harness.compat.monitoring.metric_store import Dimensions, dimensions, store
from sluice_harness.compat.patching import expect
from sluice_harness.compat.queues.queue_store import MessageStore, arrivals

if TYPE_CHECKING:
    from sluice_harness.compat.queues.fair_order import Message

NAMESPACE = "AWS/Events"

# Where a delivery to a queue notes that it arrived.
_arrived: ContextVar[list[str] | None] = ContextVar("sluice_event_arrived", default=None)


def apply() -> None:
    """Count deliveries."""
    invoke = expect(eventbridge, "_invoke_target", "target", "event", "rule", "view")
    arrivals.append(_note_arrival)

    def invoke_and_count(target: dict[str, Any], event: Any, rule: dict[str, Any], view: Any = None) -> None:
        arrived: list[str] = []
        token = _arrived.set(arrived)
        try:
            invoke(target, event, rule, view)
        finally:
            _arrived.reset(token)
        store.record(NAMESPACE, "Invocations", _of(rule), 1, "Count")
        if ":sqs:" in target.get("Arn", "") and not arrived:
            store.record(NAMESPACE, "FailedInvocations", _of(rule), 1, "Count")

    eventbridge._invoke_target = invoke_and_count


def _note_arrival(queue: MessageStore, _: Message) -> None:
    noted = _arrived.get()
    if noted is not None:
        noted.append(queue.name)


def _of(rule: dict[str, Any]) -> Dimensions:
    bus = rule.get("EventBusName", "default").rpartition("/")[2]
    return dimensions(RuleName=rule["Name"], **({} if bus == "default" else {"EventBusName": bus}))
