"""``sluice-ops dlq redrive``: brings failed jobs back.

First a job is opened again, then its message goes back to the queue that it came from: the other way round, the
message would find its job ended and be dropped. Between the two the job is held, so that the sweeper, which finds
open jobs by their dead letters, does not end it at once. A message is sent before it is deleted. So whatever
happens in between, the message is in one of the two queues, and running the command again completes the move.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from sluice_core.jobs import JobStatus
from sluice_core.ledger import Outcome
from sluice_core.requests import MalformedMessage
from sluice_core.work_queue import read_work_message, work_message

from sluice_harness.ops import move_tasks
from sluice_harness.ops.letters import COMPLETION, depth, read_all, read_once
from sluice_harness.ops.output import Interrupt, bar, say, show_table
from sluice_harness.ops.stage import Failure, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from sluice_core.jobs import Job

    from sluice_harness.description import Queue
    from sluice_harness.ops.letters import Letter
    from sluice_harness.ops.output import Bar
    from sluice_harness.ops.stage import Access

DEFAULT_RATE = 50
_SHORTEST_HOLD_MS = 3_600_000
_TRIES = 4
_PAUSE_S = 1.0
# How long to look for messages that were there a moment ago: another reader may hide them.
_PATIENCE_S = 15.0
_MOST_SHOWN = 50


class Action(Enum):
    """What becomes of a dead letter."""

    REOPEN = "its job is opened again, then it is moved"
    MOVE = "it is moved as it is"
    DROP = "it is deleted: its job has ended"
    ENDED = "left: its job has ended (--drop-ended deletes it)"
    EXECUTING = "left: its job's last execution is not known to be over; try again in a minute"
    ROWLESS = "left: its job has no row any more"
    MALFORMED = "left: it is malformed (`dlq show` says how)"


_MOVES = (Action.REOPEN, Action.MOVE)
_ACTS = (*_MOVES, Action.DROP)


@dataclass(frozen=True, slots=True)
class _Step:
    letter: Letter
    action: Action
    status: str


@dataclass(slots=True)
class _Plan:
    """What is to be done with one queue's dead letters."""

    name: str
    queue: Queue
    steps: list[_Step] = field(default_factory=list)
    is_whole: bool = True

    @property
    def is_one_move(self) -> bool:
        """Whether all that the queue holds is to be moved, and as it is, so that SQS may do it."""
        return self.is_whole and all(step.action in _MOVES and not step.letter.start_token for step in self.steps)

    @property
    def acts(self) -> list[_Step]:
        """What there is to do."""
        return [step for step in self.steps if step.action in _ACTS]


