"""What outlives a request: the job table and the result bucket. Both expire with the job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct
from sluice_core.rows import EXECUTION_INDEX, LIST_INDEX

from sluice_infra.acknowledgements import acknowledge, as_found

if TYPE_CHECKING:
    from sluice_infra.stages import StageConfig


class Storage(Construct):
    """The job table and the result bucket."""

    def __init__(self, scope: Construct, name: str, config: StageConfig) -> None:
        super().__init__(scope, name)
        removal = cdk.RemovalPolicy.RETAIN if config.protected else cdk.RemovalPolicy.DESTROY
        self.table = dynamodb.Table(
            self,
            "Jobs",
            partition_key=dynamodb.Attribute(name="jobKey", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            encryption=dynamodb.TableEncryption.AWS_MANAGED,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            time_to_live_attribute="expiresAt",
            # Old and new, so that the event publisher can tell an end from a later change of an ended row.
            stream=dynamodb.StreamViewType.NEW_AND_OLD_IMAGES,
            deletion_protection=config.protected,
            removal_policy=removal,
        )
        # Keys that never change, and nothing else: no update of a job writes this index.
        self.table.add_global_secondary_index(
            index_name=LIST_INDEX,
            partition_key=dynamodb.Attribute(name="listKey", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="submittedAt", type=dynamodb.AttributeType.NUMBER),
            projection_type=dynamodb.ProjectionType.KEYS_ONLY,
        )
        if config.external_executors:
            # Sparse: a row is in it from the start of its execution until that is known to be over.
            self.table.add_global_secondary_index(
                index_name=EXECUTION_INDEX,
                partition_key=dynamodb.Attribute(name="executing", type=dynamodb.AttributeType.STRING),
                sort_key=dynamodb.Attribute(name="executingSince", type=dynamodb.AttributeType.NUMBER),
                projection_type=dynamodb.ProjectionType.KEYS_ONLY,
            )
        self.bucket = s3.Bucket(
            self,
            "Results",
            encryption=s3.BucketEncryption.S3_MANAGED,
            enforce_ssl=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            lifecycle_rules=[
                s3.LifecycleRule(
                    expiration=cdk.Duration.days(config.result_days),
                    abort_incomplete_multipart_upload_after=cdk.Duration.days(1),
                )
            ],
            removal_policy=removal,
        )
        acknowledge(
            self.bucket,
            {"AwsSolutions-S1": "objects are read through presigned URLs that the status function logs"},
        )

    def allow_objects(self, role: iam.Role, prefix: str, *actions: str) -> None:
        """Grant actions on a job's objects of one kind, which all lie under one prefix: ``results``."""
        objects = self.bucket.arn_for_objects(f"{prefix}/*")
        role.add_to_policy(iam.PolicyStatement(actions=[*actions], resources=[objects]))
        acknowledge(
            role,
            {f"AwsSolutions-IAM5[Resource::{as_found(self, objects)}]": "one object a job, under one prefix"},
        )

    def allow_listing(self, role: iam.Role, *prefixes: str) -> None:
        """Let a role see which keys there are under prefixes."""
        role.add_to_policy(
            iam.PolicyStatement(
                actions=["s3:ListBucket"],
                resources=[self.bucket.bucket_arn],
                conditions={"StringLike": {"s3:prefix": [f"{prefix}/*" for prefix in prefixes]}},
            )
        )
