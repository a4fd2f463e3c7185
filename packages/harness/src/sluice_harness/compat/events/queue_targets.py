"""A rule delivers to a queue only what the queue's policy lets it.

MiniStack puts a rule's events into any queue. EventBridge has no role for queues: the queue's policy must let
`events.amazonaws.com` do `sqs:SendMessage` (Amazon EventBridge User Guide, "Using resource-based policies for
Amazon EventBridge", "Amazon SQS permissions"). Without that the event is lost, but for a target's dead-letter
queue, which is not here.

Closed where a target is invoked, with the question that the engine's S3 and SNS ask already, under AUTH only.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

from ministack.core import iam_evaluator
from ministack.services import eventbridge, sqs

from sluice_harness.compat.patching import expect

_logger = logging.getLogger(__name__)


def apply() -> None:
    """Ask the queue before an event is delivered."""
    invoke = expect(eventbridge, "_invoke_target", "target", "event", "rule", "view")
    expect(sqs, "queue_policy_allows", "queue_arn", "service", "source_arn", "source_account")
    expect(iam_evaluator, "pin_request_origin", "source_ip", "secure_transport")

    @functools.wraps(invoke)
    def invoke_if_allowed(target: dict[str, Any], event: Any, rule: dict[str, Any], view: Any = None) -> None:
        if may_send(rule, target):
            invoke(target, event, rule, view)
        else:
            _logger.warning("%s may not send to %s: its event is lost", rule["Arn"], target["Arn"])

    eventbridge._invoke_target = invoke_if_allowed


def may_send(rule: dict[str, Any], target: dict[str, Any]) -> bool:
    """Whether a target, if it is a queue, lets a rule's events in."""
    arn, source = target.get("Arn", ""), rule["Arn"]
    iam_evaluator.pin_request_origin("127.0.0.1", True)  # services call each other by TLS
    return ":sqs:" not in arn or bool(
        sqs.queue_policy_allows(arn, "events.amazonaws.com", source, source.split(":")[4])
    )
