"""An integration acts with its own role, and needs that role's permission.

MiniStack calls SQS from the gateway without asking any policy. AWS assumes the integration's `Credentials`
role: without one, or with a role that trusts another service, the call fails as a configuration error;
without the permission SQS answers 403 AccessDenied, which goes through the integration responses ("API
Gateway permissions model for invoking a service"). Closed under AUTH only, as `access.service_roles` does it.
"""

from __future__ import annotations

import json
from functools import lru_cache

from ministack import app as engine_app
from ministack.core import iam_evaluator as iam
from ministack.services import iam as iam_service

from sluice_harness.compat.access import service_roles
from sluice_harness.compat.patching import expect

SERVICE = "apigateway.amazonaws.com"


class NotAssumableError(Exception):
    """The integration has no role that the gateway may act as."""


def apply() -> None:
    """Check that the evaluator's part is the one `refusal`, which the SQS integration asks, is written for."""
    expect(iam, "_service_principal_matches", "principal", "service")


def refusal(credentials: str | None, action: str, resource: str) -> str | None:
    """Why this role may not do ``action``, in AWS's words; None where it may.

    Raises:
        NotAssumableError: there is no such role, or it does not trust API Gateway.

    """
    if not engine_app.AUTH:
        return None
    return service_roles.refusal(_assumed(credentials), "BackplaneAssumeRoleSession", action, resource)


def _assumed(credentials: str | None) -> str:
    if not credentials or ":role/" not in credentials:
        raise NotAssumableError(str(credentials))
    account = credentials.split(":")[4]
    role = iam_service._roles.get_scoped(account, None, credentials.rpartition("/")[2])
    trust = role.get("AssumeRolePolicyDocument") if role else None
    if role is None or not _trusts_gateway(trust if isinstance(trust, str) else json.dumps(trust)):
        raise NotAssumableError(credentials)
    return credentials


@lru_cache(256)
def _trusts_gateway(document: str) -> bool:
    statements = json.loads(document) or {}
    listed = statements.get("Statement") or []
    return any(
        statement.get("Effect") == "Allow" and iam._service_principal_matches(statement.get("Principal"), SERVICE)
        for statement in (listed if isinstance(listed, list) else [listed])
    )
