"""Notifications have the subject and the JSON that CloudWatch publishes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from sluice_harness.cloudwatch.evaluator import Evaluator
from sluice_harness.cloudwatch.notifications import Place, message, subject
from unit.alarms import (
    ALARM_TOPIC,
    NOW,
    OK_TOPIC,
    UNKNOWN_TOPIC,
    Samples,
    composite,
    math_alarm,
    metric_alarm,
    stat_entry,
)

if TYPE_CHECKING:
    from sluice_harness.cloudwatch.definitions import CompositeAlarm, MetricAlarm
    from sluice_harness.cloudwatch.transitions import Transition

HERE = Place("123456789012", "us-east-1")
ARN = "arn:aws:cloudwatch:us-east-1:123456789012:alarm:"


def fired(*alarms: MetricAlarm | CompositeAlarm) -> Transition:
    """Return the last alarm's transition, when all see five errors a minute."""
    source = Samples()
    for back in range(1, 6):
        source.add(NOW - back * 60, 5)
    evaluator = Evaluator(source)
    for alarm in alarms:
        evaluator.put(alarm)
    return evaluator.step(NOW)[-1]


def told(*alarms: MetricAlarm | CompositeAlarm) -> dict[str, Any]:
    text: dict[str, Any] = json.loads(message(fired(*alarms), HERE, NOW - 3600))
    return text


def test_a_metric_alarm_tells_all_of_itself() -> None:
    transition = fired(metric_alarm(AlarmDescription="what to do", TreatMissingData="notBreaching"))
    assert subject(transition, HERE) == 'ALARM: "errors" in US East (N. Virginia)'
    assert json.loads(message(transition, HERE, NOW - 3600)) == {
        "AlarmName": "errors",
        "AlarmDescription": "what to do",
        "AWSAccountId": "123456789012",
        "AlarmConfigurationUpdatedTimestamp": "2026-11-24T14:00:00.000+0000",
        "NewStateValue": "ALARM",
        "NewStateReason": transition.reason,
        "StateChangeTime": "2026-11-24T15:00:00.000+0000",
        "Region": "US East (N. Virginia)",
        "AlarmArn": f"{ARN}errors",
        "OldStateValue": "INSUFFICIENT_DATA",
        "OKActions": [OK_TOPIC],
        "AlarmActions": [ALARM_TOPIC],
        "InsufficientDataActions": [UNKNOWN_TOPIC],
        "Trigger": {
            "MetricName": "Errors",
            "Namespace": "Sluice",
            "StatisticType": "Statistic",
            "Statistic": "SUM",
            "Unit": None,
            "Dimensions": [{"value": "unit", "name": "Stage"}],
            "Period": 60,
            "EvaluationPeriods": 3,
            "DatapointsToAlarm": 3,
            "ComparisonOperator": "GreaterThanThreshold",
            "Threshold": 0.0,
            "TreatMissingData": "notBreaching",
            "EvaluateLowSampleCountPercentile": "",
        },
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"Statistic": "SampleCount"}, {"StatisticType": "Statistic", "Statistic": "SAMPLE_COUNT"}),
        ({"Statistic": "Average", "Unit": "Count"}, {"Statistic": "AVERAGE", "Unit": "Count"}),
        (
            {"Statistic": None, "ExtendedStatistic": "p90"},
            {"StatisticType": "ExtendedStatistic", "ExtendedStatistic": "p90"},
        ),
        (
            {"Statistic": None, "ExtendedStatistic": "PR(1:)"},
            {"StatisticType": "ExtendedStatistic", "ExtendedStatistic": "PR(1:)"},
        ),
    ],
)
def test_the_trigger_spells_statistics_as_cloudwatch_does(
    changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    trigger = told(metric_alarm(**changes))["Trigger"]
    assert trigger | expected == trigger


def test_an_alarm_on_math_tells_its_metrics() -> None:
    entries = [stat_entry("m1", "Errors"), {"Id": "e1", "Expression": "m1 * 2", "Label": "twice", "Period": 60}]
    trigger = told(math_alarm(metrics=entries))["Trigger"]
    assert trigger["Metrics"] == [
        {
            "Id": "m1",
            "MetricStat": {
                "Metric": {"MetricName": "Errors", "Namespace": "Sluice", "Dimensions": []},
                "Period": 60,
                "Stat": "Sum",
            },
            "ReturnData": False,
        },
        {"Id": "e1", "Label": "twice", "Expression": "m1 * 2", "Period": 60, "ReturnData": True},
    ]
    assert (trigger["Period"], "MetricName" in trigger) == (60, False)


def test_a_composite_tells_its_rule_and_which_children_made_it_fire() -> None:
    text = told(
        metric_alarm(), metric_alarm("calm", Threshold=9), composite("page", "ALARM(errors) OR ALARM(calm)")
    )
    assert text["AlarmArn"] == f"{ARN}page"
    assert text["AlarmRule"] == "ALARM(errors) OR ALARM(calm)"
    assert "Trigger" not in text
    assert text["TriggeringChildren"] == [
        {"Arn": f"{ARN}{name}", "State": {"Value": state, "Timestamp": "2026-11-24T15:00:00.000+0000"}}
        for name, state in (("errors", "ALARM"), ("calm", "OK"))
    ]


def test_an_arn_that_is_known_is_told() -> None:
    arn = "arn:aws:cloudwatch:eu-west-1:210987654321:alarm:errors"
    assert told(metric_alarm(AlarmArn=arn))["AlarmArn"] == arn


def test_a_subject_is_shorter_than_a_hundred_characters() -> None:
    transition = fired(metric_alarm("x" * 200))
    assert len(subject(transition, HERE)) == 99
    assert subject(transition, Place("1", "mars-1")).endswith("...")
    assert subject(fired(metric_alarm()), Place("1", "mars-1")) == 'ALARM: "errors" in mars-1'
