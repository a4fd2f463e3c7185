"""Access logs: one line per request in the stage's log group.

MiniStack's CloudFormation drops a stage's `AccessLogSetting` and its gateway writes no access log. AWS writes
the stage's format with every `$context` variable substituted, `-` for the ones without a value, for rejected
requests too; values go in as they are, so a quote in a user agent breaks a JSON format ("Set up CloudWatch
logging for REST APIs in API Gateway", "Variables for access logging for API Gateway"). Closed by keeping the
setting, and an observer of finished exchanges that writes through the engine's CloudWatch Logs.
"""

from __future__ import annotations

import hashlib
import re
import time
from typing import Any

from ministack.core import responses
from ministack.services import apigateway_v1 as gateway
from ministack.services import cloudwatch_logs
from ministack.services.cloudformation import provisioners

from sluice_harness.compat.gateway import exchange
from sluice_harness.compat.gateway.exchange import Exchange, Response
from sluice_harness.compat.gateway.java_values import to_text
from sluice_harness.compat.patching import expect

TYPE = "AWS::ApiGateway::Stage"
_VARIABLE = re.compile(r"\$context((?:\.\w+)+)")


def apply() -> None:
    """Keep stages' access log settings, and write the logs."""
    handlers = provisioners._RESOURCE_HANDLERS
    if handlers[TYPE]["create"] is not provisioners._apigw_stage_create:
        raise RuntimeError(f"the CloudFormation handlers of {TYPE} are not where they were")
    expect(provisioners, "_apigw_stage_create", "logical_id", "props", "stack_name")
    expect(provisioners, "_apigw_stage_update", "physical_id", "old_props", "new_props", "stack_name")
    expect(cloudwatch_logs, "_put_log_events", "data")
    expect(cloudwatch_logs, "_create_log_stream", "data")
    # The update handler calls the create handler by its global name, to replace a stage.
    provisioners._apigw_stage_create = _created(provisioners._apigw_stage_create)
    handlers[TYPE]["create"] = provisioners._apigw_stage_create
    handlers[TYPE]["update"] = _updated(provisioners._apigw_stage_update)
    exchange.finished.append(_write)


def _created(original: Any) -> Any:
    def create(logical_id: str, props: dict[str, Any], stack_name: str) -> Any:
        made = original(logical_id, props, stack_name)
        _keep(props)
        return made

    return create


def _updated(original: Any) -> Any:
    def update(physical_id: str, old_props: dict[str, Any], new_props: dict[str, Any], stack_name: str) -> Any:
        made = original(physical_id, old_props, new_props, stack_name)
        _keep(new_props)
        return made

    return update


def _keep(props: dict[str, Any]) -> None:
    stage = gateway._stages_v1.get(props.get("RestApiId", ""), {}).get(props.get("StageName", ""))
    setting = props.get("AccessLogSetting") or {}
    if stage is not None:
        stage["accessLogSettings"] = {
            name: setting[name[0].upper() + name[1:]]
            for name in ("destinationArn", "format")
            if setting.get(name[0].upper() + name[1:])
        }


def _write(this: Exchange, response: Response) -> None:
    setting = this.stage.get("accessLogSettings") or {}
    template, destination = setting.get("format"), setting.get("destinationArn", "")
    if not template or ":log-group:" not in destination:
        return
    variables = _variables(this, response)

    def one(match: re.Match[str]) -> str:
        value: Any = variables
        for part in match[1].split(".")[1:]:
            value = value.get(part) if isinstance(value, dict) else None
        return "-" if value is None or value in ("", {}) else to_text(value)

    _put(destination, _stream(this), _VARIABLE.sub(one, template))


def _variables(this: Exchange, response: Response) -> dict[str, Any]:
    status, _headers, body = response
    integration = this.integration
    return this.context | {
        "status": status,
        "responseLength": len(body),
        "responseLatency": round((time.perf_counter() - this.started) * 1000),
        "integrationStatus": integration.get("status"),
        "integrationLatency": integration.get("latency"),
        "integration": {**integration, "integrationStatus": integration.get("status")},
    }


def _stream(this: Exchange) -> str:
    name = f"{this.context['apiId']}/{this.context['stage']}"
    return hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()


def _put(destination: str, stream: str, line: str) -> None:
    region, account = destination.split(":")[3:5]
    group = destination.split(":log-group:", 1)[1].removesuffix(":*")
    with responses.request_scope(account, region):
        known = cloudwatch_logs._log_groups.get(group)
        if known is None:
            return  # a deleted group loses the lines, as in AWS
        if stream not in known["streams"]:
            cloudwatch_logs._create_log_stream({"logGroupName": group, "logStreamName": stream})
        event = {"timestamp": int(time.time() * 1000), "message": line}
        cloudwatch_logs._put_log_events({"logGroupName": group, "logStreamName": stream, "logEvents": [event]})
