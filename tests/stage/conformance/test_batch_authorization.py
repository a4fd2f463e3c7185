"""Batch calls are authorized under the names that IAM knows them by."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

ACCOUNT = "arn:aws:{}:us-east-1:000000000000:{}"


@pytest.fixture
def table(engine: Engine) -> str:
    name = f"table-{uuid.uuid4().hex[:8]}"
    engine.client("dynamodb").create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    return name


@pytest.fixture
def queue(engine: Engine) -> str:
    url: str = engine.client("sqs").create_queue(QueueName=f"queue-{uuid.uuid4().hex[:8]}")["QueueUrl"]
    return url


def _client_with(engine: Engine, service: str, action: str, resource: str) -> Any:
    """A client of a user who is granted one action on one resource."""
    iam = engine.client("iam")
    user = f"user-{uuid.uuid4().hex[:8]}"
    iam.create_user(UserName=user)
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName=user, PolicyName="one", PolicyDocument=policy)
    key = iam.create_access_key(UserName=user)["AccessKey"]
    return engine.client(service, key["AccessKeyId"], key["SecretAccessKey"])


def _insert(dynamodb: Any, table: str) -> str:
    """The code of the error that an INSERT in a batch meets, or "none"."""
    statement = {"Statement": f"INSERT INTO \"{table}\" VALUE {{'id': ?}}", "Parameters": [{"S": "1"}]}
    try:
        dynamodb.batch_execute_statement(Statements=[statement])
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return "none"


def _send_batch(sqs: Any, url: str) -> str:
    try:
        sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": "1", "MessageBody": "hello"}])
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return "none"


def test_an_insert_in_a_batch_needs_partiql_insert_on_its_table(engine: Engine, table: str) -> None:
    arn = ACCOUNT.format("dynamodb", f"table/{table}")

    assert _insert(_client_with(engine, "dynamodb", "dynamodb:PartiQLInsert", arn), table) == "none"


@pytest.mark.parametrize(
    ("action", "same_table"),
    [
        ("dynamodb:PartiQLUpdate", True),
        ("dynamodb:BatchExecuteStatement", True),
        ("dynamodb:PartiQLInsert", False),
    ],
    ids=["another verb", "the call's own name", "another table"],
)
def test_an_insert_in_a_batch_is_refused_under_any_other_grant(
    engine: Engine, table: str, action: str, same_table: bool
) -> None:
    arn = ACCOUNT.format("dynamodb", f"table/{table}" if same_table else "table/other")

    assert "AccessDenied" in _insert(_client_with(engine, "dynamodb", action, arn), table)


def test_every_statement_of_a_batch_is_checked(engine: Engine, table: str) -> None:
    # Given a user who may insert but not delete
    arn = ACCOUNT.format("dynamodb", f"table/{table}")
    dynamodb = _client_with(engine, "dynamodb", "dynamodb:PartiQLInsert", arn)

    # When a batch inserts one row and deletes another
    statements = [
        {"Statement": f"INSERT INTO \"{table}\" VALUE {{'id': 'a'}}"},
        {"Statement": f'DELETE FROM "{table}" WHERE "id" = \'b\''},
    ]
    with pytest.raises(ClientError) as refused:
        dynamodb.batch_execute_statement(Statements=statements)

    # Then the delete is refused by its own name
    assert "dynamodb:PartiQLDelete" in str(refused.value)


def test_a_batch_of_messages_needs_send_message(engine: Engine, queue: str) -> None:
    arn = ACCOUNT.format("sqs", queue.rpartition("/")[2])

    assert _send_batch(_client_with(engine, "sqs", "sqs:SendMessage", arn), queue) == "none"


def test_a_batch_of_messages_is_refused_under_another_grant(engine: Engine, queue: str) -> None:
    arn = ACCOUNT.format("sqs", queue.rpartition("/")[2])

    assert "AccessDenied" in _send_batch(_client_with(engine, "sqs", "sqs:ReceiveMessage", arn), queue)
