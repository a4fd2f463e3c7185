"""What a pipeline's tests may do on a stage that other stacks have deployed: grants by action, stage by stage.

CloudFormation makes the names of a stage's resources of their stack's, their logical id and characters of its own.
``sluice-staging-*`` would be everything of a personal stage ``staging-2``, too: grants name the stack besides.
A user pool's id is not made so: users are granted by the pool's tag.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_iam as iam

from sluice_infra.acknowledgements import acknowledge, as_found
from sluice_infra.bundling import ROOT
from sluice_infra.stages import stage_config

if TYPE_CHECKING:
    from collections.abc import Iterable

# Actions that take no resource (Service Authorization Reference); the first two tell of composite alarms only if
# they are granted on everything (CloudWatch API Reference).
WITHOUT_RESOURCE = (
    *("cloudwatch:DescribeAlarms", "cloudwatch:DescribeAlarmHistory"),
    *("cloudwatch:GetMetricData", "cloudwatch:ListMetrics"),
    *("lambda:ListEventSourceMappings", "xray:BatchGetTraces"),
)


def allow(role: iam.Role, grants: Iterable[iam.PolicyStatement]) -> None:
    """Let a role do what the functions below return."""
    for statement in grants:
        role.add_to_policy(statement)
        for resource in statement.resources:
            if resource == "*":
                acknowledge(
                    role,
                    {"AwsSolutions-IAM5[Resource::*]": "to read metrics, alarms and traces takes no resource"},
                )
            elif "*" in resource:
                named = as_found(role, resource)
                acknowledge(
                    role,
                    {
                        f"AwsSolutions-IAM5[Resource::{named}]": "names end in characters of CloudFormation's "
                        "own, APIs and pools are told apart by stage and tag, log groups are listed"
                    },
                )


def may_describe(stage: str) -> list[iam.PolicyStatement]:
    """To write ``build/stages/STAGE.json``: `nox -s describe`."""
    stacks = (f"sluice-{stage}-{part}" for part in ("auth", "ingestion", "observability"))
    return [_on(_arn("cloudformation", f"stack/{stack}/*"), "cloudformation:DescribeStacks") for stack in stacks]


def may_have_users(stage: str) -> list[iam.PolicyStatement]:
    """To make users for a while, who run jobs as clients do: `nox -s smoke`, and every other test."""
    users = _on(
        _arn("cognito-idp", "userpool/*"),
        *("cognito-idp:AdminCreateUser", "cognito-idp:AdminSetUserPassword", "cognito-idp:AdminDeleteUser"),
    )
    users.add_conditions({"StringEquals": {"aws:ResourceTag/project": "sluice", "aws:ResourceTag/stage": stage}})
    return [users]


def may_inspect(stage: str) -> list[iam.PolicyStatement]:
    """To see alarms, dashboards, traces and logs as an operator does: `nox -s integration`."""
    gateway = f"arn:{cdk.Aws.PARTITION}:apigateway:{cdk.Aws.REGION}::/restapis"
    return [
        *_may_see_dashboards(stage),
        _on("*", "cloudwatch:DescribeAlarms", "cloudwatch:DescribeAlarmHistory"),
        _on("*", "lambda:ListEventSourceMappings", "xray:BatchGetTraces"),
        _on(_arn("lambda", f"function:sluice-{stage}-ingestion-*"), "lambda:GetFunctionConfiguration"),
        _on(gateway, "apigateway:GET"),
        _on(f"{gateway}/*/stages/{stage}", "apigateway:GET"),
        _on(_arn("logs", "log-group:*"), "logs:DescribeLogGroups"),
    ]


def may_judge(stage: str) -> list[iam.PolicyStatement]:
    """To hold what clients saw against ledger, bucket, queues, metrics and alarms: `nox -s loadtest`."""
    ingestion = f"sluice-{stage}-ingestion"
    results = _on(f"arn:{cdk.Aws.PARTITION}:s3:::{ingestion}-storageresults*", "s3:ListBucket")
    results.add_conditions({"StringLike": {"s3:prefix": "results/*"}})
    # A dead letter that was looked at is shown again.
    look = ("sqs:GetQueueAttributes", "sqs:ReceiveMessage", "sqs:ChangeMessageVisibility")
    executors = stage_config(stage).external_executors
    external = (*(executor.title() for executor in executors), "Completions") if executors else ()
    return [
        _on(_arn("dynamodb", f"table/{ingestion}-StorageJobs*"), "dynamodb:Scan"),
        results,
        *(_on(_arn("sqs", f"{ingestion}-{queues}*"), *look) for queues in ("Requests", "Work", *external)),
        *_may_see_dashboards(stage),
        # Clients' own metrics, as EMF.
        _on(
            _arn("logs", f"log-group:sluice-{stage}-observability-LoadLog*"),
            *("logs:CreateLogStream", "logs:PutLogEvents"),
        ),
        _on("*", "cloudwatch:DescribeAlarms", "cloudwatch:DescribeAlarmHistory"),
        _on("*", "cloudwatch:GetMetricData", "cloudwatch:ListMetrics"),
    ]


def _on(resource: str, *actions: str) -> iam.PolicyStatement:
    return iam.PolicyStatement(resources=[resource], actions=list(actions))


def _arn(service: str, resource: str) -> str:
    return f"arn:{cdk.Aws.PARTITION}:{service}:{cdk.Aws.REGION}:{cdk.Aws.ACCOUNT_ID}:{resource}"


def _may_see_dashboards(stage: str) -> list[iam.PolicyStatement]:
    own = f"arn:{cdk.Aws.PARTITION}:cloudwatch::{cdk.Aws.ACCOUNT_ID}:dashboard/sluice-{stage}"
    names = sorted(file.stem for file in (ROOT / "dashboards").glob("*.json"))
    return [_on(f"{own}-{name}", "cloudwatch:GetDashboard") for name in names]
