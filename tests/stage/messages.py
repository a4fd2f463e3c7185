"""What SQS itself says of a stage's messages: looked at, received or moved by hand, as an operator could."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from stage.running import until

if TYPE_CHECKING:
    from stage.running import RunningStage

Message = dict[str, Any]


def receive(stage: RunningStage, url: str, *, hidden_s: int) -> list[Message]:
    """Receive up to ten messages with all they carry; each receive counts."""
    answer = stage.client("sqs").receive_message(
        QueueUrl=url,
        MaxNumberOfMessages=10,
        VisibilityTimeout=hidden_s,
        MessageAttributeNames=["All"],
        MessageSystemAttributeNames=["All"],
    )
    messages: list[Message] = answer.get("Messages", [])
    return messages


def letters(stage: RunningStage, url: str) -> list[Message]:
    """Look at all that a queue without a consumer holds, and leave it there."""
    found: dict[str, Message] = {}

    def look() -> bool:
        found.update({message["MessageId"]: message for message in receive(stage, url, hidden_s=0)})
        return len(found) >= stage.depth(url)  # a sweep hides what it reads for as long as it reads

    until(look, "every message of the queue has been seen")
    return list(found.values())


def job_of(message: Message) -> str:
    """Return the id of the job that a request or a work message is about; of another shape, none."""
    attributes = message.get("MessageAttributes", {})
    if "jobId" in attributes:
        return str(attributes["jobId"]["StringValue"])
    try:
        return str(json.loads(message["Body"])["jobId"])
    except (ValueError, KeyError, TypeError):
        return ""


def receives_of(message: Message) -> int:
    return int(message["Attributes"]["ApproximateReceiveCount"])


def letter_of(stage: RunningStage, url: str, job_id: str) -> Message:
    """Wait until a job's message is in a queue without a consumer, and return it."""
    return until(
        lambda: next((one for one in letters(stage, url) if job_of(one) == job_id), None),
        f"a message of job {job_id} in {url.rpartition('/')[2]}",
    )


def receive_until(stage: RunningStage, url: str, job_id: str, receives: int) -> Message:
    """Receive a job's message, whose consumer is stopped, so often; then leave it in the queue, visible."""

    def look() -> Message | None:
        messages = receive(stage, url, hidden_s=0)
        assert {job_of(message) for message in messages} <= {job_id}
        return next((message for message in messages if receives_of(message) >= receives), None)

    return until(look, f"{receives} receives of job {job_id}")


def send_again(stage: RunningStage, url: str, message: Message) -> None:
    """Send what a message says once more."""
    attributes = {
        name: {"DataType": one["DataType"], "StringValue": one["StringValue"]}
        for name, one in message.get("MessageAttributes", {}).items()
    }
    stage.client("sqs").send_message(QueueUrl=url, MessageBody=message["Body"], MessageAttributes=attributes)


def set_aside(stage: RunningStage, url: str, dead_letters: str) -> Message:
    """Move the one message of a queue whose consumer is stopped to the dead-letter queue, as redrive would."""
    (message,) = until(lambda: receive(stage, url, hidden_s=60), "a message to move")
    send_again(stage, dead_letters, message)
    stage.client("sqs").delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    moved: Message = message
    return moved


def discard(stage: RunningStage, url: str, job_id: str) -> None:
    """Delete a job's messages from a dead-letter queue, as an operator who is done with it."""

    def look() -> bool:
        for message in receive(stage, url, hidden_s=5):
            if job_of(message) == job_id:
                stage.client("sqs").delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return all(job_of(one) != job_id for one in letters(stage, url))

    until(look, f"no message of job {job_id} is left")
