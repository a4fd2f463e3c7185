"""SQS fair queues: a noisy message group on a standard queue does not keep the others waiting."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from stage.conformance.functions import create_function, create_queue, depth, eventually, log_lines
from stage.conformance.metrics import named, span

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stage.conformance.conftest import Engine

NOISY = 500
SLOW_FUNCTION = """
import time
def handler(event, context):
    print("batch", *(record["body"] for record in event["Records"]))
    time.sleep(0.2)
"""


def send(engine: Any, url: str, bodies: Iterable[str], group: str | None = None) -> None:
    waiting, client = list(bodies), engine.client("sqs")
    tenant = {"MessageGroupId": group} if group else {}
    for start in range(0, len(waiting), 10):
        batch = waiting[start : start + 10]
        entries = [{"Id": str(n), "MessageBody": body, **tenant} for n, body in enumerate(batch)]
        assert not client.send_message_batch(QueueUrl=url, Entries=entries).get("Failed")


def receive(engine: Any, url: str, number: int = 10, **options: Any) -> list[dict[str, Any]]:
    names = {"MessageSystemAttributeNames": ["All"]}
    answer = engine.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=number, **names, **options)
    found: list[dict[str, Any]] = answer.get("Messages", [])
    return found


def delete(engine: Any, url: str, messages: list[dict[str, Any]]) -> None:
    entries = [{"Id": str(n), "ReceiptHandle": one["ReceiptHandle"]} for n, one in enumerate(messages)]
    engine.client("sqs").delete_message_batch(QueueUrl=url, Entries=entries)


def groups(messages: list[dict[str, Any]]) -> list[str]:
    return [one["Attributes"]["MessageGroupId"] for one in messages]


def test_a_quiet_group_s_message_sent_last_overtakes_a_noisy_group_with_many_in_flight(engine: Any) -> None:
    # given 500 messages of one group, of which consumers have taken 30
    url, _ = create_queue(engine)
    send(engine, url, map(str, range(NOISY)), "noisy")
    for _ in range(3):
        assert groups(receive(engine, url)) == ["noisy"] * 10

    # when another group sends one
    send(engine, url, ["last"], "quiet")

    # then it is the next
    assert groups(receive(engine, url)) == ["quiet"] + ["noisy"] * 9


def test_a_quiet_group_s_message_overtakes_a_noisy_group_with_few_in_flight_and_much_time(engine: Any) -> None:
    # given a consumer that takes a noisy group's messages one by one, so that never more than one is in flight
    url, _ = create_queue(engine)
    send(engine, url, map(str, range(NOISY)), "noisy")
    for _ in range(5):
        delete(engine, url, receive(engine, url, number=1))

    # when another group sends one
    send(engine, url, ["last"], "quiet")

    # then it is the next
    assert groups(receive(engine, url, number=1)) == ["quiet"]


def test_a_noisy_group_is_neither_held_back_nor_dropped(engine: Any) -> None:
    # given a noisy and a quiet group
    url, _ = create_queue(engine)
    send(engine, url, map(str, range(60)), "noisy")
    send(engine, url, ["q0", "q1", "q2"], "quiet")

    # when everything is received, and nothing deleted
    received = [one for _ in range(7) for one in receive(engine, url)]

    # then each message has come once, the noisy group's in their order, without waiting for one another
    bodies = [one["Body"] for one in received]
    assert sorted(bodies) == sorted([*map(str, range(60)), "q0", "q1", "q2"])
    assert [one for one in bodies if one.isdigit()] == [*map(str, range(60))]
    # and the quiet group's as soon as the other had shown to be noisy
    assert max(bodies.index(one) for one in ("q0", "q1", "q2")) < 33


def test_messages_without_a_group_come_in_the_order_of_their_sending(engine: Any) -> None:
    # given a long queue without groups, much of it in flight
    url, _ = create_queue(engine)
    send(engine, url, map(str, range(100)))
    first = [one["Body"] for _ in range(5) for one in receive(engine, url)]

    # when more is sent
    send(engine, url, ["last"])

    # then everything keeps its place
    rest = [one["Body"] for _ in range(6) for one in receive(engine, url)]
    assert first + rest == [*map(str, range(100)), "last"]


def test_a_message_without_a_group_overtakes_a_noisy_group(engine: Any) -> None:
    # given a noisy group
    url, _ = create_queue(engine)
    send(engine, url, map(str, range(100)), "noisy")
    for _ in range(3):
        receive(engine, url)

    # when somebody sends without a group
    send(engine, url, ["alone"])

    # then that is a quiet tenant of its own
    assert receive(engine, url)[0]["Body"] == "alone"


def test_a_mapping_takes_a_quiet_group_s_message_first(engine: Any) -> None:
    # given a function that has taken some of 500 messages of one group
    url, arn = create_queue(engine, VisibilityTimeout="60")
    function = create_function(engine, SLOW_FUNCTION)
    send(engine, url, map(str, range(NOISY)), "noisy")
    mapping = engine.client("lambda").create_event_source_mapping(
        FunctionName=function, EventSourceArn=arn, BatchSize=10, ScalingConfig={"MaximumConcurrency": 2}
    )
    group = f"/aws/lambda/{function}"
    assert eventually(lambda: engine.client("logs").describe_log_groups(logGroupNamePrefix=group)["logGroups"])

    # when another group sends one, last
    send(engine, url, ["last"], "quiet")
    left = depth(engine, url)["visible"]

    # then it is in one of the next batches
    def batches() -> list[str]:
        return [line for line in log_lines(engine, group) if line.startswith("batch")]

    assert eventually(lambda: any("last" in batch for batch in batches()), within=20)
    engine.client("lambda").delete_event_source_mapping(UUID=mapping["UUID"])
    (place,) = [n for n, batch in enumerate(batches()) if "last" in batch]
    assert left > NOISY / 2
    assert place < (NOISY - left) / 10 + 5


def newest(engine: Engine, name: str, url: str) -> float | None:
    """Return a queue's metric as it was in the last minute."""
    metric = {
        "Namespace": "AWS/SQS",
        "MetricName": f"Approximate{name}",
        "Dimensions": named({"QueueName": url.rpartition("/")[2]}),
    }
    query = {"Id": "m", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Maximum"}}
    found = engine.client("cloudwatch").get_metric_data(MetricDataQueries=[query], **span())
    values: list[float] = found["MetricDataResults"][0]["Values"]
    return values[0] if values else None


@pytest.mark.xdist_group("fast_engine")
def test_the_metrics_of_quiet_groups_leave_the_noisy_ones_out(fast_engine: Engine) -> None:
    # given a noisy group with 40 in flight, and a quiet one with a message delayed, one in flight and two waiting
    url, _ = create_queue(fast_engine, VisibilityTimeout="60")
    send(fast_engine, url, map(str, range(100)), "noisy")
    for _ in range(4):
        receive(fast_engine, url)
    time.sleep(1.1)  # the noisy group's messages are older, by a whole second
    send(fast_engine, url, "abc", "quiet")
    fast_engine.client("sqs").send_message(
        QueueUrl=url, MessageBody="later", MessageGroupId="quiet", DelaySeconds=60
    )
    assert groups(receive(fast_engine, url, number=1)) == ["quiet"]

    # then each metric says what a minute's look at the queue finds, of all and without the noisy group
    assert eventually(lambda: newest(fast_engine, "NumberOfMessagesNotVisibleInQuietGroups", url) == 1)
    assert eventually(lambda: newest(fast_engine, "NumberOfMessagesVisibleInQuietGroups", url) == 2)
    assert eventually(lambda: newest(fast_engine, "NumberOfMessagesDelayedInQuietGroups", url) == 1)
    assert eventually(lambda: newest(fast_engine, "NumberOfNoisyGroups", url) == 1)
    assert newest(fast_engine, "NumberOfMessagesVisible", url) == 62
    assert newest(fast_engine, "NumberOfMessagesNotVisible", url) == 41
    # and the age is that of the quiet group's oldest message
    assert eventually(lambda: (newest(fast_engine, "AgeOfOldestMessageInQuietGroups", url) or 0) >= 1)
    assert eventually(
        lambda: (
            (newest(fast_engine, "AgeOfOldestMessage", url) or 0)
            > (newest(fast_engine, "AgeOfOldestMessageInQuietGroups", url) or 0)
        )
    )


@pytest.mark.xdist_group("fast_engine")
def test_without_groups_all_messages_are_quiet(fast_engine: Engine) -> None:
    # given a queue without groups, with messages in flight
    url, _ = create_queue(fast_engine, VisibilityTimeout="60")
    send(fast_engine, url, map(str, range(60)))
    for _ in range(4):
        receive(fast_engine, url)

    # then what is said of the quiet is what is said of all, and nobody is noisy
    assert eventually(lambda: newest(fast_engine, "NumberOfMessagesNotVisibleInQuietGroups", url) == 40)
    assert newest(fast_engine, "NumberOfMessagesNotVisible", url) == 40
    assert newest(fast_engine, "NumberOfMessagesVisibleInQuietGroups", url) == 20
    assert newest(fast_engine, "NumberOfNoisyGroups", url) == 0
