"""Messages of no shape that anybody here writes: put into both queues, and taken out again once they have died."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from sluice_harness.ops.letters import depth, read_once

if TYPE_CHECKING:
    from sluice_harness.review.collect import Observer

_CALL_ENTRIES = 10
_TRIES = 3


class Malformed:
    """A session's malformed messages; each says whose it is, so that nobody else's are taken for them."""

    def __init__(self, observer: Observer, count: int) -> None:
        self._observer = observer
        self.count = count
        self.bodies: frozenset[str] = frozenset(
            f"malformed message {number} of load test {secrets.token_hex(8)}" for number in range(count)
        )

    def put(self) -> None:
        """Put each into both queues."""
        bodies = sorted(self.bodies)
        for queue in self._observer.queues().values():
            for start in range(0, len(bodies), _CALL_ENTRIES):
                entries = [
                    {"Id": str(number), "MessageBody": body}
                    for number, body in enumerate(bodies[start : start + _CALL_ENTRIES])
                ]
                answer = self._observer.sqs.send_message_batch(QueueUrl=queue.url, Entries=entries)  # type: ignore[arg-type]
                if answer.get("Failed"):
                    raise OSError(f"SQS did not take {len(answer['Failed'])} malformed messages")

    def take_out(self) -> int:
        """Delete those that have become dead letters, and no others; return how many there were."""
        found: set[str] = set()
        for name, queue in self._observer.queues().items():
            for _ in range(_TRIES):  # another reader may hide some
                for letter in read_once(self._observer.sqs, name, queue):
                    if letter.message.body in self.bodies:
                        handle = letter.message.receipt_handle
                        self._observer.sqs.delete_message(QueueUrl=queue.dlqUrl, ReceiptHandle=handle)
                        found.add(letter.message.message_id)
                if not depth(self._observer.sqs, queue.dlqUrl):
                    break
        return len(found)
