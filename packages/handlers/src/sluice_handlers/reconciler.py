"""Runs on a schedule: asks the services about executions whose end nobody has told, and puts slots right.

Only rows whose execution is not closed are in its index, so that a look costs as much as there is running.
"""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError
from sluice_core import clients, metrics
from sluice_core.executors import CANCELLED, TIMED_OUT, Execution, ExecutionState
from sluice_core.slots import token_time

from sluice_handlers.settling import Settlement, Settler, Stage
from sluice_handlers.telemetry import Measurements, logger
from sluice_handlers.wakes import Waker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sluice_core.jobs import Job, JobKey

    from sluice_handlers.heartbeat import LambdaContext

# How many executions of an executor are asked about in one run; they are drawn by lot, so each has its turn.
_SAMPLE = 100
# An event comes within seconds as a rule; who asks as soon does the work twice.
_EVENT_MS = 2 * 60_000
# A start without a handle is tried again as often as its message is received; by then it has been.
_START_MS = 15 * 60_000
# Nobody holds a slot for so long before the start that it is for has begun.
_SLOT_MS = 10 * 60_000
# Work is to end by itself when its time is up; what does not is stopped so much later.
_GRACE_MS = 5 * 60_000
_RESERVE_MS = 10_000

_stage = Stage.connect(os.environ)
_waker = Waker(clients.lambda_, os.environ["STARTER"])
_timeouts_ms = {name: int(os.environ[f"{name.upper()}_TIMEOUT_SECONDS"]) * 1000 for name in _stage.executors}


def handler(_event: object, context: LambdaContext) -> dict[str, int]:
    """Look after all external executors; return how many executions were asked about, and how many were over."""
    with Measurements() as measured:
        round_ = _Round(context, measured)
        # Where one of them fails, none is always behind it.
        for executor in random.sample(list(_stage.executors), len(_stage.executors)):
            round_.look_after(executor)
    return {"asked": round_.asked, "settled": round_.settled}


class _Round:
    """One run over the executors."""

    def __init__(self, context: LambdaContext, measured: Measurements) -> None:
        self._context = context
        self._measured = measured
        self._settler = Settler(_stage, measured)
        self.asked = 0
        self.settled = 0

    def look_after(self, executor: str) -> None:
        """Settle, stop and free what nobody else does."""
        # The slots first: what begins after that is in the index, but its slot is not among these.
        held = _stage.slots.held(executor)
        running = _stage.ledger.executing(executor)
        self._measured.add(metrics.EXECUTIONS_RUNNING, len(running), executor=executor)
        some = random.sample(list(running), min(_SAMPLE, len(running)))
        rows = _stage.ledger.get_many(some, consistent=True)
        due = [row for row in rows.values() if row.executing == executor and _is_due(row)]
        self._ask(executor, [row for row in due if row.handle])
        for row in due:
            if not row.handle:
                self._settle(executor, _lost(row))
        freed = self._settler.free_slots() | self._free_forgotten(executor, held, running)
        _waker.wake(freed)

    def _ask(self, executor: str, rows: Sequence[Job]) -> None:
        try:
            found = _stage.executors[executor].look([row.handle for row in rows]) if rows else {}
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
            elif not row.status.is_open:
                self._stop(executor, row, CANCELLED)
            elif _begun_at(row) + _timeouts_ms[executor] + _GRACE_MS < _now_ms():
                self._stop(executor, row, TIMED_OUT)

    def _settle(self, executor: str, execution: Execution) -> None:
        if self._has_time() and self._settler.settle(executor, execution) is Settlement.CLOSED:
            self._measured.add(metrics.COMPLETIONS_RECONCILED)
            self.settled += 1

    def _stop(self, executor: str, row: Job, reason: str) -> None:
        """Stop an execution; that it has stopped is for its event to tell, or for another run to find."""
        if not self._has_time():
            return
        try:
            _stage.executors[executor].stop(row.handle, reason)
        except (ClientError, BotoCoreError) as error:
            if not clients.is_transient(error):
                raise
            logger.warning("not stopped", jobId=row.key.job_id, executor=executor, error=type(error).__name__)
        else:
            logger.info("execution stopped", jobId=row.key.job_id, executor=executor, reason=reason)

    def _free_forgotten(self, executor: str, held: set[str], running: Mapping[JobKey, int]) -> set[str]:
        """Free slots that are held for no execution: whoever took or had to free them has died.

        Rows are read only if there are more old slots than old executions.
        """
        old = _now_ms() - _SLOT_MS
        suspects = {token for token in held if token_time(token) < old}
        if len(suspects) <= sum(since < old for since in running.values()):
            return set()
        forgotten = suspects - {row.start_token for row in _stage.ledger.get_many(running, consistent=True).values()}
        if not forgotten:
            return set()
        logger.warning("slots freed", executor=executor, slots=len(forgotten))
        _stage.slots.free(executor, forgotten)
        return {executor}

    def _has_time(self) -> bool:
        return self._context.get_remaining_time_in_millis() > _RESERVE_MS


def _is_due(row: Job) -> bool:
    """Whether an execution may be over without anybody having said so."""
    now, is_workflow_s = _now_ms(), row.attempt == row.start_token
    # Whoever renews a lease lives. A workflow never renews its own, which lasts for as long as it may take.
    if row.status.is_open and (row.lease_until or 0) > now and not (is_workflow_s and row.handle):
        return False
    patience_ms = _EVENT_MS if row.handle else _START_MS
    return max(row.executing_since or 0, row.ended_at or 0) + patience_ms < now


def _lost(row: Job) -> Execution:
    return Execution(row.key, row.start_token, row.handle, ExecutionState.LOST)


def _begun_at(row: Job) -> int:
    """Return when an execution began its work, or else when it was started."""
    return max(row.executing_since or 0, row.started_at or 0)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
