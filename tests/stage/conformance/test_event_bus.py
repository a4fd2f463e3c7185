"""An event bus from a template: who may put events on it, and which of them a rule delivers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from stage.conformance import containers
from stage.conformance.functions import RUNTIME, eventually, invoke, unique

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

PUBLISHER = """
import boto3, json
def handler(event, context):
    detail = json.dumps({"status": event["status"]})
    source = event.get("source", "sluice")
    entry = {"Source": source, "DetailType": "Job ended", "Detail": detail, "EventBusName": event["bus"]}
    return boto3.client("events").put_events(Entries=[entry])["FailedEntryCount"]
"""
ARN = "arn:aws:events:us-east-1:000000000000:event-bus/{}"


def template(bus: str) -> dict[str, Any]:
    """A bus, a rule that takes some of its events to a queue, and a function that may put events on it."""
    grant = {"Effect": "Allow", "Action": "events:PutEvents", "Resource": {"Fn::GetAtt": ["Bus", "Arn"]}}
    policy = {"PolicyName": "one", "PolicyDocument": {"Version": "2012-10-17", "Statement": [grant]}}
    pattern = {"source": ["sluice"], "detail-type": ["Job ended"], "detail": {"status": ["COMPLETED", "FAILED"]}}
    queue, rule = ({"Fn::GetAtt": [name, "Arn"]} for name in ("Queue", "Rule"))
    let_in = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue,
        "Condition": {"ArnEquals": {"aws:SourceArn": rule}},
    }
    properties: dict[str, tuple[str, dict[str, Any]]] = {
        "Bus": ("Events::EventBus", {"Name": bus}),
        "Queue": ("SQS::Queue", {}),
        "LetIn": (
            "SQS::QueuePolicy",
            {"Queues": [{"Ref": "Queue"}], "PolicyDocument": {"Version": "2012-10-17", "Statement": [let_in]}},
        ),
        "Rule": (
            "Events::Rule",
            {
                "EventBusName": {"Ref": "Bus"},
                "EventPattern": pattern,
                "Targets": [{"Id": "Queue", "Arn": queue}],
            },
        ),
        "Role": ("IAM::Role", {"AssumeRolePolicyDocument": {}, "Policies": [policy]}),
        "Function": (
            "Lambda::Function",
            {
                "Runtime": RUNTIME,
                "Handler": "index.handler",
                "Role": {"Fn::GetAtt": ["Role", "Arn"]},
                "Timeout": 10,
                "Code": {"ZipFile": PUBLISHER},
            },
        ),
    }
    return {
        "Resources": {
            name: {"Type": f"AWS::{kind}", "Properties": values} for name, (kind, values) in properties.items()
        },
        "Outputs": {name: {"Value": {"Ref": name}} for name in properties},
    }


@pytest.fixture(scope="module")
def stack(engine: Engine) -> dict[str, str]:
    """The names of what is in the stack."""
    client, name = engine.client("cloudformation"), unique("stack")
    body = json.dumps(template(unique("bus")))
    client.create_stack(StackName=name, TemplateBody=body, Capabilities=["CAPABILITY_IAM"])
    client.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 1})
    (made,) = client.describe_stacks(StackName=name)["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in made["Outputs"]}


def publish(engine: Engine, stack: dict[str, str], status: str) -> Any:
    return invoke(engine, stack["Function"], {"bus": stack["Bus"], "status": status})


def received(engine: Engine, stack: dict[str, str]) -> list[dict[str, Any]]:
    """Take what is in the queue."""
    answer = engine.client("sqs").receive_message(QueueUrl=stack["Queue"], MaxNumberOfMessages=10)
    return [json.loads(message["Body"]) for message in answer.get("Messages", [])]


def grant(engine: Engine, stack: dict[str, str], resource: str) -> None:
    """Let the function put events on this bus and on no other."""
    statement = {"Effect": "Allow", "Action": "events:PutEvents", "Resource": resource}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    engine.client("iam").put_role_policy(RoleName=stack["Role"], PolicyName="one", PolicyDocument=policy)


def test_a_rule_delivers_the_events_of_its_pattern(engine: Engine, stack: dict[str, str]) -> None:
    # when events are put of which the rule wants one
    assert [publish(engine, stack, status) for status in ("RUNNING", "COMPLETED")] == [0, 0]

    # then the queue has that one
    (event,) = eventually(lambda: received(engine, stack))
    assert event["detail"] == {"status": "COMPLETED"}
    assert (event["source"], event["detail-type"]) == ("sluice", "Job ended")
    assert {"id", "account", "region", "time", "resources", "version"} < set(event)


def test_a_disabled_rule_delivers_nothing(engine: Engine, stack: dict[str, str]) -> None:
    # given
    events = engine.client("events")
    events.disable_rule(Name=stack["Rule"].rpartition("|")[2], EventBusName=stack["Bus"])

    # when
    publish(engine, stack, "FAILED")

    # then
    try:
        assert received(engine, stack) == []
    finally:
        events.enable_rule(Name=stack["Rule"].rpartition("|")[2], EventBusName=stack["Bus"])


@pytest.mark.parametrize("allowed", ["other", "default"])
def test_putting_an_event_needs_a_grant_on_that_very_bus(
    engine: Engine, stack: dict[str, str], allowed: str
) -> None:
    # given a function that may put events on another bus
    grant(engine, stack, ARN.format(allowed))

    # when
    refused = publish(engine, stack, "FAILED")

    # then it is denied, and with the grant it is not
    grant(engine, stack, ARN.format(stack["Bus"]))
    assert refused["errorType"] == "AccessDeniedException"
    assert "not authorized to perform: events:PutEvents" in refused["errorMessage"]
    assert publish(engine, stack, "RUNNING") == 0


def test_a_queue_gets_events_of_the_rules_that_its_policy_names(engine: Engine, stack: dict[str, str]) -> None:
    # given a queue that lets another rule in
    sqs = engine.client("sqs")
    asked = {"QueueUrl": stack["Queue"], "AttributeNames": ["Policy"]}
    usual = sqs.get_queue_attributes(**asked)["Attributes"]["Policy"]
    other = usual.replace("-Rule-", "-Another-")
    assert other != usual
    sqs.set_queue_attributes(QueueUrl=stack["Queue"], Attributes={"Policy": other})

    # when
    publish(engine, stack, "FAILED")
    sqs.set_queue_attributes(QueueUrl=stack["Queue"], Attributes={"Policy": usual})
    publish(engine, stack, "COMPLETED")

    # then the event before is lost
    assert [event["detail"]["status"] for event in eventually(lambda: received(engine, stack))] == ["COMPLETED"]
    assert received(engine, stack) == []


def test_only_the_stages_root_puts_events_of_awss_services(engine: Engine, stack: dict[str, str]) -> None:
    # given an event as ECS would put it, and a rule for it on the default bus
    events, sqs, rule = engine.client("events"), engine.client("sqs"), unique("rule")
    detail = json.dumps({"lastStatus": "STOPPED", "status": rule})
    pattern = json.dumps({"source": ["aws.ecs"], "detail": {"status": [rule]}})
    source = events.put_rule(Name=rule, EventPattern=pattern)["RuleArn"]
    url = sqs.create_queue(QueueName=rule)["QueueUrl"]
    asked = {"QueueUrl": url, "AttributeNames": ["QueueArn"]}
    queue = sqs.get_queue_attributes(**asked)["Attributes"]["QueueArn"]
    policy = containers.policy(("sqs:SendMessage", queue), Service="events.amazonaws.com")
    policy["Statement"][0]["Condition"] = {"ArnEquals": {"aws:SourceArn": source}}
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
    events.put_targets(Rule=rule, Targets=[{"Id": "queue", "Arn": queue}])
    entry = {"Source": "aws.ecs", "DetailType": "ECS Task State Change", "Detail": detail, "Resources": ["task"]}

    # when a function puts it, and then whoever drives the stage from outside
    refused = invoke(engine, stack["Function"], {"bus": stack["Bus"], "status": "FAILED", "source": "aws.ecs"})
    answer = events.put_events(Entries=[entry])

    # then the first one is not authorized for the source, and the second one's is delivered as it is
    assert (refused, answer["FailedEntryCount"]) == (1, 0)
    (event,) = eventually(lambda: received(engine, {"Queue": url}))
    assert (event["source"], event["resources"], event["detail"]["lastStatus"]) == ("aws.ecs", ["task"], "STOPPED")
