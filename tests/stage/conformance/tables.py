"""Tables with streams, and mappings of them, for the conformance tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stage.conformance.functions import eventually, log_lines, unique

if TYPE_CHECKING:
    from collections.abc import Callable


def create_table(engine: Any) -> tuple[str, str]:
    """Create a table with a stream of both images and return its name and its stream's ARN."""
    made = engine.client("dynamodb").create_table(
        TableName=unique("table"),
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )["TableDescription"]
    return made["TableName"], made["LatestStreamArn"]


def put(engine: Any, table: str, *ids: str, **values: str) -> None:
    """Put one row for each id, in this order."""
    attributes = {name: {"S": value} for name, value in values.items()}
    for one in ids:
        engine.client("dynamodb").put_item(TableName=table, Item={"id": {"S": one}, **attributes})


def map_stream(engine: Any, function: str, stream: str, **settings: Any) -> str:
    """Map a stream to a function and return the mapping's id."""
    settings = {"StartingPosition": "TRIM_HORIZON", "BatchSize": 100, **settings}
    client = engine.client("lambda")
    made = client.create_event_source_mapping(FunctionName=function, EventSourceArn=stream, **settings)
    return str(made["UUID"])


def records_of(engine: Any, stream: str) -> list[dict[str, Any]]:
    """Read a stream from its oldest record to its newest."""
    client = engine.client("dynamodbstreams")
    (shard,) = client.describe_stream(StreamArn=stream)["StreamDescription"]["Shards"]
    place = {"StreamArn": stream, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
    iterator = client.get_shard_iterator(**place)["ShardIterator"]
    return list(client.get_records(ShardIterator=iterator)["Records"])


def printed(engine: Any, function: str, word: str) -> list[str]:
    """Return what a function has printed after ``word``, line by line."""
    client, group = engine.client("logs"), f"/aws/lambda/{function}"
    if not client.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
        return []
    return [line.removeprefix(f"{word} ") for line in log_lines(engine, group) if line.startswith(f"{word} ")]


def prints(engine: Any, function: str, word: str, is_enough: Callable[[list[str]], bool]) -> list[str]:
    """Wait until a function has printed enough and return it, or what there is after ten seconds."""
    eventually(lambda: is_enough(printed(engine, function, word)))
    return printed(engine, function, word)
