"""What a DynamoDB call says about itself: its tables, its outcome, and what it read.

One place knows how each operation names its tables and its errors, for the metrics of tables need both of every
one of them ("Amazon DynamoDB API reference": each operation, "CommonErrors", and "BatchStatementError").
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from ministack.services import dynamodb

from sluice_harness.compat.access.batch_authorization import STATEMENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    Document = dict[str, Any]

READS = {"GetItem", "BatchGetItem", "Query", "Scan", "TransactGetItems"}
WRITES = {"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"}
STATEMENTS = {"ExecuteStatement", "BatchExecuteStatement", "ExecuteTransaction"}
TRANSACTIONS = {"TransactGetItems", "TransactWriteItems", "ExecuteTransaction"}
THROTTLES = {"ProvisionedThroughputExceeded", "ThrottlingError", "Throttling", "RequestLimitExceeded"}
CONDITIONS = {"ConditionalCheckFailed", "DuplicateItem"}
_READ_UNIT_BYTES = 4096


def items_by_table(operation: str, request: Document) -> Counter[tuple[str, bool]]:
    """Return how many items of each table a call names, apart for reads (False) and writes (True)."""
    return Counter(_items(operation, request))


def _items(operation: str, request: Document) -> Iterator[tuple[str, bool]]:
    if operation in STATEMENTS:
        statements = request.get("Statements") or request.get("TransactStatements") or [request]
        for one in statements:
            found = STATEMENT.match(str(one.get("Statement", "")))
            if found:
                yield found["table"], not found["verb"].upper().startswith("SELECT")
    elif operation in {"BatchWriteItem", "BatchGetItem"}:
        for table, items in (request.get("RequestItems") or {}).items():
            number = len(items if isinstance(items, list) else items.get("Keys", ()))
            yield from [(dynamodb._normalize_table_name(table), operation in WRITES)] * number
    elif operation in TRANSACTIONS:
        for item in request.get("TransactItems") or ():
            for action in item.values():
                yield dynamodb._normalize_table_name(action.get("TableName")), operation in WRITES
    else:
        yield dynamodb._normalize_table_name(request.get("TableName")), operation in WRITES


def error_code(body: bytes) -> str:
    """Return the code of a call that failed, without its namespace and the word Exception."""
    return short(str(document(body).get("__type", "")))


def short(code: str) -> str:
    """Return an error's code as a batch reports it."""
    return code.rpartition("#")[2].removesuffix("Exception")


def errors_within(operation: str, answer: bytes) -> Iterator[tuple[str, str]]:
    """Yield the table and the code of each item that failed, in a batch that did not or a transaction that did."""
    if operation == "BatchExecuteStatement" and b'"Error"' in answer:
        for one in document(answer).get("Responses", ()):
            if "Error" in one:
                yield one.get("TableName", ""), short(one["Error"]["Code"])
    elif operation in TRANSACTIONS and b"CancellationReasons" in answer:
        for reason in document(answer).get("CancellationReasons", ()):
            if reason.get("Code", "None") != "None":
                yield "", short(reason["Code"])


def read_units(operation: str, request: Document, answer: bytes) -> Iterator[tuple[str, str | None, float]]:
    """Yield the table, the global index if it was read, and the read units of each thing that was read."""
    found = document(answer)
    if operation == "BatchGetItem":
        for name, wanted in (request.get("RequestItems") or {}).items():
            table = dynamodb._normalize_table_name(name)
            items = (found.get("Responses") or {}).get(name, ())
            missing = len(wanted.get("Keys", ())) - len(items)
            for size in [*map(dynamodb._item_size_bytes, items), *[0] * missing]:
                yield table, None, _units(size, strongly=bool(wanted.get("ConsistentRead")))
    elif operation == "TransactGetItems":
        for wanted, got in zip(request["TransactItems"], found.get("Responses", ()), strict=False):
            table = dynamodb._normalize_table_name(wanted["Get"]["TableName"])
            yield table, None, _units(dynamodb._item_size_bytes(got.get("Item") or {}), strongly=True)
    elif operation in READS:
        items = [found["Item"]] if found.get("Item") else found.get("Items", ())
        size = sum(map(dynamodb._item_size_bytes, items))
        table = dynamodb._normalize_table_name(request["TableName"])
        yield table, _global_index(table, request), _units(size, strongly=bool(request.get("ConsistentRead")))
    elif operation in STATEMENTS:
        for (table, is_write), number in items_by_table(operation, request).items():
            if not is_write:
                yield table, None, number * _units(0, strongly=False)


def _units(size: int, *, strongly: bool) -> float:
    return max(1, math.ceil(size / _READ_UNIT_BYTES)) * (1.0 if strongly else 0.5)


def _global_index(table: str, request: Document) -> str | None:
    name = request.get("IndexName")
    indexes = (dynamodb._tables.get(table) or {}).get("GlobalSecondaryIndexes") or ()
    return name if any(index["IndexName"] == name for index in indexes) else None


def document(text: bytes | str) -> Document:
    """Return a JSON object, empty if it is none."""
    try:
        found = json.loads(text or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
