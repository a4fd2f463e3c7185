"""Alarms are read from CloudFormation's properties and from DescribeAlarms, or refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from sluice_harness.cloudwatch.definitions import (
    Comparison,
    CompositeAlarm,
    Metric,
    MetricStat,
    MissingData,
    Query,
    State,
    read_alarm,
)
from sluice_harness.cloudwatch.properties import UnsupportedAlarm
from unit.alarms import (
    ALARM_TOPIC,
    OK_TOPIC,
    UNKNOWN_TOPIC,
    composite,
    math_alarm,
    metric_alarm,
    properties,
    stat_entry,
)

WATCHED = {"Id": "e1", "Expression": "m1 * 2"}


def test_a_simple_alarm_has_one_query() -> None:
    dimensions = [{"Name": "Stage", "Value": "unit"}, {"Name": "JobType", "Value": "any"}]
    alarm = metric_alarm(Dimensions=dimensions, Unit="Count", AlarmDescription="why")
    metric = Metric("Sluice", "Errors", (("JobType", "any"), ("Stage", "unit")))
    assert alarm.queries == (Query("m1", stat=MetricStat(metric, "Sum", 60, "Count")),)
    assert (alarm.description, alarm.period, alarm.threshold, alarm.math) == ("why", 60, 0.0, False)
    assert (alarm.comparison, alarm.treat_missing_data) == (Comparison.GREATER, MissingData.MISSING)
    assert (alarm.datapoints_to_alarm, alarm.evaluation_periods, alarm.evaluate_low_samples) == (3, 3, True)


def test_numbers_and_truths_may_come_as_text() -> None:
    as_text: dict[str, Any] = {
        "Period": "300",
        "EvaluationPeriods": "5",
        "DatapointsToAlarm": "3",
        "Threshold": "0.5",
    }
    alarm = metric_alarm(**as_text, ActionsEnabled="false")
    as_numbers: dict[str, Any] = {"Period": 300, "EvaluationPeriods": 5, "DatapointsToAlarm": 3, "Threshold": 0.5}
    assert alarm == metric_alarm(**as_numbers, ActionsEnabled=False)
    assert alarm.actions(State.ALARM) == ()


def test_an_alarm_on_a_percentile_may_ignore_few_samples() -> None:
    choice = {"EvaluateLowSampleCountPercentile": "ignore"}
    alarm = metric_alarm(Statistic=None, ExtendedStatistic="p99.9", **choice)
    assert (alarm.stats[0].stat, alarm.evaluate_low_samples) == ("p99.9", False)


def test_an_alarm_on_math_has_its_queries_in_order() -> None:
    alarm = math_alarm(metrics=[WATCHED | {"Label": "twice"}, stat_entry("m1", "Errors", stat="p90")])
    stat = MetricStat(Metric("Sluice", "Errors"), "p90", 60)
    assert alarm.queries == (Query("e1", "twice", expression="m1 * 2"), Query("m1", stat=stat, returns=False))
    assert (alarm.watched.id, alarm.period, alarm.math) == ("e1", 60, True)


def test_actions_go_by_state() -> None:
    alarm = metric_alarm()
    assert [alarm.actions(state) for state in (State.ALARM, State.OK, State.INSUFFICIENT_DATA)] == [
        (ALARM_TOPIC,),
        (OK_TOPIC,),
        (UNKNOWN_TOPIC,),
    ]


def test_a_composite_has_the_names_in_its_rule() -> None:
    arn = "arn:aws:cloudwatch:us-east-1:123456789012:alarm:b"
    periods = {"ActionsSuppressorWaitPeriod": "60", "ActionsSuppressorExtensionPeriod": 120}
    alarm = composite("all", f'ALARM(a) OR (OK("{arn}") AND NOT ALARM(a))', ActionsSuppressor=arn, **periods)
    assert alarm.children == ("a", "b")
    assert (alarm.suppressor, alarm.wait_period, alarm.extension_period) == ("b", 60, 120)
    assert isinstance(alarm, CompositeAlarm)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"ComparisonOperator": "GreaterThanUpperThreshold"},
            "'GreaterThanUpperThreshold' is not supported, only",
        ),
        ({"ThresholdMetricId": "ad1"}, "ThresholdMetricId is not supported"),
        ({"EvaluationCriteria": {"PromQLCriteria": {}}}, "EvaluationCriteria is not supported"),
        ({"Period": 30}, "a period of 30 s is not supported"),
        ({"Period": 90}, "a period of 90 s is not supported"),
        ({"Statistic": None}, "needs one of Statistic and ExtendedStatistic"),
        ({"ExtendedStatistic": "p90"}, "needs one of Statistic and ExtendedStatistic"),
        ({"Statistic": "tm90"}, "'tm90' is not supported"),
        ({"Threshold": None}, "Threshold is None where a number should be"),
        ({"Threshold": {"Ref": "Limit"}}, "Threshold is {'Ref': 'Limit'} where a number should be"),
        ({"EvaluationPeriods": 2.5}, "EvaluationPeriods is 2.5 where a whole number should be"),
        ({"DatapointsToAlarm": 4}, "4 of 3 datapoints cannot be"),
        ({"DatapointsToAlarm": 0}, "0 of 3 datapoints cannot be"),
        ({"TreatMissingData": "zero"}, "TreatMissingData 'zero' is not supported, only missing, ignore"),
        ({"EvaluateLowSampleCountPercentile": "x"}, "is 'x', not evaluate or ignore"),
        ({"ActionsEnabled": "maybe"}, "ActionsEnabled is 'maybe'"),
        ({"AlarmActions": [{"Ref": "Topic"}]}, "AlarmActions is .* where a list of texts should be"),
        ({"Dimensions": ["Stage"]}, "Dimensions is .* where a list of objects should be"),
        ({"MetricName": None}, "neither MetricName nor Metrics nor AlarmRule"),
        ({"MetricName": {"Ref": "x"}}, "MetricName is .* where a text should be"),
    ],
)
def test_a_simple_alarm_that_cannot_be_evaluated_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UnsupportedAlarm, match=f"alarm errors: .*{complaint}"):
        metric_alarm(**changes)


@pytest.mark.parametrize(
    ("metrics", "complaint"),
    [
        ([stat_entry("m1", "Errors", AccountId="1"), WATCHED], "AccountId is not supported"),
        ([stat_entry("m1", "Errors")], r"exactly one of its Metrics may return data, not \[\]"),
        ([stat_entry("m1", "Errors", ReturnData=True), WATCHED], r"not \['m1', 'e1'\]"),
        ([stat_entry("m1", "Errors"), stat_entry("m1", "Errors"), WATCHED], "two of its Metrics have one Id"),
        ([WATCHED], "'m1 \\* 2' refers to m1, which is not there"),
        ([stat_entry("m1", "Errors"), WATCHED | {"Period": 300}], r"need one period, not \['300', '60'\]"),
        ([stat_entry("m1", "Errors"), WATCHED | {"Expression": "LOG(m1)"}], "LOG is not supported"),
        ([stat_entry("m1", "Errors"), WATCHED | {"Expression": "METRICS()"}], "is an array of series"),
        ([stat_entry("m1", "Errors"), WATCHED | {"Expression": "FILL(SUM(m1), 0)"}], "FILL of a number"),
        ([{"Id": "m1"}], "MetricStat is None where an object should be"),
    ],
)
def test_an_alarm_on_math_that_cannot_be_evaluated_is_refused(
    metrics: list[dict[str, Any]], complaint: str
) -> None:
    with pytest.raises(UnsupportedAlarm, match=f"alarm rate: .*{complaint}"):
        math_alarm(metrics=metrics)


@pytest.mark.parametrize("name", [None, "", {"Ref": "Name"}])
def test_an_alarm_needs_a_name(name: object) -> None:
    with pytest.raises(UnsupportedAlarm, match=r"AlarmName is .* where a name should be"):
        read_alarm(properties() | {"AlarmName": name})


def test_a_rule_that_cannot_be_read_is_refused_with_the_alarm() -> None:
    with pytest.raises(
        UnsupportedAlarm, match=r"alarm all: AlarmRule: 'AT_LEAST' is not supported at character 1 "
    ):
        composite("all", "AT_LEAST(2, ALARM, (a, b, c))")


def test_a_suppressor_needs_both_periods() -> None:
    with pytest.raises(UnsupportedAlarm, match="ActionsSuppressorExtensionPeriod is None"):
        composite("all", "ALARM(a)", ActionsSuppressor="b", ActionsSuppressorWaitPeriod=60)
