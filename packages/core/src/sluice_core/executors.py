"""The executor port: the only way work begins.

The default executor hands jobs to the work queue, whose consumer is the batch simulator.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Protocol

from sluice_core.jobs import JobKey, Submission
from sluice_core.requests import InvalidRequest, MalformedMessage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

# SendMessageBatch: ten entries, 1 MiB in all (Amazon SQS, "Quotas related to messages").
_BATCH_ENTRIES = 10
_BATCH_BYTES = 1_048_576
# What a JSON string may hold and an SQS message may not (SendMessage, "MessageBody"): escaped like control
# characters, lest one client's half of a surrogate pair fail the whole batch.
_UNSENDABLE = re.compile("[\ud800-\udfff\ufffe\uffff]")


class Executor(Protocol):
    """Starts work for jobs that are on record."""

    def check(self, submission: Submission) -> None:
        """Refuse, before it is on record, a job that could never be started.

        Raises
        ------
        InvalidRequest
            It is larger than this executor can carry.

        """
        ...

    def start(self, submissions: Sequence[Submission]) -> set[JobKey]:
        """Start each job and return the keys of those that did not start and may be tried again."""
        ...


class WorkQueueExecutor:
    """The ``lambda`` executor: one message a job on the work queue.

    The message group is the owner, so that SQS's fair queues keep one busy owner from delaying the rest.
    """

    def __init__(self, sqs: SQSClient, queue_url: str) -> None:
        self._sqs = sqs
        self._queue_url = queue_url

    def check(self, submission: Submission) -> None:
        """Refuse a job whose message is larger than SQS takes: the request fitted, but its form is another.

        Raises
        ------
        InvalidRequest
            The message is too large.

        """
        if len(_message(submission).encode()) > _BATCH_BYTES:
            raise InvalidRequest(submission, "the parameters are too large to be queued")

    def start(self, submissions: Sequence[Submission]) -> set[JobKey]:
        """Enqueue each job; the keys returned are of those that SQS refused.

        Raises
        ------
        botocore.exceptions.ClientError
            The whole call failed; nothing of it is known to be queued.

        """
        refused: set[JobKey] = set()
        for batch in _within_limits([(one, _message(one)) for one in submissions]):
            answer = self._sqs.send_message_batch(
                QueueUrl=self._queue_url, Entries=[_entry(n, *one) for n, one in enumerate(batch)]
            )
            refused.update(batch[int(failure["Id"])][0].key for failure in answer.get("Failed", []))
        return refused


def read_work_message(body: str, trace_header: str = "") -> Submission:
    """Return the job in a work-queue message, and with it the trace that the message carries beside its body.

    Raises
    ------
    MalformedMessage
        The message was not written by `WorkQueueExecutor`.

    """
    try:
        message = json.loads(body)
        return Submission(
            key=JobKey(message["owner"], message["jobId"]),
            job_type=message["jobType"],
            parameters=message["parameters"],
            submitted_at=int(message["submittedAt"]),
            is_again="again" in message,
            trace_header=trace_header,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise MalformedMessage("not a work message of this version") from error


def _entry(number: int, submission: Submission, message: str) -> SendMessageBatchRequestEntryTypeDef:
    entry: SendMessageBatchRequestEntryTypeDef = {
        "Id": str(number),
        "MessageBody": message,
        "MessageGroupId": submission.key.owner,
    }
    if submission.trace_header:
        # The job's own: by itself the SDK would send the invocation's, which is another's or nobody's.
        header = {"DataType": "String", "StringValue": submission.trace_header}
        entry["MessageSystemAttributes"] = {"AWSTraceHeader": header}  # type: ignore[dict-item]
    return entry


def _message(submission: Submission) -> str:
    message: Mapping[str, Any] = {
        "owner": submission.key.owner,
        "jobId": submission.key.job_id,
        "jobType": submission.job_type,
        "parameters": submission.parameters,
        "submittedAt": submission.submitted_at,
        **({"again": True} if submission.is_again else {}),
    }
    text = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
    return _UNSENDABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _within_limits(messages: Sequence[tuple[Submission, str]]) -> Iterator[list[tuple[Submission, str]]]:
    """Cut into batches that SQS accepts, by number and by size."""
    batch: list[tuple[Submission, str]] = []
    size = 0
    for submission, message in messages:
        length = len(message.encode())
        if batch and (len(batch) == _BATCH_ENTRIES or size + length > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((submission, message))
        size += length
    if batch:
        yield batch
