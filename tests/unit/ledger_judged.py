"""The ledger as everyone uses it, each of whose calls is judged as soon as it is made."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from sluice_core.ledger import JobLedger
from unit.ledger_model import ALLOWANCE_MS, Deed, history_with_end

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from sluice_core.jobs import Job, JobError, JobKey, StoredResult, Submission
    from sluice_core.ledger import Attempt, Start, Write
    from unit.ledger_world import LineWire

    Judge = Callable[[list[Deed]], None]

_T = TypeVar("_T")


class JudgedLedger(JobLedger):
    """The ledger, and a judge who is told of each write: whether it took effect, and what its actor was told.

    Attributes
    ----------
    late : list
        Calls that are still on their way, with their deeds.

    """

    def __init__(self, wire: LineWire, table: str, retention_s: int, judge: Judge) -> None:
        super().__init__(wire, table, retention_s)  # type: ignore[arg-type]
        self._wire = wire
        self._judge = judge
        self.late: list[tuple[Any, list[Deed]]] = []

    def record(self, submissions: Sequence[Submission]) -> list[Write]:
        deeds = [Deed("record", one.key, says=one.digest) for one in submissions]
        return self._judged(deeds, lambda: super(JudgedLedger, self).record(submissions))

    def claim(
        self, attempts: Sequence[Attempt], now_ms: int, lease_until_ms: int, handle: str = ""
    ) -> list[Write]:
        ends = lease_until_ms - ALLOWANCE_MS
        deeds = [Deed("claim", one.key, one.token, None, ends, ends) for one in attempts]
        claim = super().claim
        return self._judged(deeds, lambda: claim(attempts, now_ms, lease_until_ms, handle))

    def claim_started(self, attempt: Attempt, start_token: str, now_ms: int, lease_until_ms: int) -> Write:
        ends = lease_until_ms - ALLOWANCE_MS
        deed = Deed("claim_started", attempt.key, attempt.token, None, ends, ends, start=start_token)
        claim = super().claim_started
        [write] = self._judged([deed], lambda: [claim(attempt, start_token, now_ms, lease_until_ms)])
        return write

    def renew(self, attempts: Sequence[Attempt], lease_until_ms: int) -> list[Write]:
        ends = lease_until_ms - ALLOWANCE_MS
        deeds = [Deed("renew", one.key, one.token, ends, ends, ends) for one in attempts]
        return self._judged(deeds, lambda: super(JudgedLedger, self).renew(attempts, lease_until_ms))

    def complete(self, done: Sequence[tuple[Attempt, StoredResult]], now_ms: int) -> list[Write]:
        deeds = [Deed("complete", one.key, one.token, says=result) for one, result in done]
        return self._judged(deeds, lambda: super(JudgedLedger, self).complete(done, now_ms))

    def fail(self, failed: Sequence[tuple[Attempt, JobError]], now_ms: int) -> list[Write]:
        deeds = [Deed("fail", one.key, one.token, says=error) for one, error in failed]
        return self._judged(deeds, lambda: super(JudgedLedger, self).fail(failed, now_ms))

    def release(self, attempts: Sequence[Attempt]) -> list[Write]:
        deeds = [Deed("release", one.key, one.token) for one in attempts]
        return self._judged(deeds, lambda: super(JudgedLedger, self).release(attempts))

    def cancel(self, key: JobKey, now_ms: int) -> Write:
        deed, cancel = Deed("cancel", key, says=now_ms), super().cancel
        [write] = self._judged([deed], lambda: [cancel(key, now_ms)])
        return write

    def abort(self, key: JobKey, error: JobError, now_ms: int) -> Write:
        deed, abort = Deed("abort", key, says=(error, now_ms)), super().abort
        [write] = self._judged([deed], lambda: [abort(key, error, now_ms)])
        return write

    def reopen(self, failed: Job, now_ms: int, held_until_ms: int) -> Write:
        until = held_until_ms - ALLOWANCE_MS
        deed, reopen = Deed("reopen", failed.key, says=history_with_end(failed), until=until), super().reopen
        [write] = self._judged([deed], lambda: [reopen(failed, now_ms, held_until_ms)])
        return write

    def begin(self, starts: Sequence[Start], now_ms: int) -> list[Write]:
        deeds = [Deed("begin", one.key, start=one.token, after=one.after) for one in starts]
        return self._judged(deeds, lambda: super(JudgedLedger, self).begin(starts, now_ms))

    def note_handles(self, started: Sequence[tuple[Start, str]], now_ms: int) -> list[Write]:
        deeds = [Deed("note", one.key, says=handle, start=one.token) for one, handle in started]
        return self._judged(deeds, lambda: super(JudgedLedger, self).note_handles(started, now_ms))

    def fail_started(self, failed: Sequence[tuple[Start, JobError]], now_ms: int) -> list[Write]:
        deeds = [Deed("fail_started", one.key, says=(error, now_ms), start=one.token) for one, error in failed]
        return self._judged(deeds, lambda: super(JudgedLedger, self).fail_started(failed, now_ms))

    def close(self, starts: Sequence[Start]) -> list[Write]:
        deeds = [Deed("close", one.key, start=one.token) for one in starts]
        return self._judged(deeds, lambda: super(JudgedLedger, self).close(starts))

    def _judged(self, deeds: list[Deed], call: Callable[[], list[Write]]) -> list[Write]:
        if not deeds:
            return call()
        writes: list[Write] = []
        try:
            writes = call()
        finally:  # whoever dies of it is told nothing
            done = zip(deeds, self._wire.done, strict=True)
            deeds_done = [replace(deed, done=is_done) for deed, is_done in done]
            if self._wire.on_its_way is not None:
                self.late.append((self._wire.on_its_way, deeds))
            if writes:
                told = zip(deeds_done, writes, strict=True)
                deeds_done = [replace(deed, outcome=write.outcome, told=write.job) for deed, write in told]
            self._judge(deeds_done)
        return writes

    def arrive(self, number: int) -> None:
        """Let a call arrive that was on its way; nobody waits for its answer."""
        statements, deeds = self.late.pop(number % len(self.late))
        self._wire.arrive(statements)
        done = zip(deeds, self._wire.done, strict=True)
        self._judge([replace(deed, done=is_done) for deed, is_done in done])
