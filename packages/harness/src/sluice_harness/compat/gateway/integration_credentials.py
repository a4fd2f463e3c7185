"""An integration acts with its own role, and needs that role's permission.

MiniStack calls SQS from the gateway without asking any policy. AWS assumes the integration's `Credentials`
role: without one, or with a role that trusts another service, the call fails as a configuration error;
without the permission SQS answers 403 AccessDenied, which goes through the integration responses ("API
Gateway permissions model for invoking a service"). Closed with the engine's own policy evaluator, under AUTH
only.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from ministack import app as engine_app
from ministack.core import iam_evaluator as iam
from ministack.services import iam as iam_service
from ministack.services import sqs

from sluice_harness.compat.patching import expect

SERVICE = "apigateway.amazonaws.com"


class NotAssumableError(Exception):
    """The integration has no role that the gateway may act as."""


def apply() -> None:
    """Check that the evaluator's parts are those `refusal`, which the SQS integration asks, is written for."""
    expect(iam, "_gather_role_policies", "role_name", "account_id")
    expect(iam, "_permissions_boundary", "store", "name", "account_id")
    expect(iam, "combine_resource_policy", "identity", "ctx", "policy", "owner_account", "required", "limits")
    expect(iam, "_service_principal_matches", "principal", "service")
    expect(sqs, "queue_policy_for_arn", "queue_arn")
    if not hasattr(iam_service, "_roles"):
        raise RuntimeError("ministack.services.iam._roles is gone")


def refusal(credentials: str | None, action: str, resource: str) -> str | None:
    """Why this role may not do ``action``, in AWS's words; None where it may.

    Raises:
        NotAssumableError: there is no such role, or it does not trust API Gateway.

    """
    if not engine_app.AUTH:
        return None
    role, account = _role(credentials)
    name = role["RoleName"]
    arn = f"arn:aws:sts::{account}:assumed-role/{name}/BackplaneAssumeRoleSession"
    region = resource.split(":")[3]
    context = iam.EvalContext(arn, "AssumedRole", account, action, resource, region)
    limits = iam._permissions_boundary(iam_service._roles, name, account)
    result = iam.evaluate(context, iam._gather_role_policies(name, account), *limits)
    policy = sqs.queue_policy_for_arn(resource)
    if policy is not None:
        result = iam.combine_resource_policy(result, context, *policy, limits=tuple(limits))
    if result.decision == "Allow":
        return None
    verb = action.lower()
    reason = (
        "with an explicit deny in an identity-based policy"
        if result.decision == "Deny"
        else f"because no identity-based policy allows the {verb} action"
    )
    return f"User: {arn} is not authorized to perform: {verb} on resource: {resource} {reason}"


def _role(credentials: str | None) -> tuple[dict[str, Any], str]:
    if not credentials or ":role/" not in credentials:
        raise NotAssumableError(str(credentials))
    account = credentials.split(":")[4]
    role = iam_service._roles.get_scoped(account, None, credentials.rpartition("/")[2])
    trust = role.get("AssumeRolePolicyDocument") if role else None
    if role is None or not _trusts_gateway(trust if isinstance(trust, str) else json.dumps(trust)):
        raise NotAssumableError(credentials)
    return role, account


@lru_cache(256)
def _trusts_gateway(document: str) -> bool:
    statements = json.loads(document) or {}
    listed = statements.get("Statement") or []
    return any(
        statement.get("Effect") == "Allow" and iam._service_principal_matches(statement.get("Principal"), SERVICE)
        for statement in (listed if isinstance(listed, list) else [listed])
    )
