"""A statement that comes again, with other parameters, does what it says with these and not with those before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from stage.conformance.tables import create_table

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

INSERT = 'INSERT INTO "{}" VALUE ?'
CLAIM = (
    'UPDATE "{}" SET "status" = \'RUNNING\' SET "by" = ? SET "tries" = "tries" + 1 SET "what" = ? '
    'WHERE "id" = ? AND "status" IN [\'OPEN\', \'RUNNING\'] AND "due" < ?'
)


def number(value: int) -> dict[str, str]:
    return {"N": str(value)}


def run(engine: Engine, table: str, statement: str, *parameters: list[Any]) -> list[dict[str, Any]]:
    batch = [{"Statement": statement.format(table), "Parameters": each} for each in parameters]
    answer = engine.client("dynamodb").batch_execute_statement(Statements=batch)
    return list(answer["Responses"])


def rows(engine: Engine, table: str) -> dict[str, Any]:
    return {item["id"]["S"]: item for item in engine.client("dynamodb").scan(TableName=table)["Items"]}


def test_each_statement_of_a_batch_takes_its_own_parameters(engine: Engine) -> None:
    # given three rows written by one text
    table, _ = create_table(engine)
    made = [
        {"id": {"S": name}, "status": {"S": "OPEN"}, "tries": number(n), "due": number(n)}
        for n, name in enumerate("abc")
    ]
    run(engine, table, INSERT, *([item] for item in ({"M": each} for each in made)))

    # when two are changed by another, and the third's condition does not hold
    answers = run(
        engine,
        table,
        CLAIM,
        [{"S": "x"}, {"M": {"n": number(1)}}, {"S": "a"}, number(2)],
        [{"S": "y"}, {"M": {"n": number(2)}}, {"S": "b"}, number(2)],
        [{"S": "z"}, {"M": {"n": number(3)}}, {"S": "c"}, number(2)],
    )

    # then
    assert [one.get("Error", {}).get("Code") for one in answers] == [None, None, "ConditionalCheckFailed"]
    found = rows(engine, table)
    assert (found["a"]["by"], found["a"]["what"], found["a"]["tries"]) == (
        {"S": "x"},
        {"M": {"n": number(1)}},
        number(1),
    )
    assert (found["b"]["by"], found["b"]["what"], found["b"]["tries"]) == (
        {"S": "y"},
        {"M": {"n": number(2)}},
        number(2),
    )
    assert found["c"] == made[2]


def test_rows_written_by_one_text_share_nothing(engine: Engine) -> None:
    # given two rows whose list came from one statement's own text
    table, _ = create_table(engine)
    insert = "INSERT INTO \"{}\" VALUE {{'id': ?, 'seen': [1, 2]}}"
    run(engine, table, insert, [{"S": "a"}], [{"S": "b"}])

    # when one list is changed
    engine.client("dynamodb").update_item(
        TableName=table,
        Key={"id": {"S": "a"}},
        UpdateExpression="SET seen = list_append(seen, :more)",
        ExpressionAttributeValues={":more": {"L": [number(3)]}},
    )

    # then the other is as it was
    found = rows(engine, table)
    assert found["a"]["seen"]["L"] == [number(1), number(2), number(3)]
    assert found["b"]["seen"]["L"] == [number(1), number(2)]


def test_a_parameter_of_another_type_is_not_taken_for_the_one_before(engine: Engine) -> None:
    # given a statement that has set a string
    table, _ = create_table(engine)
    change = 'UPDATE "{}" SET "value" = ? WHERE "id" = ?'
    run(engine, table, INSERT, [{"M": {"id": {"S": "a"}}}])
    run(engine, table, change, [{"S": "text"}, {"S": "a"}])

    # when it sets a number, a map and a list
    for value in (number(7), {"M": {"deep": {"S": "er"}}}, {"L": [number(1)]}):
        run(engine, table, change, [value, {"S": "a"}])

        # then
        assert rows(engine, table)["a"]["value"] == value


def test_a_select_gives_the_same_however_often_it_comes(engine: Engine) -> None:
    # given a statement that names nested attributes, which the engine rewrites when it reads it
    table, _ = create_table(engine)
    run(engine, table, INSERT, [{"M": {"id": {"S": "a"}, "what": {"M": {"n": number(1)}}}}])
    select = {"Statement": f'SELECT what.n FROM "{table}" WHERE "id" = ?', "Parameters": [{"S": "a"}]}

    # when it comes three times, alone and in a batch
    dynamodb = engine.client("dynamodb")
    alone = [dynamodb.execute_statement(**select)["Items"] for _ in range(3)]
    batched = dynamodb.batch_execute_statement(Statements=[select])["Responses"]

    # then
    assert alone == [[{"n": number(1)}]] * 3
    assert batched[0]["Item"] == {"n": number(1)}


def test_too_few_parameters_are_refused_the_second_time_as_the_first(engine: Engine) -> None:
    # given a statement that has been run
    table, _ = create_table(engine)
    run(engine, table, INSERT, [{"M": {"id": {"S": "a"}}}])
    change = f'UPDATE "{table}" SET "value" = ? WHERE "id" = ?'
    dynamodb = engine.client("dynamodb")
    dynamodb.execute_statement(Statement=change, Parameters=[{"S": "x"}, {"S": "a"}])

    # when it comes with one parameter, then
    with pytest.raises(ClientError, match="Number of parameters"):
        dynamodb.execute_statement(Statement=change, Parameters=[{"S": "x"}])
