"""Whoever starts jobs, is started for them and settles what became of it joins those who use the ledger.

Each acts for any start that there ever was, however much has happened since: a starter that was slow, a container
that comes up late or twice, an event that comes again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis.stateful import rule
from sluice_core.executors import BATCH, ECS, EXTERNAL
from sluice_core.jobs import JobError
from sluice_core.ledger import Attempt, Start
from unit.ledger_machine import DOINGS, LEASE_MS, Hand, LedgerMachine, Step, steps_of
from unit.ledger_model import ALLOWANCE_MS, Broken, Deed

if TYPE_CHECKING:
    from typing import Any

    from sluice_core.jobs import JobKey

_NOT_STARTED = JobError("NOT_STARTED", "Nobody would start it.")
# `lambda` is there, too, though less busy: a job type may go from one executor to another while its jobs are open.
# What comes first is what hypothesis takes most often.
_DOINGS = {
    "a_job_goes_its_way": 12,
    **DOINGS,
    "a_worker_claims": 2,
    "a_worker_renews": 2,
    "a_worker_completes": 2,
    "a_worker_fails": 2,
    "a_worker_releases": 2,
    "the_sweeper_expires": 2,
    "a_starter_begins": 4,
    "a_starter_begins_again": 1,
    "a_starter_notes": 2,
    "a_container_claims": 4,
    "a_settler_fails_jobs": 6,
    "a_settler_closes": 4,
}


class StartsMachine(LedgerMachine):
    """The ledger's users on a stage with external executors."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._starts: list[Start] = []

    @rule(step=steps_of(_DOINGS))
    def someone_acts(self, step: Step) -> None:
        super().someone_acts(step)

    def teardown(self) -> None:
        """Hold the index against what was begun and is not closed."""
        executing = {key for key, model in self._models.items() if model.is_executing}
        in_the_index = {key for name in EXTERNAL for key in self._ledger.executing(name) if key in self._models}
        if in_the_index != executing:
            raise Broken("the index has the executions that are not closed", in_the_index, executing)

    def a_job_goes_its_way(self, step: Step) -> None:
        """From its start to its end, and anew."""
        model = self._models[self._keys[step.jobs[0]]]
        if model.job is None:
            next_one = self.the_processor_records
        elif not model.job.status.is_open:
            next_one = self.a_settler_closes if model.is_executing else self.a_client_submits
        elif not model.is_executing:
            next_one = self.a_starter_begins
        else:
            next_one = self.a_worker_completes if model.holder else self.a_container_claims
        next_one(replace(step, picks=[0, *step.picks[1:2]]))

    def a_starter_begins(self, step: Step) -> None:
        """In the place of the last start, or, with a message that comes again, of one before it."""
        starts = []
        for job in step.jobs:
            key = self._keys[job]
            known = ["", *dict.fromkeys(one.token for one in self._starts if one.key == key)]
            after = known[-1 - step.picks[-1] % len(known)] if len(step.picks) > 2 else self._models[key].start
            starts.append(Start(key, f"start-{next(self._tokens)}", (BATCH, ECS)[step.worker % 2], after))
        self._starts += starts
        self._begin(step, starts)

    def a_starter_begins_again(self, step: Step) -> None:
        """Since it was not answered."""
        self._begin(step, self._picked_starts(step))

    def a_starter_notes(self, step: Step) -> None:
        if started := [(one, f"handle-{next(self._tokens)}") for one in self._picked_starts(step)]:
            deeds = [Deed("note", one.key, says=handle, start=one.token) for one, handle in started]
            self._act(step, deeds, lambda: self._ledger.note_handles(started, self._now))

    def a_container_claims(self, step: Step) -> None:
        """One of those that were started, perhaps the second of one start."""
        for one in self._picked_starts(step)[:1]:
            attempt, ends = Attempt(one.key, f"attempt-{next(self._tokens)}"), self._now + LEASE_MS
            hand = Hand(step.worker, attempt, ends, is_container=True)
            deed = Deed("claim_started", one.key, attempt.token, None, ends, ends, start=one.token)
            now = self._clock([hand])
            lease_until = now + LEASE_MS + ALLOWANCE_MS
            claim = self._ledger.claim_started
            writes = self._act(
                step,
                [deed],
                lambda: [claim(attempt, one.token, now, lease_until)],  # noqa: B023 - called at once
            )
            self._keep([hand], writes)

    def a_settler_fails_jobs(self, step: Step) -> None:
        if failed := [(one, _NOT_STARTED) for one in self._picked_starts(step)]:
            now = self._now + self._sweepers_off
            deeds = [Deed("fail_started", one.key, says=(error, now), start=one.token) for one, error in failed]
            self._act(step, deeds, lambda: self._ledger.fail_started(failed, now))

    def a_settler_closes(self, step: Step) -> None:
        if starts := self._picked_starts(step):
            deeds = [Deed("close", one.key, start=one.token) for one in starts]
            self._act(step, deeds, lambda: self._ledger.close(starts))

    def _begin(self, step: Step, starts: list[Start]) -> None:
        if starts:
            now = self._now + self._off[step.worker]
            deeds = [Deed("begin", one.key, start=one.token, after=one.after) for one in starts]
            self._act(step, deeds, lambda: self._ledger.begin(starts, now))

    def _picked_starts(self, step: Step) -> list[Start]:
        """Return a start of each of these jobs, most often the last."""
        picked: dict[JobKey, Start] = {}
        for job in step.jobs:
            if starts := [one for one in self._starts if one.key == self._keys[job]]:
                picked[self._keys[job]] = starts[-1 - (step.picks[0] % len(starts) if len(step.picks) > 2 else 0)]
        return list(picked.values())
