"""Queries of an index: the right page, from a long partition as from a short one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from stage.conformance.functions import unique

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

ROWS = 1500
SIMPLE = "listKey = :k AND submittedAt <= :t"


@pytest.fixture(scope="module")
def table(engine: Engine) -> str:
    """A table whose index has one long partition, ann's, and one short, ben's; two rows share each time."""
    name = unique("table")
    dynamodb = engine.client("dynamodb")
    dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "jobKey", "KeyType": "HASH"}],
        AttributeDefinitions=[
            {"AttributeName": "jobKey", "AttributeType": "S"},
            {"AttributeName": "listKey", "AttributeType": "S"},
            {"AttributeName": "submittedAt", "AttributeType": "N"},
        ],
        BillingMode="PAY_PER_REQUEST",
        GlobalSecondaryIndexes=[
            {
                "IndexName": "byOwner",
                "KeySchema": [
                    {"AttributeName": "listKey", "KeyType": "HASH"},
                    {"AttributeName": "submittedAt", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
    )
    rows = [_row("ann", number) for number in range(ROWS)] + [_row("ben", number) for number in range(10)]
    for start in range(0, len(rows), 25):
        batch = [{"PutRequest": {"Item": row}} for row in rows[start : start + 25]]
        dynamodb.batch_write_item(RequestItems={name: batch})
    return name


def _row(owner: str, number: int) -> dict[str, Any]:
    return {
        "jobKey": {"S": f"{owner}#{number:05}"},
        "listKey": {"S": owner},
        # Of different lengths, so that only numbers are in order and not their texts.
        "submittedAt": {"N": str(number // 2)},
        "status": {"S": "SUBMITTED"},
    }


def query(engine: Engine, table: str, condition: str = SIMPLE, **settings: Any) -> dict[str, Any]:
    owner, latest = settings.pop("owner", "ann"), settings.pop("latest", 9999)
    values = {":k": {"S": owner}, ":t": {"N": str(latest)}, **settings.pop("values", {})}
    found: dict[str, Any] = engine.client("dynamodb").query(
        TableName=table,
        IndexName="byOwner",
        KeyConditionExpression=condition,
        ExpressionAttributeValues=values,
        ScanIndexForward=False,
        **settings,
    )
    return found


def numbers(page: dict[str, Any]) -> list[int]:
    return [int(item["jobKey"]["S"].rpartition("#")[2]) for item in page["Items"]]


def test_a_page_holds_the_newest_up_to_a_time_and_the_keys_only(engine: Engine, table: str) -> None:
    # when
    page = query(engine, table, latest=100, Limit=4)

    # then
    assert numbers(page) == [201, 200, 199, 198]
    assert page["Items"][0] == {
        "jobKey": {"S": "ann#00201"},
        "listKey": {"S": "ann"},
        "submittedAt": {"N": "100"},
    }


def test_pages_follow_each_other_without_gap_or_repetition(engine: Engine, table: str) -> None:
    # when all of a partition is read, three at a time
    seen: list[int] = []
    start: dict[str, Any] = {}
    while True:
        page = query(engine, table, owner="ben", Limit=3, **start)
        seen += numbers(page)
        if "LastEvaluatedKey" not in page:
            break
        start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    # then
    assert seen == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    ("condition", "first"),
    [
        ("listKey = :k", 1499),
        ("listKey=:k AND submittedAt<:t", 199),
        ("listKey = :k and submittedAt = :t", 201),
        ("#owner = :k AND #time <= :t", 201),
        ("listKey = :k AND submittedAt BETWEEN :zero AND :t", 201),
        ("(listKey = :k) AND (submittedAt <= :t)", 201),
    ],
)
def test_a_condition_may_be_written_in_many_ways(engine: Engine, table: str, condition: str, first: int) -> None:
    # given the names and values that the condition uses, and no others
    names = {"#owner": "listKey", "#time": "submittedAt"} if "#" in condition else {}
    values = {":k": {"S": "ann"}, ":t": {"N": "100"}, ":zero": {"N": "0"}}
    used = {name: value for name, value in values.items() if name in condition}

    # when
    page = engine.client("dynamodb").query(
        TableName=table,
        IndexName="byOwner",
        KeyConditionExpression=condition,
        ExpressionAttributeValues=used,
        **({"ExpressionAttributeNames": names} if names else {}),
        ScanIndexForward=False,
        Limit=1,
    )

    # then
    assert numbers(page) == [first]


@pytest.mark.parametrize("condition", ["listKey = :k AND status <= :t", "listKey <= :k AND submittedAt <= :t"])
def test_a_condition_that_no_index_answers_is_refused(engine: Engine, table: str, condition: str) -> None:
    with pytest.raises(ClientError, match="ValidationException"):
        query(engine, table, condition)


def test_a_page_of_a_long_partition_takes_a_fraction_of_what_it_took(engine: Engine, table: str) -> None:
    def quickest(condition: str, **settings: Any) -> float:
        times = []
        for _ in range(8):
            start = time.perf_counter()
            query(engine, table, condition, Limit=20, **settings)
            times.append(time.perf_counter() - start)
        return min(times)

    # then a condition takes less than half the time of one that is still parsed for every row
    parsed = quickest("listKey = :k AND submittedAt BETWEEN :zero AND :t", values={":zero": {"N": "0"}})
    assert quickest(SIMPLE) < parsed / 2
