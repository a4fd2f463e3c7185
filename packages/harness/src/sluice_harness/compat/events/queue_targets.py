"""A rule delivers to a queue only what the queue's policy lets it.

MiniStack puts a rule's events into any queue. EventBridge has no role for queues: the queue's policy must let
`events.amazonaws.com` do `sqs:SendMessage` (Amazon EventBridge User Guide, "Using resource-based policies for Amazon
EventBridge", "Amazon SQS permissions"). Without that the event is lost, but for a target's dead-letter queue, which
is not here.

Closed where a target is invoked, with the question that the engine's S3 and SNS ask already, under AUTH only.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

from ministack.core import iam_evaluator
from ministack.services import eventbridge, sqs

from sluice_harness.compat.patching import expect


def apply() -> None:
    """Ask the queue before an event is delivered."""
    invoke = expect(eventbridge, "_invoke_target", "target", "event", "rule", "view")
    expect(iam_evaluator, "pin_request_origin", "source_ip", "secure_transport")
    allows = expect(sqs, "queue_policy_allows", "queue_arn", "service", "source_arn", "source_account")

    @functools.wraps(invoke)
    def invoke_if_allowed(target: dict[str, Any], event: Any, rule: dict[str, Any], view: Any = None) -> None:
        iam_evaluator.pin_request_origin("127.0.0.1", True)  # services call each other by TLS
        arn, source = target.get("Arn", ""), rule["Arn"]
        if ":sqs:" not in arn or allows(arn, "events.amazonaws.com", source, source.split(":")[4]):
            invoke(target, event, rule, view)
        else:
            logging.getLogger(__name__).warning("%s may not send to %s: its event is lost", source, arn)

    eventbridge._invoke_target = invoke_if_allowed
