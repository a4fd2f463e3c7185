"""What holds data or messages stays the resource it is: a new logical id or key would replace it."""

from __future__ import annotations

from typing import Any

import pytest
from infra.assemblies import Assembly

pytestmark = pytest.mark.xdist_group("infra")

# By logical id: the properties whose change needs a replacement, as the stage has them (CloudFormation template
# reference, "Update requires: Replacement"). A change here is a migration: see docs/deploying.md.
STATEFUL: dict[str, dict[str, Any]] = {
    "StorageJobs4C7573CB": {
        "KeySchema": [{"AttributeName": "jobKey", "KeyType": "HASH"}],
        "TableName": None,
        "ImportSourceSpecification": None,
    },
    "StorageResultsB2A4FB2E": {"BucketName": None, "ObjectLockEnabled": None},
    "UserPool6BA7E5F2": {"AliasAttributes": ["email"], "UsernameAttributes": None, "UsernameConfiguration": None},
    "UserPoolClient43258C81": {"GenerateSecret": None},
    "RequestsQueue8243F882": {"QueueName": None, "FifoQueue": None},
    "RequestsDeadLetters0BCDDCCA": {"QueueName": None, "FifoQueue": None},
    "WorkQueue1CAC4D2F": {"QueueName": None, "FifoQueue": None},
    "WorkDeadLetters7D6F983C": {"QueueName": None, "FifoQueue": None},
}
KINDS = ("DynamoDB::Table", "S3::Bucket", "Cognito::UserPool", "Cognito::UserPoolClient", "SQS::Queue")


def test_no_stateful_resource_is_replaced_by_accident(assembly: Assembly) -> None:
    # given all that holds data or messages, or that clients are bound to
    found = {name: properties for kind in KINDS for name, properties in assembly.of_type(kind).items()}

    # then each is what was deployed before
    assert {
        name: {one: properties.get(one) for one in STATEFUL.get(name, {})} for name, properties in found.items()
    } == STATEFUL


def test_the_stream_s_reader_stays_the_one_that_knows_how_far_it_has_come(assembly: Assembly) -> None:
    # given that another one would begin with the day before, and publish all of its events again
    reader = assembly.of_type("Lambda::EventSourceMapping")["EventPublisherFunctionStream67118FD6"]
    assert reader["StartingPosition"] == "TRIM_HORIZON"


def test_what_is_protected_survives_a_replacement_too(assembly: Assembly) -> None:
    for name, resource in assembly.resources.items():
        if resource["Type"].removeprefix("AWS::") in ("DynamoDB::Table", "S3::Bucket", "Cognito::UserPool"):
            policies = {resource["DeletionPolicy"], resource["UpdateReplacePolicy"]}
            assert policies == {"Retain" if assembly.stage == "prod" else "Delete"}, name
