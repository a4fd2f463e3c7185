"""The work queues: where jobs wait for their executor, one message a job.

The batch simulator consumes that of ``lambda``, which makes it its executor; the starter takes from the others.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from sluice_core.clients import is_transient
from sluice_core.executors import Retry, Started, StartResult
from sluice_core.jobs import JobKey, Submission
from sluice_core.requests import InvalidRequest, MalformedMessage
from sluice_core.slots import new_token

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


class WorkQueueExecutor:
    """Starts a job by a message on a work queue: all that ``lambda`` needs, and the first step of the others.

    The message group is the owner, so that SQS's fair queues keep one busy owner from delaying the rest.
    """

    def __init__(self, sqs: SQSClient, queue_url: str) -> None:
        self._sqs = sqs
        self._queue_url = queue_url

    def check(self, submission: Submission) -> None:
        """Refuse a job whose message is larger than SQS takes: the request fitted, but its form is another.

        Each message of it counts, that of a later start, too.

        Raises
        ------
        InvalidRequest
            The message is too large.

        """
        longest = replace(submission, is_again=True, start_token=new_token(0))
        if len(work_message(longest).encode()) > _BATCH_BYTES:
            raise InvalidRequest(submission, "the parameters are too large to be queued")

    def start(self, submissions: Sequence[Submission], *, delay_s: int = 0) -> list[StartResult]:
        """Enqueue each job, to be taken from the queue after the delay (at most 900 s) at the earliest.

        Raises
        ------
        botocore.exceptions.ClientError
            For what no retry mends, such as a missing grant.

        """
        results: list[StartResult] = []
        for batch in _within_limits([(one, work_message(one)) for one in submissions]):
            results += self._send([_entry(n, *one, delay_s) for n, one in enumerate(batch)])
        return results

    def _send(self, entries: list[SendMessageBatchRequestEntryTypeDef]) -> list[StartResult]:
        try:
            answer = self._sqs.send_message_batch(QueueUrl=self._queue_url, Entries=entries)
        except (ClientError, BotoCoreError) as error:
            if not is_transient(error):
                raise
            return [Retry(type(error).__name__)] * len(entries)
        results: dict[str, StartResult] = {one["Id"]: Retry(one["Code"]) for one in answer.get("Failed", [])}
        results |= {one["Id"]: Started(one["MessageId"]) for one in answer.get("Successful", [])}
        return [results[entry["Id"]] for entry in entries]

    def stop(self, handle: str, reason: str) -> None:
        """Stop nothing: who comes for the message asks the ledger, and a worker does with each heartbeat."""


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
            start_token=message.get("startToken", ""),
            trace_header=trace_header,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise MalformedMessage("not a work message of this version") from error


def _entry(number: int, submission: Submission, message: str, delay_s: int) -> SendMessageBatchRequestEntryTypeDef:
    entry: SendMessageBatchRequestEntryTypeDef = {
        "Id": str(number),
        "MessageBody": message,
        "MessageGroupId": submission.key.owner,
    }
    if delay_s:
        entry["DelaySeconds"] = delay_s
    if submission.trace_header:
        # The job's own: by itself the SDK would send the invocation's, which is another's or nobody's.
        header = {"DataType": "String", "StringValue": submission.trace_header}
        entry["MessageSystemAttributes"] = {"AWSTraceHeader": header}  # type: ignore[dict-item]
    return entry


def work_message(submission: Submission) -> str:
    """Return the message that `read_work_message` reads, as SQS takes it."""
    message: Mapping[str, Any] = {
        "owner": submission.key.owner,
        "jobId": submission.key.job_id,
        "jobType": submission.job_type,
        "parameters": submission.parameters,
        "submittedAt": submission.submitted_at,
        **({"again": True} if submission.is_again else {}),
        **({"startToken": submission.start_token} if submission.start_token else {}),
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
