"""The alarms of the local stage: their records, their states and their history.

MiniStack evaluates an alarm when a metric is put or it is defined, without its dimensions, its M of N or its
missing data. Here `sluice_harness.cloudwatch` decides every state; the engine's own records stay what they are
(other parts of the engine read them), with the state written into them. `running_evaluator` steps it once a stage
minute.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from ministack.core.responses import get_account_id, get_region
from ministack.services import cloudwatch

from sluice_harness.cloudwatch.definitions import CompositeAlarm, read_alarm
from sluice_harness.cloudwatch.evaluator import AlarmInUse, Evaluator, UnknownAlarm
from sluice_harness.cloudwatch.reasons import CREATED
from sluice_harness.compat.monitoring.metric_store import store
from sluice_harness.compat.monitoring.wire import ApiError

if TYPE_CHECKING:
    from sluice_harness.cloudwatch.transitions import Transition

Record = dict[str, Any]

HISTORY_KEPT = 20_000
METRIC, COMPOSITE = "MetricAlarm", "CompositeAlarm"
_STATE = ("StateValue", "StateReason", "StateReasonData", "StateUpdatedTimestamp", "StateTransitionedTimestamp")
_DEFAULTS: Record = {
    "AlarmDescription": "",
    "ActionsEnabled": True,
    "AlarmActions": [],
    "OKActions": [],
    "InsufficientDataActions": [],
}

evaluator = Evaluator(store)
history: deque[Record] = deque(maxlen=HISTORY_KEPT)
"""Entries of DescribeAlarmHistory, oldest first; ``Number`` counts them."""
lock = threading.RLock()
"""Held while records, states and history change together."""


def arn(name: str) -> str:
    """Return an alarm's ARN."""
    return f"arn:aws:cloudwatch:{get_region()}:{get_account_id()}:alarm:{name}"


def find(name: str) -> Record | None:
    """Return an alarm's record, of either type."""
    record: Record | None = cloudwatch._alarms.get(name) or cloudwatch._composite_alarms.get(name)
    return record


def put(properties: Record) -> Record:
    """Define an alarm, or define it anew; then it keeps its state.

    Parameters
    ----------
    properties : dict
        As PutMetricAlarm and PutCompositeAlarm take them.

    Raises
    ------
    ApiError
        It is malformed, or cannot be evaluated here.

    """
    name = properties["AlarmName"]
    kind = COMPOSITE if "AlarmRule" in properties else METRIC
    records, others = _stores(kind)
    with lock:
        if name in others:
            raise ApiError("ValidationError", f"An alarm of the other type is called {name}.")
        now = store.clock.now()
        record = _DEFAULTS | ({"Dimensions": []} if "MetricName" in properties else {}) | properties
        record |= {"AlarmArn": arn(name), "AlarmConfigurationUpdatedTimestamp": now}
        before = records.get(name)
        record |= {key: before[key] for key in _STATE if key in before} if before else _initial_state(now)
        try:
            evaluator.put(read_alarm(record))
        except (ValueError, UnknownAlarm) as error:
            raise ApiError("ValidationError", str(error)) from error
        records[name] = record
        done = "updated" if before else "created"
        note(name, kind, "ConfigurationUpdate", f'Alarm "{name}" {done}', {"version": "1.0", "type": done}, now)
        return record


def _stores(kind: str) -> tuple[Any, Any]:
    both = (cloudwatch._alarms, cloudwatch._composite_alarms)
    return both if kind == METRIC else both[::-1]


def _initial_state(now: float) -> Record:
    return {"StateValue": "INSUFFICIENT_DATA", "StateReason": CREATED, "StateUpdatedTimestamp": now}


def enable(record: Record, *, enabled: bool) -> None:
    """Let an alarm act, or not."""
    with lock:
        record["ActionsEnabled"] = enabled
        evaluator.put(read_alarm(record))


def delete(name: str) -> None:
    """Take an alarm away; one that is not there is no error.

    Raises
    ------
    ApiError
        A composite alarm watches it.

    """
    with lock:
        try:
            evaluator.delete(name)
        except AlarmInUse as error:
            raise ApiError("ValidationError", str(error)) from error
        except UnknownAlarm:
            return
        kind = METRIC if name in cloudwatch._alarms else COMPOSITE
        _stores(kind)[0].pop(name, None)
        cloudwatch._resource_tags.pop(arn(name), None)
        data = {"version": "1.0", "type": "deleted"}
        note(name, kind, "ConfigurationUpdate", f'Alarm "{name}" deleted', data, store.clock.now())


def accept(transition: Transition) -> None:
    """Write a transition into the alarm's record and its history."""
    name = transition.alarm.name
    record = find(name)
    if record is None or transition.old is transition.new:
        return
    status = evaluator.status(name)
    record["StateValue"], record["StateReason"] = str(transition.new), transition.reason
    record.pop("StateReasonData", None)
    if transition.reason_data:
        record["StateReasonData"] = json.dumps(transition.reason_data)
    record["StateUpdatedTimestamp"] = status.updated_at
    record["StateTransitionedTimestamp"] = status.transitioned_at
    data = {
        "version": "1.0",
        "oldState": {"stateValue": str(transition.old)},
        "newState": {
            "stateValue": str(transition.new),
            "stateReason": transition.reason,
            **({"stateReasonData": transition.reason_data} if transition.reason_data else {}),
        },
    }
    kind = COMPOSITE if isinstance(transition.alarm, CompositeAlarm) else METRIC
    summary = f"Alarm updated from {transition.old} to {transition.new}"
    note(name, kind, "StateUpdate", summary, data, transition.at)


def note(name: str, kind: str, item: str, summary: str, data: Record, at: float) -> None:  # noqa: PLR0917
    """Add an entry to the history."""
    with lock:
        number = history[-1]["Number"] + 1 if history else 0
        history.append(
            {
                "Number": number,
                "AlarmName": name,
                "AlarmType": kind,
                "Timestamp": at,
                "HistoryItemType": item,
                "HistorySummary": summary,
                "HistoryData": json.dumps(data),
            }
        )
