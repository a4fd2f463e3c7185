"""Recorded events of AWS's services can be put on the bus by whoever drives the stage from outside.

Nobody may put events of the source `aws.…` ("NotAuthorizedForSourceException", Amazon EventBridge API Reference,
"PutEventsResultEntry"), and MiniStack refuses them as AWS does. Not all that AWS's services say can be brought
about here, such as a host that is lost: tests put AWS's documented events on the bus and see what rules, queues
and functions make of them. In AWS that takes TestEventPattern, or a message in the target's queue.

Closed for the engine's root alone, which is nobody in a deployed stage: a function's role is refused as ever.
Nothing tells such an event from one that the engine's own services put.
"""

from __future__ import annotations

from typing import Any

from ministack.core import iam_evaluator
from ministack.services import eventbridge

from sluice_harness.compat.patching import expect


def apply() -> None:
    """Let the root put events of AWS's sources."""
    put = expect(eventbridge, "_put_events", "data", "allow_aws_source")
    expect(iam_evaluator, "caller_arn")

    def put_events(data: dict[str, Any], allow_aws_source: bool = False) -> Any:
        return put(data, allow_aws_source or iam_evaluator.caller_arn().endswith(":root"))

    eventbridge._put_events = put_events
