"""Roles of a running stage: what they may do, taken away and put back, and which tests prove that they must.

Roles go by their names in the template, without the CDK's hash: ``ProcessorRole``.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from infra.assemblies import listed
from stage.running import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stage.running import RunningStage

FUNCTION_ROLES = (
    "AuthorizerRole",
    "ProcessorRole",
    "BatchSimulatorRole",
    "JobStatusRole",
    "CancelJobRole",
    "SweeperRole",
    "EventPublisherRole",
)


def proves(*grants: tuple[str, ...]) -> pytest.MarkDecorator:
    """Run a test with each of these grants, a role's name and an action, as its fixture ``grant``.

    Of an action that the role may do on several resources, each is a grant; the third part is the resource's name.
    The test takes the grant away, sees what fails, and sees it work again. `infra.test_permissions` compares all
    that are proved so with all that the template grants.
    """
    return pytest.mark.parametrize("grant", grants, indirect=True, ids=":".join)


class Grant:
    """An action that a role of a stage may do; on one of its resources if that is named."""

    def __init__(self, stage: RunningStage, role: str, action: str, resource: str = "") -> None:
        self.role = role
        self.action = action
        self._resource = resource
        self.was_taken = False
        self._stage = stage

    @property
    def function(self) -> str:
        """The function whose execution role it is."""
        name = self.role.removesuffix("Role")
        return str(getattr(self._stage.description.functions, name[0].lower() + name[1:]))

    @contextlib.contextmanager
    def missing(self) -> Iterator[None]:
        """Take the grant away meanwhile."""
        with without(self._stage, role_named(self._stage, self.role), self.action, self._resource):
            self.was_taken = True
            yield


def role_of(stage: RunningStage, function: str) -> str:
    arn: str = stage.client("lambda").get_function_configuration(FunctionName=function)["Role"]
    return arn.rpartition("/")[2]


def role_named(stage: RunningStage, part: str) -> str:
    """Find a role by a part of its name."""
    pages = stage.client("iam").get_paginator("list_roles").paginate()
    (name,) = [role["RoleName"] for page in pages for role in page["Roles"] if part in role["RoleName"]]
    return str(name)


@contextlib.contextmanager
def without(stage: RunningStage, role: str, action: str, resource: str = "") -> Iterator[None]:
    """Take one action out of a role's policies, or only on resources with this in their name, and put it back."""
    iam = stage.client("iam")
    taken = []
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        document = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        kept = [left for one in document["Statement"] for left in _without_action(one, action, resource)]
        if kept != document["Statement"]:
            taken.append((name, document))
            iam.delete_role_policy(RoleName=role, PolicyName=name)
            if kept:
                smaller = {**document, "Statement": kept}
                iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(smaller))
    assert taken, f"{role} has no grant of {action} {resource}"
    try:
        yield
    finally:
        for name, document in taken:
            iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(document))


def _without_action(statement: dict[str, Any], action: str, resource: str) -> Iterator[dict[str, Any]]:
    """What is left of a statement: its other actions, and the action on its other resources."""
    actions, resources = listed(statement["Action"]), listed(statement["Resource"])
    if action not in actions or not any(resource in one for one in resources):
        yield statement
        return
    if kept := [one for one in actions if one != action]:
        yield {**statement, "Action": kept}
    if others := [one for one in resources if resource not in one]:
        yield {**statement, "Action": action, "Resource": others}


@contextlib.contextmanager
def no_results_of(stage: RunningStage, owner: str) -> Iterator[None]:
    """Deny the batch simulator to store results of one owner: their jobs fail, and may succeed later."""
    iam, role = stage.client("iam"), role_of(stage, stage.description.functions.batchSimulator)
    denial = {
        "Effect": "Deny",
        "Action": "s3:PutObject",
        "Resource": f"arn:aws:s3:::{stage.description.resultBucket}/results/{owner}/*",
    }
    document = json.dumps({"Version": "2012-10-17", "Statement": [denial]})
    iam.put_role_policy(RoleName=role, PolicyName="NoResults", PolicyDocument=document)
    try:
        yield
    finally:
        iam.delete_role_policy(RoleName=role, PolicyName="NoResults")


@contextlib.contextmanager
def trusting(stage: RunningStage, role: str, principal: dict[str, str]) -> Iterator[None]:
    """Let a role be assumed by someone else meanwhile."""
    iam = stage.client("iam")
    before = iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
    (statement,) = before["Statement"]
    other = {**before, "Statement": [{**statement, "Principal": principal}]}
    iam.update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(other))
    try:
        yield
    finally:
        iam.update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(before))


def logged(stage: RunningStage, function: str, since_ms: int, *parts: str) -> None:
    """Wait until a function has logged a line with all of these in it."""
    until(
        lambda: any(all(part in line for part in parts) for line in stage.log_lines(function, since_ms)),
        f"{function} has logged {' and '.join(parts)}",
    )


def assert_denied(stage: RunningStage, function: str, since_ms: int) -> None:
    logged(stage, function, since_ms, "AccessDenied")
