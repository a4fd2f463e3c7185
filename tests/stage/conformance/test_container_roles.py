"""A container starts only if its roles let it: to be assumed, to pull its image, to write its log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from stage.conformance import containers
from stage.conformance.functions import unique

if TYPE_CHECKING:
    from stage.conformance.containers import Site

PRIVATE = "000000000000.dkr.ecr.us-east-1.amazonaws.com/team/job@sha256:00"
REPOSITORY = "arn:aws:ecr:us-east-1:000000000000:repository/team/job"
PULL = ("ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage")
LOG = ("logs:CreateLogStream", "logs:PutLogEvents")


def role(site: Site, *statements: tuple[Any, Any], service: str = "ecs-tasks") -> str:
    """Make a role that a service may assume, and return its ARN."""
    iam, name = site.engine.client("iam"), unique("role")
    trust = containers.policy(("sts:AssumeRole", None), Service=f"{service}.amazonaws.com")
    made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]
    document = json.dumps(containers.policy(*statements, ("sts:Decode", "*")))
    iam.put_role_policy(RoleName=name, PolicyName="one", PolicyDocument=document)
    return str(made["Arn"])


def of_log(site: Site) -> str:
    return f"arn:aws:logs:us-east-1:000000000000:log-group:{site.names['Logs']}:*"


def execution_role(site: Site, without: str = "") -> str:
    """Make a role that may do all that Fargate does with it, but one action."""
    wanted = {
        **dict.fromkeys(LOG, of_log(site)),
        **dict.fromkeys(PULL, REPOSITORY),
        "ecr:GetAuthorizationToken": "*",
    }
    return role(site, *((action, where) for action, where in wanted.items() if action != without))


def run(site: Site, image: str = "job", **roles: str) -> Any:
    """Run a task of these roles, and return it when it has stopped."""
    ecs = site.engine.client("ecs")
    known = ecs.describe_task_definition(taskDefinition=site.names["TaskDefinition"])["taskDefinition"]
    names = (
        "family",
        "networkMode",
        "requiresCompatibilities",
        "cpu",
        "memory",
        "taskRoleArn",
        "executionRoleArn",
    )
    kept = {name: known[name] for name in names}
    (container,) = known["containerDefinitions"]
    made = ecs.register_task_definition(**{**kept, **roles}, containerDefinitions=[{**container, "image": image}])
    task = site.run("pass", taskDefinition=made["taskDefinition"]["taskDefinitionArn"])
    return site.becomes(site.task, task, "STOPPED")


def test_an_image_of_ecr_is_pulled_by_the_execution_role(site: Site) -> None:
    ended = run(site, PRIVATE, executionRoleArn=execution_role(site))
    assert ended["containers"][0]["exitCode"] == 0


@pytest.mark.parametrize("missing", [*LOG, *PULL, "ecr:GetAuthorizationToken"])
def test_a_task_does_not_start_without_what_fargate_needs(site: Site, missing: str) -> None:
    # when
    ended = run(site, PRIVATE, executionRoleArn=execution_role(site, without=missing))

    # then
    assert ended["stopCode"] == "TaskFailedToStart"
    assert f"is not authorized to perform: {missing}" in ended["stoppedReason"]
    assert "exitCode" not in ended["containers"][0]


def test_a_role_of_another_service_is_not_taken_on(site: Site) -> None:
    # when
    ended = run(site, taskRoleArn=role(site, service="lambda"))

    # then
    assert ended["stopCode"] == "TaskFailedToStart"
    assert "unable to assume the role" in ended["stoppedReason"]


def test_a_job_of_batch_does_not_start_either(site: Site) -> None:
    # given
    batch = site.engine.client("batch")
    (known,) = batch.describe_job_definitions(jobDefinitionName=site.definition_name())["jobDefinitions"][-1:]
    container = {**known["containerProperties"], "executionRoleArn": role(site)}
    name = unique("without")
    batch.register_job_definition(jobDefinitionName=name, type="container", containerProperties=container)

    # when
    job = site.submit("pass", jobDefinition=name)

    # then
    ended = site.becomes(site.job, job, "FAILED", "SUCCEEDED")
    assert ended["status"] == "FAILED"
    assert "logs:CreateLogStream" in ended["statusReason"]
    assert "exitCode" not in ended["container"]
