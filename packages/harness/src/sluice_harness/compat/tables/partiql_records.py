"""PartiQL writes appear in a table's stream.

MiniStack writes stream records for PutItem, UpdateItem, DeleteItem, batches and transactions of these, and none
for a PartiQL statement, so that whoever follows the stream never hears of a row written by one.

DynamoDB Streams captures every modification of a table, in order, whatever call made it; one that changes no
data writes no record, and a transaction that is cancelled changes nothing (Amazon DynamoDB Developer Guide,
"Change data capture for DynamoDB Streams").

Closed by looking at the row before and after each statement. Rows are replaced, never changed in place, so the
images need no copies.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from ministack.services import dynamodb

from sluice_harness.compat.patching import expect

if TYPE_CHECKING:
    from collections.abc import Callable

Row = dict[str, Any] | None
Change = tuple[dict[str, Any], Row, Row]

# The changes of the transaction that is being executed; they count once all of it has succeeded.
_pending: ContextVar[list[Change] | None] = ContextVar("sluice_partiql_changes", default=None)


def apply() -> None:
    """Record what PartiQL statements change."""
    expect(dynamodb, "_emit_stream_event", "table_name", "event_name", "old_item", "new_item", "replicate")
    expect(dynamodb, "_partiql_key_target", "table", "parsed")
    expect(dynamodb, "_extract_key_val", "attr")
    for name, parameters in {
        "_partiql_insert": ("table", "parsed"),
        "_partiql_update": ("table", "parsed", "data"),
        "_partiql_delete": ("table", "parsed", "data"),
    }.items():
        setattr(dynamodb, name, _recording(expect(dynamodb, name, *parameters)))
    dynamodb._execute_transaction = _at_once(expect(dynamodb, "_execute_transaction", "data"))


def _recording(execute: Callable[..., Any]) -> Callable[..., Any]:
    def execute_and_record(table: dict[str, Any], parsed: dict[str, Any], *rest: Any) -> Any:
        key = _key(table, parsed)
        before = _row(table, key)
        answer = execute(table, parsed, *rest)
        after = _row(table, key)
        if after is not before:
            _record((table, before, after))
        return answer

    return execute_and_record


def _at_once(execute: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def execute_transaction(data: Any) -> Any:
        changes: list[Change] = []
        token = _pending.set(changes)
        try:
            answer = execute(data)
        finally:
            _pending.reset(token)
        if answer[0] == 200:  # noqa: PLR2004 - HTTP's own number
            for change in changes:
                _record(change)
        return answer

    return execute_transaction


def _key(table: dict[str, Any], parsed: dict[str, Any]) -> tuple[Any, Any]:
    if parsed["op"] != "INSERT":
        partition, sort, _, _ = dynamodb._partiql_key_target(table, parsed)
        return partition, sort
    item = parsed.get("item") or {}
    item = item["M"] if set(item) == {"M"} else item
    sort = dynamodb._extract_key_val(item.get(table["sk_name"])) if table["sk_name"] else "__no_sort__"
    return dynamodb._extract_key_val(item.get(table["pk_name"])), sort


def _row(table: dict[str, Any], key: tuple[Any, Any]) -> Row:
    partition, sort = key
    row: Row = table["items"].get(partition, {}).get(sort)
    return row


def _record(change: Change) -> None:
    changes = _pending.get()
    if changes is not None:
        changes.append(change)
        return
    table, before, after = change
    event = "INSERT" if before is None else "REMOVE" if after is None else "MODIFY"
    dynamodb._emit_stream_event(table["TableName"], event, before, after)
