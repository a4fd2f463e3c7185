"""What CDK Pipelines grants by wildcard, made exact: each action by name, and nothing that no step uses.

The grants that `aws_cdk.pipelines` and `aws_cdk.aws_codepipeline` write for themselves cannot be given to them.
They are rewritten here as the last thing before synthesis; one that is not known is an error, so that a newer CDK
cannot widen a role unseen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import jsii
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3

from sluice_infra.stage_access import WITHOUT_RESOURCE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from constructs import IConstruct

_ROLE = "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/cdk-hnb659fds-%s-role-${AWS::AccountId}-${AWS::Region}"
# Names of what `cdk bootstrap` makes (CDK Developer Guide, "Bootstrapping").
DEPLOY_ROLE, FILE_PUBLISHING_ROLE, LOOKUP_ROLE = (_ROLE % kind for kind in ("deploy", "file-publishing", "lookup"))
BOOTSTRAP_STACK = "arn:${AWS::Partition}:cloudformation:${AWS::Region}:${AWS::AccountId}:stack/CDKToolkit/*"
_BOOTSTRAP_BUCKET = "arn:${AWS::Partition}:s3:::cdk-hnb659fds-assets-${AWS::AccountId}-${AWS::Region}"

# What each action comes to; those that are not here stay as they are. The ones on artifacts are those that
# CodePipeline and CodeBuild ask for (CodePipeline User Guide, "Add permissions to the CodePipeline service role";
# CodeBuild User Guide, "Allow CodeBuild to interact with other AWS services"). Artifacts expire.
_ACTIONS: Mapping[str, tuple[str, ...]] = {
    "s3:GetObject*": ("s3:GetObject", "s3:GetObjectVersion"),
    "s3:GetBucket*": ("s3:GetBucketAcl", "s3:GetBucketLocation", "s3:GetBucketVersioning"),
    "s3:List*": ("s3:ListBucket",),
    "s3:Abort*": ("s3:AbortMultipartUpload",),
    "s3:DeleteObject*": (),
    "s3:PutObjectLegalHold": (),
    "s3:PutObjectRetention": (),
    "s3:PutObjectTagging": (),
    "s3:PutObjectVersionTagging": (),
    "kms:GenerateDataKey*": ("kms:GenerateDataKey",),
    "kms:ReEncrypt*": ("kms:ReEncryptFrom", "kms:ReEncryptTo"),
    # No build writes test reports.
    "codebuild:CreateReportGroup": (),
    "codebuild:CreateReport": (),
    "codebuild:UpdateReport": (),
    "codebuild:BatchPutTestCases": (),
    "codebuild:BatchPutCodeCoverages": (),
}
# What is granted on everything, or on every role, and what of it is used.
_ON_EVERYTHING: Mapping[str, tuple[str, ...]] = {
    "cloudformation:DescribeStacks": (BOOTSTRAP_STACK,),
    "s3:ListBucket": (_BOOTSTRAP_BUCKET,),
    "sts:AssumeRole": (DEPLOY_ROLE, FILE_PUBLISHING_ROLE),
    # Of the role that publishes assets, which starts no builds.
    "codebuild:BatchGetBuilds": (),
    "codebuild:StartBuild": (),
    "codebuild:StopBuild": (),
}
# Its prefix has to be that of the connection's ARN (Developer Tools Console, "Connections rename").
_USE_CONNECTION = "codestar-connections:UseConnection"
# Whoever may create log groups is meant to write to CodeBuild's own; builds here write to one that is there.
_DEFAULT_LOGS = "logs:CreateLogGroup"


@jsii.implements(cdk.IAspect)
class ExactGrants:
    """Rewrites the policies of roles and buckets.

    Raises
    ------
    ValueError
        A grant by wildcard is not known; the message names its construct and action.

    """

    def visit(self, node: IConstruct) -> None:
        """Rewrite one policy, if it is one."""
        if isinstance(node, iam.CfnPolicy | s3.CfnBucketPolicy):
            document = cdk.Stack.of(node).resolve(node.policy_document)
            statements = [
                exact for one in document["Statement"] for exact in exact_statements(one, node.node.path)
            ]
            node.policy_document = {**document, "Statement": statements}


def exact_statements(statement: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """Return what a statement comes to: one, none, or one for each action that was granted on everything.

    Raises
    ------
    ValueError
        It grants something by wildcard that is not known.

    """
    if statement["Effect"] == "Deny":
        return [dict(statement)]
    resources = _listed(statement.get("Resource", []))
    actions = _exact_actions(_listed(statement["Action"]), resources)
    for action in actions:
        if "*" in action:
            raise ValueError(f"{where} grants {action}: say in {__name__} what of it is used")
    if any(map(_is_everything, resources)) and not {*actions} <= {*WITHOUT_RESOURCE}:
        return _on_what_is_used(statement, actions, where)
    return [{**statement, "Action": _one_or_many(actions)}] if actions else []


def _exact_actions(actions: Sequence[str], resources: Sequence[Any]) -> list[str]:
    if _DEFAULT_LOGS in actions:
        actions = [action for action in actions if not action.startswith("logs:")]
    exact = [name for action in actions for name in _ACTIONS.get(action, (action,))]
    return [f"{resources[0].split(':')[2]}:UseConnection" if one == _USE_CONNECTION else one for one in exact]


def _on_what_is_used(statement: Mapping[str, Any], actions: Sequence[str], where: str) -> list[dict[str, Any]]:
    found = []
    for action in actions:
        if action not in _ON_EVERYTHING:
            raise ValueError(f"{where} grants {action} on everything: say in {__name__} on what it is used")
        used = [{"Fn::Sub": resource} for resource in _ON_EVERYTHING[action]]
        if used:
            found.append({**statement, "Action": action, "Resource": _one_or_many(used)})
    return found


def _is_everything(resource: Any) -> bool:
    """Whether a resource is ``*``, or every role of an account."""
    parts = resource["Fn::Join"][1] if isinstance(resource, dict) and "Fn::Join" in resource else [resource]
    return parts[-1] in ("*", ":role/*")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _one_or_many(values: list[Any]) -> Any:
    return values if len(values) > 1 else values[0]
