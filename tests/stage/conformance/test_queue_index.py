"""SQS at depth, and the semantics of a standard queue that an index must keep."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from sluice_harness.compat.queues.fair_order import STALE_ROWS_KEPT
from sluice_harness.compat.queues.queue_store import MessageStore
from stage.conformance.functions import create_queue, depth, eventually, unique

if TYPE_CHECKING:
    from collections.abc import Iterable


def send(client: Any, url: str, bodies: Iterable[str]) -> None:
    waiting = list(bodies)
    for start in range(0, len(waiting), 10):
        entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(waiting[start : start + 10])]
        assert not client.send_message_batch(QueueUrl=url, Entries=entries).get("Failed")


def receive(client: Any, url: str, **options: Any) -> list[dict[str, Any]]:
    names = {"MessageSystemAttributeNames": ["All"], "MessageAttributeNames": ["All"]}
    found: list[dict[str, Any]] = client.receive_message(QueueUrl=url, **names, **options).get("Messages", [])
    return found


def seconds_for_receives(client: Any, url: str, rounds: int) -> float:
    start = time.perf_counter()
    for _ in range(rounds):
        messages = receive(client, url, MaxNumberOfMessages=10)
        entries = [{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(messages)]
        client.delete_message_batch(QueueUrl=url, Entries=entries)
    return time.perf_counter() - start


def test_a_deep_queue_is_drained_at_the_rate_of_a_short_one(engine: Any) -> None:
    # given
    client = engine.client("sqs")
    short, deep = create_queue(engine)[0], create_queue(engine)[0]
    send(client, short, map(str, range(400)))
    send(client, deep, map(str, range(20_000)))
    seconds_for_receives(client, short, 5)

    # when
    at_200 = min(seconds_for_receives(client, short, 15) for _ in range(2))
    at_20_000 = min(seconds_for_receives(client, deep, 15) for _ in range(2))

    # then
    assert at_20_000 < 2 * at_200


def test_counts_tell_visible_in_flight_and_delayed_apart(engine: Any) -> None:
    # given
    client, (url, _) = engine.client("sqs"), create_queue(engine)
    send(client, url, "abc")
    client.send_message(QueueUrl=url, MessageBody="later", DelaySeconds=1)

    # when
    message = receive(client, url)[0]

    # then
    assert depth(engine, url) == {"visible": 2, "in flight": 1, "delayed": 1}
    client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert eventually(lambda: depth(engine, url) == {"visible": 3, "in flight": 0, "delayed": 0}, within=3)


def test_a_message_is_invisible_until_its_timeout_and_counts_its_receives(engine: Any) -> None:
    # given
    client, (url, _) = engine.client("sqs"), create_queue(engine, VisibilityTimeout="1")
    client.send_message(QueueUrl=url, MessageBody="x", MessageGroupId="tenant")
    first = receive(client, url)[0]

    # when
    hidden = receive(client, url)
    again = receive(client, url, WaitTimeSeconds=3)[0]

    # then
    assert hidden == []
    assert again["Attributes"] == {**first["Attributes"], "ApproximateReceiveCount": "2"}
    assert again["Attributes"]["MessageGroupId"] == "tenant"
    assert again["ReceiptHandle"] != first["ReceiptHandle"]


def test_messages_come_in_the_order_of_their_sending_and_a_retry_comes_first(engine: Any) -> None:
    # given
    client, (url, _) = engine.client("sqs"), create_queue(engine)
    send(client, url, "abcd")
    taken = receive(client, url, MaxNumberOfMessages=2)

    # when
    client.change_message_visibility(QueueUrl=url, ReceiptHandle=taken[1]["ReceiptHandle"], VisibilityTimeout=0)

    # then
    assert [m["Body"] for m in receive(client, url, MaxNumberOfMessages=10)] == ["b", "c", "d"]


def test_a_message_received_three_times_moves_to_the_back(engine: Any) -> None:
    # given
    client, (url, _) = engine.client("sqs"), create_queue(engine)
    send(client, url, "abc")

    # when
    first = [receive(client, url, VisibilityTimeout=0)[0]["Body"] for _ in range(4)]

    # then
    assert first == ["a", "a", "a", "b"]


def test_an_outdated_receipt_handle_deletes_nothing(engine: Any) -> None:
    # given
    client, (url, _) = engine.client("sqs"), create_queue(engine)
    send(client, url, "a")
    outdated = receive(client, url, VisibilityTimeout=0)[0]["ReceiptHandle"]
    current = receive(client, url)[0]["ReceiptHandle"]

    # when
    client.delete_message(QueueUrl=url, ReceiptHandle=outdated)

    # then
    assert depth(engine, url)["in flight"] == 1
    client.delete_message(QueueUrl=url, ReceiptHandle=current)
    client.delete_message(QueueUrl=url, ReceiptHandle=current)  # deleting is idempotent
    assert depth(engine, url)["in flight"] == 0


@pytest.mark.parametrize("handle", ["made-up", "0-1-1"])
def test_a_receipt_handle_that_never_was_is_an_error(engine: Any, handle: str) -> None:
    # given
    client, (url, _) = engine.client("sqs"), create_queue(engine)
    send(client, url, "a")

    # when / then
    with pytest.raises(client.exceptions.ReceiptHandleIsInvalid):
        client.delete_message(QueueUrl=url, ReceiptHandle=handle)
    with pytest.raises(client.exceptions.ReceiptHandleIsInvalid):
        client.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=1)
    failed = client.delete_message_batch(QueueUrl=url, Entries=[{"Id": "e", "ReceiptHandle": handle}])["Failed"]
    assert [(entry["Id"], entry["Code"]) for entry in failed] == [("e", "ReceiptHandleIsInvalid")]


def test_the_visibility_of_a_message_that_is_not_in_flight_cannot_change(engine: Any) -> None:
    # given
    client, (url, _) = engine.client("sqs"), create_queue(engine)
    send(client, url, "a")
    handle = receive(client, url, VisibilityTimeout=0)[0]["ReceiptHandle"]

    # when / then
    with pytest.raises(client.exceptions.MessageNotInflight):
        client.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=9)
    client.delete_message(QueueUrl=url, ReceiptHandle=handle)
    with pytest.raises(ClientError, match="not available for visibility timeout change"):
        client.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=9)


def test_a_spent_message_moves_to_the_dead_letter_queue_as_it_was_sent(engine: Any) -> None:
    # given
    client, (dead, dead_arn) = engine.client("sqs"), create_queue(engine)
    policy = f'{{"deadLetterTargetArn": "{dead_arn}", "maxReceiveCount": 2}}'
    url, arn = create_queue(engine, RedrivePolicy=policy)
    attribute = {"DataType": "String", "StringValue": "value"}
    client.send_message(QueueUrl=url, MessageBody="poison", MessageAttributes={"name": attribute})
    seen = [receive(client, url, VisibilityTimeout=0)[0] for _ in range(2)]

    # when
    left = receive(client, url)
    moved = receive(client, dead)[0]

    # then
    assert left == []
    assert moved["MessageId"] == seen[0]["MessageId"]
    assert moved["Body"] == "poison"
    assert moved["MessageAttributes"] == {"name": attribute}
    assert moved["Attributes"] == {
        **seen[0]["Attributes"],
        "ApproximateReceiveCount": "3",
        "DeadLetterQueueSourceArn": arn,
    }
    assert depth(engine, url) == {"visible": 0, "in flight": 0, "delayed": 0}


def test_a_purged_queue_is_empty_and_goes_on(engine: Any) -> None:
    # given
    client, (url, _) = engine.client("sqs"), create_queue(engine)
    send(client, url, "abc")
    handle = receive(client, url)[0]["ReceiptHandle"]

    # when
    client.purge_queue(QueueUrl=url)

    # then
    client.delete_message(QueueUrl=url, ReceiptHandle=handle)
    send(client, url, "d")
    assert [m["Body"] for m in receive(client, url, MaxNumberOfMessages=10)] == ["d"]


def test_no_message_is_lost_or_doubled_between_threads(engine: Any) -> None:
    # given
    client, (url, _) = engine.client("sqs"), create_queue(engine)

    def drain(_: int) -> list[str]:
        bodies = []
        while messages := receive(client, url, MaxNumberOfMessages=10, WaitTimeSeconds=1):
            bodies += [m["Body"] for m in messages]
            entries = [{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(messages)]
            client.delete_message_batch(QueueUrl=url, Entries=entries)
        return bodies

    # when
    with ThreadPoolExecutor(4) as pool:
        drains = [pool.submit(drain, n) for n in range(3)]
        pool.submit(send, client, url, map(str, range(1000))).result()
        received = [body for each in drains for body in each.result()]

    # then
    assert sorted(received, key=int) == [str(n) for n in range(1000)]


def test_a_fifo_queue_keeps_its_groups_in_order(engine: Any) -> None:
    # given
    client = engine.client("sqs")
    settings = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    url = client.create_queue(QueueName=f"{unique('queue')}.fifo", Attributes=settings)["QueueUrl"]
    for body in ("a1", "a2", "b1"):
        client.send_message(QueueUrl=url, MessageBody=body, MessageGroupId=body[0])

    # when
    first = receive(client, url)[0]
    other = receive(client, url)[0]
    blocked = receive(client, url)
    client.delete_message(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"])
    second = receive(client, url)[0]

    # then
    assert [first["Body"], other["Body"], blocked, second["Body"]] == ["a1", "b1", [], "a2"]
    assert depth(engine, url) == {"visible": 0, "in flight": 2, "delayed": 0}


def test_messages_older_than_the_retention_period_go() -> None:
    # given
    now = time.time()
    store = MessageStore([{"body": "old", "sent_at": now - 61}, {"body": "new", "sent_at": now}])

    # when
    store.expire(now - 60)

    # then
    assert [message["body"] for message in store] == ["new"]
    assert store.counts() == (1, 0, 0)


def test_the_index_does_not_grow_with_the_messages_that_passed_through() -> None:
    # given
    store = MessageStore()

    # when
    for _ in range(10_000):
        store.append({"receive_count": 0})
        store.delete(store.receive(1, 3600, None, prepare=lambda _: None)[0]["receipt_handle"])

    # then
    order = store._order
    rows = [len(heap) for heap in (order._ungrouped.ready, order._heads, store._hidden, store._ages)]
    assert max(rows) <= STALE_ROWS_KEPT + 2
