"""Who is named by a role's trust policy may assume it; whose account is named needs a policy besides."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from stage.conformance.functions import unique

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

ACCOUNT = "arn:aws:iam::000000000000"


def document(**statement: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]})


def assume(engine: Engine, user: str, role: str) -> Any:
    key = engine.client("iam").create_access_key(UserName=user)["AccessKey"]
    sts = engine.client("sts", key["AccessKeyId"], key["SecretAccessKey"])
    return sts.assume_role(RoleArn=role, RoleSessionName="test")


def create_role(engine: Engine, principal: str) -> str:
    trust = document(Principal={"AWS": principal}, Action="sts:AssumeRole")
    role = engine.client("iam").create_role(RoleName=unique("role"), AssumeRolePolicyDocument=trust)
    return str(role["Role"]["Arn"])


@pytest.fixture
def user(engine: Engine) -> str:
    """A user who may do nothing."""
    name = unique("user")
    engine.client("iam").create_user(UserName=name)
    return name


def test_whom_the_trust_names_may_assume_the_role(engine: Engine, user: str) -> None:
    # given a role that trusts a user, when the user assumes it, then that needs no policy of the user's
    role = create_role(engine, f"{ACCOUNT}:user/{user}")
    assert assume(engine, user, role)["Credentials"]


def test_whose_account_the_trust_names_needs_a_policy(engine: Engine, user: str) -> None:
    # given a role that trusts the account, when a user without policies assumes it, then that is denied
    role = create_role(engine, f"{ACCOUNT}:root")
    with pytest.raises(ClientError, match="not authorized to perform: sts:AssumeRole"):
        assume(engine, user, role)

    # and with a policy it is not
    policy = document(Action="sts:AssumeRole", Resource=role)
    engine.client("iam").put_user_policy(UserName=user, PolicyName="p", PolicyDocument=policy)
    assert assume(engine, user, role)["Credentials"]


def test_whom_the_trust_does_not_name_may_not_assume_the_role(engine: Engine, user: str) -> None:
    # given a role that trusts another, when a user with the policy for it assumes it, then that is denied
    role = create_role(engine, f"{ACCOUNT}:user/another")
    policy = document(Action="sts:AssumeRole", Resource=role)
    engine.client("iam").put_user_policy(UserName=user, PolicyName="p", PolicyDocument=policy)
    with pytest.raises(ClientError, match="sts:AssumeRole"):
        assume(engine, user, role)
