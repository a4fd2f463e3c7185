"""Releases that take over traffic by and by: CodeDeploy shifts it, and alarms take it back.

A deployment publishes a version of each function that changed and points its alias there (`functions`). Where the
stage has a ``traffic_shift``, CloudFormation leaves that to CodeDeploy, which gives the new version a part of the
traffic first, and all of it only if no alarm has fired meanwhile (CloudFormation template reference, "UpdatePolicy
attribute", CodeDeployLambdaAliasUpdate). If one fires, the alias points at the version before again, the stack's
update fails, and CloudFormation takes back whatever else the release changed. A stage's first deployment shifts
nothing: there is no version before.

What the alarms watch:

* **Errors of the new version**, by ExecutedVersion. One is enough: handlers answer or report whatever can be
  expected, so what they raise is a bug, a timeout or too little memory. The version is part of the alarm's name:
  each release has alarms of its own, in no state yet, and one that fired for the version before stops no fix. A
  cause that lies in the queue, such as a job that kills its worker, does: docs/releasing.md, "A hotfix".
* **Messages and records reported back**, where a function has any: Lambda counts them as no error. They are known
  for the stage only. While the version before has such failures, they would stop a fix, too: release that one with
  ``traffic_shift=None``.

They tell nobody: who releases sees the deployment fail, and the stage's other alarms watch the same functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_codedeploy as codedeploy
from aws_cdk import aws_iam as iam
from constructs import Construct
from sluice_core import LIVE_ALIAS, metrics

from sluice_infra.acknowledgements import acknowledge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aws_cdk import aws_lambda as lambda_

    from sluice_infra.functions import Function
    from sluice_infra.stages import StageConfig, TrafficShift

_PAGE = "docs/releasing.md"
_ALARMS = "arn:<AWS::Partition>:cloudwatch:<AWS::Region>:<AWS::AccountId>:alarm:*"  # as cdk-nag writes it
_MINUTE = cdk.Duration.minutes(1)


class Releases(Construct):
    """Lets CodeDeploy shift the traffic of functions' aliases."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        config: StageConfig,
        shift: TrafficShift,
        functions: Mapping[str, Function],
    ) -> None:
        super().__init__(scope, name)
        self._config = config
        self._shift = shift
        self._application = codedeploy.CfnApplication(self, "Application", compute_platform="Lambda")
        self._role = self._add_role(functions)
        failures = self._failures_alarm()
        for function, one in functions.items():
            alarms = [self._errors_alarm(function, one), *([failures] if one.reports_failures else [])]
            self._shift_traffic(function, one, alarms)

    def _add_role(self, functions: Mapping[str, Function]) -> iam.Role:
        """Allow CodeDeploy, of AWSCodeDeployRoleForLambdaLimited, what it does here, and where."""
        groups = self._arn("codedeploy", "deploymentgroup", f"{self._application.ref}/*")
        # In this application's name only (AWS CodeDeploy, "Cross-service confused deputy prevention").
        in_our_name = {
            "StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID},
            "ArnLike": {"aws:SourceArn": groups},
        }
        role = iam.Role(
            self, "Role", assumed_by=iam.ServicePrincipal("codedeploy.amazonaws.com", conditions=in_our_name)
        )
        arns = [one.function.function_arn for one in functions.values()]
        for actions, resources in (
            (["lambda:GetAlias", "lambda:UpdateAlias"], arns),
            (["lambda:GetProvisionedConcurrencyConfig"], [f"{arn}:*" for arn in arns]),
            (["cloudwatch:DescribeAlarms"], [self._arn("cloudwatch", "alarm", "*")]),
        ):
            role.add_to_policy(iam.PolicyStatement(actions=actions, resources=resources))
        acknowledge(
            role,
            {f"AwsSolutions-IAM5[Resource::{_ALARMS}]": "it reads all alarms of a group at once, and names vary"},
        )
        for one in functions.values():
            function = cdk.Stack.of(self).get_logical_id(one.function.node.default_child)  # type: ignore[arg-type]
            acknowledge(
                role,
                {f"AwsSolutions-IAM5[Resource::<{function}.Arn>:*]": "versions get their numbers as they come"},
            )
        return role

    def _arn(self, service: str, resource: str, name: str) -> str:
        return cdk.Stack.of(self).format_arn(
            service=service,
            resource=resource,
            resource_name=name,
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        )

    def _errors_alarm(self, name: str, function: Function) -> cloudwatch.Alarm:
        physical, version = function.function.function_name, function.function.current_version.version
        errors = cloudwatch.Metric(
            namespace="AWS/Lambda",
            metric_name="Errors",
            dimensions_map={
                "FunctionName": physical,
                "Resource": f"{physical}:{LIVE_ALIAS}",
                "ExecutedVersion": version,
            },
            statistic="Sum",
            period=_MINUTE,
        )
        alarm, means = f"{name}-{version}", f"The {name} function's new version fails."
        if name != "authorizer":
            return self._alarm(name, alarm, means, errors)
        # API Gateway wants a 401 raised, which Lambda counts: more errors, then, than there were refusals. Two
        # minutes of it, for an error counts when its invocation began and a refusal when it ended.
        unexpected = cloudwatch.MathExpression(
            expression="errors - FILL(refused, 0)",
            using_metrics={"errors": errors, "refused": self._own(metrics.TOKENS_REFUSED)},
            period=_MINUTE,
        )
        return self._alarm(name, alarm, means, unexpected, minutes=2)

    def _failures_alarm(self) -> cloudwatch.Alarm:
        return self._alarm(
            "failures",
            "batch-item-failures",
            "Single messages or records fail, which Lambda does not count as errors.",
            self._own(metrics.BATCH_ITEM_FAILURES),
            threshold=self._config.thresholds.batch_item_failures,
            minutes=2,
        )

    def _own(self, metric: metrics.Metric) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace=metrics.NAMESPACE,
            metric_name=metric.name,
            dimensions_map={metrics.STAGE: self._config.name},
            statistic="Sum",
            period=_MINUTE,
        )

    def _alarm(
        self,
        construct_id: str,
        name: str,
        means: str,
        metric: cloudwatch.IMetric,
        *,
        threshold: int = 0,
        minutes: int = 1,
    ) -> cloudwatch.Alarm:
        return cloudwatch.Alarm(
            self,
            f"{construct_id}-alarm",
            alarm_name=f"sluice-{self._config.name}-release-{name}",
            alarm_description=f"{means} Takes a release back. See {_PAGE}",
            metric=metric,
            threshold=threshold,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=minutes,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )

    def _shift_traffic(self, name: str, function: Function, alarms: Sequence[cloudwatch.Alarm]) -> None:
        group = codedeploy.CfnDeploymentGroup(
            self,
            f"{name}-group",
            application_name=self._application.ref,
            service_role_arn=self._role.role_arn,
            deployment_config_name=f"CodeDeployDefault.Lambda{self._shift}",
            deployment_style=codedeploy.CfnDeploymentGroup.DeploymentStyleProperty(
                deployment_type="BLUE_GREEN", deployment_option="WITH_TRAFFIC_CONTROL"
            ),
            alarm_configuration=codedeploy.CfnDeploymentGroup.AlarmConfigurationProperty(
                enabled=True,
                alarms=[codedeploy.CfnDeploymentGroup.AlarmProperty(name=alarm.alarm_name) for alarm in alarms],
            ),
            auto_rollback_configuration=codedeploy.CfnDeploymentGroup.AutoRollbackConfigurationProperty(
                enabled=True, events=["DEPLOYMENT_FAILURE", "DEPLOYMENT_STOP_ON_ALARM"]
            ),
        )
        group.node.add_dependency(self._role)  # and what it allows
        alias = cast("lambda_.CfnAlias", function.live.node.default_child)
        alias.add_dependency(group)  # a policy's references may be none
        alias.cfn_options.update_policy = cdk.CfnUpdatePolicy(
            code_deploy_lambda_alias_update=cdk.CfnCodeDeployLambdaAliasUpdate(
                application_name=self._application.ref, deployment_group_name=group.ref
            )
        )
