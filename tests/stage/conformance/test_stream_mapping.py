"""DynamoDB stream event source mappings: order, filters, reports and retries, and nobody waits for them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from stage.conformance.functions import create_function, create_queue, depth, eventually
from stage.conformance.tables import create_table, map_stream, printed, prints, put, records_of

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

# Prints the ids of each batch, and then does what the row's `does` says; `seen` counts the batches.
FUNCTION = """
import time
seen = 0
def handler(event, context):
    global seen
    seen += 1
    records = [record["dynamodb"] for record in event["Records"]]
    print("batch", *(record["Keys"]["id"]["S"] for record in records))
    print("late", time.time() - float(records[-1]["NewImage"].get("sent", {}).get("S", 0)))
    numbers = {record["Keys"]["id"]["S"]: record["SequenceNumber"] for record in records}
    return react(numbers)
"""
RAISE_TWICE = "\ndef react(numbers):\n    if seen < 3: raise ValueError('on purpose')\n"
RAISE_ON_BAD = "\ndef react(numbers):\n    if 'bad' in numbers: raise ValueError('on purpose')\n"
SUCCEED = "\ndef react(numbers): pass\n"
REPORTING = {"FunctionResponseTypes": ["ReportBatchItemFailures"]}


def reporting(failures: str, first: int = 1) -> str:
    """A function that reports failures in its first batches."""
    return f"{FUNCTION}\ndef react(numbers):\n    if seen <= {first}: return {{'batchItemFailures': {failures}}}\n"


def filtered(pattern: dict[str, Any]) -> dict[str, Any]:
    return {"FilterCriteria": {"Filters": [{"Pattern": json.dumps({"dynamodb": pattern})}]}}


def batches(engine: Engine, function: str, until: str) -> list[str]:
    """Every batch of a function once it has seen this id last."""
    return prints(engine, function, "batch", lambda lines: any(line.split()[-1] == until for line in lines))


def test_records_come_once_in_order_and_in_batches(engine: Engine) -> None:
    # given more records than a batch holds
    table, stream = create_table(engine)
    ids = [str(n) for n in range(23)]
    put(engine, table, *ids)

    # when
    function = create_function(engine, FUNCTION + SUCCEED)
    map_stream(engine, function, stream, BatchSize=10)

    # then
    seen = batches(engine, function, until="22")
    assert [line.split() for line in seen] == [ids[:10], ids[10:20], ids[20:]]


def test_a_filter_looks_into_the_new_image(engine: Engine) -> None:
    # given rows of which few match
    table, stream = create_table(engine)
    put(engine, table, *"abc", status="SUBMITTED")
    put(engine, table, "d", status="COMPLETED")
    put(engine, table, *"efg", status="RUNNING")
    put(engine, table, "h", status="FAILED")

    # when they are filtered, two a batch
    function = create_function(engine, FUNCTION + SUCCEED)
    pattern = {"NewImage": {"status": {"S": ["COMPLETED", "FAILED", "CANCELLED"]}}}
    map_stream(engine, function, stream, BatchSize=2, **filtered(pattern))

    # then the function sees the others only, in a batch
    assert batches(engine, function, until="h") == ["d h"]


def test_a_mapping_from_latest_sees_what_comes_after_it(engine: Engine) -> None:
    # given a row that is older than the mapping
    table, stream = create_table(engine)
    put(engine, table, "old")
    function = create_function(engine, FUNCTION + SUCCEED)
    map_stream(engine, function, stream, StartingPosition="LATEST")

    # when
    put(engine, table, "new")

    # then
    assert batches(engine, function, until="new") == ["new"]


def test_a_failed_batch_comes_again_before_the_next(engine: Engine) -> None:
    # given
    table, stream = create_table(engine)
    put(engine, table, *"abcd")

    # when the function fails twice
    function = create_function(engine, FUNCTION + RAISE_TWICE)
    map_stream(engine, function, stream, BatchSize=2)

    # then nothing is lost or passed over
    assert batches(engine, function, until="d") == ["a b", "a b", "a b", "c d"]


def test_a_report_is_retried_from_its_lowest_sequence_number(engine: Engine) -> None:
    # given
    table, stream = create_table(engine)
    put(engine, table, *"abcd")

    # when two records are reported, in no order
    failures = "[{'itemIdentifier': numbers[one]} for one in 'db']"
    function = create_function(engine, reporting(failures))
    map_stream(engine, function, stream, **REPORTING)

    # then all from the lower one on come again, and no others
    assert prints(engine, function, "batch", lambda lines: len(lines) == 2) == ["a b c d", "b c d"]


@pytest.mark.parametrize(
    "failures",
    ["[{'itemIdentifier': ''}]", "[{'itemIdentifier': None}]", "[{'id': 'a'}]"],
    ids=["", "null", "key"],
)
def test_a_report_that_is_not_valid_fails_the_whole_batch(engine: Engine, failures: str) -> None:
    # given
    table, stream = create_table(engine)
    put(engine, table, *"ab")

    # when
    function = create_function(engine, reporting(failures))
    map_stream(engine, function, stream, **REPORTING)

    # then
    assert prints(engine, function, "batch", lambda lines: len(lines) == 2) == ["a b", "a b"]


def test_a_report_means_nothing_unless_the_mapping_asks_for_it(engine: Engine) -> None:
    # given
    table, stream = create_table(engine)
    put(engine, table, *"ab")

    # when
    function = create_function(engine, reporting("[{'itemIdentifier': numbers['a']}]", first=9))
    map_stream(engine, function, stream)
    put(engine, table, "c")

    # then
    assert "".join(batches(engine, function, until="c")).replace(" ", "") == "abc"


def test_a_failed_batch_is_split_until_the_bad_record_is_alone(engine: Engine) -> None:
    # given a batch with one bad record
    table, stream = create_table(engine)
    put(engine, table, "a", "b", "bad", "c")
    queue, queue_arn = create_queue(engine)

    # when the mapping splits it and gives up at the first retry
    function = create_function(engine, FUNCTION + RAISE_ON_BAD)
    destination = {"OnFailure": {"Destination": queue_arn}}
    settings = {"BisectBatchOnFunctionError": True, "MaximumRetryAttempts": 1, "DestinationConfig": destination}
    map_stream(engine, function, stream, **settings)

    # then the others are done once each, and the bad one ends in the destination
    seen = prints(engine, function, "batch", lambda lines: lines[-1:] == ["c"])
    assert seen == ["a b bad c", "a b", "bad c", "bad", "bad", "c"]
    (message,) = engine.client("sqs").receive_message(QueueUrl=queue)["Messages"]
    report = json.loads(message["Body"])
    assert report["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert report["DDBStreamBatchInfo"]["batchSize"] == 1


def test_a_record_is_invoked_promptly_after_an_idle_time(engine: Engine) -> None:
    # given a mapping that has been idle
    table, stream = create_table(engine)
    function = create_function(engine, FUNCTION + SUCCEED)
    map_stream(engine, function, stream)
    put(engine, table, "warm-up")
    prints(engine, function, "late", bool)

    # when
    for n in range(1, 5):
        time.sleep(0.2)
        put(engine, table, str(n), sent=str(time.time()))
        prints(engine, function, "late", lambda lines, n=n: len(lines) > n)  # type: ignore[misc]

    # then no poll of a second lies between
    assert sorted(map(float, printed(engine, function, "late")))[1] < 0.1


def test_a_slow_function_holds_up_no_queue_and_no_other_stream(engine: Engine) -> None:
    # given a stream whose function is at work
    table, stream = create_table(engine)
    slow = create_function(engine, "import time\ndef handler(event, context):\n    time.sleep(4)\n")
    map_stream(engine, slow, stream)
    put(engine, table, "a")

    # when a queue and another stream get something to do
    quick = create_function(engine, FUNCTION + SUCCEED)
    other_table, other_stream = create_table(engine)
    map_stream(engine, quick, other_stream)
    url, arn = create_queue(engine)
    taker = create_function(engine, "def handler(event, context): pass")
    engine.client("lambda").create_event_source_mapping(FunctionName=taker, EventSourceArn=arn)
    start = time.perf_counter()
    put(engine, other_table, "b")
    engine.client("sqs").send_message(QueueUrl=url, MessageBody="hello")

    # then both are done meanwhile
    assert eventually(lambda: depth(engine, url) == {"visible": 0, "in flight": 0, "delayed": 0})
    assert batches(engine, quick, until="b") == ["b"]
    assert time.perf_counter() - start < 2


def test_a_disabled_mapping_goes_on_where_it_stopped(engine: Engine) -> None:
    # given a mapping that is disabled after its first record
    table, stream = create_table(engine)
    function = create_function(engine, FUNCTION + SUCCEED)
    mapping = map_stream(engine, function, stream, StartingPosition="LATEST")
    put(engine, table, "a")
    batches(engine, function, until="a")
    client = engine.client("lambda")
    client.update_event_source_mapping(UUID=mapping, Enabled=False)

    # when a second one comes, and the mapping is enabled again
    put(engine, table, "b")
    time.sleep(0.2)
    before = printed(engine, function, "batch")
    client.update_event_source_mapping(UUID=mapping, Enabled=True)

    # then it is delivered now
    assert before == ["a"]
    assert batches(engine, function, until="b") == ["a", "b"]


def test_a_deleted_mapping_stops_between_retries(engine: Engine) -> None:
    # given a function that always fails
    table, stream = create_table(engine)
    function = create_function(engine, "def handler(event, context):\n    print('batch')\n    raise ValueError\n")
    mapping = map_stream(engine, function, stream)
    put(engine, table, "a")
    assert eventually(lambda: "PROBLEM" in _result(engine, mapping))

    # when
    engine.client("lambda").delete_event_source_mapping(UUID=mapping)
    time.sleep(0.5)
    before = len(printed(engine, function, "batch"))
    time.sleep(1)

    # then
    assert len(printed(engine, function, "batch")) == before


def test_records_are_kept_for_a_mapping_that_has_not_read_them(engine: Engine) -> None:
    # given two mappings, one of them disabled, and more records than a stream keeps once they are read
    table, stream = create_table(engine)
    counting = "def handler(event, context): print('batch', len(event['Records']))"
    first, second = create_function(engine, counting), create_function(engine, counting)
    map_stream(engine, first, stream, BatchSize=1000)
    late = map_stream(engine, second, stream, BatchSize=1000, Enabled=False)
    fill(engine, table, 4500)
    assert eventually(lambda: count(engine, first) == 4500)

    # when the second is enabled
    engine.client("lambda").update_event_source_mapping(UUID=late, Enabled=True)

    # then it gets all of them, and what comes after both have read is not lost either
    assert eventually(lambda: count(engine, second) == 4500)
    assert records_of(engine, stream)[0]["dynamodb"]["Keys"] != {"id": {"S": "row-0"}}
    fill(engine, table, 500, prefix="more")
    assert eventually(lambda: count(engine, first) == count(engine, second) == 5000)


def fill(engine: Engine, table: str, rows: int, prefix: str = "row") -> None:
    requests = [{"PutRequest": {"Item": {"id": {"S": f"{prefix}-{n}"}}}} for n in range(rows)]
    for start in range(0, rows, 25):
        engine.client("dynamodb").batch_write_item(RequestItems={table: requests[start : start + 25]})


def count(engine: Engine, function: str) -> int:
    return sum(map(int, printed(engine, function, "batch")))


def _result(engine: Engine, mapping: str) -> str:
    found = engine.client("lambda").get_event_source_mapping(UUID=mapping)
    return str(found["LastProcessingResult"])
