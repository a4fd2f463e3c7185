"""SQS event source mappings: what a batch response deletes, how many run at once, and how soon."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from typing import Any

import pytest
from stage.conformance.functions import (
    create_function,
    create_queue,
    depth,
    eventually,
    log_lines,
)

EMPTY = {"visible": 0, "in flight": 0, "delayed": 0}
UNTOUCHED = {"visible": 0, "in flight": 2, "delayed": 0}

# Answers with the first message's body, where "<id>" stands for that message's id.
ECHO = """
import json
def handler(event, context):
    first = event["Records"][0]
    print("batch of", len(event["Records"]))
    return json.loads(first["body"].replace("<id>", first["messageId"]))
"""


def map_queue(engine: Any, function: str, arn: str, **settings: Any) -> str:
    settings.setdefault("FunctionResponseTypes", ["ReportBatchItemFailures"])
    client = engine.client("lambda")
    made = client.create_event_source_mapping(FunctionName=function, EventSourceArn=arn, **settings)
    identifier: str = made["UUID"]
    return identifier


def send(engine: Any, url: str, *bodies: str) -> None:
    entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies)]
    engine.client("sqs").send_message_batch(QueueUrl=url, Entries=entries)


def printed(engine: Any, function: str, word: str) -> list[str]:
    client = engine.client("logs")
    group = f"/aws/lambda/{function}"
    if not client.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
        return []
    return [line for line in log_lines(engine, group) if line.startswith(word)]


@pytest.fixture(scope="module")
def echo(engine: Any) -> str:
    return create_function(engine, ECHO)


def respond(engine: Any, echo: str, response: str) -> dict[str, int]:
    """Put two messages through a function that answers with ``response`` and return what is left of them."""
    url, arn = create_queue(engine, VisibilityTimeout="60")
    send(engine, url, response, response)
    mapping = map_queue(engine, echo, arn)
    client = engine.client("lambda")
    eventually(lambda: "No records" not in client.get_event_source_mapping(UUID=mapping)["LastProcessingResult"])
    eventually(lambda: depth(engine, url) in (EMPTY, UNTOUCHED), within=1)
    client.delete_event_source_mapping(UUID=mapping)
    return depth(engine, url)


@pytest.mark.parametrize("response", ["null", "{}", '{"batchItemFailures": []}', '{"batchItemFailures": null}'])
def test_an_empty_report_is_a_success(engine: Any, echo: str, response: str) -> None:
    assert respond(engine, echo, response) == EMPTY


@pytest.mark.parametrize(
    "failures",
    [
        [{"itemIdentifier": "of-no-message"}],
        [{"itemIdentifier": "<id>"}, {"itemIdentifier": "of-no-message"}],
        [{"itemIdentifier": ""}],
        [{"itemIdentifier": None}],
        [{"itemIdentifier": ["<id>"]}],
        [{"ItemIdentifier": "<id>"}],
        ["<id>"],
        "<id>",
    ],
)
def test_a_report_that_is_not_valid_fails_the_whole_batch(engine: Any, echo: str, failures: Any) -> None:
    assert respond(engine, echo, json.dumps({"batchItemFailures": failures})) == UNTOUCHED


@pytest.mark.parametrize("response", ['"done"', "[]", "1"])
def test_a_response_that_is_no_object_fails_the_whole_batch(engine: Any, echo: str, response: str) -> None:
    assert respond(engine, echo, response) == UNTOUCHED


def test_only_reported_messages_stay(engine: Any, echo: str) -> None:
    report = json.dumps({"batchItemFailures": [{"itemIdentifier": "<id>"}]})
    assert respond(engine, echo, report) == {"visible": 0, "in flight": 1, "delayed": 0}


def test_a_failed_batch_does_not_hold_up_the_next(engine: Any) -> None:
    # given
    code = """
def handler(event, context):
    if event["Records"][0]["body"] == "bad":
        raise ValueError("on purpose")
"""
    name = create_function(engine, code)
    url, arn = create_queue(engine)
    map_queue(engine, name, arn, BatchSize=1, ScalingConfig={"MaximumConcurrency": 2})
    send(engine, url, "warm up")
    eventually(lambda: depth(engine, url) == EMPTY)

    # when
    start = time.perf_counter()
    send(engine, url, *["bad"] * 5, "good")

    # then
    assert eventually(lambda: depth(engine, url) == {"visible": 0, "in flight": 5, "delayed": 0})
    assert time.perf_counter() - start < 2.5  # five pauses of a second would take five


def test_concurrency_reaches_its_maximum_and_never_exceeds_it(engine: Any) -> None:
    # given
    code = """
import time
from itertools import pairwise
def handler(event, context):
    start = time.time()
    time.sleep(0.3)
    print("span", start, time.time())