def redrive(access: Access, options: argparse.Namespace) -> int:
    """Show what would be done, or do it."""
    with bar("reading the dead-letter queues"):
        plans = _plans(access, options)
    steps = [step for plan in plans for step in plan.steps]
    _check_job(steps, options)
    _show(steps)
    acts = sum(len(plan.acts) for plan in plans)
    if not acts:
        say("There is nothing to bring back.")
        return 1 if options.job else 0
    if not options.yes:
        say(f"Nothing has been changed. To do it: {options.again} --yes")
        return 0
    moves = sum(step.action in _MOVES for step in steps)
    mover = _Mover(access, options, hold_ms=max(_SHORTEST_HOLD_MS, 2 * 1000 * moves // options.rate))
    return mover.run([plan for plan in plans if plan.acts], acts)


def decide(letter: Letter, job: Job | None, *, drops_ended: bool) -> Action:
    """Say what is to become of a dead letter, by its job as it is on record."""
    if letter.key is None:
        return Action.MALFORMED
    # An execution's end is settled whenever it comes; an open job is not swept yet, or was opened again before.
    if letter.queue == COMPLETION or (job is not None and job.status.is_open):
        return Action.MOVE
    if job is None:  # a request is recorded when it comes; work for a job that is gone would only come back
        return Action.MOVE if letter.queue == "request" else Action.ROWLESS
    if job.submitted_at != letter.submitted_at:  # a later request under the job's token: it is none of the job's
        return Action.MOVE
    if job.status is JobStatus.FAILED:
        return Action.EXECUTING if job.executing else Action.REOPEN
    return Action.DROP if drops_ended else Action.ENDED


def _plans(access: Access, options: argparse.Namespace) -> list[_Plan]:
    readings = read_all(access, options.queue)
    keys = [letter.key for reading in readings for letter in reading.letters if letter.key is not None]
    rows = access.ledger.get_many(keys, consistent=True)
    plans = []
    for reading in readings:
        if reading.unseen:
            say(f"{reading.unseen} of the {reading.queue} queue's are hidden by another reader and left out")
        plan = _Plan(
            reading.queue, access.queues()[reading.queue], is_whole=bool(options.all and not reading.unseen)
        )
        for letter in reading.letters:
            if options.all or _is_of(letter, options):
                job = rows.get(letter.key) if letter.key else None
                action = decide(letter, job, drops_ended=options.drop_ended)
                plan.steps.append(_Step(letter, action, _status(letter, job)))
        plans.append(plan)
    return plans


def _status(letter: Letter, job: Job | None) -> str:
    if job is not None:
        return job.status
    return "no row" if letter.key else ""


def _is_of(letter: Letter, options: argparse.Namespace) -> bool:
    if letter.key is None or letter.key.job_id != options.job:
        return False
    return options.owner in (None, letter.key.owner)


def _check_job(steps: Sequence[_Step], options: argparse.Namespace) -> None:
    """Refuse a job that is not there, or is several."""
    if options.job is None:
        return
    owners = sorted({step.letter.key.owner for step in steps if step.letter.key})
    if not owners:
        raise Failure(f"no dead letter is of a job {options.job}; `sluice-ops dlq list` shows what there is")
    if len(owners) > 1:
        raise UsageError(
            f"several owners have a job {options.job}; say whose: --owner {' or --owner '.join(owners)}"
        )


def _show(steps: Sequence[_Step]) -> None:
    counts = Counter((step.letter.queue, step.action) for step in steps)
    if counts:
        rows = [(queue, count, action.value) for (queue, action), count in counts.items()]
        show_table(("dead letters", "", "what becomes of them"), rows)
        say("")
    shown = [
        (step.letter.queue, *_who(step.letter), step.status, step.action.value) for step in steps[:_MOST_SHOWN]
    ]
    if shown:
        show_table(("queue", "job", "owner", "status", "what becomes of it"), shown)
    if len(steps) > _MOST_SHOWN:
        say(f"... and {len(steps) - _MOST_SHOWN} more; `sluice-ops dlq list` shows all")
    say("")


def _who(letter: Letter) -> tuple[str, str]:
    if letter.key is None:
        return f"message {letter.message.message_id}", ""
    return letter.key.job_id, letter.key.owner


class _Mover:
    """One redrive."""

    def __init__(self, access: Access, options: argparse.Namespace, *, hold_ms: int) -> None:
        self._access = access
        self._options = options
        self._hold_ms = hold_ms
        self._done: Counter[Action] = Counter()
        self._moved_by_sqs = 0
        self._next_at = 0.0

    def run(self, plans: Sequence[_Plan], total: int) -> int:
        """Carry the plans out, as far as it goes, and say how far that was."""
        with Interrupt() as interrupt:
            try:
                for plan in plans:
                    self._carry_out(plan, interrupt)
            finally:
                self._report(total)
        if interrupt.came:
            say("Interrupted. What was not moved lies where it was; run the command again to go on.")
        done = sum(self._done.values()) + self._moved_by_sqs
        return 0 if done >= total and not interrupt.came else 1

    def _carry_out(self, plan: _Plan, interrupt: Interrupt) -> None:
        if interrupt.came:
            return
        if plan.is_one_move and move_tasks.are_offered(self._access.sqs, plan.queue):
            self._let_sqs_move(plan, interrupt)
        else:
            with bar(f"{plan.name} queue: moving", len(plan.acts)) as progress:
                self._move_one_by_one(plan, progress, interrupt)

    def _let_sqs_move(self, plan: _Plan, interrupt: Interrupt) -> None:
        """Open all jobs again, then have the whole queue moved."""
        with bar(f"{plan.name} queue: opening jobs", len(plan.acts)) as progress:
            for step in plan.acts:
                if interrupt.came:
                    return
                if self._make_ready(step.letter) not in _MOVES:
                    raise Failure(f"job {_who(step.letter)[0]} has ended meanwhile; run the command again")
                progress.advance()
        if depth(self._access.sqs, plan.queue.dlqUrl) != len(plan.acts):
            # SQS would move those that have come since as well, whose jobs are not opened.
            with bar(f"{plan.name} queue: moving one by one, for it has changed", len(plan.acts)) as progress:
                self._move_one_by_one(plan, progress, interrupt)
            return
        with bar(f"{plan.name} queue: SQS is moving", len(plan.acts)) as progress:
            self._moved_by_sqs += move_tasks.move(
                self._access.sqs, plan.queue, self._options.rate, progress, interrupt
            )

    def _move_one_by_one(self, plan: _Plan, progress: Bar, interrupt: Interrupt) -> None:
        """Receive, send, delete: for some of a queue's messages, and for engines that know no other way.

        Only what was planned: a job that fails again meanwhile must not go round for ever.
        """
        sqs = self._access.sqs
        wanted = {step.letter.message.message_id for step in plan.acts}
        deadline = time.monotonic() + _PATIENCE_S
        while wanted and not interrupt.came:
            with closing(read_once(sqs, plan.name, plan.queue)) as letters:
                for letter in letters:
                    if interrupt.came:
                        return
                    if letter.message.message_id in wanted:
                        wanted.discard(letter.message.message_id)
                        self._act(letter, plan.queue)
                        progress.advance()
                        deadline = time.monotonic() + _PATIENCE_S
            if not depth(sqs, plan.queue.dlqUrl) or time.monotonic() > deadline:
                return

    def _act(self, letter: Letter, queue: Queue) -> None:
        action = self._make_ready(letter)
        if action in _MOVES:
            self._wait_for_turn()
            body = _anew(letter.message.body) if action is Action.REOPEN else letter.message.body
            self._access.sqs.send_message(QueueUrl=queue.url, MessageBody=body, **_carried(letter))
        if action in _ACTS:
            self._access.sqs.delete_message(QueueUrl=queue.dlqUrl, ReceiptHandle=letter.message.receipt_handle)
            self._done[action] += 1

    def _make_ready(self, letter: Letter) -> Action:
        """Open a failed job again, and say what is to become of its message now."""
        for _ in range(_TRIES):
            job = self._access.ledger.get(letter.key) if letter.key else None
            action = decide(letter, job, drops_ended=self._options.drop_ended)
            if action is not Action.REOPEN or job is None:
                return action
            now = time.time_ns() // 1_000_000
            write = self._access.ledger.reopen(job, now, now + self._hold_ms)
            if write.is_written:
                return action
            if write.outcome is Outcome.UNAVAILABLE:
                time.sleep(_PAUSE_S)
        raise Failure(f"job {_who(letter)[0]} could not be opened again: the job table does not answer")

    def _wait_for_turn(self) -> None:
        now = time.monotonic()
        time.sleep(max(0.0, self._next_at - now))
        self._next_at = max(now, self._next_at) + 1 / self._options.rate

    def _report(self, total: int) -> None:
        moved = sum(self._done[action] for action in _MOVES) + self._moved_by_sqs
        dropped = self._done[Action.DROP]
        parts = [f"{moved} moved back"] + ([f"{dropped} deleted, for their jobs have ended"] if dropped else [])
        say(f"Of {total} dead letters {' and '.join(parts)}.")


def _anew(body: str) -> str:
    """Return a work message as a job's that is of no start any more; what is none stays as it is.

    Of a job that was given up there may be a second letter. By the start in it the sweeper tells that one apart.
    """
    try:
        return work_message(replace(read_work_message(body), start_token=""))
    except MalformedMessage:
        return body


def _carried(letter: Letter) -> dict[str, Any]:
    """Return what a message carries besides its body: attributes, its fairness group and its trace."""
    received = letter.message.received
    carried: dict[str, Any] = {
        "MessageAttributes": {
            name: {part: value for part, value in attribute.items() if part in _ATTRIBUTE_PARTS}
            for name, attribute in received.get("MessageAttributes", {}).items()
        }
    }
    noted = received.get("Attributes", {})
    if "MessageGroupId" in noted:
        carried["MessageGroupId"] = noted["MessageGroupId"]
    if "AWSTraceHeader" in noted:
        trace = {"DataType": "String", "StringValue": noted["AWSTraceHeader"]}
        carried["MessageSystemAttributes"] = {"AWSTraceHeader": trace}
    return carried


_ATTRIBUTE_PARTS = ("DataType", "StringValue", "BinaryValue")
