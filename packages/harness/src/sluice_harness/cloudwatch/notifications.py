"""What CloudWatch publishes to a topic when an alarm changes its state.

A subscriber that parses notifications (a chat integration, a pager, a drill's receiver) has to find on the local
stage what it will find in AWS: the subject, the fields and their spelling, down to dimensions in lower case and
statistics in upper case, as the examples in "Using Amazon CloudWatch alarms" and in Amazon SNS' guide have them.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import botocore.loaders

from sluice_harness.cloudwatch.definitions import CompositeAlarm
from sluice_harness.cloudwatch.reasons import timestamp
from sluice_harness.cloudwatch.statistics import percentile_of

if TYPE_CHECKING:
    from sluice_harness.cloudwatch.definitions import Alarm, MetricAlarm, MetricStat, Query
    from sluice_harness.cloudwatch.transitions import Transition

# "SNS: Publish": subjects are less than 100 characters.
_SUBJECT = 99


@dataclass(frozen=True, slots=True)
class Place:
    """Whose alarms, and where."""

    account: str
    region: str

    @property
    def region_name(self) -> str:
        """The region's name as CloudWatch writes it, such as US East (N. Virginia); its code if it is unknown."""
        return _region_names().get(self.region, self.region)

    def arn(self, alarm: Alarm) -> str:
        """Return an alarm's ARN."""
        partition = "aws-cn" if self.region.startswith("cn-") else "aws"
        return alarm.arn or f"arn:{partition}:cloudwatch:{self.region}:{self.account}:alarm:{alarm.name}"


def subject(transition: Transition, place: Place) -> str:
    """Return the subject of a notification."""
    full = f'{transition.new}: "{transition.alarm.name}" in {place.region_name}'
    return full if len(full) <= _SUBJECT else f"{full[: _SUBJECT - 3]}..."


def message(transition: Transition, place: Place, configured_at: float) -> str:
    """Return the JSON text of a notification.

    Parameters
    ----------
    transition : Transition
        What happened.
    place : Place
        Where.
    configured_at : float
        When the alarm was last defined, in epoch seconds.

    """
    alarm = transition.alarm
    told: dict[str, Any] = {
        "AlarmName": alarm.name,
        "AlarmDescription": alarm.description or None,
        "AWSAccountId": place.account,
        "AlarmConfigurationUpdatedTimestamp": timestamp(configured_at),
        "NewStateValue": str(transition.new),
        "NewStateReason": transition.reason,
        "StateChangeTime": timestamp(transition.at),
        "Region": place.region_name,
        "AlarmArn": place.arn(alarm),
        "OldStateValue": str(transition.old),
        "OKActions": list(alarm.ok_actions),
        "AlarmActions": list(alarm.alarm_actions),
        "InsufficientDataActions": list(alarm.insufficient_data_actions),
    }
    if isinstance(alarm, CompositeAlarm):
        return json.dumps(
            told | {"AlarmRule": alarm.rule.text, "TriggeringChildren": _children(transition, place)}
        )
    return json.dumps(told | {"Trigger": _trigger(alarm)})


def _children(transition: Transition, place: Place) -> list[dict[str, Any]]:
    prefix = place.arn(transition.alarm).removesuffix(transition.alarm.name)
    return [
        {
            "Arn": child["arn"] if child["arn"].startswith("arn:") else prefix + child["arn"],
            "State": {"Value": child["state"]["value"], "Timestamp": child["state"]["timestamp"]},
        }
        for child in transition.reason_data.get("triggeringAlarms", [])
    ]


def _trigger(alarm: MetricAlarm) -> dict[str, Any]:
    rule = {
        "EvaluationPeriods": alarm.evaluation_periods,
        "DatapointsToAlarm": alarm.datapoints_to_alarm,
        "ComparisonOperator": str(alarm.comparison),
        "Threshold": alarm.threshold,
        "TreatMissingData": str(alarm.treat_missing_data),
        "EvaluateLowSampleCountPercentile": "" if alarm.evaluate_low_samples else "ignore",
    }
    stat = alarm.watched.stat
    if alarm.math or stat is None:
        return {"Period": alarm.period} | rule | {"Metrics": [_entry(query) for query in alarm.queries]}
    return _metric(stat) | _statistic(stat) | {"Unit": stat.unit, "Period": alarm.period} | rule


def _metric(stat: MetricStat) -> dict[str, Any]:
    return {
        "MetricName": stat.metric.name,
        "Namespace": stat.metric.namespace,
        "Dimensions": [{"value": value, "name": name} for name, value in stat.metric.dimensions],
    }


def _statistic(stat: MetricStat) -> dict[str, Any]:
    if percentile_of(stat.stat) is not None or "(" in stat.stat:
        return {"StatisticType": "ExtendedStatistic", "ExtendedStatistic": stat.stat}
    upper = "SAMPLE_COUNT" if stat.stat == "SampleCount" else stat.stat.upper()
    return {"StatisticType": "Statistic", "Statistic": upper}


def _entry(query: Query) -> dict[str, Any]:
    entry: dict[str, Any] = {"Id": query.id}
    if query.label:
        entry["Label"] = query.label
    if query.stat is None:
        entry["Expression"] = query.expression
    else:
        unit = {"Unit": query.stat.unit} if query.stat.unit else {}
        entry["MetricStat"] = {
            "Metric": _metric(query.stat),
            "Period": query.stat.period,
            "Stat": query.stat.stat,
            **unit,
        }
    if query.period is not None:
        entry["Period"] = query.period
    return entry | {"ReturnData": query.returns}


@functools.cache
def _region_names() -> dict[str, str]:
    partitions = botocore.loaders.Loader().load_data("endpoints")["partitions"]
    return {
        code: region["description"] for partition in partitions for code, region in partition["regions"].items()
    }
