"""The end of a stage: everything that it consists of is deleted, and nothing is left that costs money.

A cluster of ECS is not deleted while tasks are active in it (Amazon ECS API Reference, "DeleteCluster"), so those
are stopped first. What else executes jobs ends with what is deleted: a job queue's jobs are terminated (AWS Batch
API Reference, "DeleteJobQueue"), and a state machine's executions (AWS Step Functions API Reference,
"DeleteStateMachine").
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, WaiterError

from sluice_harness import cdk_cli
from sluice_harness.cdk_cli import CdkError
from sluice_harness.deploy.target import TargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sluice_harness.deploy.target import Target

# What holds data of users; other retained resources (API Gateway's logging role) cost nothing.
_STATEFUL = ("AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::Cognito::UserPool")
# For how long tasks may take to stop: a container has two minutes at most, and its network is taken down after it.
_STOPPED_WITHIN = {"Delay": 3, "MaxAttempts": 100}


def protected(assembly: Path) -> list[str]:
    """Return the types of what an assembly's stacks would leave behind, of that which holds data."""
    return sorted(
        resource["Type"]
        for _, template in _templates(assembly)
        for resource in template.get("Resources", {}).values()
        if resource["Type"] in _STATEFUL and resource.get("DeletionPolicy", "Delete") != "Delete"
    )


def stacks(assembly: Path, cloudformation: Any) -> list[str]:
    """Return those of an assembly's stacks that are there.

    Raises
    ------
    TargetError
        CloudFormation does not say.

    """
    found = []
    for name, _ in _templates(assembly):
        try:
            cloudformation.describe_stacks(StackName=name)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ValidationError":  # which says that there is none
                raise TargetError(f"{name} cannot be read: {error}") from None
            continue
        found.append(name)
    return found


def destroy(assembly: Path, target: Target, *, tell: Callable[[str], None]) -> None:
    """Stop containers, empty the buckets and delete the stacks.

    Raises
    ------
    CdkError
        A stack could not be deleted.
    TargetError
        A container could not be stopped; nothing is deleted yet, or not all.

    """
    buckets, clusters = (
        list(_of_type(kind, assembly, target)) for kind in ("AWS::S3::Bucket", "AWS::ECS::Cluster")
    )
    _clear(buckets, clusters, target)
    try:
        cdk_cli.destroy(assembly, target.environment, tell)
    except CdkError:
        # A job has begun meanwhile, or has put its result into the bucket; now nothing starts jobs any more.
        _clear(buckets, clusters, target)
        cdk_cli.destroy(assembly, target.environment, tell)


def _clear(buckets: list[str], clusters: list[str], target: Target) -> None:
    """Remove what keeps CloudFormation from deleting buckets and clusters."""
    for cluster in clusters:
        _stop_tasks(cluster, target)
    _empty(buckets, target)


def _stop_tasks(cluster: str, target: Target) -> None:
    """Stop a cluster's tasks, and wait until they have stopped."""
    ecs = target.client("ecs")
    try:
        for page in ecs.get_paginator("list_tasks").paginate(cluster=cluster):
            for task in page["taskArns"]:
                ecs.stop_task(cluster=cluster, task=task, reason="sluice: the stage is deleted")
        # Those that somebody else has stopped are there, too, until a while after their end.
        for page in ecs.get_paginator("list_tasks").paginate(cluster=cluster, desiredStatus="STOPPED"):
            if page["taskArns"]:
                wait = ecs.get_waiter("tasks_stopped").wait
                wait(cluster=cluster, tasks=page["taskArns"], WaiterConfig=_STOPPED_WITHIN)
    except ecs.exceptions.ClusterNotFoundException:
        return
    except (ClientError, WaiterError) as error:
        told = f"the containers in the ECS cluster {cluster} are not stopped: {error}"
        raise TargetError(
            f"{told}. Run the same command again; docs/deploying.md names the rights that this takes"
        ) from None


def _empty(buckets: list[str], target: Target) -> None:
    s3 = target.client("s3")
    for bucket in buckets:
        try:
            for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
                versions = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
                objects = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in versions]
                if objects:
                    s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
        except s3.exceptions.NoSuchBucket:
            continue


def _of_type(kind: str, assembly: Path, target: Target) -> Iterator[str]:
    """Yield the physical ids of what the stacks have of a type."""
    cloudformation = target.client("cloudformation")
    for name in stacks(assembly, cloudformation):
        for page in cloudformation.get_paginator("list_stack_resources").paginate(StackName=name):
            for resource in page["StackResourceSummaries"]:
                if resource["ResourceType"] == kind:
                    yield resource["PhysicalResourceId"]


def _templates(assembly: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the stacks' names and templates."""
    for path in sorted(assembly.glob("*.template.json")):
        yield path.name.removesuffix(".template.json"), json.loads(path.read_text())
