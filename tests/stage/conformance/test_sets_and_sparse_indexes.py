"""DynamoDB's string sets and sparse indexes, as slots and executions use them: nothing of the engine is mended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from stage.conformance.functions import unique

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

ROOM = "attribute_not_exists(held) OR size(held) <= :room"
INDEX = "byExecution"


@pytest.fixture(scope="module")
def table(engine: Engine) -> str:
    """A table with an index of those rows that are executing."""
    keys = {"id": "HASH"}, {"executing": "HASH", "since": "RANGE"}
    own, of_index = ([{"AttributeName": name, "KeyType": kind} for name, kind in one.items()] for one in keys)
    name = unique("table")
    engine.client("dynamodb").create_table(
        TableName=name,
        KeySchema=own,
        AttributeDefinitions=[
            {"AttributeName": one, "AttributeType": "S"} for one in ("id", "executing", "since")
        ],
        BillingMode="PAY_PER_REQUEST",
        GlobalSecondaryIndexes=[
            {"IndexName": INDEX, "KeySchema": of_index, "Projection": {"ProjectionType": "KEYS_ONLY"}}
        ],
    )
    return name


def update(engine: Engine, table: str, expression: str, tokens: list[str], room: int | None = None) -> set[str]:
    """Change the set of a row's tokens, on the condition that there is room, and return what it is then."""
    condition = {} if room is None else {"ConditionExpression": ROOM}
    limit = {} if room is None else {":room": {"N": str(room)}}
    row = engine.client("dynamodb").update_item(
        TableName=table,
        Key={"id": {"S": "slots"}},
        UpdateExpression=expression,
        ExpressionAttributeValues={":tokens": {"SS": tokens}, **limit},
        ReturnValues="ALL_NEW",
        **condition,
    )["Attributes"]
    return set(row.get("held", {}).get("SS", []))


def test_a_set_is_added_to_as_far_as_there_is_room(engine: Engine, table: str) -> None:
    # given
    assert update(engine, table, "ADD held :tokens", ["one", "two"], room=1) == {"one", "two"}

    # when there is too little room, and then enough
    with pytest.raises(ClientError, match="ConditionalCheckFailed"):
        update(engine, table, "ADD held :tokens", ["three"], room=1)
    assert update(engine, table, "ADD held :tokens", ["three"], room=2) == {"one", "two", "three"}

    # then what is deleted is gone, whether it was there or not, and an empty set with it
    assert update(engine, table, "DELETE held :tokens", ["one", "unknown"]) == {"two", "three"}
    assert update(engine, table, "DELETE held :tokens", ["two", "three"]) == set()
    assert update(engine, table, "ADD held :tokens", ["four"], room=0) == {"four"}


def test_the_size_of_what_is_not_there_is_no_number(engine: Engine, table: str) -> None:
    with pytest.raises(ClientError, match="ConditionalCheckFailed"):
        engine.client("dynamodb").update_item(
            TableName=table,
            Key={"id": {"S": "none"}},
            UpdateExpression="ADD held :tokens",
            ConditionExpression="size(held) < :room",
            ExpressionAttributeValues={":tokens": {"SS": ["one"]}, ":room": {"N": "5"}},
        )


def test_a_row_is_in_the_index_for_as_long_as_it_has_its_keys(engine: Engine, table: str) -> None:
    # given a row that executes
    execute(engine, f"INSERT INTO \"{table}\" VALUE {{'id': ?, 'executing': ?, 'since': ?}}", "job", "ecs", "1")
    assert indexed(engine, table) == ["job"]

    # when it does no longer, then it is not in the index
    execute(
        engine,
        f'UPDATE "{table}" REMOVE "executing" REMOVE "since" WHERE "id" = ? AND "executing" = ?',
        "job",
        "ecs",
    )
    assert indexed(engine, table) == []

    # and may come back
    missing = f'UPDATE "{table}" SET "executing" = ? SET "since" = ? WHERE "id" = ? AND "executing" IS MISSING'
    execute(engine, missing, "ecs", "2", "job")
    assert indexed(engine, table) == ["job"]
    (refused,) = execute(engine, missing, "ecs", "3", "job")
    assert refused["Error"]["Code"] == "ConditionalCheckFailed"


def execute(engine: Engine, statement: str, *values: str) -> Any:
    call = {"Statement": statement, "Parameters": [{"S": value} for value in values]}
    return engine.client("dynamodb").batch_execute_statement(Statements=[call])["Responses"]


def indexed(engine: Engine, table: str) -> list[str]:
    """Return who executes in ECS, by the index, a page a row."""
    pages = (
        engine.client("dynamodb")
        .get_paginator("query")
        .paginate(
            TableName=table,
            IndexName=INDEX,
            KeyConditionExpression="executing = :executor",
            ExpressionAttributeValues={":executor": {"S": "ecs"}},
            PaginationConfig={"PageSize": 1},
        )
    )
    return [row["id"]["S"] for page in pages for row in page["Items"]]
