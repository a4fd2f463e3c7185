"""SQS batches: messages of one job share one fate, and only ids that SQS sent are ever reported back.

A message that is left in the queue comes back when its visibility timeout ends, which is six times the function's
timeout: too long for a retry, so each is given a delay of its own (Amazon SQS, "ChangeMessageVisibility").
"""

from __future__ import annotations

import random
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from sluice_handlers.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mypy_boto3_sqs import SQSClient
    from sluice_core.jobs import JobKey

_CALL_ENTRIES = 10  # ChangeMessageVisibilityBatch, Amazon SQS API Reference
_FIRST_DELAY_S, _LONGEST_DELAY_S = 4, 300


def backoff_s(tries: int) -> int:
    """Return how long to wait after so many tries, in seconds.

    Full jitter: anything up to 4, 8, 16 and 32 s after the first four (Amazon Builders' Library, "Timeouts,
    retries, and backoff with jitter").
    """
    longest = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2 ** (tries - 1))
    return round(random.uniform(0, longest))  # noqa: S311 - jitter


class Batch:
    """The messages of one invocation, by job.

    A job may come twice in one batch (SQS delivers at least once, and clients retry); the ledger's batched
    writes take each key once.
    """

    def __init__(
        self, records: Sequence[Mapping[str, Any]], sqs: SQSClient, queue_url: str, max_receives: int
    ) -> None:
        self._records = records
        self._sqs = sqs
        self._queue_url = queue_url
        self._max_receives = max_receives
        self._messages: dict[JobKey, list[Mapping[str, Any]]] = defaultdict(list)
        self._failed: dict[str, tuple[str, int]] = {}  # message -> its receipt handle, and a delay in s

    def add(self, key: JobKey, record: Mapping[str, Any]) -> bool:
        """Note a job's message and say whether it is the job's first in this batch."""
        self._messages[key].append(record)
        return len(self._messages[key]) == 1

    def receives(self, key: JobKey) -> int:
        """How often a job's message was received, this time included; 0 if it is not left here."""
        return max(map(_receives, self._messages.get(key, [])), default=0)

    def is_last_receive(self, key: JobKey) -> bool:
        """Whether a job's message goes to the dead-letter queue if it is left in this one."""
        return any(_receives(record) >= self._max_receives for record in self._messages[key])

    def fail_message(self, record: Mapping[str, Any]) -> None:
        """Leave a message that names no job in the queue; redrive will set it aside."""
        self._leave(record, self._backoff(record))

    def retry(self, keys: Iterable[JobKey]) -> None:
        """Leave these jobs' messages in the queue, to be delivered again after a backoff."""
        for key in keys:
            for record in self._messages.pop(key, []):
                self._leave(record, self._backoff(record))

    def wait(self, key: JobKey, seconds: float) -> None:
        """Leave a job's messages in the queue, to be delivered again after so long."""
        for record in self._messages.pop(key, []):
            self._leave(record, round(seconds))

    def acknowledge(self, keys: Iterable[JobKey]) -> None:
        """Delete jobs' messages now, unless they are left in the queue: this process may not live to its end."""
        records = [record for key in keys for record in self._messages.pop(key, [])]
        for start in range(0, len(records), _CALL_ENTRIES):
            entries = [
                {"Id": str(n), "ReceiptHandle": record["receiptHandle"]}
                for n, record in enumerate(records[start : start + _CALL_ENTRIES])
            ]
            try:
                self._sqs.delete_message_batch(QueueUrl=self._queue_url, Entries=entries)  # type: ignore[arg-type]
            except (ClientError, BotoCoreError) as error:
                logger.warning("not deleted yet", error=type(error).__name__, messages=len(entries))

    def extend(self, seconds: int) -> None:
        """Hide all messages for so long from now, while the invocation goes on."""
        self._change_visibility([(record["receiptHandle"], seconds) for record in self._records])

    @property
    def failures(self) -> int:
        """How many messages are left in the queue."""
        return len(self._failed)

    def put_back(self) -> None:
        """Set the delays of what is left in the queue."""
        self._change_visibility(list(self._failed.values()))

    def response(self) -> dict[str, list[dict[str, str]]]:
        """Set the delays, and return what Lambda expects of a function with ReportBatchItemFailures."""
        self.put_back()
        return {"batchItemFailures": [{"itemIdentifier": message} for message in self._failed]}

    def _leave(self, record: Mapping[str, Any], delay_s: int) -> None:
        self._failed[record["messageId"]] = (record["receiptHandle"], delay_s)

    def _backoff(self, record: Mapping[str, Any]) -> int:
        receives = _receives(record)
        if receives >= self._max_receives:
            return 0  # its next receive is the dead-letter queue's
        return backoff_s(receives)

    def _change_visibility(self, delays: Sequence[tuple[str, int]]) -> None:
        """Do so as far as it goes: a message whose delay could not be set waits for its queue's timeout."""
        for start in range(0, len(delays), _CALL_ENTRIES):
            entries = [
                {"Id": str(n), "ReceiptHandle": handle, "VisibilityTimeout": seconds}
                for n, (handle, seconds) in enumerate(delays[start : start + _CALL_ENTRIES])
            ]
            try:
                self._sqs.change_message_visibility_batch(QueueUrl=self._queue_url, Entries=entries)  # type: ignore[arg-type]
            except (ClientError, BotoCoreError) as error:
                logger.warning("visibility not changed", error=type(error).__name__, messages=len(entries))


def _receives(record: Mapping[str, Any]) -> int:
    return int(record["attributes"]["ApproximateReceiveCount"])
