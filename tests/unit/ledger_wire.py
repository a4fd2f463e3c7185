"""The line between the ledger and its table, which loses, delays and repeats what it carries."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import BatchStatementRequestTypeDef

    Statements = Sequence[BatchStatementRequestTypeDef]

_ENDPOINT = "https://dynamodb.us-east-1.amazonaws.com"


class Fault(Enum):
    """What happens to a call."""

    NONE = "done and answered"
    LOST = "done, its answer lost"
    RETRIED = "done, its answer lost, tried again by the SDK"
    UNSENT = "never arrived"
    BROKEN = "refused with a 500"
    THROTTLED = "its first statement throttled, the others done"
    LATE = "unanswered, on its way for a while"
    LATE_RETRIED = "tried again by the SDK, the first try on its way for a while"


class Wire:
    """DynamoDB's client, as far as the ledger knows; `fault` befalls its next write."""

    def __init__(self, dynamodb: DynamoDBClient) -> None:
        self._dynamodb = dynamodb
        self.fault = Fault.NONE
        self.done: list[bool] = []  # which writes of the last call took effect
        self.on_its_way: Statements | None = None  # the last call, if it is to be carried out later

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dynamodb, name)

    def batch_execute_statement(self, *, Statements: Statements) -> Any:  # noqa: N803 - boto3's name
        """Do so with the fault, if there is one."""
        fault, self.fault = self.fault, Fault.NONE
        self.done = [False] * len(Statements)
        self.on_its_way = Statements if fault in (Fault.LATE, Fault.LATE_RETRIED) else None
        match fault:
            case Fault.UNSENT | Fault.LATE:
                raise EndpointConnectionError(endpoint_url=_ENDPOINT)
            case Fault.BROKEN:
                raise _server_error("BatchExecuteStatement")
            case Fault.THROTTLED:
                later = {"Error": {"Code": "ThrottlingError", "Message": "later"}}
                return {"Responses": [later, *self._send_all(Statements, after=1)]}
        answer = {"Responses": self._send_all(Statements)}
        if fault is Fault.LOST:
            raise ReadTimeoutError(endpoint_url=_ENDPOINT)
        return {"Responses": self._send_all(Statements)} if fault is Fault.RETRIED else answer

    def arrive(self, statements: Statements) -> None:
        """Carry out a call that was on its way; nobody waits for its answer."""
        self.done = [False] * len(statements)
        self._send_all(statements)

    def update_item(self, **call: Any) -> Any:
        """Do so with the fault, if there is one."""
        fault, self.fault = self.fault, Fault.NONE
        self.done = [False]
        if fault is not Fault.NONE and fault is not Fault.LOST:
            raise _server_error("UpdateItem")
        answer = self._dynamodb.update_item(**call)
        self.done = [True]
        if fault is Fault.LOST:
            raise ReadTimeoutError(endpoint_url=_ENDPOINT)
        return answer

    def _send_all(self, statements: Statements, after: int = 0) -> list[Any]:
        if not statements[after:]:
            return []
        responses = self.send(statements[after:])
        for n, response in enumerate(responses, start=after):
            self.done[n] |= "Error" not in response
        return responses

    def send(self, statements: Statements) -> list[Any]:
        """Carry statements to the table."""
        return list(self._dynamodb.batch_execute_statement(Statements=statements)["Responses"])


def _server_error(operation: str) -> ClientError:
    return ClientError(
        {"Error": {"Code": "InternalServerError"}, "ResponseMetadata": {"HTTPStatusCode": 500}},  # type: ignore[typeddict-item]
        operation,
    )
