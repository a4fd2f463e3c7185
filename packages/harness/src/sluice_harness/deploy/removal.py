"""The end of a stage: everything that it consists of is deleted, and nothing is left that costs money."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from sluice_harness import cdk_cli
from sluice_harness.cdk_cli import CdkError
from sluice_harness.deploy.target import TargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sluice_harness.deploy.target import Target

# What holds data of users; other retained resources (API Gateway's logging role) cost nothing.
_STATEFUL = ("AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::Cognito::UserPool")


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
    """Empty the buckets and delete the stacks.

    Raises
    ------
    CdkError
        A stack could not be deleted.

    """
    buckets = list(_buckets(assembly, target))
    _empty(buckets, target)
    try:
        cdk_cli.destroy(assembly, target.environment, tell)
    except CdkError:
        # A job that was running has put its result into the bucket meanwhile; now nothing runs any more.
        _empty(buckets, target)
        cdk_cli.destroy(assembly, target.environment, tell)


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


def _buckets(assembly: Path, target: Target) -> Iterator[str]:
    cloudformation = target.client("cloudformation")
    for name in stacks(assembly, cloudformation):
        for page in cloudformation.get_paginator("list_stack_resources").paginate(StackName=name):
            for resource in page["StackResourceSummaries"]:
                if resource["ResourceType"] == "AWS::S3::Bucket":
                    yield resource["PhysicalResourceId"]


def _templates(assembly: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the stacks' names and templates."""
    for path in sorted(assembly.glob("*.template.json")):
        yield path.name.removesuffix(".template.json"), json.loads(path.read_text())
