"""SQS batches: messages of one job share one fate, and only ids that SQS sent are ever reported back."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sluice_core.jobs import JobKey


class Batch:
    """The messages of one invocation, by job.

    A job may come twice in one batch (SQS delivers at least once, and clients retry); the ledger's batched
    writes take each key once.
    """

    def __init__(self) -> None:
        self._messages: dict[JobKey, list[str]] = defaultdict(list)
        self._failed: list[str] = []

    def add(self, key: JobKey, record: Mapping[str, Any]) -> bool:
        """Note a job's message and say whether it is the job's first in this batch."""
        self._messages[key].append(record["messageId"])
        return len(self._messages[key]) == 1

    def fail_message(self, record: Mapping[str, Any]) -> None:
        """Leave a message that names no job in the queue; redrive will set it aside."""
        self._failed.append(record["messageId"])

    def fail(self, keys: Iterable[JobKey]) -> None:
        """Leave these jobs' messages in the queue, to be delivered again."""
        for key in keys:
            self._failed.extend(self._messages.pop(key, []))

    @property
    def failures(self) -> int:
        """How many messages are left in the queue."""
        return len(self._failed)

    def response(self) -> dict[str, list[dict[str, str]]]:
        """Return what Lambda expects of a function with ReportBatchItemFailures."""
        return {"batchItemFailures": [{"itemIdentifier": message} for message in self._failed]}
