"""Faults on demand: calls that are refused or slow, and functions that take longer, as a drill asks for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from botocore.exceptions import ClientError
from stage.conformance.functions import create_function, create_queue, invoke, unique
from stage.conformance.metrics import statistic, total
from stage.conformance.tables import create_table, put

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stage.conformance.conftest import Engine

pytestmark = pytest.mark.xdist_group("fast_engine")

THROTTLED = {"status": 400, "code": "ProvisionedThroughputExceededException"}
BROKEN = {"status": 500, "code": "InternalServerError"}


def url(engine: Engine) -> str:
    return f"{engine.url}/_sluice/faults"


@pytest.fixture
def faulty(fast_engine: Engine) -> Iterator[Engine]:
    """The engine, without faults before and after."""
    assert httpx.put(url(fast_engine), json=[]).json() == []
    yield fast_engine
    httpx.put(url(fast_engine), json=[])


def set_faults(engine: Engine, *rules: dict[str, Any]) -> None:
    assert httpx.put(url(engine), json=list(rules)).json() == list(rules)


def code_of(call: Any, **parameters: Any) -> str | None:
    """Return the error's code that a call is answered with, or None."""
    try:
        call(**parameters)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return None


def test_a_throttled_table_refuses_and_counts(faulty: Engine) -> None:
    # given a table whose batches of statements are throttled
    table, _ = create_table(faulty)
    set_faults(faulty, {"service": "dynamodb", "actions": ["BatchExecuteStatement"], "error": THROTTLED})
    insert = {"Statement": f"INSERT INTO \"{table}\" VALUE {{'id': ?}}"}
    statements = [{**insert, "Parameters": [{"S": one}]} for one in "abc"]

    # when one is tried
    client = faulty.client("dynamodb")
    assert code_of(client.batch_execute_statement, Statements=statements) == THROTTLED["code"]

    # then each of its items met a throttle, the request met one, and other calls go on
    assert total(faulty, "AWS/DynamoDB", "WriteThrottleEvents", TableName=table) == 3
    where = {"TableName": table, "Operation": "BatchExecuteStatement"}
    assert total(faulty, "AWS/DynamoDB", "ThrottledRequests", **where) == 1
    assert total(faulty, "AWS/DynamoDB", "ConsumedWriteCapacityUnits", TableName=table) is None
    put(faulty, table, "a")
    assert total(faulty, "AWS/DynamoDB", "ConsumedWriteCapacityUnits", TableName=table) == 1


def test_a_call_whose_answer_is_lost_is_carried_out(faulty: Engine) -> None:
    # given a table whose every second write is done and not answered
    table, _ = create_table(faulty)
    set_faults(
        faulty, {"service": "dynamodb", "actions": ["PutItem"], "error": BROKEN, "done": True, "share": 0.5}
    )

    # when two are made, then the second fails, and both are there
    codes = [code_of(faulty.client("dynamodb").put_item, TableName=table, Item={"id": {"S": one}}) for one in "ab"]
    assert codes == [None, "InternalServerError"]
    assert faulty.client("dynamodb").scan(TableName=table)["Count"] == 2


def test_a_failing_service_counts_system_errors(faulty: Engine) -> None:
    table, _ = create_table(faulty)
    set_faults(faulty, {"service": "dynamodb", "actions": None, "error": BROKEN})

    key = {"id": {"S": "a"}}
    assert code_of(faulty.client("dynamodb").get_item, TableName=table, Key=key) == "InternalServerError"

    where = {"TableName": table, "Operation": "GetItem"}
    assert total(faulty, "AWS/DynamoDB", "SystemErrors", **where) == 1


def test_a_share_is_exact(faulty: Engine) -> None:
    # given a queue of whose sends every fourth fails
    queue, _ = create_queue(faulty)
    set_faults(faulty, {"service": "sqs", "actions": ["SendMessage"], "error": BROKEN, "share": 0.25})

    # when eight are sent
    client = faulty.client("sqs")
    codes = [code_of(client.send_message, QueueUrl=queue, MessageBody="m") for _ in range(8)]

    # then the fourth and the eighth fail
    assert codes == [None, None, None, "InternalServerError"] * 2


