"""What PartiQL statements write appears in the table's stream, as what other calls write does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from stage.conformance.tables import create_table, put, records_of

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

OLD = {"id": {"S": "a"}, "status": {"S": "OPEN"}}
NEW = {"id": {"S": "a"}, "status": {"S": "DONE"}, "error": {"M": {"code": {"S": "x"}}}}
INSERT = "INSERT INTO \"{}\" VALUE {{'id': 'a', 'status': 'OPEN'}}"
UPDATE = (
    """UPDATE "{}" SET "status" = 'DONE' SET "error" = {{'code': 'x'}} WHERE "id" = 'a' AND "status" = 'OPEN'"""
)
DELETE = 'DELETE FROM "{}" WHERE "id" = \'a\''


def run(engine: Engine, table: str, *statements: str) -> None:
    batch = [{"Statement": statement.format(table)} for statement in statements]
    engine.client("dynamodb").batch_execute_statement(Statements=batch)


def run_at_once(engine: Engine, table: str, *statements: str) -> None:
    batch = [{"Statement": statement.format(table)} for statement in statements]
    engine.client("dynamodb").execute_transaction(TransactStatements=batch)


def changes(engine: Engine, stream: str) -> list[tuple[str, Any, Any]]:
    """The stream's records: what happened, the row before, the row after."""
    records = records_of(engine, stream)
    return [
        (one["eventName"], one["dynamodb"].get("OldImage"), one["dynamodb"].get("NewImage")) for one in records
    ]


def test_a_batch_writes_a_record_for_each_change_in_order(engine: Engine) -> None:
    # given
    table, stream = create_table(engine)

    # when a row is inserted, changed and deleted, in one batch
    run(engine, table, INSERT, UPDATE, DELETE)

    # then
    assert changes(engine, stream) == [("INSERT", None, OLD), ("MODIFY", OLD, NEW), ("REMOVE", NEW, None)]
    keys = [one["dynamodb"]["Keys"] for one in records_of(engine, stream)]
    assert keys == [{"id": {"S": "a"}}] * 3
    numbers = [int(one["dynamodb"]["SequenceNumber"]) for one in records_of(engine, stream)]
    assert numbers == sorted(set(numbers))


def test_a_single_statement_writes_a_record_too(engine: Engine) -> None:
    # given
    table, stream = create_table(engine)

    # when
    engine.client("dynamodb").execute_statement(Statement=INSERT.format(table))

    # then
    assert changes(engine, stream) == [("INSERT", None, OLD)]


def test_what_changes_nothing_writes_no_record(engine: Engine) -> None:
    # given a row
    table, stream = create_table(engine)
    run(engine, table, INSERT)

    # when it is inserted again, updated under a condition that does not hold and to what it is, and another
    # one is deleted that does not exist
    refused = UPDATE.replace("'OPEN'", "'SHUT'")
    same = 'UPDATE "{}" SET "status" = \'OPEN\' WHERE "id" = \'a\''
    run(engine, table, INSERT, refused, same, DELETE.replace("'a'", "'b'"))

    # then the stream has the first insert only
    assert changes(engine, stream) == [("INSERT", None, OLD)]


def test_a_transaction_writes_its_records_only_if_it_succeeds(engine: Engine) -> None:
    # given a row
    table, stream = create_table(engine)
    put(engine, table, "a", status="OPEN")

    # when one transaction is cancelled after its first statement and another succeeds
    with pytest.raises(ClientError, match="ConditionalCheckFailed"):
        run_at_once(engine, table, INSERT.replace("'a'", "'b'"), UPDATE.replace("'OPEN'", "'SHUT'"))
    run_at_once(engine, table, UPDATE)

    # then only that one is in the stream
    assert changes(engine, stream)[1:] == [("MODIFY", OLD, NEW)]
