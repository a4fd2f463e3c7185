"""CodeDeploy shifts an alias's traffic to a new version step by step, and takes it back when an alarm fires."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import WaiterError
from stage.conformance.functions import RUNTIME, create_function, eventually, invoke, unique

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.xdist_group("fast_engine")

WAIT = {"Delay": 0.1, "MaxAttempts": 300}
CODE = """
import os
def handler(event, context):
    if os.environ["RELEASE"] == "broken":
        raise RuntimeError("as released")
    return os.environ["RELEASE"]
"""


AWS_POLICY = "arn:aws:iam::aws:policy/service-role/AWSCodeDeployRoleForLambda"
ACTIONS = ("lambda:GetAlias", "lambda:UpdateAlias", "cloudwatch:DescribeAlarms")


class Release:
    """A stack with a function behind an alias whose traffic CodeDeploy shifts, and what it is seen to do.

    CodeDeploy's role may do what AWS's own policy for it allows, or what it is given instead.
    """

    def __init__(self, engine: Any, configuration: str, actions: Sequence[str] = ()) -> None:
        self._engine, self._configuration, self._name = engine, configuration, unique("stack")
        self._client = engine.client("cloudformation")
        helper = create_function(engine, CODE, Environment={"Variables": {"RELEASE": "unused"}})
        self._role = engine.client("lambda").get_function_configuration(FunctionName=helper)["Role"]
        may = {"RoleName": helper}
        if actions:
            statement = {"Effect": "Allow", "Action": [*actions], "Resource": "*"}
            document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
            engine.client("iam").put_role_policy(**may, PolicyName="Shifting", PolicyDocument=document)
        else:
            engine.client("iam").attach_role_policy(**may, PolicyArn=AWS_POLICY)
        self._client.create_stack(StackName=self._name, TemplateBody=self._template("one"))
        self._client.get_waiter("stack_create_complete").wait(StackName=self._name, WaiterConfig=WAIT)
        self.function = self._physical("Function")

    def begin(self, release: str) -> None:
        self._client.update_stack(StackName=self._name, TemplateBody=self._template(release))

    def end(self) -> None:
        self._client.get_waiter("stack_update_complete").wait(StackName=self._name, WaiterConfig=WAIT)

    def status(self) -> str:
        # Asked by its name, it would be told of once the shift is over (compat/stack_waits.py).
        stacks = self._client.describe_stacks()["Stacks"]
        return next(str(stack["StackStatus"]) for stack in stacks if stack["StackName"] == self._name)

    def reasons(self) -> list[str]:
        events = self._client.describe_stack_events(StackName=self._name)["StackEvents"]
        return [event.get("ResourceStatusReason", "") for event in events]

    def alias(self) -> tuple[str, dict[str, float]]:
        """The version that the alias points at, and the weights of others."""
        found = self._engine.client("lambda").get_alias(FunctionName=self.function, Name="live")
        return found["FunctionVersion"], (found.get("RoutingConfig") or {}).get("AdditionalVersionWeights", {})

    def invoke(self) -> Any:
        return invoke(self._engine, f"{self.function}:live")

    def delete(self) -> None:
        self._client.delete_stack(StackName=self._name)
        self._client.get_waiter("stack_delete_complete").wait(StackName=self._name, WaiterConfig=WAIT)

    def _physical(self, logical: str) -> str:
        found = self._client.describe_stack_resource(StackName=self._name, LogicalResourceId=logical)
        return str(found["StackResourceDetail"]["PhysicalResourceId"])

    def _template(self, release: str) -> str:
        version = f"Version{release.capitalize()}"
        published = {"Fn::GetAtt": [version, "Version"]}
        of_the_version = {
            "FunctionName": {"Ref": "Function"},
            "Resource": {"Fn::Sub": "${Function}:live"},
            "ExecutedVersion": published,
        }
        resources = {
            "Function": {
                "Type": "AWS::Lambda::Function",
                "Properties": {
                    "Runtime": RUNTIME,
                    "Handler": "index.handler",
                    "Role": self._role,
                    "Code": {"ZipFile": CODE},
                    "Environment": {"Variables": {"RELEASE": release}},
                },
            },
            version: {"Type": "AWS::Lambda::Version", "Properties": {"FunctionName": {"Ref": "Function"}}},
            "Errors": {
                "Type": "AWS::CloudWatch::Alarm",
                "Properties": {
                    "AlarmName": {"Fn::Sub": [f"{self._name}-${{version}}", {"version": published}]},
                    "Namespace": "AWS/Lambda",
                    "MetricName": "Errors",
                    "Dimensions": [{"Name": name, "Value": value} for name, value in of_the_version.items()],
                    "Statistic": "Sum",
                    "Period": 60,
                    "EvaluationPeriods": 1,
                    "Threshold": 0,
                    "ComparisonOperator": "GreaterThanThreshold",
                    "TreatMissingData": "notBreaching",
                },
            },
            "Application": {"Type": "AWS::CodeDeploy::Application", "Properties": {"ComputePlatform": "Lambda"}},
            "Group": {
                "Type": "AWS::CodeDeploy::DeploymentGroup",
                "Properties": {
                    "ApplicationName": {"Ref": "Application"},
                    "ServiceRoleArn": self._role,
                    "DeploymentConfigName": self._configuration,
                    "AlarmConfiguration": {"Enabled": True, "Alarms": [{"Name": {"Ref": "Errors"}}]},
                    "AutoRollbackConfiguration": {
                        "Enabled": True,
                        "Events": ["DEPLOYMENT_FAILURE", "DEPLOYMENT_STOP_ON_ALARM"],
                    },
                },
            },
            "Alias": {
                "Type": "AWS::Lambda::Alias",
                "DependsOn": "Group",
                "Properties": {
                    "FunctionName": {"Ref": "Function"},
                    "FunctionVersion": published,
                    "Name": "live",
                },
                "UpdatePolicy": {
                    "CodeDeployLambdaAliasUpdate": {
                        "ApplicationName": {"Ref": "Application"},
                        "DeploymentGroupName": {"Ref": "Group"},
                    }
                },
            },
        }
        return json.dumps({"Resources": resources})


def seen(release: Release) -> list[tuple[str, dict[str, float]]]:
    """What the alias was seen to be until the update was done, each once and in order."""
    states: list[tuple[str, dict[str, float]]] = []

    def look() -> bool:
        is_over = release.status() != "UPDATE_IN_PROGRESS"
        state = release.alias()
        if state not in states:
            states.append(state)
        return is_over

    assert eventually(look, within=30)
    return states


def test_a_canary_gets_its_share_and_then_all(fast_engine: Any) -> None:
    # given a stack's first deployment, which shifts nothing
    release = Release(fast_engine, "CodeDeployDefault.LambdaCanary10Percent5Minutes")
    assert (release.alias(), release.invoke()) == (("1", {}), "one")

    # when another version is released, then it has a tenth for five of the engine's minutes, and then everything
    release.begin("two")
    assert seen(release)[-2:] == [("1", {"2": 0.1}), ("2", {})]
    release.end()
    assert release.invoke() == "two"
    release.delete()


def test_a_linear_shift_goes_step_by_step(fast_engine: Any) -> None:
    release = Release(fast_engine, "CodeDeployDefault.LambdaLinear10PercentEvery1Minute")
    release.begin("two")
    weights = [weights["2"] for version, weights in seen(release) if weights]
    assert weights == [step / 10 for step in range(1, 10)]
    assert release.alias() == ("2", {})
    release.delete()


def test_an_alarm_takes_a_release_back(fast_engine: Any) -> None:
    # given a version whose every invocation fails
    release = Release(fast_engine, "CodeDeployDefault.LambdaLinear10PercentEvery1Minute")
    release.begin("broken")

    # when it is invoked
    def ended() -> bool:
        release.invoke()
        return "ROLLBACK_COMPLETE" in release.status()

    assert eventually(ended, within=30)

    # then the alias is the former version's again, the update has failed, and it is said why
    assert release.status().startswith("UPDATE_ROLLBACK_COMPLETE")
    assert release.alias() == ("1", {})
    assert release.invoke() == "one"
    assert any("was stopped by alarms" in reason for reason in release.reasons())

    # and a fix goes through, though the alarm of the broken version has fired
    release.begin("fixed")
    release.end()
    assert release.invoke() == "fixed"
    release.delete()


@pytest.mark.parametrize("missing", ACTIONS)
def test_a_role_that_may_not_shift_fails_the_release(fast_engine: Any, missing: str) -> None:
    # given a deployment group whose role lacks an action
    others = [action for action in ACTIONS if action != missing]
    release = Release(fast_engine, "CodeDeployDefault.LambdaAllAtOnce", others)

    # when another version is released
    release.begin("two")
    assert eventually(lambda: "ROLLBACK_COMPLETE" in release.status(), within=30)

    # then it is not, and it is said why
    assert release.alias() == ("1", {})
    assert any(f"not authorized to perform: {missing}" in reason for reason in release.reasons())
    release.delete()


def test_a_configuration_that_is_not_there_is_refused(fast_engine: Any) -> None:
    with pytest.raises(WaiterError):
        Release(fast_engine, "CodeDeployDefault.LambdaCanary10Percent5Seconds")
