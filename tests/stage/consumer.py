"""A sample consumer of job events: a queue that a rule on the stage's event bus fills.

This is all that a service needs to be told of ended jobs instead of asking for each: a queue, a policy that lets
EventBridge send to it, a rule that says which events are wanted, and a loop that receives, handles and deletes.
An event may come more than once, so whoever handles it goes by ``jobId`` and ``endedAt``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

from sluice_core.events import DETAIL_TYPE, SOURCE
from stage.running import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from stage.running import RunningStage


class EventConsumer:
    """Receives a stage's job events inside a ``with`` block.

    Parameters
    ----------
    name : str
        Names its queue and its rule.
    detail : dict
        What the events must be like besides, such as ``{"status": ["FAILED"]}`` (Amazon EventBridge User Guide,
        "Creating Amazon EventBridge event patterns").

    """

    def __init__(self, stage: RunningStage, name: str, **detail: list[str]) -> None:
        self._sqs, self._events = stage.client("sqs"), stage.client("events")
        self._bus, self._name = stage.description.eventBus, name
        self._pattern = {
            "source": [SOURCE],
            "detail-type": [DETAIL_TYPE],
            **({"detail": detail} if detail else {}),
        }
        self.received: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self._url = self._sqs.create_queue(QueueName=self._name)["QueueUrl"]
        answer = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])
        queue = answer["Attributes"]["QueueArn"]
        rule = self._events.put_rule(
            Name=self._name, EventBusName=self._bus, EventPattern=json.dumps(self._pattern)
        )["RuleArn"]
        policy = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "events.amazonaws.com"},
                    "Action": "sqs:SendMessage",
                    "Resource": queue,
                    "Condition": {"ArnEquals": {"aws:SourceArn": rule}},
                }
            ],
        }
        self._sqs.set_queue_attributes(QueueUrl=self._url, Attributes={"Policy": json.dumps(policy)})
        answer = self._events.put_targets(
            Rule=self._name, EventBusName=self._bus, Targets=[{"Id": "queue", "Arn": queue}]
        )
        assert answer["FailedEntryCount"] == 0, answer
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._events.remove_targets(Rule=self._name, EventBusName=self._bus, Ids=["queue"])
        self._events.delete_rule(Name=self._name, EventBusName=self._bus)
        self._sqs.delete_queue(QueueUrl=self._url)

    def receive(self) -> list[dict[str, Any]]:
        """Take what has come since, and return all that has come so far."""
        answer = self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        for message in answer.get("Messages", []):
            self.received.append(json.loads(message["Body"]))
            self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        return self.received

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """Receive until an event with such a detail has come, and return that event."""

        def look() -> dict[str, Any] | None:
            return next((event for event in self.received if wanted(event["detail"])), None)

        def receive_and_look() -> dict[str, Any] | None:
            self.receive()
            return look()

        return look() or until(receive_and_look, what)
