"""The engine's own DynamoDB in this process: the ledger's machines make ten thousands of calls.

Six sevenths of a call are the SDK and the way to the engine and back. Neither is the machines' concern, and what
they do with is tested over the line in `test_ledger`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from ministack.services import dynamodb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_dynamodb import DynamoDBClient


class EngineInProcess:
    """A client of DynamoDB, as far as core needs one.

    Parameters
    ----------
    client : DynamoDBClient
        Any one: it knows the service's exceptions.

    """

    def __init__(self, client: DynamoDBClient) -> None:
        self.exceptions = client.exceptions

    def __getattr__(self, name: str) -> Any:
        operation = "".join(map(str.capitalize, name.split("_")))
        return lambda **call: self._call(operation, call)

    def get_paginator(self, name: str) -> Any:
        """Return a paginator of an operation."""
        return _Paginator(self, name)

    def _call(self, operation: str, call: dict[str, Any]) -> Any:
        target = {"x-amz-target": f"DynamoDB_20120810.{operation}"}
        handling = dynamodb.handle_request("POST", "/", target, json.dumps(call).encode(), {})
        try:
            handling.send(None)
        except StopIteration as end:  # it waits for nothing
            status, _, body = end.value
        answer = json.loads(body)
        if "__type" not in answer:
            return answer
        code = answer["__type"].rpartition("#")[2]
        error = {"Error": {"Code": code, "Message": answer.get("message", "")}, **answer}
        kind = getattr(self.exceptions, code, ClientError)
        response: Any = {**error, "ResponseMetadata": {"HTTPStatusCode": status}}
        raise kind(response, operation)


class _Paginator:
    def __init__(self, engine: EngineInProcess, name: str) -> None:
        self._engine = engine
        self._name = name

    def paginate(self, **call: Any) -> Iterator[Any]:
        """Yield the answers, all of them in one."""
        yield getattr(self._engine, self._name)(**call)


def table_like(engine: EngineInProcess, client: DynamoDBClient, name: str) -> None:
    """Make a table of this process as one of the engine's is declared."""
    declared = client.describe_table(TableName=name)["Table"]
    indexes = [
        {part: index[part] for part in ("IndexName", "KeySchema", "Projection")}
        for index in declared.get("GlobalSecondaryIndexes", [])
    ]
    engine.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=declared["AttributeDefinitions"],
        KeySchema=declared["KeySchema"],
        **({"GlobalSecondaryIndexes": indexes} if indexes else {}),
    )
