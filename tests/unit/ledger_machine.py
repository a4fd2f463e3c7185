"""Everyone who uses the ledger, as a hypothesis state machine: each step is one call of one actor.

A worker dies by never calling again, so it dies between any two calls. Every delivery is a step of its own, so
messages come twice, late or never. Time is the machine's own; each clock is off by up to half of the allowance,
so that any two are within it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar, cast

from botocore.exceptions import BotoCoreError, ClientError
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sluice_core.jobs import Conflict, Job, JobError, JobKey, JobStatus, StoredResult, Submission
from sluice_core.ledger import Attempt, JobLedger, Outcome
from sluice_core.rows import conflict_text
from unit.ledger_model import ALLOWANCE_MS, Deed, JobModel, history_with_end
from unit.ledger_wire import Fault, Wire

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Mapping, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient
    from sluice_core.ledger import Write
    from unit.ledger_wire import Statements

_T = TypeVar("_T")

START = 1_790_000_000_000
LEASE_MS = 30_000
HOLD_MS = 40_000
RETENTION_S = 7 * 86_400
_OFF_MS = ALLOWANCE_MS // 2
_LOST = JobError("WORKER_LOST", "The worker vanished.")
_ABORTED = JobError("ABORTED", "An operator ended this job.")
_INVALID = JobError("INVALID_REQUEST", "It can never run.")
_JOBS = 2

_owners = itertools.count(1)

# Who does what, and how often.
DOINGS = {
    "a_worker_claims": 8,
    "a_worker_claims_again": 1,
    "a_worker_renews": 4,
    "a_worker_completes": 3,
    "a_worker_fails": 4,
    "a_worker_releases": 3,
    "a_worker_dies": 1,
    "a_client_submits": 6,
    "a_client_cancels": 1,
    "a_cancellation_overtakes_its_request": 1,
    "the_processor_records": 2,
    "the_processor_rejects": 1,
    "the_processor_notes_conflicts": 1,
    "an_operator_aborts": 1,
    "an_operator_reopens": 2,
    "much_happens_in_a_moment": 3,
    "the_sweeper_expires": 4,
    "a_late_write_arrives": 2,
}


@dataclass(frozen=True)
class Step:
    """What someone does after a while.

    Attributes
    ----------
    picks : list of int
        Which of those there are it takes, of claims, messages or views; 0 is the latest.

    """

    does: str
    after: int
    worker: int
    jobs: list[int]
    picks: list[int]
    fault: Fault


def steps_of(doings: Mapping[str, int]) -> st.SearchStrategy[Step]:
    """Draw steps of these doings, as often as they say."""
    return st.builds(
        Step,
        does=st.sampled_from([name for name, weight in doings.items() for _ in range(weight)]),
        after=st.sampled_from([0, 0, 0, 0, 0, 0, 15_000, 15_000, 15_000, 40_000, 40_000]),
        worker=st.integers(0, 2),
        jobs=st.sampled_from([[0], [0], [0], [0], [1], [0, 1], [1, 0]]),
        picks=st.lists(st.integers(0, 7), min_size=1, max_size=5),
        # Most calls go well, or little would ever happen.
        fault=st.sampled_from([Fault.NONE] * 2 * len(Fault) + list(Fault)),
    )


clocks = st.sampled_from([0, -_OFF_MS, _OFF_MS])


@dataclass(eq=False)
class Hand:
    """A claim in a worker's hands; it is sure once the worker was told that it has the job.

    A claim that is not answered may be made again. Either call may be the one that took the job, so the worker
    relies on the lease that it first asked for.
    """

    worker: int
    attempt: Attempt
    relies_until: int
    is_sure: bool = False
    is_container: bool = False


class LedgerMachine(RuleBasedStateMachine):
    """The actors; `Broken` is raised after the step that breaks a promise.

    Parameters
    ----------
    tally : Counter
        Counts what the run has met: each change with what its actor was told.

    """

    def __init__(self, dynamodb: DynamoDBClient, wire: Wire, table: str, tally: Counter[tuple[str, str]]) -> None:
        super().__init__()
        self._dynamodb = dynamodb
        self._wire = wire
        self._table = table
        self._tally = tally
        self._tally["example", "begun"] += 1
        self._ledger = JobLedger(cast("DynamoDBClient", wire), table, RETENTION_S)
        owner = f"owner-{next(_owners)}"  # a table of its own would take longer than the whole example
        self._new_keys = (JobKey(owner, f"job-{n}") for n in itertools.count())
        self._models: dict[JobKey, JobModel] = {}
        self._now = START
        self._tokens = itertools.count(1)
        self._deeds: list[Deed] = []
        self._requests: list[Submission] = []
        self._hands: list[Hand] = []
        self._views: list[Job] = []
        self._late: list[tuple[Statements, list[Deed]]] = []

    @initialize(
        off=st.tuples(clocks, clocks, clocks, clocks), fault=st.sampled_from([Fault.NONE] * 3 + [Fault.UNSENT])
    )
    def two_jobs_come(self, off: tuple[int, ...], fault: Fault) -> None:
        *self._off, self._sweepers_off = off
        self._keys = [self._new_job() for _ in range(_JOBS)]
        self._record(self._requests, fault)

    # One rule, not one for each doing: hypothesis would switch about half of them off in each example, and what
    # goes wrong here takes several actors.
    @rule(step=steps_of(DOINGS))
    def someone_acts(self, step: Step) -> None:
        self._now += step.after
        act: Callable[[Step], None] = getattr(self, step.does)
        act(step)

    @invariant()
    def the_ledger_keeps_its_promises(self) -> None:
        if not self._deeds:
            return
        keys = [{"jobKey": {"S": str(key)}} for key in self._models]
        answer = self._dynamodb.batch_get_item(RequestItems={self._table: {"Keys": keys, "ConsistentRead": True}})
        rows = {item["jobKey"]["S"]: item for item in answer["Responses"][self._table]}
        deeds, self._deeds = self._deeds, []
        for key, model in self._models.items():
            model.judge([deed for deed in deeds if deed.key == key], rows.get(str(key)), self._now)
            if model.job is not None and model.job.status is JobStatus.FAILED and model.job not in self._views:
                self._views.append(model.job)

    # Clients and the processor

    def a_client_submits(self, step: Step) -> None:
        """Something new in the place of what has ended, so that there is always something to do; or again."""
        job = step.jobs[0]
        row = self._models[self._keys[job]].job
        if row is not None and not row.status.is_open:
            self._keys[job] = self._new_job()
            if step.picks[0]:
                self._record(self._requests[-1:], step.fault)
        else:  # perhaps something else under the same token
            self._submit(self._keys[job], asks_for=step.picks[0] % 2)

    def a_client_cancels(self, step: Step) -> None:
        key = self._keys[step.jobs[0]]
        self._act(step, [Deed("cancel", key, says=self._now)], lambda: [self._ledger.cancel(key, self._now)])

    def a_cancellation_overtakes_its_request(self, step: Step) -> None:
        """Or just fails to, and the job is on record."""
        key, now = self._keys[step.jobs[0]], self._now
        deed = Deed("record_cancelled", key, says=now)
        self._act(step, [deed], lambda: [self._ledger.record_cancelled(key, now, now)])

    def the_processor_records(self, step: Step) -> None:
        """Messages stay: any of them may be delivered again at any time."""
        self._record(list({one.key: one for one in _picked(self._requests, step.picks)}.values()), step.fault)

    def the_processor_rejects(self, step: Step) -> None:
        """Perhaps what one of its other versions took."""
        [one] = _picked(self._requests, step.picks[:1])
        deed = Deed("record_failed", one.key, says=(_INVALID, self._now))
        self._act(step, [deed], lambda: [self._ledger.record_failed(one, _INVALID, self._now)])

    def the_processor_notes_conflicts(self, step: Step) -> None:
        """One, or those of a client in a loop; perhaps with a job that is not there."""
        [one] = _picked(self._requests, step.picks[:1])
        for n in range(12 if len(step.picks) > 2 else 1):
            self._note(one.key, Conflict(one.submitted_at + n, one.request_id), step.fault)

    # Workers

    def a_worker_claims(self, step: Step) -> None:
        """As often as a message comes, under a new token each time."""
        attempts = [Attempt(self._keys[job], f"attempt-{next(self._tokens)}") for job in step.jobs]
        self._claim(step, [Hand(step.worker, one, self._now + LEASE_MS) for one in attempts])

    def a_worker_claims_again(self, step: Step) -> None:
        """Since it was not answered."""
        if hands := [hand for hand in self._hands if not (hand.is_sure or hand.is_container)]:
            self._claim(step, _picked(hands, step.picks[:1]))

    def a_worker_renews(self, step: Step) -> None:
        """Never late: one renewal that overtakes another would leave the shorter lease."""
        if hands := self._batch(step):
            until = self._now + LEASE_MS
            deeds = [Deed("renew", one.attempt.key, one.attempt.token, until, until, until) for one in hands]
            attempts, lease_until = [one.attempt for one in hands], self._clock(hands) + LEASE_MS + ALLOWANCE_MS
            fault = Fault.LOST if step.fault in (Fault.LATE, Fault.LATE_RETRIED) else step.fault
            writes = self._call(fault, deeds, lambda: self._ledger.renew(attempts, lease_until))
            self._let_go(hands, writes, Outcome.REFUSED)

    def a_worker_completes(self, step: Step) -> None:
        """Perhaps long after its lease has lapsed."""
        if hands := self._batch(step):
            done = [(one.attempt, StoredResult(f"results/{one.attempt.token}", "text/plain", 1)) for one in hands]
            deeds = [Deed("complete", one.key, one.token, says=result) for one, result in done]
            writes = self._act(step, deeds, lambda: self._ledger.complete(done, self._clock(hands)))
            self._let_go(hands, writes, Outcome.WRITTEN, Outcome.REFUSED)

    def a_worker_fails(self, step: Step) -> None:
        if hands := self._batch(step):
            failed = [(one.attempt, JobError("SCRIPTED", one.attempt.token)) for one in hands]
            deeds = [Deed("fail", one.key, one.token, says=error) for one, error in failed]
            writes = self._act(step, deeds, lambda: self._ledger.fail(failed, self._clock(hands)))
            self._let_go(hands, writes, Outcome.WRITTEN, Outcome.REFUSED)

    def a_worker_releases(self, step: Step) -> None:
        if hands := self._batch(step):
            attempts = [hand.attempt for hand in hands]
            deeds = [Deed("release", one.key, one.token) for one in attempts]
            writes = self._act(step, deeds, lambda: self._ledger.release(attempts))
            self._let_go(hands, writes, Outcome.WRITTEN, Outcome.REFUSED)

    def a_worker_dies(self, step: Step) -> None:
        """Another takes its place, under the same clock."""
        self._drop([hand for hand in self._hands if hand.worker == step.worker])

    # Operators and the sweeper

    def an_operator_aborts(self, step: Step) -> None:
        key = self._keys[step.jobs[0]]
        deed = Deed("abort", key, says=(_ABORTED, self._now))
        self._act(step, [deed], lambda: [self._ledger.abort(key, _ABORTED, self._now)])

    def an_operator_reopens(self, step: Step) -> None:
        """From any failure that was ever seen, of this job if there is one."""
        job = step.jobs[0]
        views = [seen for seen in self._views if seen.key == self._keys[job]] or self._views
        if not views:
            return
        [seen] = _picked(views, step.picks[:1])
        deed = Deed("reopen", seen.key, says=history_with_end(seen), until=self._now + HOLD_MS)
        held_until = self._now + HOLD_MS + ALLOWANCE_MS
        if self._can_be_told_apart(deed):
            self._keys[job] = seen.key if seen.key not in self._keys else self._keys[job]
            self._act(step, [deed], lambda: [self._ledger.reopen(seen, self._now, held_until)])

    def much_happens_in_a_moment(self, step: Step) -> None:
        """A client and operators act on one job in one millisecond."""
        for pick in step.picks:
            does = ("a_client_cancels", "an_operator_aborts", "an_operator_reopens", "an_operator_reopens")[
                pick % 4
            ]
            getattr(self, does)(replace(step, picks=[pick // 4]))
            self.the_ledger_keeps_its_promises()

    def the_sweeper_expires(self, step: Step) -> None:
        keys, now = [self._keys[job] for job in step.jobs], self._now + self._sweepers_off
        deeds = [Deed("expire", key, says=(_LOST, now)) for key in keys]
        self._act(step, deeds, lambda: self._ledger.expire(keys, _LOST, now))

    # The world

    def a_late_write_arrives(self, step: Step) -> None:
        if not self._late:
            return
        statements, deeds = self._late.pop(step.picks[0] % len(self._late))
        if all(map(self._can_be_told_apart, deeds)):
            self._wire.arrive(statements)
            self._deeds += [replace(deed, done=done) for deed, done in zip(deeds, self._wire.done, strict=True)]
            self._tally["late", "done" if any(self._wire.done) else "in vain"] += 1

    # What they share

    def _act(self, step: Step, deeds: list[Deed], call: Callable[[], list[Write]]) -> list[Write]:
        return self._call(step.fault, deeds, call)

    def _call(self, fault: Fault, deeds: list[Deed], call: Callable[[], list[Write]]) -> list[Write]:
        self._wire.fault = fault
        writes = call()
        if self._wire.on_its_way is not None:
            self._late.append((self._wire.on_its_way, deeds))
        for deed, done, write in zip(deeds, self._wire.done, writes, strict=True):
            self._deeds.append(replace(deed, done=done, outcome=write.outcome, told=write.job))
            self._tally[deed.change, write.outcome.value] += 1
        return writes

    def _new_job(self) -> JobKey:
        key = next(self._new_keys)
        self._models[key] = JobModel()
        self._submit(key, asks_for=0)
        return key

    def _submit(self, key: JobKey, asks_for: int) -> None:
        request_id = f"request-{len(self._requests)}"
        self._requests.append(Submission(key, "scripted", {"n": asks_for}, self._now, request_id))

    def _record(self, submissions: list[Submission], fault: Fault) -> None:
        deeds = [Deed("record", one.key, says=one.digest) for one in submissions]
        self._call(fault, deeds, lambda: self._ledger.record(submissions))

    def _note(self, key: JobKey, conflict: Conflict, fault: Fault) -> None:
        self._wire.fault = fault
        outcome: Outcome | None = Outcome.WRITTEN
        try:
            self._ledger.note_conflict(key, conflict)
        except (ClientError, BotoCoreError):
            outcome = None
        deed = Deed("note_conflict", key, says=conflict_text(conflict), outcome=outcome)
        self._deeds.append(replace(deed, done=self._wire.done[0]))

    def _clock(self, hands: list[Hand]) -> int:
        return self._now + self._off[hands[0].worker]

    def _batch(self, step: Step) -> list[Hand]:
        """Return some of the jobs that one worker knows to have, or had, each once, as a batch must."""
        picked = _picked([hand for hand in self._hands if hand.is_sure], step.picks)
        return list({hand.attempt.key: hand for hand in picked if hand.worker == picked[0].worker}.values())

    def _claim(self, step: Step, hands: list[Hand]) -> None:
        attempts, now, ends = [one.attempt for one in hands], self._clock(hands), self._now + LEASE_MS
        deeds = [Deed("claim", one.attempt.key, one.attempt.token, None, one.relies_until, ends) for one in hands]
        lease_until = now + LEASE_MS + ALLOWANCE_MS
        writes = self._act(step, deeds, lambda: self._ledger.claim(attempts, now, lease_until))
        self._keep(hands, writes)

    def _keep(self, hands: list[Hand], writes: list[Write]) -> None:
        """Note what claims their workers have, or may have for all that they know."""
        self._hands = [hand for hand in self._hands if hand not in hands]
        for hand, write in zip(hands, writes, strict=True):
            if write.outcome is not Outcome.REFUSED:
                hand.is_sure = write.is_written
                self._hands.append(hand)

    def _let_go(self, hands: list[Hand], writes: list[Write], *told: Outcome) -> None:
        """Whoever is told how it went is done; whoever is not may try again, and otherwise."""
        self._drop([hand for hand, write in zip(hands, writes, strict=True) if write.outcome in told])

    def _drop(self, hands: list[Hand]) -> None:
        self._hands = [hand for hand in self._hands if hand not in hands]
        for hand in hands:
            self._models[hand.attempt.key].beliefs.pop(hand.attempt.token, None)

    def _can_be_told_apart(self, deed: Deed) -> bool:
        """Whether a reopening's view is not stale and yet shows an end of the very millisecond that is on record.

        The ledger tells a job's failures apart by their time. Two in one millisecond, with a reopening between,
        take clocks that differ by just so much, and then one operator who looks before and acts after both.
        """
        row = self._models[deed.key].job
        if deed.change != "reopen" or row is None or row.status is not JobStatus.FAILED:
            return True
        assert isinstance(deed.says, tuple)
        return deed.says == history_with_end(row) or deed.says[-1].ended_at != row.ended_at


def _picked(those: Sequence[_T], picks: list[int]) -> list[_T]:
    """Return some of those there are, each once."""
    return [those[-1 - n] for n in dict.fromkeys(pick % len(those) for pick in picks)] if those else []
