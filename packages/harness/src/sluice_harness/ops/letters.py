"""Dead letters and whose they are."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sluice_core.configured import read_state_change
from sluice_core.dead_letters import DeadLetterQueue
from sluice_core.requests import MalformedMessage, read_provenance
from sluice_core.work_queue import read_work_message

if TYPE_CHECKING:
    from collections.abc import Generator

    from mypy_boto3_sqs import SQSClient
    from sluice_core.dead_letters import DeadLetter
    from sluice_core.jobs import JobKey

    from sluice_harness.description import Queue
    from sluice_harness.ops.stage import Access

_VISIBLE: Final = "ApproximateNumberOfMessages"
_HIDDEN: Final = "ApproximateNumberOfMessagesNotVisible"
# The sweeper hides messages for as long as it reads; waiting for it beats missing them.
_PATIENCE_S = 10.0
_PAUSE_S = 0.5
# What lies in its dead-letter queue are events, and not jobs' messages.
COMPLETION: Final = "completion"


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter.

    Attributes
    ----------
    queue : str
        The queue that it was meant for: ``request``, ``work``, an external executor's or ``completion``.
    key : JobKey or None
        Whose it is, or None if it is malformed.
    complaint : str
        What is wrong with a malformed one.
    submitted_at : int
        When the gateway took its request, in epoch milliseconds; two of one client token differ in it.
    start_token : str
        The start of an external executor that failed, or that is to be followed by another.

    """

    queue: str
    message: DeadLetter
    key: JobKey | None
    job_type: str = ""
    complaint: str = ""
    submitted_at: int = 0
    start_token: str = ""

    @property
    def receives(self) -> int:
        """How often it was received, by readers of the dead-letter queue, too."""
        return int(self._attribute("ApproximateReceiveCount"))

    @property
    def first_received_at(self) -> int:
        """When it was first received, in epoch milliseconds."""
        return int(self._attribute("ApproximateFirstReceiveTimestamp"))

    @property
    def attributes(self) -> dict[str, str]:
        """What SQS and the sender noted on it; no payload."""
        noted = {str(name): value for name, value in self.message.received.get("Attributes", {}).items()}
        record = self.message.as_record()["messageAttributes"]
        return noted | {name: str(value["stringValue"]) for name, value in record.items()}

    def _attribute(self, name: str) -> str:
        attributes: dict[Any, str] = dict(self.message.received.get("Attributes", {}))
        return attributes.get(name, "0")


@dataclass(slots=True)
class Reading:
    """What a dead-letter queue held when it was read, oldest first, and how much could not be seen."""

    queue: str
    letters: list[Letter] = field(default_factory=list)
    unseen: int = 0


def read_all(access: Access, only: str | None = None) -> list[Reading]:
    """Read the dead-letter queues, all at once; what is read is hidden meanwhile, and stays."""
    sqs, queues = access.sqs, access.queues(only)
    with ThreadPoolExecutor(len(queues)) as pool:
        return list(pool.map(lambda one: _read(sqs, *one), queues.items()))


def read_once(sqs: SQSClient, name: str, queue: Queue) -> Generator[Letter, None, None]:
    """Yield each message that is visible; whatever is deleted meanwhile is gone."""
    read = _OTHERS.get(name) or partial(_work, name)
    for message in DeadLetterQueue(sqs, queue.dlqUrl).read():
        yield read(message)


def depth(sqs: SQSClient, url: str) -> int:
    """Return how many messages a queue holds, those in flight included; SQS counts approximately."""
    return sum(depths(sqs, url))


def depths(sqs: SQSClient, url: str) -> tuple[int, int]:
    """Return how many messages of a queue are visible, and how many in flight; SQS counts approximately."""
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[_VISIBLE, _HIDDEN])["Attributes"]
    return int(counts[_VISIBLE]), int(counts[_HIDDEN])


def _read(sqs: SQSClient, name: str, queue: Queue) -> Reading:
    found: dict[str, Letter] = {}
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        found.update((letter.message.message_id, letter) for letter in read_once(sqs, name, queue))
        unseen = max(0, depth(sqs, queue.dlqUrl) - len(found))
        if not unseen or time.monotonic() > deadline:
            letters = sorted(found.values(), key=lambda letter: letter.message.sent_at)
            return Reading(name, letters, unseen)
        time.sleep(_PAUSE_S)


def _request(message: DeadLetter) -> Letter:
    try:
        key, submitted_at = read_provenance(message.as_record())
    except MalformedMessage as error:
        return Letter("request", message, None, complaint=str(error))
    return Letter("request", message, key, _type_in(message.body), submitted_at=submitted_at)


def _type_in(body: str) -> str:
    """Return the job type that a request names; the client wrote it, so it may be anything or nothing."""
    try:
        named = json.loads(body).get("jobType", "")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return named if isinstance(named, str) else ""


def _work(queue: str, message: DeadLetter) -> Letter:
    try:
        one = read_work_message(message.body)
    except MalformedMessage as error:
        return Letter(queue, message, None, complaint=str(error))
    return Letter(
        queue, message, one.key, one.job_type, submitted_at=one.submitted_at, start_token=one.start_token
    )


def _end(message: DeadLetter) -> Letter:
    try:
        execution = read_state_change(json.loads(message.body))
    except (MalformedMessage, ValueError, RecursionError):
        return Letter(COMPLETION, message, None, complaint="not a state change of an executor's service")
    if execution is None:
        return Letter(COMPLETION, message, None, complaint="not the end of an execution of ours")
    return Letter(COMPLETION, message, execution.key)


# Those whose messages are no work.
_OTHERS: Final = {"request": _request, COMPLETION: _end}
