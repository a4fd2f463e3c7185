"""Dead-letter queues, read and not consumed: what is looked at stays, for an operator to judge and redrive."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

_BATCH = 10  # ReceiveMessage and ChangeMessageVisibilityBatch, Amazon SQS API Reference
# Long polling asks all of SQS's servers; an empty answer then means an empty queue.
_WAIT_S = 1
# What is read is hidden meanwhile, so that one reading meets each message once.
_HIDDEN_S = 120
_READING_S = 90


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message of a dead-letter queue, hidden from others while it is read.

    Attributes
    ----------
    sent_at : int
        When it was first sent to its source queue, in epoch milliseconds; a move does not change that.

    """

    message_id: str
    receipt_handle: str
    body: str
    sent_at: int
    received: MessageTypeDef

    def as_record(self) -> dict[str, Any]:
        """Return it as Lambda would deliver it, for whoever reads its source queue's messages."""
        attributes: Mapping[str, Any] = self.received.get("MessageAttributes", {})
        return {
            "messageId": self.message_id,
            "body": self.body,
            "attributes": dict(self.received.get("Attributes", {})),
            "messageAttributes": {
                name: {"stringValue": value.get("StringValue"), "dataType": value.get("DataType")}
                for name, value in attributes.items()
            },
        }


class DeadLetterQueue:
    """One dead-letter queue. Methods raise botocore's ClientError when SQS refuses."""

    def __init__(self, sqs: SQSClient, url: str) -> None:
        self._sqs = sqs
        self.url = url

    def read(self, *, seconds: float = _READING_S) -> Generator[DeadLetter, None, None]:
        """Yield each message once, for as long as there are some and time is left; then show all again.

        Close it (``contextlib.closing``) if it may not be read to its end.

        Whatever the reader deletes meanwhile is gone.
        """
        # Half of the time is for reading, the other for showing again, which takes as many calls.
        deadline = time.monotonic() + min(seconds, _READING_S) / 2
        seen: dict[str, str] = {}
        try:
            while time.monotonic() < deadline and (messages := self._receive()):
                new = [message for message in messages if message["MessageId"] not in seen]
                # All of them before any is handed out: the reader may stop at the first.
                seen |= {message["MessageId"]: message["ReceiptHandle"] for message in messages}
                yield from map(_letter, new)
        finally:
            self._show(list(seen.values()))

    def _receive(self) -> Sequence[MessageTypeDef]:
        answer = self._sqs.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=_BATCH,
            VisibilityTimeout=_HIDDEN_S,
            WaitTimeSeconds=_WAIT_S,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["All"],
        )
        return answer.get("Messages", [])

    def _show(self, handles: Sequence[str]) -> None:
        """Make them visible at once; one that was deleted or moved meanwhile is refused, which does no harm."""
        for start in range(0, len(handles), _BATCH):
            self._sqs.change_message_visibility_batch(
                QueueUrl=self.url,
                Entries=[
                    {"Id": str(n), "ReceiptHandle": handle, "VisibilityTimeout": 0}
                    for n, handle in enumerate(handles[start : start + _BATCH])
                ],
            )


def _letter(message: MessageTypeDef) -> DeadLetter:
    return DeadLetter(
        message_id=message["MessageId"],
        receipt_handle=message["ReceiptHandle"],
        body=message["Body"],
        sent_at=int(message.get("Attributes", {}).get("SentTimestamp", "0")),
        received=message,
    )
