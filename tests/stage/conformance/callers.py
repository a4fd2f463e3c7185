"""Somebody who may do what a test says, and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from stage.conformance.functions import unique

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

    Grant = dict[str, Any]


def grant(action: str, *resources: str, **condition: Any) -> Grant:
    """A statement that allows an action on these resources, under this condition."""
    allowed = {"Effect": "Allow", "Action": action, "Resource": list(resources)}
    return {**allowed, "Condition": condition} if condition else allowed


class Caller:
    """An IAM user with an access key."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._iam = engine.client("iam")
        self._name = unique("caller")
        self._iam.create_user(UserName=self._name)
        self._key = self._iam.create_access_key(UserName=self._name)["AccessKey"]

    def client(self, service: str) -> Any:
        return self._engine.client(service, self._key["AccessKeyId"], self._key["SecretAccessKey"])

    def may(self, *grants: Grant) -> None:
        """Let it do this from now on, and nothing else."""
        document = json.dumps(
            {"Version": "2012-10-17", "Statement": [*grants, grant("sts:DecodeAuthorizationMessage", "*")]}
        )
        self._iam.put_user_policy(UserName=self._name, PolicyName="one", PolicyDocument=document)
