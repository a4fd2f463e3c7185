"""A SAM template is expanded with its parameters' values, as CloudFormation gives them to any macro."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from stage.conformance.functions import unique

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

WAIT = {"Delay": 0.1, "MaxAttempts": 100}
PARAMETER = {"Type": "String", "AllowedValues": ["yes", "no"]}
FUNCTION = {
    "InlineCode": "def handler(event, context):\n    return 1",
    "Handler": "index.handler",
    "Runtime": "python3.13",
    "AutoPublishAlias": "live",
}
FUNCTIONS = ("AWS::Lambda::Function", "AWS::Lambda::Version", "AWS::Lambda::Alias")
CODE_DEPLOY = ("AWS::CodeDeploy::Application", "AWS::CodeDeploy::DeploymentGroup")


def template(parameter: dict[str, Any]) -> str:
    """A function whose alias CodeDeploy shifts if a parameter says so."""
    preference = {
        "Enabled": {"Fn::FindInMap": ["Shifts", {"Ref": "Shift"}, "Enabled"]},
        "Type": "Canary10Percent5Minutes",
    }
    function = {
        "Type": "AWS::Serverless::Function",
        "Properties": {**FUNCTION, "DeploymentPreference": preference},
    }
    return json.dumps(
        {
            "Transform": "AWS::Serverless-2016-10-31",
            "Parameters": {"Shift": parameter},
            "Mappings": {"Shifts": {"yes": {"Enabled": "true"}, "no": {"Enabled": "false"}}},
            "Resources": {"Function": function},
            "Outputs": {"Shift": {"Value": {"Ref": "Shift"}, "Description": "of /opt/one"}},
        }
    )


def made(client: Any, stack: str) -> set[str]:
    """Return the types of what a stack consists of."""
    return {one["ResourceType"] for one in client.list_stack_resources(StackName=stack)["StackResourceSummaries"]}


@pytest.mark.parametrize("parameter", [PARAMETER, {**PARAMETER, "Default": "no"}], ids=["none", "default"])
def test_a_value_decides_what_the_template_becomes(engine: Engine, parameter: dict[str, Any]) -> None:
    # Given a template in which a parameter decides, without a default and with another one
    client, name = engine.client("cloudformation"), unique("sam")
    body, capabilities = template(parameter), ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]

    # When it is deployed with a value, by a change set, then it is what that value makes of it
    client.create_change_set(
        StackName=name,
        ChangeSetName="first",
        ChangeSetType="CREATE",
        TemplateBody=body,
        Parameters=[{"ParameterKey": "Shift", "ParameterValue": "yes"}],
        Capabilities=capabilities,
    )
    client.get_waiter("change_set_create_complete").wait(StackName=name, ChangeSetName="first", WaiterConfig=WAIT)
    client.execute_change_set(StackName=name, ChangeSetName="first")
    client.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig=WAIT)
    (stack,) = client.describe_stacks(StackName=name)["Stacks"]
    assert stack["Outputs"][0]["OutputValue"] == "yes"
    assert {*FUNCTIONS, *CODE_DEPLOY} <= made(client, name)

    # When it is updated with the value that it has, then that decides again
    kept = [{"ParameterKey": "Shift", "UsePreviousValue": True}]
    longer = body.replace("/opt/one", "/opt/two")
    client.update_stack(StackName=name, TemplateBody=longer, Parameters=kept, Capabilities=capabilities)
    client.get_waiter("stack_update_complete").wait(StackName=name, WaiterConfig=WAIT)
    assert {*FUNCTIONS, *CODE_DEPLOY} <= made(client, name)

    # When it is updated with the other value, then there is nothing of CodeDeploy's
    other = [{"ParameterKey": "Shift", "ParameterValue": "no"}]
    client.update_stack(StackName=name, TemplateBody=longer, Parameters=other, Capabilities=capabilities)
    client.get_waiter("stack_update_complete").wait(StackName=name, WaiterConfig=WAIT)
    assert made(client, name) == {*FUNCTIONS, "AWS::IAM::Role"}
    client.delete_stack(StackName=name)
    client.get_waiter("stack_delete_complete").wait(StackName=name, WaiterConfig=WAIT)
