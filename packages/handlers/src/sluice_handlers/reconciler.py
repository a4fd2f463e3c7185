"""Runs on a schedule: asks the services about executions whose end nobody has told, and puts slots right.

Only rows whose execution is not closed are in its index, so that a look costs as much as there is running.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError
from sluice_core import clients, metrics
from sluice_core.executors import CANCELLED, MAX_START_S, TIMED_OUT, Execution, ExecutionState
from sluice_core.jobs import now_ms
from sluice_core.slots import token_time

from sluice_handlers.pools import Pools
from sluice_handlers.settling import Settlement, Settler
from sluice_handlers.signals import Waker, stop
from sluice_handlers.telemetry import Measurements, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sluice_core.jobs import Job, JobKey

    from sluice_handlers.heartbeat import LambdaContext

# How many executions of an executor are looked into in one run; they are drawn by lot, so each has its turn.
_SAMPLE = 100
# An event comes within seconds as a rule; who asks as soon does the work twice.
_EVENT_MS = 2 * 60_000
_START_MS = MAX_START_S * 1000
# Of an ended job a start is tried no more.
_UNMADE_MS = 5 * 60_000
# A starter lives for a minute: nobody holds a slot for so long before the start that it is for has begun.
_SLOT_MS = 3 * 60_000
# Work is to end by itself when its time is up; what does not is stopped so much later.
_GRACE_MS = 5 * 60_000
_RESERVE_MS = 10_000

_pools = Pools.connect(os.environ)
_waker = Waker(clients.lambda_, os.environ["STARTER"])


def handler(_event: object, context: LambdaContext) -> dict[str, int]:
    """Look after all external executors; return how many executions were asked about, and how many were over."""

    def has_time() -> bool:
        return context.get_remaining_time_in_millis() > _RESERVE_MS

    with Measurements() as measured:
        reconciliation = Reconciliation(_pools, _waker, measured, has_time)
        # Where one of them fails, none is always behind it.
        for executor in random.sample(list(_pools.by_executor), len(_pools.by_executor)):
            reconciliation.look_after(executor)
    return {"asked": reconciliation.asked, "settled": reconciliation.settled}


class Reconciliation:
    """One run over the executors.

    Attributes
    ----------
    asked, settled : int
        How many executions were asked about, and how many of them were over.

    """

    def __init__(self, pools: Pools, waker: Waker, measured: Measurements, has_time: Callable[[], bool]) -> None:
        self._pools = pools
        self._waker = waker
        self._measured = measured
        self._has_time = has_time
        self._settler = Settler(pools, measured)
        self.asked = 0
        self.settled = 0

    def look_after(self, executor: str) -> None:
        """Settle, stop and free what nobody else does."""
        held = self._pools.slots.held(executor)
        running = self._pools.ledger.executing(executor)
        self._measured.add(metrics.EXECUTIONS_RUNNING, len(running), executor=executor)
        due = self._due(executor, running)
        try:
            self._ask(executor, [row for row in due if row.handle])
            for row in due:
                if not row.handle:
                    self._settle(executor, _lost(row))
        finally:  # one that cannot be settled keeps no other's slot
            self._waker.wake(self._settler.free_slots() | self._free_forgotten(executor, held, running))

    def _due(self, executor: str, running: Mapping[JobKey, int]) -> list[Job]:
        """Return some of the executions that may be over without anybody having said so.

        Rows may lag by a second: whoever settles one reads it again.
        """
        old = [key for key, since in running.items() if since + _EVENT_MS < now_ms()]
        rows = self._pools.ledger.get_many(old)
        due = [row for row in rows.values() if row.executing == executor and _is_due(row)]
        return random.sample(due, min(_SAMPLE, len(due)))

    def _ask(self, executor: str, rows: Sequence[Job]) -> None:
        service = self._pools.by_executor[executor].service
        try:
            found = service.look([row.handle for row in rows]) if rows else {}
        except (ClientError, BotoCoreError) as error:
            if not clients.is_transient(error):
                raise
            logger.warning("not asked", executor=executor, error=type(error).__name__)
            return
        self.asked += len(rows)
        for row in rows:
            execution = found.get(row.handle) or _lost(row)
            if execution.state is not ExecutionState.OPEN:
                self._settle(executor, execution)
            elif (reason := self._reason_to_stop(executor, row, execution)) and self._has_time():
                stop(service, executor, row.key, row.handle, reason)

    def _reason_to_stop(self, executor: str, row: Job, execution: Execution) -> str | None:
        if not row.status.is_open:
            return CANCELLED
        if execution.began_at is None:  # it waits for its host, and its time has not begun
            return None
        may_end_at = execution.began_at + self._pools.by_executor[executor].timeout_s * 1000 + _GRACE_MS
        return TIMED_OUT if may_end_at < now_ms() else None

    def _settle(self, executor: str, execution: Execution) -> None:
        if self._has_time() and self._settler.settle(executor, execution) is Settlement.CLOSED:
            self._measured.add(metrics.COMPLETIONS_RECONCILED)
            self.settled += 1

    def _free_forgotten(self, executor: str, held: set[str], running: Mapping[JobKey, int]) -> set[str]:
        """Free slots that are held for no execution: whoever took them or was to free them has died.

        Rows are read only if there are more old slots than old executions.
        """
        old = now_ms() - _SLOT_MS
        suspects = {token for token in held if token_time(token) < old}
        if len(suspects) <= sum(since < old for since in running.values()):
            return set()
        rows = self._pools.ledger.get_many(running, consistent=True)
        forgotten = suspects - {row.start_token for row in rows.values()}
        if not forgotten:
            return set()
        logger.warning("slots freed", executor=executor, slots=len(forgotten))
        self._pools.slots.free(executor, forgotten)
        return {executor}


def _is_due(row: Job) -> bool:
    """Whether an execution may be over without anybody having said so."""
    now, is_open = now_ms(), row.status.is_open
    # Whoever renews a lease lives. A workflow never renews its own, which lasts for as long as it may take.
    if is_open and (row.lease_until or 0) > now and not (row.handle and row.attempt == row.start_token):
        return False
    without_handle_ms = _START_MS if is_open else _UNMADE_MS
    patience_ms = _EVENT_MS if row.handle else without_handle_ms
    # What was made long after its start had begun is not known everywhere in its service at once.
    noted_at = row.noted_at if row.handle else None
    return max(noted_at or row.executing_since or 0, row.ended_at or 0) + patience_ms < now


def _lost(row: Job) -> Execution:
    return Execution(row.key, row.start_token, row.handle, ExecutionState.LOST)
