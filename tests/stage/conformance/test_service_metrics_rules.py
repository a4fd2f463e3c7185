"""AWS/Events: what rules say of themselves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from stage.conformance.functions import create_queue, unique
from stage.conformance.metrics import total

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

EVENTS = "AWS/Events"
KINDS = ("Invocations", "FailedInvocations")


def rule_to_queue(engine: Engine, *, may_send: bool, **bus: str) -> tuple[str, str]:
    """Make a rule on a source of its own that puts events on a queue; return both names."""
    client, name, source = engine.client("events"), unique("rule"), unique("source")
    url, arn = create_queue(engine)
    rule = client.put_rule(Name=name, EventPattern=json.dumps({"source": [source]}), **bus)["RuleArn"]
    client.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}], **bus)
    if may_send:
        grant = {
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
            "Condition": {"ArnEquals": {"aws:SourceArn": rule}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [grant]})
        engine.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    return name, source


def put(engine: Engine, source: str, **bus: str) -> None:
    engine.client("events").put_events(
        Entries=[{"Source": source, "DetailType": "something", "Detail": "{}", **bus}] * 3
    )


def test_deliveries_are_counted_by_rule(engine: Engine) -> None:
    # given two rules of the default bus, one of whose queues takes no events
    kept, kept_source = rule_to_queue(engine, may_send=True)
    lost, lost_source = rule_to_queue(engine, may_send=False)

    # when three events come for each
    put(engine, kept_source)
    put(engine, lost_source)

    # then both rules invoked their targets, and those of one failed for good
    assert [total(engine, EVENTS, kind, RuleName=kept) for kind in KINDS] == [3, None]
    assert [total(engine, EVENTS, kind, RuleName=lost) for kind in KINDS] == [3, 3]


def test_those_of_another_bus_are_counted_by_bus_and_rule(engine: Engine) -> None:
    # given a rule of a bus of one's own
    bus = unique("bus")
    engine.client("events").create_event_bus(Name=bus)
    rule, source = rule_to_queue(engine, may_send=True, EventBusName=bus)

    # when events come, then they are its own and not the default bus's
    put(engine, source, EventBusName=bus)
    assert total(engine, EVENTS, "Invocations", EventBusName=bus, RuleName=rule) == 3
    assert total(engine, EVENTS, "Invocations", RuleName=rule) is None
