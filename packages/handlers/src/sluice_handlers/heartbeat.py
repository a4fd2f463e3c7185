"""The heartbeat: while work runs, its lease and its message's visibility are renewed, and a lost job is noticed.

Ordinary jobs end before the first beat and pay for none. A worker that dies stops beating, so that after long
work its lease lapses and its message comes back within half a minute and not after the queue's own timeout.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol, Self

from sluice_core.jobs import now_ms
from sluice_core.leases import BEAT_EVERY_S, lease_until
from sluice_core.ledger import Outcome

from sluice_handlers.telemetry import logger

if TYPE_CHECKING:
    from types import TracebackType

    from sluice_core.ledger import Attempt, JobLedger, Write

    from sluice_handlers.batches import Batch

# The message comes back soon after the lease has lapsed, not before.
_VISIBLE_AFTER_S = 40


class LambdaContext(Protocol):
    """What the handler needs of Lambda's context object."""

    @property
    def aws_request_id(self) -> str:
        """The invocation's id, which finds its lines in the logs."""
        ...

    def get_remaining_time_in_millis(self) -> int:
        """Return the time until Lambda ends this invocation, in ms."""
        ...


class Heartbeat:
    """Renews the leases of an invocation's claimed jobs on a thread of its own, inside a ``with`` block."""

    def __init__(self, ledger: JobLedger, batch: Batch, context: LambdaContext) -> None:
        self._ledger = ledger
        self._batch = batch
        self._context = context
        self._stops: dict[Attempt, threading.Event] = {}
        self._held: set[Attempt] = set()
        self._lost: dict[Attempt, Write] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat_until_ended, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Lambda freezes what runs on after the handler: a beat in the next invocation would be of no one's job.
        self._ended.set()
        self._thread.join()

    def lease_until(self, now_ms: int) -> int:
        """Return until when a lease lasts that begins now; no longer than this function, which may be killed."""
        return lease_until(now_ms, self._context.get_remaining_time_in_millis())

    def hold(self, attempt: Attempt) -> threading.Event:
        """Renew an attempt's lease from now on; the event is set once its job is lost."""
        if attempt not in self._lost:
            self._held.add(attempt)
        return self._stops.setdefault(attempt, threading.Event())

    def let_go(self, attempt: Attempt) -> None:
        """Renew an attempt's lease no longer: it has ended or is given back."""
        self._held.discard(attempt)

    def loss(self, attempt: Attempt) -> Write | None:
        """Return the refusal that says who has the job now, or None while it is ours as far as we know."""
        return self._lost.get(attempt)

    def _beat_until_ended(self) -> None:
        while not self._ended.wait(BEAT_EVERY_S):
            try:
                self._beat()
            except Exception as error:
                # The work goes on: without a lease it cannot end the job wrongly, only in vain.
                logger.warning("heartbeat failed", error=type(error).__name__)

    def _beat(self) -> None:
        held = list(self._held)
        if not held:
            return
        writes = self._ledger.renew(held, self.lease_until(now_ms()))
        for attempt, write in zip(held, writes, strict=True):
            if write.outcome is Outcome.REFUSED:
                self._lose(attempt, write)
        self._batch.extend(_VISIBLE_AFTER_S)

    def _lose(self, attempt: Attempt, write: Write) -> None:
        if attempt in self._held:  # else it ended by itself between the snapshot and the renewal
            self._lost[attempt] = write
            self._held.discard(attempt)
            self._stops[attempt].set()
