"""CloudWatch's actions on alarms.

MiniStack drops ``Metrics`` from PutMetricAlarm and suppression from PutCompositeAlarm, describes half of an alarm
by the query protocol, and has no ``Action`` items in the history ("Amazon CloudWatch API reference":
"PutMetricAlarm", "PutCompositeAlarm", "DescribeAlarms", "DescribeAlarmHistory", "SetAlarmState"). Tags are checked
and kept by the engine's own code.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from ministack.services import cloudwatch

from sluice_harness.cloudwatch.definitions import State
from sluice_harness.cloudwatch.evaluator import UnknownAlarm
from sluice_harness.compat.monitoring import alarm_actions, alarms
from sluice_harness.compat.monitoring.alarms import COMPOSITE, METRIC, Record
from sluice_harness.compat.monitoring.metric_store import store
from sluice_harness.compat.monitoring.wire import ApiError

if TYPE_CHECKING:
    from sluice_harness.compat.monitoring.wire import Parameters

A_PAGE = 50
LONGEST_PAGE = 100
_KINDS = {METRIC: "MetricAlarms", COMPOSITE: "CompositeAlarms"}


def put_metric_alarm(wanted: Parameters) -> Parameters:
    """Define a metric alarm."""
    return _put(wanted, composite=False)


def put_composite_alarm(wanted: Parameters) -> Parameters:
    """Define a composite alarm."""
    return _put(wanted, composite=True)


def _put(wanted: Parameters, *, composite: bool) -> Parameters:
    tags = wanted.pop("Tags", None)
    name = wanted["AlarmName"]
    is_new = alarms.find(name) is None
    datapoints = wanted.get("DatapointsToAlarm")
    refusal = cloudwatch._alarm_tags_refusal(tags, datapoints, is_new, False, True, composite=composite)
    if refusal:
        status, _, body = refusal
        found = json.loads(body)
        raise ApiError(found["__type"], found["message"], status)
    record = alarms.put(wanted)
    if is_new and tags:
        cloudwatch._resource_tags[record["AlarmArn"]] = {tag["Key"]: tag["Value"] for tag in tags}
    return {}


def describe_alarms(wanted: Parameters) -> Parameters:
    """Return alarms by name, prefix, state and type, in the order of their names."""
    kinds = wanted.get("AlarmTypes") or [METRIC]
    stores = {METRIC: cloudwatch._alarms, COMPOSITE: cloudwatch._composite_alarms}
    found = sorted(
        (record["AlarmName"], kind)
        for kind in stores
        if kind in kinds
        for record in list(stores[kind].values())
        if _matches(record, wanted)
    )
    token, number = wanted.get("NextToken", ""), wanted.get("MaxRecords", A_PAGE)
    left = [(name, kind) for name, kind in found if name >= token]
    answer: Parameters = {plural: [] for plural in _KINDS.values()}
    for name, kind in left[:number]:
        if (record := stores[kind].get(name)) is not None:
            answer[_KINDS[kind]].append(_described(record, kind))
    return answer if len(left) <= number else {**answer, "NextToken": left[number][0]}


def _matches(record: Record, wanted: Parameters) -> bool:
    names = wanted.get("AlarmNames")
    return bool(
        (not names or record["AlarmName"] in names)
        and record["AlarmName"].startswith(wanted.get("AlarmNamePrefix", ""))
        and record["StateValue"] == wanted.get("StateValue", record["StateValue"])
        and _acts(record, wanted.get("ActionPrefix"))
    )


def _acts(record: Record, prefix: str | None) -> bool:
    actions = [*record["AlarmActions"], *record["OKActions"], *record["InsufficientDataActions"]]
    return prefix is None or any(action.startswith(prefix) for action in actions)


def _described(record: Record, kind: str) -> Record:
    if kind == METRIC:
        return record
    held_by = alarms.evaluator.status(record["AlarmName"]).suppressed_by
    return record if held_by is None else {**record, "ActionsSuppressedBy": str(held_by)}


def describe_alarm_history(wanted: Parameters) -> Parameters:
    """Return what happened to alarms, the newest first unless told otherwise."""
    kinds = wanted.get("AlarmTypes") or [METRIC]
    newest_first = wanted.get("ScanBy", "TimestampDescending") == "TimestampDescending"
    with alarms.lock:
        items = [item for item in alarms.history if item["AlarmType"] in kinds and _is_wanted(item, wanted)]
    items.sort(key=lambda item: item["Number"], reverse=newest_first)
    if token := wanted.get("NextToken"):
        start = _number(token)
        items = [item for item in items if (item["Number"] <= start if newest_first else item["Number"] >= start)]
    number = wanted.get("MaxRecords", LONGEST_PAGE)
    answer: Parameters = {"AlarmHistoryItems": items[:number]}
    if len(items) > number:
        answer["NextToken"] = base64.urlsafe_b64encode(str(items[number]["Number"]).encode()).decode()
    return answer


def _is_wanted(item: Record, wanted: Parameters) -> bool:
    return bool(
        item["AlarmName"] == wanted.get("AlarmName", item["AlarmName"])
        and item["HistoryItemType"] == wanted.get("HistoryItemType", item["HistoryItemType"])
        and wanted.get("StartDate", 0) <= item["Timestamp"] <= wanted.get("EndDate", item["Timestamp"])
    )


def _number(token: str) -> int:
    try:
        return int(base64.urlsafe_b64decode(token))
    except ValueError as error:
        raise ApiError("InvalidNextToken", f"Invalid NextToken: {token}") from error


def set_alarm_state(wanted: Parameters) -> Parameters:
    """Set an alarm's state, until it is evaluated again."""
    try:
        reason_data: Any = json.loads(wanted.get("StateReasonData") or "{}")
    except ValueError as error:
        raise ApiError("InvalidFormat", "StateReasonData is not JSON.") from error
    try:
        state = State(wanted["StateValue"])
        with alarms.lock:
            transitions = alarms.evaluator.set_state(
                wanted["AlarmName"], state, wanted["StateReason"], store.clock.now(), reason_data
            )
            for transition in transitions:
                alarms.accept(transition)
    except UnknownAlarm as error:
        raise ApiError("ResourceNotFound", str(error), 404) from error
    except ValueError as error:
        raise ApiError("ValidationError", str(error)) from error
    for transition in transitions:
        alarm_actions.take(transition)
    return {}


def enable_alarm_actions(wanted: Parameters) -> Parameters:
    """Let alarms act."""
    return _enable(wanted, enabled=True)


def disable_alarm_actions(wanted: Parameters) -> Parameters:
    """Let alarms not act."""
    return _enable(wanted, enabled=False)


def _enable(wanted: Parameters, *, enabled: bool) -> Parameters:
    for name in wanted["AlarmNames"]:
        record = alarms.find(name)
        if record is not None:
            alarms.enable(record, enabled=enabled)
    return {}


def delete_alarms(wanted: Parameters) -> Parameters:
    """Take alarms away: any number of metric alarms, and one composite alarm."""
    composites = [name for name in dict.fromkeys(wanted["AlarmNames"]) if name in cloudwatch._composite_alarms]
    if len(composites) > 1:
        raise ApiError(
            "ValidationError",
            f"Cannot delete [{len(composites)}] Composite Alarms as only one composite alarm delete is allowed in "
            "single request",
        )
    # First the composite alarm: it may be what keeps the others.
    for name in [*composites, *(name for name in wanted["AlarmNames"] if name not in composites)]:
        alarms.delete(name)
    return {}
