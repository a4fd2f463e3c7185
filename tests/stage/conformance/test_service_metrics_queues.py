"""AWS/SQS: what the queues say of themselves."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from stage.conformance.functions import create_function, create_queue, eventually
from stage.conformance.metrics import reaches, statistic, total

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

pytestmark = pytest.mark.xdist_group("fast_engine")

SQS = "AWS/SQS"


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


def test_what_comes_and_goes_is_counted(fast_engine: Engine) -> None:
    # given a queue that gets five messages, one by one and in a batch
    sqs = fast_engine.client("sqs")
    url, _ = create_queue(fast_engine)
    name = name_of(url)
    sqs.send_message(QueueUrl=url, MessageBody="12345678")
    sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": str(n), "MessageBody": "1234"} for n in range(4)])

    # when all are received, three are deleted, and nothing is found once
    received: list[dict[str, str]] = []
    while len(received) < 5:
        received += sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=2)["Messages"]
    sqs.delete_message(QueueUrl=url, ReceiptHandle=received[0]["ReceiptHandle"])
    entries = [{"Id": str(n), "ReceiptHandle": received[n]["ReceiptHandle"]} for n in (1, 2)]
    sqs.delete_message_batch(QueueUrl=url, Entries=entries)
    assert "Messages" not in sqs.receive_message(QueueUrl=url)

    # then each is counted where it belongs
    counts = {kind: total(fast_engine, SQS, kind, QueueName=name) for kind in COUNTS}
    assert counts == {
        "NumberOfMessagesSent": 5,
        "NumberOfMessagesReceived": 5,
        "NumberOfMessagesDeleted": 3,
        "NumberOfEmptyReceives": 1,
        "SentMessageSize": 24,
    }
    assert statistic(fast_engine, SQS, "SentMessageSize", "SampleCount", QueueName=name) == 5


COUNTS = (
    *("NumberOfMessagesSent", "NumberOfMessagesReceived", "NumberOfMessagesDeleted"),
    *("NumberOfEmptyReceives", "SentMessageSize"),
)


def test_what_waits_is_looked_at_every_minute(fast_engine: Engine) -> None:
    # given a queue with three visible messages, one in flight and two delayed
    sqs = fast_engine.client("sqs")
    url, _ = create_queue(fast_engine)
    name = name_of(url)
    for _ in range(4):
        sqs.send_message(QueueUrl=url, MessageBody="m")
    for _ in range(2):
        sqs.send_message(QueueUrl=url, MessageBody="m", DelaySeconds=60)
    sqs.receive_message(QueueUrl=url, VisibilityTimeout=60)

    # then a minute later the gauges show them
    def highest(kind: str) -> float | None:
        return statistic(fast_engine, SQS, f"ApproximateNumberOfMessages{kind}", "Maximum", QueueName=name)

    assert eventually(lambda: highest("Delayed") == 2)
    eventually(lambda: highest("NotVisible") == 1)
    assert (highest("Visible"), highest("NotVisible")) == (3, 1)
    # and an idle queue says that nothing comes and goes
    assert eventually(lambda: minimum_sent(fast_engine, name) == 0)


def minimum_sent(engine: Engine, name: str) -> float | None:
    return statistic(engine, SQS, "NumberOfMessagesSent", "Minimum", QueueName=name)


def test_the_oldest_message_is_one_received_less_than_three_times(fast_engine: Engine) -> None:
    # given a message that gets older
    sqs = fast_engine.client("sqs")
    url, _ = create_queue(fast_engine, VisibilityTimeout="0")
    sqs.send_message(QueueUrl=url, MessageBody="poison")

    def age(stat: str = "Maximum") -> float | None:
        return statistic(fast_engine, SQS, "ApproximateAgeOfOldestMessage", stat, QueueName=name_of(url))

    assert eventually(lambda: (age() or 0) >= 1)

    # when it has been received three times
    for _ in range(3):
        assert sqs.receive_message(QueueUrl=url)["Messages"]

    # then it is no longer the oldest, although it is still there
    samples = age("SampleCount") or 0
    reached = age("Sum")
    assert eventually(lambda: (age("SampleCount") or 0) >= samples + 3)
    assert (age("Sum") or 0) - (reached or 0) <= (age() or 0)  # at most the minute in which it happened
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
    assert attributes["Attributes"]["ApproximateNumberOfMessages"] == "1"


def test_a_redrive_does_not_send(fast_engine: Engine) -> None:
    # given a queue with a dead-letter queue
    sqs = fast_engine.client("sqs")
    letters, letters_arn = create_queue(fast_engine)
    policy = json.dumps({"deadLetterTargetArn": letters_arn, "maxReceiveCount": 1})
    url, _ = create_queue(fast_engine, VisibilityTimeout="0", RedrivePolicy=policy)
    sent_at = time.time()
    sqs.send_message(QueueUrl=url, MessageBody="poison")
    time.sleep(1.1)  # in the source queue, which the age over there is not to include

    # when a message goes there
    assert sqs.receive_message(QueueUrl=url)["Messages"]
    assert "Messages" not in sqs.receive_message(QueueUrl=url)

    # then it is visible there, was never sent there, and its age counts from the move
    def gauge(name: str) -> float | None:
        return statistic(fast_engine, SQS, name, "Maximum", QueueName=name_of(letters))

    assert eventually(lambda: gauge("ApproximateNumberOfMessagesVisible") == 1)
    age = gauge("ApproximateAgeOfOldestMessage")
    assert age is not None
    assert age <= time.time() - sent_at - 1.1
    assert total(fast_engine, SQS, "NumberOfMessagesSent", QueueName=name_of(letters)) == 0
    assert total(fast_engine, SQS, "NumberOfMessagesSent", QueueName=name_of(url)) == 1


def test_a_mapping_receives_and_deletes(fast_engine: Engine) -> None:
    # given a mapped queue
    function = create_function(fast_engine, "def handler(event, context): pass")
    url, arn = create_queue(fast_engine, VisibilityTimeout="60")
    mapping = fast_engine.client("lambda").create_event_source_mapping(FunctionName=function, EventSourceArn=arn)

    # when it gets three messages
    for _ in range(3):
        fast_engine.client("sqs").send_message(QueueUrl=url, MessageBody="m")

    # then the function's side receives and deletes them, and finds nothing empty
    name = name_of(url)
    assert reaches(fast_engine, 3, SQS, "NumberOfMessagesDeleted", QueueName=name) == 3
    assert total(fast_engine, SQS, "NumberOfMessagesReceived", QueueName=name) == 3
    assert not total(fast_engine, SQS, "NumberOfEmptyReceives", QueueName=name)
    fast_engine.client("lambda").delete_event_source_mapping(UUID=mapping["UUID"])