def test_other_services_have_their_own_errors(faulty: Engine) -> None:
    # given S3 and EventBridge that refuse one action each
    slow_down = {"status": 503, "code": "SlowDown"}
    set_faults(
        faulty,
        {"service": "s3", "actions": ["PutObject"], "error": slow_down},
        {"service": "events", "actions": ["PutEvents"], "error": BROKEN},
    )
    s3, bucket = faulty.client("s3"), unique("bucket")
    s3.create_bucket(Bucket=bucket)

    # then that action fails and others do not
    assert code_of(s3.put_object, Bucket=bucket, Key="k", Body=b"") == "SlowDown"
    assert code_of(s3.list_objects_v2, Bucket=bucket) is None
    entry = {"Source": "test", "DetailType": "t", "Detail": "{}"}
    assert code_of(faulty.client("events").put_events, Entries=[entry]) == "InternalServerError"
    assert code_of(faulty.client("events").list_rules) is None


def test_a_slow_call_is_slow_and_succeeds(faulty: Engine) -> None:
    table, _ = create_table(faulty)
    set_faults(faulty, {"service": "dynamodb", "actions": ["PutItem"], "delay_s": 0.3})

    put(faulty, table, "a")

    where = {"TableName": table, "Operation": "PutItem"}
    assert (statistic(faulty, "AWS/DynamoDB", "SuccessfulRequestLatency", "Maximum", **where) or 0) >= 300


def test_a_held_up_function_takes_longer_within_its_timeout(faulty: Engine) -> None:
    # given a function of at most one second that is held up
    function = create_function(
        faulty, "def handler(event, context): return context.get_remaining_time_in_millis()"
    )
    in_time = create_function(faulty, "def handler(event, context): return 'in time'", Timeout=1)
    invoke(faulty, function)
    set_faults(faulty, {"function": function, "delay_s": 0.4}, {"function": in_time, "delay_s": 4})

    # then its duration and what time it has left tell
    left = invoke(faulty, function)
    assert (statistic(faulty, "AWS/Lambda", "Duration", "Maximum", FunctionName=function) or 0) >= 400
    assert 4000 < left <= 4600
    # and it ends by its timeout, however long it is held up
    started = time.monotonic()
    assert "timed out" in invoke(faulty, in_time)["errorMessage"]
    assert time.monotonic() - started < 3
    assert total(faulty, "AWS/Lambda", "Errors", FunctionName=in_time) == 1


def test_unsigned_requests_are_left_alone(faulty: Engine) -> None:
    # given a bucket that everybody may read, in a service that fails
    s3, bucket = faulty.client("s3"), unique("bucket")
    s3.create_bucket(Bucket=bucket)
    set_faults(faulty, {"service": "s3", "actions": None, "error": BROKEN})

    # when somebody without a signature asks
    answer = httpx.get(f"{faulty.url}/{bucket}/none")

    # then the answer is the service's own
    assert answer.status_code in (403, 404)


@pytest.mark.parametrize(
    "rules",
    [
        {},
        [{}],
        [{"service": "sqs", "function": "f"}],
        [{"service": "sqs", "delay": 1}],
        [{"service": "sqs", "share": 2}],
        [{"service": "sqs", "delay_s": -1}],
        [{"service": "sqs", "error": {"status": 400}}],
    ],
)
def test_rules_that_make_no_sense_are_refused(faulty: Engine, rules: Any) -> None:
    set_faults(faulty, {"service": "sqs", "delay_s": 0.0})

    answer = httpx.put(url(faulty), json=rules)

    assert answer.status_code == 400
    assert answer.json()["message"]
    assert httpx.get(url(faulty)).json() == [{"service": "sqs", "delay_s": 0.0}]  # the former ones stay


def test_an_engine_without_the_option_has_no_such_path(engine: Engine) -> None:
    assert httpx.put(url(engine), json=[{"service": "sqs"}]).status_code >= 400
    assert httpx.get(url(engine)).text != "[]"
