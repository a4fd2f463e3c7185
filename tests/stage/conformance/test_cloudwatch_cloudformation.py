"""What an observability stack is made of, by CloudFormation: created, updated and deleted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from stage.conformance.functions import create_function, create_queue, unique

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

WAIT = {"Delay": 0.1, "MaxAttempts": 100}


class Stack:
    """A stack that is created at once and may be updated."""

    def __init__(self, engine: Engine, **resources: Any) -> None:
        self._client, self._name = engine.client("cloudformation"), unique("stack")
        self._client.create_stack(StackName=self._name, TemplateBody=template(resources))
        self._client.get_waiter("stack_create_complete").wait(StackName=self._name, WaiterConfig=WAIT)

    def update(self, **resources: Any) -> None:
        self._client.update_stack(StackName=self._name, TemplateBody=template(resources))
        self._client.get_waiter("stack_update_complete").wait(StackName=self._name, WaiterConfig=WAIT)

    def delete(self) -> None:
        self._client.delete_stack(StackName=self._name)
        self._client.get_waiter("stack_delete_complete").wait(StackName=self._name, WaiterConfig=WAIT)

    def physical(self, logical: str) -> str:
        found = self._client.describe_stack_resource(StackName=self._name, LogicalResourceId=logical)
        return str(found["StackResourceDetail"]["PhysicalResourceId"])

    def output(self, key: str) -> str:
        (stack,) = self._client.describe_stacks(StackName=self._name)["Stacks"]
        return next(str(one["OutputValue"]) for one in stack["Outputs"] if one["OutputKey"] == key)


def template(resources: dict[str, Any]) -> str:
    outputs = resources.pop("outputs", {})
    return json.dumps(
        {
            "Resources": {name: {"Type": kind, "Properties": found} for name, (kind, found) in resources.items()},
            "Outputs": {name: {"Value": value} for name, value in outputs.items()},
        }
    )


def alarm(**properties: Any) -> tuple[str, dict[str, Any]]:
    """An alarm on an expression; CloudFormation may write its numbers as text."""
    stat = {"Metric": {"Namespace": "Test", "MetricName": "m"}, "Period": "60", "Stat": "Sum"}
    metrics = [
        {"Id": "e1", "Expression": "m1 * 2", "ReturnData": "true"},
        {"Id": "m1", "MetricStat": stat, "ReturnData": False},
    ]
    rule = {"ComparisonOperator": "GreaterThanThreshold", "EvaluationPeriods": "3", "Threshold": "0.5"}
    return "AWS::CloudWatch::Alarm", {"Metrics": metrics, **rule, **properties}


def described(engine: Engine, name: str) -> dict[str, Any] | None:
    found = engine.client("cloudwatch").describe_alarms(
        AlarmNames=[name], AlarmTypes=["MetricAlarm", "CompositeAlarm"]
    )
    return next(iter(found["MetricAlarms"] + found["CompositeAlarms"]), None)


def test_alarms_come_and_go_with_their_stack(engine: Engine) -> None:
    # given a stack with an alarm on an expression, and a composite alarm that names it and its ARN
    tags = [{"Key": "severity", "Value": "warning"}]
    rule = {"Fn::Sub": 'ALARM("${Math}") OR ALARM("${Math.Arn}")'}
    composite = "AWS::CloudWatch::CompositeAlarm", {"AlarmRule": rule, "AlarmDescription": "d", "Tags": tags}
    outputs = {"Name": {"Ref": "All"}, "Arn": {"Fn::GetAtt": ["All", "Arn"]}}
    stack = Stack(engine, Math=alarm(Tags=tags), All=composite, outputs=outputs)

    # then both are there, with their types and their tags
    math = described(engine, stack.physical("Math"))
    assert math is not None
    assert (math["EvaluationPeriods"], math["Threshold"]) == (3, 0.5)
    assert math["Metrics"][0] == {"Id": "e1", "Expression": "m1 * 2", "ReturnData": True}
    assert math["Metrics"][1]["MetricStat"]["Period"] == 60
    made = described(engine, stack.output("Name"))
    assert made is not None
    assert made["AlarmArn"] == stack.output("Arn")
    assert made["AlarmRule"] == f'ALARM("{math["AlarmName"]}") OR ALARM("{math["AlarmArn"]}")'
    found = engine.client("cloudwatch").list_tags_for_resource(ResourceARN=made["AlarmArn"])["Tags"]
    assert {"Key": "severity", "Value": "warning"} in found

    # and go with it
    stack.delete()
    assert described(engine, math["AlarmName"]) is None
    assert described(engine, made["AlarmName"]) is None


def test_an_alarm_is_updated_in_place_or_replaced(engine: Engine) -> None:
    # given an alarm that has a state
    first, second = unique("alarm"), unique("alarm")
    stack = Stack(engine, Math=alarm(AlarmName=first))
    engine.client("cloudwatch").set_alarm_state(AlarmName=first, StateValue="ALARM", StateReason="a test")

    # when its threshold changes, it keeps it
    stack.update(Math=alarm(AlarmName=first, Threshold="9"))
    kept = described(engine, first)
    assert kept is not None
    assert (kept["Threshold"], kept["StateValue"]) == (9, "ALARM")

    # when its name changes, it is another one
    stack.update(Math=alarm(AlarmName=second))
    replaced = described(engine, second)
    assert replaced is not None
    assert replaced["StateValue"] == "INSUFFICIENT_DATA"
    assert described(engine, first) is None


def test_a_saved_query_has_an_id(engine: Engine) -> None:
    # given a stack with a saved query
    name = f"{unique('folder')}/slowest"
    kind = "AWS::Logs::QueryDefinition"
    query = {"Name": name, "QueryString": "fields @message", "LogGroupNames": ["/aws/lambda/f"]}
    outputs = {"Id": {"Fn::GetAtt": ["Query", "QueryDefinitionId"]}}
    stack = Stack(engine, Query=(kind, query), outputs=outputs)
    identifier = stack.output("Id")
    assert identifier == stack.physical("Query")

    def saved() -> list[dict[str, Any]]:
        client = engine.client("logs")
        found = client.describe_query_definitions(queryDefinitionNamePrefix=name)["queryDefinitions"]
        return [{key: value for key, value in one.items() if key != "lastModified"} for one in found]

    # then it is there, keeps its id when it changes, and goes with its stack
    expected = {
        "queryLanguage": "CWLI",
        "queryDefinitionId": identifier,
        "name": name,
        "queryString": "fields @message",
        "logGroupNames": ["/aws/lambda/f"],
    }
    assert saved() == [expected]
    stack.update(Query=(kind, {**query, "QueryString": "stats count(*)"}), outputs=outputs)
    assert saved() == [expected | {"queryString": "stats count(*)"}]
    stack.delete()
    assert saved() == []


def test_a_query_is_saved_by_the_api_as_well(engine: Engine) -> None:
    client, name = engine.client("logs"), unique("query")

    identifier = client.put_query_definition(name=name, queryString="fields @message")["queryDefinitionId"]

    client.put_query_definition(name=name, queryString="limit 1", queryDefinitionId=identifier)
    (found,) = client.describe_query_definitions(queryDefinitionNamePrefix=name)["queryDefinitions"]
    assert (found["queryDefinitionId"], found["queryString"]) == (identifier, "limit 1")
    assert client.delete_query_definition(queryDefinitionId=identifier)["success"]
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.delete_query_definition(queryDefinitionId=identifier)


def test_a_mapping_and_a_topic_keep_their_settings(engine: Engine) -> None:
    # given a mapping with counts, disabled at first, and an encrypted topic
    function = create_function(engine, "def handler(event, context): pass")
    _, arn = create_queue(engine)
    settings = {"EventSourceArn": arn, "FunctionName": function}
    counted = {**settings, "MetricsConfig": {"Metrics": ["EventCount"]}}
    mapping, topic = "AWS::Lambda::EventSourceMapping", "AWS::SNS::Topic"
    stack = Stack(
        engine, Mapping=(mapping, {**counted, "Enabled": False}), Topic=(topic, {"KmsMasterKeyId": "alias/key"})
    )

    def found() -> dict[str, Any]:
        uuid = stack.physical("Mapping")
        return dict(engine.client("lambda").get_event_source_mapping(UUID=uuid))

    def key() -> Any:
        attributes = engine.client("sns").get_topic_attributes(TopicArn=stack.physical("Topic"))["Attributes"]
        return attributes.get("KmsMasterKeyId")

    # then they are kept, and go when they are taken away
    assert (found()["MetricsConfig"], found()["State"]) == ({"Metrics": ["EventCount"]}, "Disabled")
    assert key() == "alias/key"
    stack.update(Mapping=(mapping, {**settings, "Enabled": True}), Topic=(topic, {}))
    assert "MetricsConfig" not in found()
    assert found()["State"] == "Enabled"
    assert key() is None
    stack.delete()
