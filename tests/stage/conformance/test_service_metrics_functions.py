"""AWS/Lambda: what functions and event source mappings say of themselves."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from stage.conformance import apis, tables
from stage.conformance.functions import create_function, create_queue, depth, eventually, invoke
from stage.conformance.metrics import reaches, statistic, total

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

pytestmark = pytest.mark.xdist_group("fast_engine")

LAMBDA = "AWS/Lambda"
# Does what its event says.
OBEDIENT = """
import time
time.sleep(0.4)  # its initialization
def handler(event, context):
    time.sleep(event.get("sleep", 0))
    if event.get("fail"):
        raise ValueError(event["fail"])
    return event.get("answer")
"""
# Reports the messages that say so.
REPORTING = """
def handler(event, context):
    failed = [one["messageId"] for one in event["Records"] if one["body"] == "bad"]
    return {"batchItemFailures": [{"itemIdentifier": one} for one in failed]}
"""


@pytest.fixture
def function(fast_engine: Engine) -> str:
    return create_function(fast_engine, OBEDIENT)


def test_invocations_are_counted_and_timed(fast_engine: Engine, function: str) -> None:
    # given what all functions have said so far
    before = total(fast_engine, LAMBDA, "Invocations") or 0

    # when one succeeds twice and fails once
    invoke(fast_engine, function, {"sleep": 0.3})
    invoke(fast_engine, function, {})
    assert invoke(fast_engine, function, {"fail": "so told"})["errorType"] == "ValueError"

    # then it is counted for the function and for all of them
    kinds = ("Invocations", "Errors", "Throttles")
    assert [total(fast_engine, LAMBDA, kind, FunctionName=function) for kind in kinds] == [3, 1, 0]
    assert total(fast_engine, LAMBDA, "Invocations") == before + 3
    longest = statistic(fast_engine, LAMBDA, "Duration", "Maximum", FunctionName=function)
    shortest = statistic(fast_engine, LAMBDA, "Duration", "Minimum", FunctionName=function)
    assert longest is not None
    assert shortest is not None
    assert 300 <= longest < 700  # without its initialization
    assert shortest < 300


def test_concurrency_is_what_runs_at_once(fast_engine: Engine, function: str) -> None:
    # when two run side by side
    client = fast_engine.client("lambda")
    for _ in range(2):
        client.invoke(FunctionName=function, InvocationType="Event", Payload='{"sleep": 0.5}')

    # then the highest concurrency is two
    assert reaches(fast_engine, 2, LAMBDA, "Invocations", FunctionName=function) == 2
    assert statistic(fast_engine, LAMBDA, "ConcurrentExecutions", "Maximum", FunctionName=function) == 2
    assert (statistic(fast_engine, LAMBDA, "ConcurrentExecutions", "Maximum") or 0) >= 2


def test_a_throttled_call_is_neither_an_invocation_nor_an_error(fast_engine: Engine, function: str) -> None:
    # given a function that may not run
    client = fast_engine.client("lambda")
    client.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)

    # when it is called
    with pytest.raises(ClientError) as refused:
        client.invoke(FunctionName=function)

    # then it was throttled, and nothing else
    assert refused.value.response["Error"]["Code"] == "TooManyRequestsException"
    assert total(fast_engine, LAMBDA, "Throttles", FunctionName=function) == 1
    assert total(fast_engine, LAMBDA, "Invocations", FunctionName=function) is None
    assert total(fast_engine, LAMBDA, "Errors", FunctionName=function) is None


def test_a_throttled_function_is_an_error_of_its_api(fast_engine: Engine) -> None:
    # given an API in front of a function that may not run
    integration = {"Type": "AWS_PROXY", "IntegrationHttpMethod": "POST", "Uri": apis.invocation()}
    api = apis.deploy(fast_engine, integration, extra=apis.function("def handler(event, context): pass"))
    name = api.physical["Function"]
    fast_engine.client("lambda").put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)

    # when it is called
    answer = api.post("{}")

    # then the client hears of an internal error, and Lambda counts a throttle
    assert (answer.status_code, answer.json()) == (500, {"message": "Internal server error"})
    assert total(fast_engine, LAMBDA, "Throttles", FunctionName=name) == 1


def map_queue(engine: Engine, function: str, arn: str, **settings: Any) -> str:
    made = engine.client("lambda").create_event_source_mapping(
        FunctionName=function,
        EventSourceArn=arn,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        MetricsConfig={"Metrics": ["EventCount"]},
        **settings,
    )
    assert made["MetricsConfig"] == {"Metrics": ["EventCount"]}
    return str(made["UUID"])


def counts(engine: Engine, mapping: str) -> list[float | None]:
    kinds = ("Polled", "FilteredOut", "Invoked", "FailedInvoke", "Deleted")
    return [total(engine, LAMBDA, f"{kind}EventCount", EventSourceMappingUUID=mapping) for kind in kinds]


def test_a_mapping_counts_its_events(fast_engine: Engine) -> None:
    # given a mapping with counts, and a filter
    function = create_function(fast_engine, REPORTING)
    url, arn = create_queue(fast_engine, VisibilityTimeout="60")
    # when it gets two good messages, one that fails and one that the filter drops, in one batch
    entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(["ok", "ok", "bad", "odd"])]
    fast_engine.client("sqs").send_message_batch(QueueUrl=url, Entries=entries)
    filters = {"Filters": [{"Pattern": '{"body": ["ok", "bad"]}'}]}
    mapping = map_queue(fast_engine, function, arn, FilterCriteria=filters)

    # then each event counts where it belongs, and the function did not fail
    eventually(lambda: counts(fast_engine, mapping)[-1])
    assert counts(fast_engine, mapping) == [4, 1, 3, 1, 3]
    assert total(fast_engine, LAMBDA, "Errors", FunctionName=function) == 0
    fast_engine.client("lambda").delete_event_source_mapping(UUID=mapping)


def test_a_throttled_mapping_leaves_its_messages(fast_engine: Engine, function: str) -> None:
    # given a mapping of a function that may not run
    client = fast_engine.client("lambda")
    client.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)
    url, arn = create_queue(fast_engine, VisibilityTimeout="60")
    mapping = map_queue(fast_engine, function, arn)

    # when it gets a message
    fast_engine.client("sqs").send_message(QueueUrl=url, MessageBody="{}")

    # then the message waits for its visibility timeout, and the invocation failed without running
    assert reaches(fast_engine, 1, LAMBDA, "Throttles", FunctionName=function) == 1
    assert eventually(lambda: counts(fast_engine, mapping)[3] == 1)
    assert counts(fast_engine, mapping) == [1, 0, 0, 1, None]
    assert depth(fast_engine, url) == {"visible": 0, "in flight": 1, "delayed": 0}
    client.delete_event_source_mapping(UUID=mapping)


def test_a_mapping_without_the_setting_counts_nothing(fast_engine: Engine, function: str) -> None:
    # given a mapping without MetricsConfig
    url, arn = create_queue(fast_engine, VisibilityTimeout="60")
    client = fast_engine.client("lambda")
    mapping = client.create_event_source_mapping(FunctionName=function, EventSourceArn=arn)["UUID"]

    # when it has handed over a message
    fast_engine.client("sqs").send_message(QueueUrl=url, MessageBody="{}")
    assert reaches(fast_engine, 1, LAMBDA, "Invocations", FunctionName=function) == 1

    # then there are no counts until it is told to keep them
    assert counts(fast_engine, mapping) == [None] * 5
    client.update_event_source_mapping(UUID=mapping, MetricsConfig={"Metrics": ["EventCount"]})
    fast_engine.client("sqs").send_message(QueueUrl=url, MessageBody="{}")
    assert eventually(lambda: counts(fast_engine, mapping)[4] == 1)
    client.delete_event_source_mapping(UUID=mapping)


def test_a_stream_mapping_tells_how_late_it_is(fast_engine: Engine, function: str) -> None:
    # given a row that was written a second before anybody reads it
    table, stream = tables.create_table(fast_engine)
    tables.put(fast_engine, table, "a")
    time.sleep(1.0)  # the delay that is to be measured

    # when a mapping reads it
    mapping = tables.map_stream(fast_engine, function, stream, MetricsConfig={"Metrics": ["EventCount"]})

    # then its age is that second at least, and it was polled and invoked
    def age() -> float | None:
        return statistic(fast_engine, LAMBDA, "IteratorAge", "Maximum", FunctionName=function)

    assert eventually(age)
    assert 1000 <= (age() or 0) < 5000
    assert eventually(lambda: counts(fast_engine, mapping)[2] == 1)
    assert counts(fast_engine, mapping) == [1, 0, 1, 0, None]
    fast_engine.client("lambda").delete_event_source_mapping(UUID=mapping)
