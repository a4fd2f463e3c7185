"""Alarms through CloudWatch's API, by each of the protocols that it speaks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from stage.conformance.functions import unique
from stage.conformance.protocols import PROTOCOLS, cloudwatch_client

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

MATH: list[dict[str, Any]] = [
    {"Id": "rate", "Expression": "failed / all", "Label": "rate", "ReturnData": True},
    *(
        {
            "Id": name,
            "ReturnData": False,
            "MetricStat": {
                "Metric": {
                    "Namespace": "Test",
                    "MetricName": name,
                    "Dimensions": [{"Name": "Stage", "Value": "a"}],
                },
                "Period": 300,
                "Stat": "Sum",
            },
        }
        for name in ("failed", "all")
    ),
]
RULE: dict[str, Any] = {"EvaluationPeriods": 1, "ComparisonOperator": "GreaterThanThreshold", "Threshold": 0.5}


@pytest.fixture(params=PROTOCOLS)
def cloudwatch(engine: Engine, request: pytest.FixtureRequest) -> Any:
    return cloudwatch_client(engine, request.param)


def put(cloudwatch: Any, **properties: Any) -> str:
    """Define an alarm on a metric that has no data, and return its name."""
    name = properties.pop("AlarmName", None) or unique("alarm")
    metric = {} if "Metrics" in properties else {"MetricName": "none", "Namespace": "Test", "Period": 60}
    if metric and "ExtendedStatistic" not in properties:
        metric["Statistic"] = "Sum"
    cloudwatch.put_metric_alarm(AlarmName=name, **{**RULE, **metric, **properties})
    return str(name)


def described(cloudwatch: Any, *names: str, kind: str = "MetricAlarm") -> list[dict[str, Any]]:
    return list(cloudwatch.describe_alarms(AlarmNames=list(names), AlarmTypes=[kind])[f"{kind}s"])


def test_a_metric_alarm_is_described_as_it_was_put(cloudwatch: Any) -> None:
    properties = {
        "AlarmDescription": "what <it> means & what to do",
        "ActionsEnabled": False,
        "AlarmActions": ["arn:aws:sns:us-east-1:000000000000:a"],
        "OKActions": ["arn:aws:sns:us-east-1:000000000000:b"],
        "InsufficientDataActions": [],
        "MetricName": "Duration",
        "Namespace": "AWS/Lambda",
        "ExtendedStatistic": "p90",
        "Dimensions": [{"Name": "FunctionName", "Value": "f"}],
        "Period": 300,
        "Unit": "Milliseconds",
        "EvaluationPeriods": 5,
        "DatapointsToAlarm": 3,
        "Threshold": 2500.5,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "notBreaching",
        "EvaluateLowSampleCountPercentile": "ignore",
    }

    name = put(cloudwatch, **properties)

    (found,) = described(cloudwatch, name)
    assert {key: found[key] for key in properties} == properties
    assert found["AlarmArn"] == f"arn:aws:cloudwatch:us-east-1:000000000000:alarm:{name}"
    assert (found["StateValue"], found["StateReason"]) == (
        "INSUFFICIENT_DATA",
        "Unchecked: Initial alarm creation",
    )


def test_an_alarm_on_an_expression_keeps_its_metrics(cloudwatch: Any) -> None:
    name = put(cloudwatch, Metrics=MATH)

    (found,) = described(cloudwatch, name)

    assert found["Metrics"] == MATH
    assert "MetricName" not in found


def test_an_alarm_that_cannot_be_evaluated_is_refused(cloudwatch: Any) -> None:
    band: list[dict[str, Any]] = [
        {"Id": "band", "Expression": "ANOMALY_DETECTION_BAND(all)"},
        {**MATH[2], "ReturnData": False},
    ]

    with pytest.raises(ClientError, match="ANOMALY_DETECTION_BAND") as refused:
        put(cloudwatch, Metrics=band)

    assert refused.value.response["Error"]["Code"] == "ValidationError"


def test_alarms_are_found_by_prefix_state_and_page(cloudwatch: Any) -> None:
    # given three alarms of which one is in ALARM
    prefix = unique("prefix")
    for letter in "cab":
        put(cloudwatch, AlarmName=f"{prefix}-{letter}")
    cloudwatch.set_alarm_state(AlarmName=f"{prefix}-b", StateValue="ALARM", StateReason="a test")

    # then they come in the order of their names, page by page, and by state
    pages = cloudwatch.get_paginator("describe_alarms").paginate(
        AlarmNamePrefix=prefix, PaginationConfig={"PageSize": 2}
    )
    assert [[one["AlarmName"][-1] for one in page["MetricAlarms"]] for page in pages] == [["a", "b"], ["c"]]
    (found,) = cloudwatch.describe_alarms(AlarmNamePrefix=prefix, StateValue="ALARM")["MetricAlarms"]
    assert (found["AlarmName"], found["StateReason"]) == (f"{prefix}-b", "a test")


def test_a_composite_alarm_follows_its_children(cloudwatch: Any) -> None:
    # given a composite alarm on two others, one by its ARN
    one, other = put(cloudwatch), put(cloudwatch)
    arn = described(cloudwatch, other)[0]["AlarmArn"]
    name, suppressor = unique("composite"), put(cloudwatch)
    cloudwatch.put_composite_alarm(
        AlarmName=name,
        AlarmRule=f'ALARM("{one}") AND ALARM("{arn}")',
        ActionsSuppressor=suppressor,
        ActionsSuppressorWaitPeriod=60,
        ActionsSuppressorExtensionPeriod=120,
    )

    # when one of them goes to ALARM, then the other
    def set_alarm(child: str) -> str:
        cloudwatch.set_alarm_state(AlarmName=child, StateValue="ALARM", StateReason="a test")
        return str(described(cloudwatch, name, kind="CompositeAlarm")[0]["StateValue"])

    # then it does so with the second
    assert [set_alarm(one), set_alarm(other)] == ["OK", "ALARM"]
    (found,) = described(cloudwatch, name, kind="CompositeAlarm")
    assert json.loads(found["StateReasonData"])["triggeringAlarms"][0]["arn"] == arn
    assert (found["ActionsSuppressor"], found["ActionsSuppressorWaitPeriod"]) == (suppressor, 60)
    assert cloudwatch.describe_alarms(AlarmNames=[name])["CompositeAlarms"] == []  # only if asked for

    # and its children cannot go before it
    with pytest.raises(ClientError, match=name):
        cloudwatch.delete_alarms(AlarmNames=[one])
    cloudwatch.delete_alarms(AlarmNames=[one, name])
    assert described(cloudwatch, one) == described(cloudwatch, name, kind="CompositeAlarm") == []


def test_a_rule_names_alarms_that_exist(cloudwatch: Any) -> None:
    with pytest.raises(ClientError, match="no-such-alarm") as refused:
        cloudwatch.put_composite_alarm(AlarmName=unique("composite"), AlarmRule='ALARM("no-such-alarm")')

    assert refused.value.response["Error"]["Code"] == "ValidationError"


def test_the_history_tells_what_happened(cloudwatch: Any) -> None:
    # given an alarm whose state was set twice, with an action that cannot be taken
    gone = "arn:aws:sns:us-east-1:000000000000:gone"
    name = put(cloudwatch, AlarmActions=[gone])
    cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="first")
    cloudwatch.set_alarm_state(AlarmName=name, StateValue="OK", StateReason="second")

    # when it is read
    def history(**wanted: Any) -> list[dict[str, Any]]:
        return list(cloudwatch.describe_alarm_history(AlarmName=name, **wanted)["AlarmHistoryItems"])

    # then the newest is first, and each item has its data
    assert [item["HistorySummary"] for item in history()] == [
        "Alarm updated from ALARM to OK",
        f'Failed to execute action {gone}. Received error: "Resource: {gone} does not exist"',
        "Alarm updated from INSUFFICIENT_DATA to ALARM",
        f'Alarm "{name}" created',
    ]
    (failed,) = history(HistoryItemType="Action")
    data = json.loads(failed["HistoryData"])
    assert (data["actionState"], data["notificationResource"]) == ("Failed", gone)
    newest, oldest = history(HistoryItemType="StateUpdate")
    assert json.loads(newest["HistoryData"])["newState"] == {"stateValue": "OK", "stateReason": "second"}
    assert json.loads(oldest["HistoryData"])["oldState"] == {"stateValue": "INSUFFICIENT_DATA"}
    assert history(ScanBy="TimestampAscending") == history()[::-1]
    pages = cloudwatch.get_paginator("describe_alarm_history").paginate(
        AlarmName=name, PaginationConfig={"PageSize": 3}
    )
    assert [len(page["AlarmHistoryItems"]) for page in pages] == [3, 1]


def test_an_alarm_keeps_its_state_when_it_is_put_again(cloudwatch: Any) -> None:
    name = put(cloudwatch)
    cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="a test")

    put(cloudwatch, AlarmName=name, Threshold=7)

    (found,) = described(cloudwatch, name)
    assert (found["StateValue"], found["StateReason"], found["Threshold"]) == ("ALARM", "a test", 7)


def test_actions_are_switched_off_and_on(cloudwatch: Any) -> None:
    name = put(cloudwatch, AlarmActions=["arn:aws:sns:us-east-1:000000000000:gone"])

    def actions_after(state: str) -> int:
        cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason="a test")
        found = cloudwatch.describe_alarm_history(AlarmName=name, HistoryItemType="Action")
        return len(found["AlarmHistoryItems"])

    cloudwatch.disable_alarm_actions(AlarmNames=[name])
    assert described(cloudwatch, name)[0]["ActionsEnabled"] is False
    assert actions_after("ALARM") == 0
    cloudwatch.set_alarm_state(AlarmName=name, StateValue="OK", StateReason="a test")
    cloudwatch.enable_alarm_actions(AlarmNames=[name])
    assert actions_after("ALARM") == 1


def test_tags_stay_with_an_alarm(cloudwatch: Any) -> None:
    name = put(cloudwatch, Tags=[{"Key": "severity", "Value": "critical"}])
    (found,) = described(cloudwatch, name)

    assert cloudwatch.list_tags_for_resource(ResourceARN=found["AlarmArn"])["Tags"] == [
        {"Key": "severity", "Value": "critical"}
    ]


def test_the_state_of_no_alarm_cannot_be_set(cloudwatch: Any) -> None:
    with pytest.raises(ClientError) as refused:
        cloudwatch.set_alarm_state(AlarmName="no-such-alarm", StateValue="OK", StateReason="a test")

    assert refused.value.response["Error"]["Code"] == "ResourceNotFound"


def test_a_parameter_that_is_missing_is_an_error(engine: Engine) -> None:
    with pytest.raises(ClientError, match="Statistic") as refused:
        engine.client("cloudwatch").put_metric_alarm(
            AlarmName=unique("alarm"), MetricName="m", Namespace="Test", Period=60, **RULE
        )

    assert refused.value.response["Error"]["Code"] == "ValidationError"


def test_dashboards_stay_what_they_are(engine: Engine) -> None:
    client, name, body = engine.client("cloudwatch"), unique("dashboard"), json.dumps({"widgets": []})

    client.put_dashboard(DashboardName=name, DashboardBody=body)

    assert client.get_dashboard(DashboardName=name)["DashboardBody"] == body
