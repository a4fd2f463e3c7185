"""CodeDeploy shifts an alias's traffic to a new version, watches alarms, and takes it back.

MiniStack does not know CodeDeploy: it refuses a template with an application or a deployment group, and an alias's
update policy means nothing, so that all of its traffic moves at once.

Where an alias has the policy ``CodeDeployLambdaAliasUpdate``, CloudFormation leaves a change of its version to
CodeDeploy (template reference, "UpdatePolicy attribute"). The new version gets a weight, or larger ones in steps,
as the group's deployment configuration says ("Deployment configurations on an AWS Lambda compute platform"). If
one of the group's alarms is in ALARM the deployment stops, and where the group has it so it is rolled back
("Monitoring deployments with CloudWatch alarms in CodeDeploy", "Redeploy and roll back a deployment with
CodeDeploy"); the stack's update fails. CodeDeploy does all that with the group's service role: what that may not
do fails the deployment. Whether its trust policy lets CodeDeploy take it on is not looked at.

Closed with handlers in the engine's table of types, and around that of an alias's update. Minutes are the stage's.
What AWS has besides is not here: hooks, CodeDeploy's own API, and shifts of several aliases at a time, for the
engine updates one resource after the other.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

from ministack.services import cloudformation, iam, lambda_svc
from ministack.services.cloudformation import provisioners, stacks
from ministack.services.cloudformation.engine import _resolve_refs

from sluice_harness.compat.access import service_roles
from sluice_harness.compat.monitoring import alarms
from sluice_harness.compat.monitoring.metric_store import MINUTE, store
from sluice_harness.compat.patching import expect

if TYPE_CHECKING:
    from collections.abc import Iterator

    Properties = dict[str, Any]
    Made = tuple[str, dict[str, str]]

APPLICATION, GROUP = "AWS::CodeDeploy::Application", "AWS::CodeDeploy::DeploymentGroup"
ALIAS, POLICY = "AWS::Lambda::Alias", "CodeDeployLambdaAliasUpdate"
LOOK_EVERY_SECONDS = 0.1
# What the role of a SAM application has; the engine lacks it (AWS Managed Policy Reference).
_SAM_POLICY = "service-role/AWSCodeDeployRoleForLambda"
_OF_ALIASES, _OF_ALARMS = ("lambda:GetAlias", "lambda:UpdateAlias"), "cloudwatch:DescribeAlarms"
_STOPPED = "DEPLOYMENT_STOP_ON_ALARM"
_LONGEST_NAME = 100
_CONFIGURATION = re.compile(
    r"CodeDeployDefault\.Lambda(?:(Canary|Linear)(\d+)Percent(?:Every)?(\d+)Minutes?|AllAtOnce)"
)

_groups: dict[str, Properties] = {}


def apply() -> None:
    """Register the types, and shift where an alias has the policy."""
    handlers = provisioners._RESOURCE_HANDLERS
    update = expect(
        provisioners, "_lambda_alias_update", "physical_id", "old_props", "new_props", "stack_name", "logical_id"
    )
    if {APPLICATION, GROUP} & handlers.keys() or handlers[ALIAS]["update"] is not update:
        raise RuntimeError(
            f"the CloudFormation handlers of {APPLICATION}, {GROUP} and {ALIAS} are not what they were"
        )
    handlers[APPLICATION] = {"create": _create_application, "update": _keep, "delete": _forget}
    handlers[GROUP] = {"create": _create_group, "update": _update_group, "delete": _forget}
    for kind in (APPLICATION, GROUP):
        provisioners._STACK_TAG_PROPERTY[kind] = ("Tags", "list")

    def update_by_code_deploy(
        physical_id: str, old: Properties, new: Properties, stack_name: str, logical_id: str | None = None
    ) -> Any:
        group = _group_of(stack_name, logical_id)
        if group is not None and new["FunctionVersion"] != old["FunctionVersion"]:
            _deploy(group, physical_id, new["FunctionVersion"])
        return update(physical_id, old, new, stack_name, logical_id)

    handlers[ALIAS]["update"] = update_by_code_deploy
    allowed = [{"Effect": "Allow", "Action": [*_OF_ALIASES, _OF_ALARMS], "Resource": "*"}]
    record = expect(iam, "_make_aws_managed_record", "name", "document", "description")(
        _SAM_POLICY, json.dumps({"Version": "2012-10-17", "Statement": allowed})
    )
    iam._aws_managed_policies.setdefault(record["Arn"], record)
    expect(provisioners, "_cfn_wait_condition_definition", "stack_name", "logical_id")
    expect(lambda_svc, "_update_alias", "func_name", "alias_name", "data")
    blocks = expect(stacks, "_runs_on_worker_thread", "resource_type")
    stacks._runs_on_worker_thread = lambda kind: kind == ALIAS or blocks(kind)


# The resources


def _create_application(logical_id: str, props: Properties, stack_name: str) -> Made:
    return props.get("ApplicationName") or _name(stack_name, logical_id), {}


def _create_group(logical_id: str, props: Properties, stack_name: str) -> Made:
    return _update_group(props.get("DeploymentGroupName") or _name(stack_name, logical_id), {}, props, stack_name)


def _update_group(physical_id: str, _old: Properties, props: Properties, _stack_name: str) -> Made:
    list(_steps(props))  # a configuration that there is
    _groups[physical_id] = props
    return physical_id, {}


def _keep(physical_id: str, _old: Properties, _new: Properties, _stack_name: str) -> Made:
    return physical_id, {}


def _forget(physical_id: str, _props: Properties) -> None:
    _groups.pop(physical_id, None)


def _name(stack_name: str, logical_id: str) -> str:
    return str(provisioners._physical_name(stack_name, logical_id, max_len=_LONGEST_NAME))


# A deployment


def _group_of(stack_name: str, logical_id: str | None) -> Properties | None:
    """Return the group that an alias's update is left to; none while the stack takes an update back."""
    stack = cloudformation._stacks[stack_name]
    policy = (
        provisioners._cfn_wait_condition_definition(stack_name, logical_id).get("UpdatePolicy", {}).get(POLICY)
    )
    if policy is None or "ROLLBACK" in stack["StackStatus"]:
        return None
    name = _resolve_refs(policy["DeploymentGroupName"], stack["_resources"], {}, {}, {}, stack_name, "")
    return _groups[name]


