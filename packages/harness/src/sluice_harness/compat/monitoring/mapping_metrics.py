"""Metrics of event source mappings: what they read, dropped, handed over and deleted.

MiniStack drops ``MetricsConfig`` and publishes no metric of a mapping. Lambda publishes, for a mapping with
``MetricsConfig: EventCount`` and by EventSourceMappingUUID, PolledEventCount, FilteredOutEventCount,
InvokedEventCount, FailedInvokeEventCount, DeletedEventCount (queues) and DroppedEventCount (streams). An event
that was reported in ``batchItemFailures`` is a failed one, as is every event of an invocation that failed or was
refused; partial failures are no function Errors. For streams it also publishes IteratorAge, by FunctionName: how
old the last record of a batch is when it is handed over ("Types of metrics for Lambda functions", "Event source
mapping metrics" and "Performance metrics"). Closed by observing both pollers, and by keeping the setting.
"""

from __future__ import annotations

import json
from typing import Any

from ministack.core.responses import json_response
from ministack.services import lambda_svc
from ministack.services.cloudformation import provisioners

from sluice_harness.compat.monitoring.metric_store import dimensions, store
from sluice_harness.compat.patching import expect
from sluice_harness.compat.queues.event_source_mapping import Mapping, observers

NAMESPACE = "AWS/Lambda"
TYPE = "AWS::Lambda::EventSourceMapping"
SETTING = "MetricsConfig"
_REFUSED = 400


def apply() -> None:
    """Count the events of mappings, and keep what says that they are to be counted."""
    expect(lambda_svc, "_esm_response", "esm")
    expect(lambda_svc, "_esm_wake")
    create = expect(lambda_svc, "_create_esm", "data")
    update = expect(lambda_svc, "_update_esm", "esm_id", "data")

    def create_counted(data: dict[str, Any]) -> Any:
        # Enabled when it is complete, or the poller is quicker than the setting.
        return _complete(create({**data, "Enabled": False}), data, data.get("Enabled", True))

    lambda_svc._create_esm = create_counted
    lambda_svc._update_esm = lambda esm_id, data: _complete(update(esm_id, data), data, None)
    _keep_from_templates()
    observers.append(_record)


def _complete(answer: Any, data: dict[str, Any], enabled: Any) -> Any:
    """Finish what the API has just made of a mapping: its setting, and then whether it is enabled."""
    if answer[0] >= _REFUSED:
        return answer
    mapping = lambda_svc._esms[json.loads(answer[2])["UUID"]]
    if SETTING in data:
        mapping[SETTING] = data[SETTING]
    if enabled is not None:
        _enable(mapping, enabled)
    return json_response(lambda_svc._esm_response(mapping), answer[0])


def _enable(mapping: Mapping, enabled: Any) -> None:
    mapping["Enabled"] = str(enabled).lower() == "true"
    mapping["State"] = "Enabled" if mapping["Enabled"] else "Disabled"
    lambda_svc._esm_wake.set()


def _keep_from_templates() -> None:
    handlers = provisioners._RESOURCE_HANDLERS[TYPE]
    create = expect(provisioners, "_lambda_esm_create", "logical_id", "props", "stack_name")
    update = expect(provisioners, "_lambda_esm_update", "physical_id", "old_props", "new_props", "stack_name")
    if handlers["create"] is not create or handlers["update"] is not update:
        raise RuntimeError(f"the CloudFormation handlers of {TYPE} are not where they were")

    def created(logical_id: str, props: dict[str, Any], stack_name: str) -> Any:
        made = create(logical_id, {**props, "Enabled": False}, stack_name)
        _enable(_with_setting(made, props), props.get("Enabled", True))
        return made

    def updated(physical_id: str, old_props: dict[str, Any], new_props: dict[str, Any], stack_name: str) -> Any:
        made = update(physical_id, old_props, new_props, stack_name)
        _with_setting(made, new_props)
        return made

    handlers.update(create=created, update=updated)


def _with_setting(made: Any, props: dict[str, Any]) -> Mapping:
    mapping: Mapping = lambda_svc._esms[made[0]]
    mapping.pop(SETTING, None)
    if SETTING in props:
        mapping[SETTING] = props[SETTING]
    return mapping


def _record(mapping: Mapping, metric: str, value: float) -> None:
    if metric == "IteratorAge":
        where = dimensions(FunctionName=mapping["FunctionName"])
        store.record(NAMESPACE, metric, where, round(value), "Milliseconds")
    elif "EventCount" in (mapping.get(SETTING) or {}).get("Metrics", ()):
        store.record(NAMESPACE, metric, dimensions(EventSourceMappingUUID=mapping["UUID"]), value, "Count")
