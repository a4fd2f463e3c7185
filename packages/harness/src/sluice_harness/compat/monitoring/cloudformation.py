"""CloudFormation of what an observability stack is made of.

MiniStack refuses an alarm with ``Metrics``, does not know composite alarms or saved queries, and drops a topic's
``KmsMasterKeyId``; one unknown type rejects the whole stack. CloudFormation has all of them
("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm", "AWS::Logs::QueryDefinition" in the template
reference): Ref is the alarm's name, or the query's id; GetAtt gives an alarm's ``Arn``. Closed with handlers on
our own alarms and the engine's table of types.
"""

from __future__ import annotations

from typing import Any

from ministack.services import cloudwatch, sns
from ministack.services.cloudformation import provisioners

from sluice_harness.compat.monitoring import alarms, saved_queries, wire
from sluice_harness.compat.patching import expect

Properties = dict[str, Any]
Made = tuple[str, dict[str, str]]

ALARM, COMPOSITE, QUERY = "AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm", "AWS::Logs::QueryDefinition"
TOPIC, KEY = "AWS::SNS::Topic", "KmsMasterKeyId"
_ACTIONS = {ALARM: "PutMetricAlarm", COMPOSITE: "PutCompositeAlarm"}


def apply() -> None:
    """Register the handlers."""
    expect(provisioners, "_physical_name", "stack_name", "logical_id", "lowercase", "max_len", "seeded")
    handlers = provisioners._RESOURCE_HANDLERS
    if handlers[ALARM]["create"] is not provisioners._cw_metric_alarm_create or COMPOSITE in handlers:
        raise RuntimeError(f"the CloudFormation handlers of {ALARM} and {COMPOSITE} are not what they were")
    for kind in _ACTIONS:
        handlers[kind] = {
            "create": _creates(kind),
            "update": _updates(kind),
            "update_with_logical_id": True,
            "delete": _delete_alarm,
        }
    handlers[QUERY] = {"create": _create_query, "update": _update_query, "delete": _delete_query}
    provisioners._STACK_TAG_PROPERTY[COMPOSITE] = ("Tags", "list")
    _keep_topic_keys()


def _keep_topic_keys() -> None:
    handlers = provisioners._RESOURCE_HANDLERS[TOPIC]
    create = expect(provisioners, "_sns_create", "logical_id", "props", "stack_name")
    update = expect(
        provisioners, "_sns_update", "physical_id", "old_props", "new_props", "stack_name", "logical_id"
    )
    if handlers["create"] is not create or handlers["update"] is not update:
        raise RuntimeError(f"the CloudFormation handlers of {TOPIC} are not where they were")

    def created(logical_id: str, props: Properties, stack_name: str) -> Any:
        return _with_key(create(logical_id, props, stack_name), props)

    def updated(physical_id: str, old_props: Properties, new_props: Properties, *rest: Any, **named: Any) -> Any:
        return _with_key(update(physical_id, old_props, new_props, *rest, **named), new_props)

    handlers.update(create=created, update=updated)


def _with_key(made: Any, props: Properties) -> Any:
    attributes = sns._topics[made[0]]["attributes"]
    attributes.pop(KEY, None)
    if props.get(KEY):
        attributes[KEY] = props[KEY]
    return made


def _creates(kind: str) -> Any:
    def create(logical_id: str, props: Properties, stack_name: str) -> Made:
        name = props.get("AlarmName") or provisioners._physical_name(stack_name, logical_id, max_len=255)
        if alarms.find(name) is not None:
            raise ValueError(f"{name} already exists")
        return _put(kind, name, props)

    return create


def _updates(kind: str) -> Any:
    def update(
        physical_id: str, _old: Properties, new_props: Properties, stack_name: str, logical_id: str | None = None
    ) -> Made:
        name = new_props.get("AlarmName") or physical_id
        if name != physical_id:  # replaced: the engine deletes the former one once the update has succeeded
            made: Made = _creates(kind)(logical_id or physical_id, new_props, stack_name)
            return made
        return _put(kind, name, new_props)

    return update


def _put(kind: str, name: str, props: Properties) -> Made:
    shape = wire.model.operation_model(_ACTIONS[kind]).input_shape
    assert shape is not None  # noqa: S101 - both actions take parameters
    wanted = wire.coerce(shape, {**props, "AlarmName": name})
    tags = wanted.pop("Tags", [])
    try:
        record = alarms.put(wanted)
    except wire.ApiError as error:
        raise ValueError(f"{kind} {name}: {error.message}") from error
    cloudwatch._resource_tags[record["AlarmArn"]] = {tag["Key"]: tag["Value"] for tag in tags}
    return name, {"Arn": record["AlarmArn"]}


def _delete_alarm(physical_id: str, _props: Properties) -> None:
    try:
        alarms.delete(physical_id)
    except wire.ApiError as error:
        raise ValueError(error.message) from error


def _create_query(_logical_id: str, props: Properties, _stack_name: str) -> Made:
    return _put_query(None, props)


def _update_query(physical_id: str, _old: Properties, new_props: Properties, _stack_name: str) -> Made:
    return _put_query(physical_id, new_props)


def _put_query(query_id: str | None, props: Properties) -> Made:
    wanted = {name[0].lower() + name[1:]: value for name, value in props.items()}
    made = saved_queries.put({**wanted, "queryDefinitionId": query_id})
    return made, {"QueryDefinitionId": made}


def _delete_query(physical_id: str, _props: Properties) -> None:
    saved_queries.delete(physical_id)
