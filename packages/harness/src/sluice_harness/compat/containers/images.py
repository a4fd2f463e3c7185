"""An image is not pulled here, but whoever would pull it has to be allowed to.

Fargate pulls an image of a private repository of ECR in the name of the task's execution role, and a task whose
role may not does not start (Amazon ECS Developer Guide, "Amazon ECS task execution IAM role", which lists the four
actions, and "Stopped tasks error messages", "ResourceInitializationError" and "CannotPullContainerError"). Images
from elsewhere need no grant.
"""

from __future__ import annotations

import re

from sluice_harness.compat.access import service_roles
from sluice_harness.compat.containers.process import StartError

_PRIVATE = re.compile(r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com/(?P<name>[^:@]+)")
_PULL = ("ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage")


def pull(image: str, execution_role: str) -> None:
    """Pass where the execution role may pull an image.

    Raises
    ------
    StartError
        It may not.

    """
    found = _PRIVATE.match(image)
    if found is None:
        return
    refusal = service_roles.refusal(execution_role, "ecs", "ecr:GetAuthorizationToken", "*")
    if refusal:
        raise StartError(
            "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval "
            f"failed: unable to retrieve ecr registry auth: service call has been retried 1 time(s): "
            f"AccessDeniedException: {refusal}"
        )
    repository = f"arn:aws:ecr:{found['region']}:{found['account']}:repository/{found['name']}"
    for action in _PULL:
        if refusal := service_roles.refusal(execution_role, "ecs", action, repository):
            raise StartError(
                f"CannotPullContainerError: pull image manifest has been retried 1 time(s): {refusal}"
            )
