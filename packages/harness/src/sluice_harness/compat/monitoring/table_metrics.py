"""AWS/DynamoDB: capacity that was consumed, calls that were throttled, refused or failed, and how long they took.

MiniStack publishes none of it and works out capacity only for callers that ask. DynamoDB publishes consumed
capacity for a table and each of its global indexes; latency, throttled and failed requests for each operation on a
table; failed conditions for the table; and refused requests for the whole account ("DynamoDB metrics and
dimensions"). Its rules: a write costs a unit per started KB of the larger image, and of each index entry that it
changes, and twice that in a transaction; a failed condition costs as well; a deletion by TTL does not; an
eventually consistent read costs half a unit per started 4 KB ("DynamoDB read and write operations").

Closed where the engine stores and removes items, and around its entry. A failed condition counts one unit,
whatever the size of the item; queries and scans count what they returned, not what their filters dropped.
"""

from __future__ import annotations

import time
from collections import defaultdict
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from ministack import app
from ministack.services import dynamodb

from sluice_harness.compat.monitoring import table_outcomes as outcomes
from sluice_harness.compat.monitoring.metric_store import Dimensions, dimensions, store
from sluice_harness.compat.patching import expect

if TYPE_CHECKING:
    from collections import Counter

NAMESPACE = "AWS/DynamoDB"
_OK, _SERVER_ERROR = 200, 500

Units = defaultdict[tuple[str, str | None], float]
"""Write units by table and index, the table's own without an index."""

_written: ContextVar[Units | None] = ContextVar("sluice_written_units", default=None)


def apply() -> None:
    """Measure every call, and every item that is written."""
    expect(dynamodb, "_index_write_units", "table", "idx", "old_item", "new_item")
    expect(dynamodb, "_billed_item_bytes", "table", "item")
    expect(dynamodb, "_capacity_kb", "nbytes")
    expect(dynamodb, "_item_size_bytes", "item")
    expect(dynamodb, "_normalize_table_name", "value")
    put = expect(dynamodb, "_set_item", "table", "pk_val", "sk_val", "item")
    remove = expect(dynamodb, "_remove_item", "table", "pk_val", "sk_val")

    def put_item(table: dict[str, Any], pk_val: Any, sk_val: Any, item: dict[str, Any]) -> Any:
        old = put(table, pk_val, sk_val, item)
        _count_written(table, old, item)
        return old

    def remove_item(table: dict[str, Any], pk_val: Any, sk_val: Any) -> Any:
        old = remove(table, pk_val, sk_val)
        _count_written(table, old, None)
        return old

    dynamodb._set_item = put_item
    dynamodb._remove_item = remove_item
    app.SERVICE_HANDLERS["dynamodb"] = _measured(app.SERVICE_HANDLERS["dynamodb"])


def _count_written(table: dict[str, Any], old: Any, new: Any) -> None:
    units = _written.get()
    if units is None:  # by TTL, which costs nothing
        return
    name = table["TableName"]
    sizes = [dynamodb._billed_item_bytes(table, image) for image in (old, new) if image]
    units[name, None] += dynamodb._capacity_kb(max(sizes, default=0))
    for index in table.get("GlobalSecondaryIndexes") or ():
        units[name, index["IndexName"]] += dynamodb._index_write_units(table, index, old, new)


def _measured(original: Any) -> Any:
    async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: Any) -> Any:
        operation = headers.get("x-amz-target", "").rpartition(".")[2]
        if operation not in outcomes.READS | outcomes.WRITES | outcomes.STATEMENTS:
            return await original(method, path, headers, body, query)
        started = time.perf_counter()
        units: Units = defaultdict(float)
        token = _written.set(units)
        try:
            answer = await original(method, path, headers, body, query)
        finally:
            _written.reset(token)
        elapsed = (time.perf_counter() - started) * 1000
        _record(operation, outcomes.document(body), answer, elapsed, units)
        return answer

    return handle


def _record(operation: str, request: Any, answer: Any, elapsed: float, written: Units) -> None:
    status, _, body = answer
    items = outcomes.items_by_table(operation, request)
    tables = {table for table, _ in items if table in dynamodb._tables}
    refused = list(outcomes.errors_within(operation, body))
    if status == _OK:
        for table in tables:
            _put("SuccessfulRequestLatency", round(elapsed, 2), _of(table, operation), "Milliseconds")
        _consumed(
            "Read", [(one, index, units) for one, index, units in outcomes.read_units(operation, request, body)]
        )
    elif status >= _SERVER_ERROR:
        for table in tables:
            _put("SystemErrors", 1, _of(table, operation))
    else:
        _refused(outcomes.error_code(body), operation, items, tables, refused)
    for table, code in refused:
        _item_refused(table or next(iter(tables), ""), code, operation, items)
    _consumed("Write", _write_units(operation, items, refused, status, written))


def _refused(
    code: str, operation: str, items: Counter[tuple[str, bool]], tables: set[str], refused: list[tuple[str, str]]
) -> None:
    if code in outcomes.THROTTLES:
        for table in tables:
            _put("ThrottledRequests", 1, _of(table, operation))
        for (table, is_write), number in items.items():
            if table in tables:
                _put(
                    "WriteThrottleEvents" if is_write else "ReadThrottleEvents",
                    number,
                    dimensions(TableName=table),
                )
    elif code in outcomes.CONDITIONS:
        for table in tables:
            _put("ConditionalCheckFailedRequests", 1, dimensions(TableName=table))
        _consumed("Write", [(table, None, 1) for table in tables])
    elif not refused:  # a cancelled transaction counts by its items
        _put("UserErrors", 1, ())


def _item_refused(table: str, code: str, operation: str, items: Counter[tuple[str, bool]]) -> None:
    if code in outcomes.CONDITIONS:
        _put("ConditionalCheckFailedRequests", 1, dimensions(TableName=table))
    elif code in outcomes.THROTTLES:
        kind = "WriteThrottleEvents" if items[table, True] else "ReadThrottleEvents"
        _put(kind, 1, dimensions(TableName=table))
        _put("ThrottledRequests", 1, _of(table, operation))


def _write_units(
    operation: str, items: Counter[tuple[str, bool]], refused: list[tuple[str, str]], status: int, written: Units
) -> list[tuple[str, str | None, float]]:
    """Return what was written and what was tried in vain: a failed condition, and nothing there to delete."""
    factor = 2 if operation in outcomes.TRANSACTIONS else 1
    found = [(table, index, factor * units) for (table, index), units in written.items() if units]
    found += [(table, None, 1) for table, code in refused if code in outcomes.CONDITIONS and table]
    if status == _OK and not written and not refused:
        found += [(table, None, number) for (table, is_write), number in items.items() if is_write]
    return found


def _consumed(kind: str, units: list[tuple[str, str | None, float]]) -> None:
    for table, index, number in units:
        where = (
            dimensions(TableName=table, GlobalSecondaryIndexName=index) if index else dimensions(TableName=table)
        )
        _put(f"Consumed{kind}CapacityUnits", number, where)


def _of(table: str, operation: str) -> Dimensions:
    return dimensions(TableName=table, Operation=operation)


def _put(name: str, value: float, where: Dimensions, unit: str = "Count") -> None:
    store.record(NAMESPACE, name, where, value, unit)
