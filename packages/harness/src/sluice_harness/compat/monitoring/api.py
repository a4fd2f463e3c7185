"""CloudWatch's entry: which action is ours, which stays the engine's.

Metrics and alarms go to our own actions, read and written for all three protocols by `wire`; dashboards, tags and
DescribeAlarmsForMetric go on to the engine. Its own evaluation of alarms is silenced: `alarms.evaluator` owns
states.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from ministack.services import cloudwatch

from sluice_harness.compat.monitoring import alarms_api, metrics_api, wire
from sluice_harness.compat.monitoring.wire import ApiError
from sluice_harness.compat.patching import expect

ACTIONS = {
    "PutMetricData": metrics_api.put_metric_data,
    "GetMetricData": metrics_api.get_metric_data,
    "GetMetricStatistics": metrics_api.get_metric_statistics,
    "ListMetrics": metrics_api.list_metrics,
    "PutMetricAlarm": alarms_api.put_metric_alarm,
    "PutCompositeAlarm": alarms_api.put_composite_alarm,
    "DescribeAlarms": alarms_api.describe_alarms,
    "DescribeAlarmHistory": alarms_api.describe_alarm_history,
    "SetAlarmState": alarms_api.set_alarm_state,
    "EnableAlarmActions": alarms_api.enable_alarm_actions,
    "DisableAlarmActions": alarms_api.disable_alarm_actions,
    "DeleteAlarms": alarms_api.delete_alarms,
}


def apply() -> None:
    """Take over the actions on metrics and alarms."""
    original = expect(cloudwatch, "handle_request", "method", "path", "headers", "body", "query_params")
    expect(cloudwatch, "_alarm_tags_refusal", *("tags", "datapoints", "is_new", "is_cbor", "is_json", "composite"))
    expect(cloudwatch, "_evaluate_alarm", "alarm")
    for records in ("_alarms", "_composite_alarms", "_resource_tags"):
        expect(cloudwatch, records)

    async def handle_request(
        method: str, path: str, headers: dict[str, str], body: bytes, query_params: dict[str, list[str]]
    ) -> Any:
        request = wire.read(path, headers, body, query_params)
        if request.action not in ACTIONS:
            return await original(method, path, headers, body, query_params)
        return await asyncio.to_thread(_answer, request)  # percentiles of many samples take their time

    cloudwatch.handle_request = handle_request
    cloudwatch._evaluate_alarm = _leave_to_evaluator


def _answer(request: wire.Request) -> wire.Response:
    try:
        return wire.answer(request, ACTIONS[request.action](wire.parameters(request)))
    except ApiError as error:
        return wire.failure(request.protocol, error)
    except Exception:
        logging.getLogger(__name__).exception("%s failed", request.action)
        return wire.failure(request.protocol, ApiError("InternalServiceFault", "The service failed.", 500))


def _leave_to_evaluator(alarm: Any) -> None:
    """Do nothing: states are decided once a minute."""
