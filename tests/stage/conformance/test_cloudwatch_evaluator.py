"""Alarms that are evaluated: states, notifications and schedules by the stage's time, here a minute a second."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from stage.conformance import containers
from stage.conformance.functions import create_function, create_queue, depth, eventually, permit, unique
from stage.conformance.metrics import total
from stage.conformance.topics import create_topic, http_subscriber, notifications, subscribed_queue

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

pytestmark = pytest.mark.xdist_group("fast_engine")

WITHIN = 15.0


def put_alarm(engine: Engine, name: str, **properties: Any) -> str:
    rule = {"ComparisonOperator": "GreaterThanThreshold", "Threshold": 0, "EvaluationPeriods": 1, "Period": 60}
    metric = {"Namespace": "Test", "MetricName": name, "Statistic": "Sum", "TreatMissingData": "notBreaching"}
    engine.client("cloudwatch").put_metric_alarm(AlarmName=name, **{**rule, **metric, **properties})
    return name


def state(engine: Engine, name: str) -> str:
    found = engine.client("cloudwatch").describe_alarms(
        AlarmNames=[name], AlarmTypes=["MetricAlarm", "CompositeAlarm"]
    )
    (alarm,) = found["MetricAlarms"] + found["CompositeAlarms"]
    return str(alarm["StateValue"])


def comes_to(engine: Engine, name: str, wanted: str) -> bool:
    return bool(eventually(lambda: state(engine, name) == wanted, within=WITHIN))


def put_point(engine: Engine, name: str, value: float) -> None:
    engine.client("cloudwatch").put_metric_data(
        Namespace="Test", MetricData=[{"MetricName": name, "Value": value}]
    )


def history(engine: Engine, name: str, item: str) -> list[dict[str, Any]]:
    found = engine.client("cloudwatch").describe_alarm_history(
        AlarmName=name,
        AlarmTypes=["MetricAlarm", "CompositeAlarm"],
        HistoryItemType=item,
        ScanBy="TimestampAscending",
    )
    return list(found["AlarmHistoryItems"])


def test_an_alarm_fires_and_recovers_and_tells_its_subscribers(fast_engine: Engine) -> None:
    # given an alarm with a topic that a queue and a server are subscribed to
    topic, _ = create_topic(fast_engine)
    url = subscribed_queue(fast_engine, topic)
    with http_subscriber(fast_engine, topic) as notified:
        name = put_alarm(fast_engine, unique("alarm"), AlarmActions=[topic], OKActions=[topic])
        assert comes_to(fast_engine, name, "OK")

        # when its metric breaches for a minute
        put_point(fast_engine, name, 3)

        # then it goes to ALARM and back, and both hear of each change
        assert comes_to(fast_engine, name, "ALARM")
        assert comes_to(fast_engine, name, "OK")
        assert eventually(lambda: len(notified) == 3)
    heard = [json.loads(one["Message"]) for one in notifications(fast_engine, url)]
    changes = [(one["OldStateValue"], one["NewStateValue"]) for one in heard]
    assert changes == [("INSUFFICIENT_DATA", "OK"), ("OK", "ALARM"), ("ALARM", "OK")]
    alarm = heard[1]
    assert alarm["AlarmName"] == name
    assert alarm["Trigger"]["MetricName"] == name
    assert "3.0" in alarm["NewStateReason"]
    assert [json.loads(one["Message"]) for one in sorted(notified, key=lambda one: str(one["Timestamp"]))] == heard
    # and the history has each change and each action
    assert [item["HistorySummary"] for item in history(fast_engine, name, "Action")] == [
        f"Successfully executed action {topic}"
    ] * 3
    fired, recovered = history(fast_engine, name, "StateUpdate")[1:]
    assert recovered["Timestamp"] - fired["Timestamp"] >= timedelta(minutes=1)


def test_a_gauge_of_a_queue_fires_an_alarm_and_its_composite(fast_engine: Engine) -> None:
    # given an alarm on a queue's depth, and a composite alarm on that
    url, _ = create_queue(fast_engine)
    dimensions = [{"Name": "QueueName", "Value": url.rpartition("/")[2]}]
    of_queue = {
        "Namespace": "AWS/SQS",
        "MetricName": "ApproximateNumberOfMessagesVisible",
        "Dimensions": dimensions,
    }
    name = put_alarm(fast_engine, unique("depth"), **of_queue, Statistic="Maximum", EvaluationPeriods=2)
    composite = unique("composite")
    fast_engine.client("cloudwatch").put_composite_alarm(AlarmName=composite, AlarmRule=f'ALARM("{name}")')
    assert comes_to(fast_engine, composite, "OK")

    # when a message stays there for two minutes
    fast_engine.client("sqs").send_message(QueueUrl=url, MessageBody="poison")

    # then both fire, and recover when it is gone
    assert comes_to(fast_engine, composite, "ALARM")
    assert state(fast_engine, name) == "ALARM"
    fast_engine.client("sqs").purge_queue(QueueUrl=url)
    assert comes_to(fast_engine, composite, "OK")
    (item,) = history(fast_engine, composite, "StateUpdate")[1:2]
    blamed = json.loads(item["HistoryData"])["newState"]["stateReasonData"]["triggeringAlarms"]
    assert [one["arn"].rpartition(":")[2] for one in blamed] == [name]


def test_an_alarm_without_data_is_insufficient(fast_engine: Engine) -> None:
    # given an alarm that takes missing data for missing, and a point
    name = put_alarm(fast_engine, unique("alarm"), TreatMissingData="missing")
    put_point(fast_engine, name, 0)
    assert comes_to(fast_engine, name, "OK")

    # then it has no data when the point is too old
    assert comes_to(fast_engine, name, "INSUFFICIENT_DATA")


@pytest.mark.parametrize("refusing", [None, "encryption key", "not authorized"])
def test_key_and_topic_have_to_let_cloudwatch_publish(fast_engine: Engine, refusing: str | None) -> None:
    # given an encrypted topic for TLS only, whose policies let CloudWatch publish, or one of them does not
    stack, name = unique("stack"), unique("alarm")
    outputs = deploy(fast_engine, stack, encrypted(name, refusing))

    # when its alarm changes its state
    assert comes_to(fast_engine, name, "OK")

    # then the notification went out, or the history says why not
    assert eventually(lambda: history(fast_engine, name, "Action"))
    (item,) = history(fast_engine, name, "Action")
    data = json.loads(item["HistoryData"])
    assert data["actionState"] == ("Failed" if refusing else "Succeeded")
    assert (refusing or "Successfully") in item["HistorySummary"]
    topic = outputs["Topic"].rpartition(":")[2]
    counted = total(fast_engine, "AWS/SNS", "NumberOfMessagesPublished", TopicName=topic)
    assert counted == (None if refusing else 1)


def deploy(engine: Engine, stack: str, template: dict[str, Any]) -> dict[str, str]:
    client = engine.client("cloudformation")
    client.create_stack(StackName=stack, TemplateBody=json.dumps(template))
    client.get_waiter("stack_create_complete").wait(StackName=stack, WaiterConfig={"Delay": 0.1})
    (made,) = client.describe_stacks(StackName=stack)["Stacks"]
    return {one["OutputKey"]: one["OutputValue"] for one in made["Outputs"]}


def encrypted(name: str, refusing: str | None) -> dict[str, Any]:
    """A topic as it should be, and an alarm that soon has a state."""
    root = {"Fn::Sub": "arn:aws:iam::${AWS::AccountId}:root"}
    service = {"Service": "cloudwatch.amazonaws.com"}
    key_policy = [{"Effect": "Allow", "Principal": {"AWS": root}, "Action": "kms:*", "Resource": "*"}]
    if refusing != "encryption key":
        actions = ["kms:Decrypt", "kms:GenerateDataKey*"]
        key_policy.append({"Effect": "Allow", "Principal": service, "Action": actions, "Resource": "*"})
    publish = {"Action": "sns:Publish", "Resource": {"Ref": "Topic"}}
    insecure = {"Bool": {"aws:SecureTransport": "false"}}
    here = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    topic_policy = [{"Effect": "Deny", "Principal": "*", "Condition": insecure, **publish}]
    if refusing != "not authorized":
        topic_policy.append({"Effect": "Allow", "Principal": service, "Condition": here, **publish})

    def document(statements: Any) -> dict[str, Any]:
        return {"Version": "2012-10-17", "Statement": statements}

    topic = {"KmsMasterKeyId": {"Fn::GetAtt": ["Key", "Arn"]}}
    alarm = {
        "AlarmName": name,
        "Metrics": [
            {"Id": "e1", "Expression": "FILL(m1, 0)", "Period": 60},
            {
                "Id": "m1",
                "ReturnData": False,
                "MetricStat": {"Metric": {"Namespace": "Test", "MetricName": name}, "Period": 60, "Stat": "Sum"},
            },
        ],
        "ComparisonOperator": "GreaterThanThreshold",
        "Threshold": 0,
        "EvaluationPeriods": 1,
        "OKActions": [{"Ref": "Topic"}],
    }
    policy = {"Topics": [{"Ref": "Topic"}], "PolicyDocument": document(topic_policy)}
    return {
        "Resources": {
            "Key": {"Type": "AWS::KMS::Key", "Properties": {"KeyPolicy": document(key_policy)}},
            "Topic": {"Type": "AWS::SNS::Topic", "Properties": topic},
            "Policy": {"Type": "AWS::SNS::TopicPolicy", "Properties": policy},
            "Alarm": {"Type": "AWS::CloudWatch::Alarm", "Properties": alarm, "DependsOn": "Policy"},
        },
        "Outputs": {"Topic": {"Value": {"Ref": "Topic"}}},
    }


def test_a_scheduled_rule_goes_by_the_stages_time(fast_engine: Engine) -> None:
    # given a rule that calls a function once a minute, and a queue that takes nothing but TLS
    function = create_function(fast_engine, "def handler(event, context): pass")
    events, rule = fast_engine.client("events"), unique("rule")
    arn = fast_engine.client("lambda").get_function_configuration(FunctionName=function)["FunctionArn"]
    started = time.monotonic()
    source = events.put_rule(Name=rule, ScheduleExpression="rate(1 minute)")["RuleArn"]
    permit(fast_engine, function, "events", source)
    url, queue = create_queue(fast_engine)
    policy = containers.policy(("sqs:SendMessage", queue), Service="events.amazonaws.com")
    insecure = {"Bool": {"aws:SecureTransport": "false"}}
    policy["Statement"].append({**policy["Statement"][0], "Effect": "Deny", "Condition": insecure})
    fast_engine.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
    events.put_targets(Rule=rule, Targets=[{"Id": "f", "Arn": arn}, {"Id": "q", "Arn": queue}])

    # then it comes once a second
    def calls() -> float:
        return total(fast_engine, "AWS/Lambda", "Invocations", FunctionName=function) or 0

    assert eventually(lambda: calls() >= 4, within=WITHIN)
    elapsed = time.monotonic() - started
    assert 3 <= elapsed < 8
    assert depth(fast_engine, url)["visible"] >= 3
    events.remove_targets(Rule=rule, Ids=["f", "q"])
    events.delete_rule(Name=rule)
