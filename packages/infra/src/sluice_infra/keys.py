"""Keys of our own in KMS, for what AWS's keys cannot do: be used by another service or account role."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms

if TYPE_CHECKING:
    from constructs import Construct

_ADMINISTRATION = (
    *("CancelKeyDeletion", "DescribeKey", "DisableKey", "DisableKeyRotation", "EnableKey", "EnableKeyRotation"),
    *("GetKeyPolicy", "GetKeyRotationStatus", "ListResourceTags", "PutKeyPolicy", "ScheduleKeyDeletion"),
    *("TagResource", "UntagResource", "UpdateKeyDescription"),
)


def rotating_key(scope: Construct, construct_id: str, description: str) -> kms.Key:
    """Return a key that rotates and goes with its stack.

    The account's own policies say who administers it; to use it takes a statement of its own.
    """
    return kms.Key(
        scope,
        construct_id,
        description=description,
        enable_key_rotation=True,
        policy=iam.PolicyDocument(statements=[account_may(*_ADMINISTRATION)]),
        removal_policy=cdk.RemovalPolicy.DESTROY,
    )


def account_may(*actions: str) -> iam.PolicyStatement:
    """Return a key policy's statement that leaves these actions to the policies of the account's roles."""
    return iam.PolicyStatement(
        principals=[iam.AccountRootPrincipal()],
        actions=[f"kms:{action}" for action in actions],
        resources=["*"],  # of a key's policy: the key itself
    )
