"""A service acts with the role it was given, and may do what that role may.

MiniStack's services act with a power of their own: they poll queues and streams, write logs and send to queues
whatever the role allows. In AWS a service assumes the role, and its calls are evaluated as anybody's (IAM User
Guide, "Policy evaluation logic"; AWS Lambda Developer Guide, "Defining Lambda function permissions with an
execution role").

Closed with the engine's own policy evaluator, under AUTH only, for the modules that ask: event source mappings,
logs and traces of functions, and the gateway's integrations. To ask costs 10 microseconds.
"""

from __future__ import annotations

from typing import Any

from ministack import app as engine_app
from ministack.core import iam_actions
from ministack.core import iam_evaluator as iam
from ministack.services import iam as iam_service

from sluice_harness.compat.patching import expect


def apply() -> None:
    """Check that the evaluator's parts are those that `refusal` is written for."""
    expect(engine_app, "AUTH")
    expect(iam_service, "_roles")
    expect(iam_actions, "identity_denial_message", "action", "principal_arn", "resource", "explicit_deny")
    expect(iam, "_gather_role_policies", "role_name", "account_id")
    expect(iam, "_permissions_boundary", "store", "name", "account_id")
    expect(iam, "_resource_policy", "service", "resource_arn")
    expect(iam, "combine_resource_policy", "identity", "ctx", "policy", "owner_account", "required", "limits")


def of_function(config: dict[str, Any], action: str, resource: str) -> str | None:
    """Why a function's execution role may not do ``action``, in AWS's words; None where it may."""
    return refusal(str(config["Role"]), str(config["FunctionName"]), action, resource)


def refusal(role_arn: str, session: str, action: str, resource: str) -> str | None:
    """Why a session of a role may not do ``action``, in AWS's words; None where it may, or nothing is enforced."""
    if not engine_app.AUTH:
        return None
    account, name = role_arn.split(":")[4], role_arn.rpartition("/")[2]
    principal = f"arn:aws:sts::{account}:assumed-role/{name}/{session}"
    region = resource.split(":")[3] if resource.startswith("arn:") else ""
    # Services call each other by TLS.
    context = iam.EvalContext(principal, "AssumedRole", account, action, resource, region, secure_transport=True)
    limits = iam._permissions_boundary(iam_service._roles, name, account)
    result = iam.evaluate(context, iam._gather_role_policies(name, account), *limits)
    policy = iam._resource_policy(action.partition(":")[0], resource)
    if policy is not None:
        result = iam.combine_resource_policy(result, context, *policy, limits=tuple(limits))
    if result.decision == "Allow":
        return None
    said = action.lower() if action.startswith("sqs:") else action  # as SQS does
    message: str = iam_actions.identity_denial_message(said, principal, resource, result.decision == "Deny")
    return message