"""
    name = create_function(engine, code)
    url, arn = create_queue(engine)
    send(engine, url, *"abcdefghi")

    # when
    map_queue(engine, name, arn, BatchSize=1, ScalingConfig={"MaximumConcurrency": 3})
    eventually(lambda: len(printed(engine, name, "span")) == 9)

    # then
    spans = [tuple(map(float, line.split()[1:])) for line in printed(engine, name, "span")]
    starts = [start for start, _ in spans]
    assert max(sum(start <= moment < end for start, end in spans) for moment in starts) == 3


def test_a_message_is_invoked_promptly_after_an_idle_time(engine: Any) -> None:
    # given
    code = """
import time
from itertools import pairwise
def handler(event, context):
    print("after", time.time() - float(event["Records"][0]["body"]))
"""
    name = create_function(engine, code)
    url, arn = create_queue(engine)
    map_queue(engine, name, arn)
    send(engine, url, str(time.time()))
    eventually(lambda: printed(engine, name, "after"))

    # when
    for _ in range(4):
        time.sleep(0.3)
        send(engine, url, str(time.time()))
    eventually(lambda: len(printed(engine, name, "after")) == 5)

    # then
    waits = [float(line.split()[1]) for line in printed(engine, name, "after")][1:]
    assert sorted(waits)[1] < 0.1


def test_a_retry_comes_when_its_visibility_timeout_ends(engine: Any) -> None:
    # given
    code = """
import time
from itertools import pairwise
def handler(event, context):
    print("at", time.time())
    return {"batchItemFailures": [{"itemIdentifier": r["messageId"]} for r in event["Records"]]}
"""
    name = create_function(engine, code)
    url, arn = create_queue(engine, VisibilityTimeout="1")
    map_queue(engine, name, arn)

    # when
    send(engine, url, "x")
    eventually(lambda: len(printed(engine, name, "at")) >= 4)

    # then
    times = [float(line.split()[1]) for line in printed(engine, name, "at")]
    gaps = [later - earlier for earlier, later in pairwise(times[1:])]
    assert 0.9 < min(gaps) < 1.25


def test_a_poison_message_ends_in_the_dead_letter_queue(engine: Any) -> None:
    # given
    name = create_function(engine, "def handler(event, context): raise ValueError('on purpose')")
    dead, dead_arn = create_queue(engine)
    policy = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 2})
    url, arn = create_queue(engine, VisibilityTimeout="1", RedrivePolicy=policy)
    map_queue(engine, name, arn, BatchSize=1)

    # when
    send(engine, url, "poison")

    # then
    assert eventually(lambda: depth(engine, dead)["visible"] == 1)
    assert depth(engine, url) == EMPTY


def test_a_window_gathers_a_batch_of_more_than_ten(engine: Any, echo: str) -> None:
    # given
    url, arn = create_queue(engine)
    mapping = map_queue(engine, echo, arn, BatchSize=30, MaximumBatchingWindowInSeconds=2)

    # when
    for _ in range(3):
        send(engine, url, *["{}"] * 10)

    # then
    assert eventually(lambda: "batch of 30" in printed(engine, echo, "batch"))
    engine.client("lambda").delete_event_source_mapping(UUID=mapping)
    assert depth(engine, url) == EMPTY


def test_a_window_that_ends_delivers_what_there_is(engine: Any, echo: str) -> None:
    # given
    url, arn = create_queue(engine)
    map_queue(engine, echo, arn, BatchSize=7, MaximumBatchingWindowInSeconds=1)
    start = time.perf_counter()

    # when
    send(engine, url, *["{}"] * 6)

    # then
    assert eventually(lambda: "batch of 6" in printed(engine, echo, "batch"))
    assert time.perf_counter() - start > 0.9


def test_a_deleted_queue_does_not_stop_other_mappings(engine: Any, echo: str) -> None:
    # given
    (gone, gone_arn), (url, arn) = create_queue(engine), create_queue(engine)
    for each in (gone_arn, arn):
        map_queue(engine, echo, each)

    # when
    engine.client("sqs").delete_queue(QueueUrl=gone)
    send(engine, url, "{}")

    # then
    assert eventually(lambda: depth(engine, url) == EMPTY)


def test_a_deleted_mapping_takes_nothing_more(engine: Any, echo: str) -> None:
    # given
    url, arn = create_queue(engine)
    mapping = map_queue(engine, echo, arn)

    # when
    engine.client("lambda").delete_event_source_mapping(UUID=mapping)
    send(engine, url, "{}")

    # then
    time.sleep(0.3)
    assert depth(engine, url) == {"visible": 1, "in flight": 0, "delayed": 0}