def _steps(group: Properties) -> Iterator[tuple[float, int]]:
    """Yield the weights that the new version gets before it gets all, each with how many seconds it has it.

    Raises
    ------
    ValueError
        The group names a configuration that is not one of CodeDeploy's own for functions.

    """
    name = group.get("DeploymentConfigName", "")
    found = _CONFIGURATION.fullmatch(name)
    if not found:
        raise ValueError(f"No Deployment Configuration found for name: {name}")
    way, percent, minutes = found.groups()
    if way:
        share = int(percent)
        for weight in range(share, 100 if way == "Linear" else share + 1, share):
            yield weight / 100, int(minutes) * MINUTE


def _deploy(group: Properties, alias_arn: str, version: str) -> None:
    """Shift an alias's traffic to a version.

    Raises
    ------
    ValueError
        An alarm has stopped it, or the group's role may not do it.

    """
    function, alias = lambda_svc._lambda_function_name_and_qualifier_from_arn(alias_arn)
    for action, resource in (
        *((action, alias_arn.removesuffix(f":{alias}")) for action in _OF_ALIASES),
        *((_OF_ALARMS, alarms.arn(name)) for name in _watched(group)),
    ):
        if why := service_roles.refusal(group["ServiceRoleArn"], "deployment", action, resource):
            raise ValueError(why)
    for weight, seconds in _steps(group):
        lambda_svc._update_alias(
            function, alias, {"RoutingConfig": {"AdditionalVersionWeights": {version: weight}}}
        )
        ends = store.clock.now() + seconds
        while (left := store.clock.real_seconds(ends - store.clock.now())) > 0:
            if fired := _fired(group):
                if _STOPPED in (group.get("AutoRollbackConfiguration") or {}).get("Events", ()):
                    lambda_svc._update_alias(function, alias, {"RoutingConfig": None})
                raise ValueError(f"The deployment of {alias_arn} was stopped by alarms: {', '.join(fired)}")
            time.sleep(min(left, LOOK_EVERY_SECONDS))
    lambda_svc._update_alias(function, alias, {"FunctionVersion": version, "RoutingConfig": None})


def _watched(group: Properties) -> list[str]:
    watched = group.get("AlarmConfiguration") or {}
    return [alarm["Name"] for alarm in watched.get("Alarms", ())] if watched.get("Enabled") else []


def _fired(group: Properties) -> list[str]:
    return [name for name in _watched(group) if (alarms.find(name) or {}).get("StateValue") == "ALARM"]
