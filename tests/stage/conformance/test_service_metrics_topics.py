"""AWS/SNS: what topics say of themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stage.conformance.functions import create_queue, eventually
from stage.conformance.metrics import reaches, total
from stage.conformance.topics import create_topic, http_subscriber, subscribed_queue

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

SNS = "AWS/SNS"


def test_publications_and_deliveries_are_counted(engine: Engine) -> None:
    # given a topic with two queues, one of which is gone
    topic, name = create_topic(engine)
    kept, gone = subscribed_queue(engine, topic), subscribed_queue(engine, topic)
    engine.client("sqs").delete_queue(QueueUrl=gone)

    # when three messages are published
    client = engine.client("sns")
    client.publish(TopicArn=topic, Message="one")
    client.publish_batch(
        TopicArn=topic, PublishBatchRequestEntries=[{"Id": str(n), "Message": "more"} for n in range(2)]
    )

    # then each arrives at one, not at the other, and that one's queue counts them as sent
    kinds = ("NumberOfMessagesPublished", "NumberOfNotificationsDelivered", "NumberOfNotificationsFailed")
    assert [total(engine, SNS, kind, TopicName=name) for kind in kinds] == [3, 3, 3]
    assert total(engine, "AWS/SQS", "NumberOfMessagesSent", QueueName=kept.rpartition("/")[2]) == 3


def test_a_queue_that_refuses_is_a_failure(engine: Engine) -> None:
    # given a queue whose policy does not let the topic send
    topic, name = create_topic(engine)
    _, arn = create_queue(engine)
    engine.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)

    # when a message is published
    engine.client("sns").publish(TopicArn=topic, Message="one")

    # then it failed
    assert total(engine, SNS, "NumberOfNotificationsFailed", TopicName=name) == 1
    assert total(engine, SNS, "NumberOfNotificationsDelivered", TopicName=name) is None


def test_an_endpoint_that_does_not_answer_is_a_failure(engine: Engine) -> None:
    # given a confirmed subscriber that got one message and is gone
    topic, name = create_topic(engine)
    client = engine.client("sns")
    with http_subscriber(engine, topic) as notified:
        client.publish(TopicArn=topic, Message="one")
        assert eventually(lambda: [one["Message"] for one in notified] == ["one"])

    # when another one is published
    client.publish(TopicArn=topic, Message="two")

    # then the first arrived and the second failed
    assert reaches(engine, 1, SNS, "NumberOfNotificationsFailed", TopicName=name) == 1
    assert total(engine, SNS, "NumberOfNotificationsDelivered", TopicName=name) == 1
