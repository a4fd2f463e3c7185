"""A role's trust policy is a resource policy, and may be all that a caller needs.

MiniStack lets nobody assume a role whose own policies do not allow `sts:AssumeRole`. In AWS "the role's trust
policy acts as an IAM resource-based policy": in the same account it is enough that it names the caller (AWS STS
API Reference, "AssumeRole"). One that names the account leaves the choice to the caller's policies.

Closed by telling the engine's own evaluator where to find it.
"""

from __future__ import annotations

from typing import Any

from ministack.core import iam_evaluator as iam
from ministack.services import iam as iam_service
from ministack.services import sts

from sluice_harness.compat.patching import expect


def apply() -> None:
    """Add trust policies to what the evaluator combines with a caller's own."""
    lookups = expect(iam, "_RESOURCE_POLICY_LOOKUPS")
    if "sts" in lookups:
        raise RuntimeError(f"the engine looks at trust policies now: look whether {__name__} is needed still")
    sts.sluice_trust_policy = _trust_policy
    lookups["sts"] = ("sts", "sluice_trust_policy")


def _trust_policy(role_arn: str) -> tuple[Any, str] | None:
    account, name = role_arn.split(":")[4], role_arn.rpartition("/")[2]
    role = iam_service._roles.get_scoped(account, None, name)
    return role and (role["AssumeRolePolicyDocument"], account)
