"""The job table, the result bucket and the user pool."""

from __future__ import annotations

import pytest
from infra.assemblies import Assembly, logical_id

pytestmark = pytest.mark.xdist_group("infra")

STATEFUL = ("DynamoDB::Table", "S3::Bucket", "Cognito::UserPool")


def test_the_table_is_paid_by_request(assembly: Assembly) -> None:
    table = assembly.only("DynamoDB::Table")
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert "ProvisionedThroughput" not in table


def test_the_table_can_be_restored_to_a_point_in_time(assembly: Assembly) -> None:
    recovery = assembly.only("DynamoDB::Table")["PointInTimeRecoverySpecification"]
    assert recovery["PointInTimeRecoveryEnabled"] is True


def test_rows_expire(assembly: Assembly) -> None:
    expiry = assembly.only("DynamoDB::Table")["TimeToLiveSpecification"]
    assert expiry == {"AttributeName": "expiresAt", "Enabled": True}


def test_the_table_is_encrypted(assembly: Assembly) -> None:
    assert assembly.only("DynamoDB::Table")["SSESpecification"]["SSEEnabled"] is True


def test_one_row_is_one_job(assembly: Assembly) -> None:
    assert assembly.only("DynamoDB::Table")["KeySchema"] == [{"AttributeName": "jobKey", "KeyType": "HASH"}]


def test_the_index_holds_keys_only_so_that_updates_never_write_it(assembly: Assembly) -> None:
    (index,) = assembly.only("DynamoDB::Table")["GlobalSecondaryIndexes"]
    assert index["Projection"] == {"ProjectionType": "KEYS_ONLY"}
    assert [(key["AttributeName"], key["KeyType"]) for key in index["KeySchema"]] == [
        ("listKey", "HASH"),
        ("submittedAt", "RANGE"),
    ]


def test_the_bucket_is_closed_to_the_public(assembly: Assembly) -> None:
    block = assembly.only("S3::Bucket")["PublicAccessBlockConfiguration"]
    assert len(block) == 4
    assert set(block.values()) == {True}


def test_the_bucket_is_encrypted(assembly: Assembly) -> None:
    (rule,) = assembly.only("S3::Bucket")["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] in {"AES256", "aws:kms"}


def test_results_expire_with_their_rows(assembly: Assembly) -> None:
    # given the bucket's rules and the functions that write rows
    rules = assembly.only("S3::Bucket")["LifecycleConfiguration"]["Rules"]
    settings = [function["Environment"]["Variables"] for function in assembly.of_type("Lambda::Function").values()]
    row_seconds = {int(each["RETENTION_SECONDS"]) for each in settings if "RETENTION_SECONDS" in each}

    # then objects go after as many days as rows do
    (days,) = [rule["ExpirationInDays"] for rule in rules if rule["Status"] == "Enabled"]
    assert row_seconds == {days * 86_400}


def test_the_bucket_refuses_plain_http(assembly: Assembly) -> None:
    # given the bucket
    (bucket,) = assembly.of_type("S3::Bucket")
    policy = assembly.only("S3::BucketPolicy")

    # when its policy's refusals are read
    refusals = [
        statement
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Deny" and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    ]

    # then everything but TLS is refused, for the bucket and for its objects
    (refusal,) = refusals
    arn = {"Fn::GetAtt": [bucket, "Arn"]}
    assert logical_id(policy["Bucket"]) == bucket
    assert (refusal["Action"], refusal["Principal"]) == ("s3:*", {"AWS": "*"})
    assert refusal["Resource"] == [arn, {"Fn::Join": ["", [arn, "/*"]]}]


def test_a_protected_stage_keeps_what_cannot_be_made_again(assembly: Assembly) -> None:
    # given what production keeps, and what other stages clear away
    kept = "Retain" if assembly.stage == "prod" else "Delete"

    # then every stateful resource goes by that, on deletion and on replacement
    stateful = [resource for kind in STATEFUL for resource in _resources(assembly, kind)]
    assert {resource["DeletionPolicy"] for resource in stateful} == {kept}
    assert {resource["UpdateReplacePolicy"] for resource in stateful} == {kept}


def test_a_protected_stage_refuses_deletion(assembly: Assembly) -> None:
    protected = assembly.stage == "prod"
    assert assembly.only("DynamoDB::Table")["DeletionProtectionEnabled"] is protected
    protection = assembly.only("Cognito::UserPool")["DeletionProtection"]
    assert protection == ("ACTIVE" if protected else "INACTIVE")


def _resources(assembly: Assembly, kind: str) -> list[dict[str, str]]:
    return [assembly.resources[name] for name in assembly.of_type(kind)]
