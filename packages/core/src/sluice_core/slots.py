"""Slots: how many executions of an external executor run at once, as one set of start tokens an executor.

A start takes its slot before its message is received, and the slot is free again when the service says that the
execution is over. A set, and not a count: taking and freeing may be repeated and change nothing. (The pattern is
AWS's: "Controlling concurrency in distributed systems using AWS Step Functions", AWS Compute Blog.)
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mypy_boto3_dynamodb import DynamoDBClient

# Start tokens begin with the time, so that one that nobody knows can be told to be old.
_TIME_DIGITS = 11


class Slots:
    """The table of slots: one item for each executor.

    Methods raise botocore's errors: whoever gets none tries again.
    """

    def __init__(self, dynamodb: DynamoDBClient, table: str) -> None:
        self._dynamodb = dynamodb
        self._table = table

    def take(self, executor: str, cap: int, wanted: int, now_ms: int) -> list[str]:
        """Take as many slots as are wanted, or as there are, and return the tokens of the starts to be made."""
        tokens = [new_token(now_ms) for _ in range(min(wanted, cap))]
        while tokens:
            held = self._add(executor, tokens, cap)
            if held is None or held.issuperset(tokens):  # the latter: the first answer was lost
                return tokens
            tokens = tokens[: max(0, min(len(tokens) - 1, cap - len(held)))]
        return []

    def free(self, executor: str, tokens: Iterable[str]) -> None:
        """Give slots back; those that are not held are as free as before."""
        gone = sorted(set(tokens))
        if gone:
            self._update(executor, "DELETE held :tokens", {":tokens": {"SS": gone}})

    def held(self, executor: str) -> set[str]:
        """Return the tokens of the starts that hold a slot."""
        answer = self._dynamodb.get_item(
            TableName=self._table, Key={"executor": {"S": executor}}, ConsistentRead=True
        )
        return _held(answer.get("Item", {}))

    def _add(self, executor: str, tokens: list[str], cap: int) -> set[str] | None:
        """Add to the set if it then fits; else return who holds the slots."""
        values = {":tokens": {"SS": tokens}, ":most": {"N": str(cap - len(tokens))}}
        try:
            self._update(
                executor,
                "ADD held :tokens",
                values,
                ConditionExpression="attribute_not_exists(held) OR size(held) <= :most",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            return _held(cast("dict[str, Any]", error.response).get("Item", {}))
        return None

    def _update(self, executor: str, expression: str, values: Mapping[str, Any], **options: Any) -> None:
        self._dynamodb.update_item(
            TableName=self._table,
            Key={"executor": {"S": executor}},
            UpdateExpression=expression,
            ExpressionAttributeValues=values,
            **options,
        )


def new_token(now_ms: int) -> str:
    """Return a token for a start that begins now: 21 hex digits, in the order of time."""
    return f"{now_ms:0{_TIME_DIGITS}x}{secrets.token_hex(5)}"


def token_time(token: str) -> int:
    """Return when a token was made, in epoch milliseconds."""
    return int(token[:_TIME_DIGITS], 16)


def _held(item: Mapping[str, Any]) -> set[str]:
    return set(item.get("held", {}).get("SS", []))
