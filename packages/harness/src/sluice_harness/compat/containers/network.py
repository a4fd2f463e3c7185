"""Parts of a network that MiniStack's CloudFormation lacks: flow logs, and rules of security groups by themselves.

Their types are refused, with the whole template. No packet goes through this network: containers are processes of
this machine, and reach what it reaches. A flow log is kept where the engine's API shows it, with whether its role
lets it deliver (Amazon VPC User Guide, "IAM role for publishing flow logs to CloudWatch Logs", "Troubleshoot VPC
Flow Logs"); a rule is in its group (AWS CloudFormation template reference, "AWS::EC2::FlowLog",
"AWS::EC2::SecurityGroupIngress", "AWS::EC2::SecurityGroupEgress").
"""

from __future__ import annotations

import secrets
from typing import Any

from ministack.services import cloudwatch_logs, ec2
from ministack.services.cloudformation import provisioners

from sluice_harness.compat.access import service_roles
from sluice_harness.compat.patching import expect

Properties = dict[str, Any]
Made = tuple[str, dict[str, str]]

FLOW_LOG = "AWS::EC2::FlowLog"
_RULES = {
    "AWS::EC2::SecurityGroupIngress": "IpPermissions",
    "AWS::EC2::SecurityGroupEgress": "IpPermissionsEgress",
}
_DELIVER = ("logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents")


def apply() -> None:
    """Register the types."""
    handlers = provisioners._RESOURCE_HANDLERS
    if {FLOW_LOG, *_RULES} & handlers.keys():
        raise RuntimeError(f"the engine has CloudFormation handlers of these: look whether {__name__} is needed")
    expect(ec2, "_flow_logs")
    expect(ec2, "_security_groups")
    expect(ec2, "_now_ts")
    expect(provisioners, "_ec2_sg_permissions", "rules")
    handlers[FLOW_LOG] = {"create": _create_flow_log, "delete": _delete_flow_log}
    for kind, side in _RULES.items():
        handlers[kind] = _rules_of(side)
    describe = expect(ec2, "_describe_flow_logs", "params")
    ec2._ACTION_MAP["DescribeFlowLogs"] = lambda params: _with_deliveries(describe(params))


def _create_flow_log(_logical_id: str, props: Properties, _stack_name: str) -> Made:
    name = f"fl-{secrets.token_hex(8)}"
    ec2._flow_logs[name] = {
        "FlowLogId": name,
        "ResourceId": props["ResourceId"],
        "ResourceType": props["ResourceType"],
        "TrafficType": props.get("TrafficType", "ALL"),
        "LogDestinationType": props.get("LogDestinationType", "cloud-watch-logs"),
        "LogDestination": props.get("LogDestination") or props.get("LogGroupName", ""),
        "FlowLogStatus": "ACTIVE",
        "DeliverLogsPermissionArn": props.get("DeliverLogsPermissionArn", ""),
        "CreationTime": ec2._now_ts(),
    }
    return name, {"Id": name}


def _with_deliveries(answer: tuple[int, Any, bytes]) -> tuple[int, Any, bytes]:
    """Say of each flow log that is listed whether it can be delivered."""
    status, headers, body = answer
    for name, log in ec2._flow_logs.items():
        listed = f"<flowLogId>{name}</flowLogId>".encode()
        body = body.replace(listed, listed + _delivery(log).encode())
    return status, headers, body


def _delivery(log: dict[str, Any]) -> str:
    group = cloudwatch_logs._make_group_arn(log["LogDestination"])
    role = log.get("DeliverLogsPermissionArn")
    if role and any(service_roles.refusal(role, "flowlogs", action, group) for action in _DELIVER):
        error = "<deliverLogsErrorMessage>Access error</deliverLogsErrorMessage>"
        return f"<deliverLogsStatus>FAILED</deliverLogsStatus>{error}"
    return "<deliverLogsStatus>SUCCESS</deliverLogsStatus>"


def _delete_flow_log(physical_id: str, _props: Properties) -> None:
    ec2._flow_logs.pop(physical_id, None)


def _rules_of(side: str) -> dict[str, Any]:
    """Return the handlers of rules on one side of their groups; a rule is found again by its id."""

    def rule(props: Properties) -> dict[str, Any]:
        (made,) = provisioners._ec2_sg_permissions([props])
        return dict(made)

    def create(_logical_id: str, props: Properties, _stack_name: str) -> Made:
        name = f"sgr-{secrets.token_hex(8)}"
        ec2._security_groups[props["GroupId"]][side].append({**rule(props), "_sluice": name})
        return name, {"Id": name}

    def delete(physical_id: str, props: Properties) -> None:
        group = ec2._security_groups.get(props["GroupId"])
        if group is not None:
            group[side] = [rule for rule in group[side] if rule.get("_sluice") != physical_id]

    return {"create": create, "delete": delete}
