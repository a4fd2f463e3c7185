"""What the functions work on, and what a test does with it: queues, the result bucket, their output."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unit.emf import complaints
from unit.lambda_events import ANN, received_record, request_attributes

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient


@dataclass(frozen=True)
class WorkQueue:
    """A queue, and what a test does with it."""

    sqs: SQSClient
    url: str

    @property
    def arn(self) -> str:
        return f"arn:aws:sqs:us-east-1:000000000000:{self.url.rpartition('/')[2]}"

    def let_send(self, service: str, source_arn: str) -> None:
        """Let a service of AWS send messages in the name of one of its resources."""
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": service},
            "Action": "sqs:SendMessage",
            "Resource": self.arn,
            "Condition": {"ArnEquals": {"aws:SourceArn": source_arn}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.sqs.set_queue_attributes(QueueUrl=self.url, Attributes={"Policy": policy})

    def receive(self) -> list[dict[str, Any]]:
        """Take all messages there are."""
        messages: list[Any] = []
        while batch := self.sqs.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=10,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        ).get("Messages"):
            messages += batch
        return messages

    def job_ids(self) -> list[str]:
        """Take all messages and say whose they are."""
        return sorted(json.loads(message["Body"])["jobId"] for message in self.receive())

    def deliver(self) -> list[dict[str, Any]]:
        """Take all messages there are, as Lambda delivers them."""
        return [received_record(message) for message in self.receive()]

    def show(self, *records: Mapping[str, Any], after_s: int = 0) -> None:
        """Make messages visible: at once, or after so long."""
        for record in records:
            self.sqs.change_message_visibility(
                QueueUrl=self.url, ReceiptHandle=record["receiptHandle"], VisibilityTimeout=after_s
            )

    def delete(self, *records: Mapping[str, Any]) -> None:
        for record in records:
            self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=record["receiptHandle"])

    def depth(self) -> tuple[int, int]:
        """Return how many messages are visible, and how many are hidden."""
        attributes = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["All"])["Attributes"]
        return (
            int(attributes["ApproximateNumberOfMessages"]),
            int(attributes["ApproximateNumberOfMessagesNotVisible"]),
        )

    def send_request(
        self,
        job_id: str,
        body: Any,
        *,
        owner: str = ANN,
        at: int = 1_790_000_000_000,
        request_id: str = "request-1",
    ) -> None:
        """Send a request as the gateway does."""
        self.sqs.send_message(
            QueueUrl=self.url,
            MessageBody=body if isinstance(body, str) else json.dumps(body),
            MessageGroupId=owner,
            MessageAttributes={
                name: {"DataType": "String", "StringValue": value}
                for name, value in request_attributes(job_id, owner, at, request_id).items()
            },
        )


@dataclass(frozen=True)
class Bucket:
    """The result bucket."""

    s3: S3Client
    name: str

    def keys(self) -> list[str]:
        listed = self.s3.list_objects_v2(Bucket=self.name)
        return [one["Key"] for one in listed.get("Contents", [])]

    def read(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=self.name, Key=key)["Body"].read()


class Output:
    """What a function printed: log lines and EMF documents, one JSON object a line."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture
        self._text = ""

    @property
    def text(self) -> str:
        """Everything so far, standard error included."""
        self._text += "".join(self._capture.readouterr())
        return self._text

    def forget(self) -> None:
        """Let what was printed so far be another's."""
        self._capture.readouterr()
        self._text = ""

    @property
    def logs(self) -> list[dict[str, Any]]:
        return [line for line in self._lines() if "_aws" not in line]

    @property
    def emf(self) -> list[dict[str, Any]]:
        """The EMF documents, each of which CloudWatch would take, and the catalogue explains."""
        documents = [line for line in self._lines() if "_aws" in line]
        assert [complaint for one in documents for complaint in complaints(one)] == []
        return documents

    def values(self, metric: str) -> list[float]:
        """Return all datapoints of one metric, in order."""
        return [value for document in self.emf for value in document.get(metric, [])]

    def _lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]
