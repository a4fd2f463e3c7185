"""A service acts with the role it was given, and may do what that role may.

MiniStack's services act with a power of their own: they poll queues and streams, write logs and send to queues
whatever the role allows. In AWS a service assumes the role, and its calls are evaluated as anybody's (IAM User
Guide, "Policy evaluation logic"; AWS Lambda Developer Guide, "Defining Lambda function permissions with an
execution role").

Closed with the engine's own policy evaluator, under AUTH only, for the modules that ask: event source mappings,
logs and traces of functions, and the gateway's integrations. Some ask for each message, so a decision is kept for
the policies' texts that it was made from: a changed policy has another text and counts at once. What a policy says
of the time of day is therefore looked at once.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from ministack import app as engine_app
from ministack.core import iam_actions
from ministack.core import iam_evaluator as iam
from ministack.services import iam as iam_service

from sluice_harness.compat.patching import expect

_DECISIONS_KEPT = 4_096


def apply() -> None:
    """Check that the evaluator's parts are those that `refusal` is written for."""
    expect(engine_app, "AUTH")
    expect(iam_service, "_roles")
    expect(iam_actions, "identity_denial_message", "action", "principal_arn", "resource", "explicit_deny")
    expect(iam, "parse_policy_document", "doc")
    expect(iam, "evaluate", "ctx", "policies", "limits")
    expect(iam, "_resolve_managed_policy_document", "policy_arn", "account_id")
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
    role = iam_service._roles.get_scoped(account, None, name) or {}
    managed = (iam._resolve_managed_policy_document(arn, account) for arn in role.get("AttachedPolicies", []))
    boundary = role.get("PermissionsBoundary")
    shared = iam._resource_policy(action.partition(":")[0], resource)
    return _refusal(
        f"arn:aws:sts::{account}:assumed-role/{name}/{session}",
        action,
        resource,
        tuple(map(_text, (*role.get("InlinePolicies", {}).values(), *managed))),
        _text(iam._resolve_managed_policy_document(boundary, account)) if boundary else None,
        (_text(shared[0]), shared[1]) if shared else None,
    )


def _text(document: Any) -> str:
    return document if isinstance(document, str) else json.dumps(document)


@lru_cache(_DECISIONS_KEPT)
def _refusal(  # noqa: PLR0917 - what a decision is kept for
    principal: str,
    action: str,
    resource: str,
    policies: tuple[str, ...],
    boundary: str | None,
    shared: tuple[str, str | None] | None,
) -> str | None:
    account = principal.split(":")[4]
    region = resource.split(":")[3] if resource.startswith("arn:") else ""
    # Services call each other by TLS.
    context = iam.EvalContext(principal, "AssumedRole", account, action, resource, region, secure_transport=True)
    limits = () if boundary is None else ([iam.parse_policy_document(boundary)],)
    result = iam.evaluate(context, list(map(iam.parse_policy_document, policies)), *limits)
    if shared is not None:
        result = iam.combine_resource_policy(result, context, *shared, limits=limits)
    if result.decision == "Allow":
        return None
    said = action.lower() if action.startswith("sqs:") else action  # as SQS does
    message: str = iam_actions.identity_denial_message(said, principal, resource, result.decision == "Deny")
    return message
