"""AWS/DynamoDB: what tables say of themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from stage.conformance.functions import unique
from stage.conformance.metrics import statistic, total

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

DYNAMODB = "AWS/DynamoDB"


@pytest.fixture
def table(engine: Engine) -> str:
    """A table with one global index of keys only."""
    made = engine.client("dynamodb").create_table(
        TableName=unique("table"),
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("id", "owner")],
        BillingMode="PAY_PER_REQUEST",
        GlobalSecondaryIndexes=[
            {
                "IndexName": "byOwner",
                "KeySchema": [{"AttributeName": "owner", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
    )
    return str(made["TableDescription"]["TableName"])


def item(identifier: str, **values: str) -> dict[str, Any]:
    return {"id": {"S": identifier}, **{name: {"S": value} for name, value in values.items()}}


def written(engine: Engine, table: str, **index: str) -> float | None:
    return total(engine, DYNAMODB, "ConsumedWriteCapacityUnits", TableName=table, **index)


def read(engine: Engine, table: str, **index: str) -> float | None:
    return total(engine, DYNAMODB, "ConsumedReadCapacityUnits", TableName=table, **index)


def test_a_write_costs_what_dynamodb_says_it_does(engine: Engine, table: str) -> None:
    client = engine.client("dynamodb")
    # given writes whose cost the engine tells by itself
    told, of_index = 0.0, 0.0

    def note(answer: Any) -> None:
        nonlocal told, of_index
        told += answer["ConsumedCapacity"]["Table"]["CapacityUnits"]
        indexes = answer["ConsumedCapacity"].get("GlobalSecondaryIndexes", {})
        of_index += sum(one["CapacityUnits"] for one in indexes.values())

    shown = {"TableName": table, "ReturnConsumedCapacity": "INDEXES"}
    note(client.put_item(Item=item("a", owner="ann"), **shown))
    note(client.put_item(Item=item("b", text="x" * 2500), **shown))
    move = {"UpdateExpression": "SET #o = :o", "ExpressionAttributeNames": {"#o": "owner"}}
    values = {":o": {"S": "ben"}}
    note(client.update_item(Key=item("a"), ExpressionAttributeValues=values, **move, **shown))
    note(client.delete_item(Key=item("b"), **shown))

    # then the metrics of the table and of its index say the same
    assert (told, of_index) == (1 + 3 + 1 + 3, 1 + 2)
    assert written(engine, table) == told
    assert written(engine, table, GlobalSecondaryIndexName="byOwner") == of_index


def test_batches_of_statements_cost_by_statement(engine: Engine, table: str) -> None:
    # given a batch of two inserts of which one is there already
    client = engine.client("dynamodb")
    client.put_item(TableName=table, Item=item("a"))
    insert = f"INSERT INTO \"{table}\" VALUE {{'id': ?}}"
    answer = client.batch_execute_statement(
        Statements=[{"Statement": insert, "Parameters": [{"S": one}]} for one in ("a", "b")]
    )
    assert [one.get("Error", {}).get("Code") for one in answer["Responses"]] == ["DuplicateItem", None]

    # then both cost a unit, and the one that failed is a failed condition
    assert written(engine, table) == 3
    assert total(engine, DYNAMODB, "ConditionalCheckFailedRequests", TableName=table) == 1
    where = {"TableName": table, "Operation": "BatchExecuteStatement"}
    assert statistic(engine, DYNAMODB, "SuccessfulRequestLatency", "SampleCount", **where) == 1
    assert (statistic(engine, DYNAMODB, "SuccessfulRequestLatency", "Maximum", **where) or 0) > 0


def test_reads_cost_by_size_and_consistency(engine: Engine, table: str) -> None:
    # given an item of 5 KB, and one of another owner
    client = engine.client("dynamodb")
    client.put_item(TableName=table, Item=item("a", owner="ann", text="x" * 5000))

    # when it is read in several ways
    client.get_item(TableName=table, Key=item("a"))  # two halves
    client.get_item(TableName=table, Key=item("a"), ConsistentRead=True)  # two
    client.get_item(TableName=table, Key=item("none"))  # a half
    client.batch_get_item(RequestItems={table: {"Keys": [item("a"), item("none")]}})  # one and a half
    query = {"KeyConditionExpression": "#o = :o", "ExpressionAttributeNames": {"#o": "owner"}}
    values = {":o": {"S": "ann"}}
    client.query(
        TableName=table, IndexName="byOwner", ExpressionAttributeValues=values, **query
    )  # the index's half

    # then the table and its index have what each gave
    assert read(engine, table) == 1 + 2 + 0.5 + 1.5
    assert read(engine, table, GlobalSecondaryIndexName="byOwner") == 0.5


def test_a_transaction_costs_twice(engine: Engine, table: str) -> None:
    put = {"Put": {"TableName": table, "Item": item("a")}}

    engine.client("dynamodb").transact_write_items(TransactItems=[put])

    assert written(engine, table) == 2


def test_refused_calls_are_told_apart(engine: Engine, table: str) -> None:
    # given what the account's users have done wrong so far
    client = engine.client("dynamodb")
    before = total(engine, DYNAMODB, "UserErrors") or 0

    # when a condition fails, and a call makes no sense
    client.put_item(TableName=table, Item=item("a"))
    with pytest.raises(ClientError, match="ConditionalCheckFailed"):
        client.put_item(TableName=table, Item=item("a"), ConditionExpression="attribute_not_exists(id)")
    with pytest.raises(ClientError, match="ValidationException"):
        client.put_item(TableName=table, Item={"other": {"S": "a"}})

    # then only the second is the user's error, and the first has cost a unit all the same
    assert written(engine, table) == 1 + 1
    assert total(engine, DYNAMODB, "ConditionalCheckFailedRequests", TableName=table) == 1
    assert total(engine, DYNAMODB, "UserErrors") == before + 1
    latencies = {"TableName": table, "Operation": "PutItem"}
    assert statistic(engine, DYNAMODB, "SuccessfulRequestLatency", "SampleCount", **latencies) == 1
