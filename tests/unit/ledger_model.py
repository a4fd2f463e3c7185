"""What the ledger promises of one job, whatever becomes of its actors: a reference model, and its invariants.

The model knows what took effect, what each actor was told, and what each may therefore believe. It knows nothing
of the ledger's conditions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sluice_core.jobs import EarlierEnd, JobStatus
from sluice_core.ledger import Outcome
from sluice_core.rows import conflict_text, read_row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sluice_core.jobs import Job, JobKey

ALLOWANCE_MS = 5_000  # how much any two clocks may differ

RECORDS = ("record", "record_failed", "record_cancelled")
BY_ATTEMPT = ("renew", "complete", "fail", "release")
CLAIMS = ("claim", "claim_started")
OF_STARTS = ("begin", "note", "claim_started", "fail_started", "close")
_OF_A_FREE_JOB = ("claim", "claim_started", "expire", "begin", "fail_started")
_SETTING_FREE = ("complete", "fail", "release", "cancel", "abort", "expire", "begin", "fail_started")
_FOREVER = {"jobKey", "listKey", "submittedAt", "jobType", "digest", "expiresAt"}
_WHOLE = _FOREVER | {"status", "attempts", "leaseUntil", "heldUntil", "executor", "startToken", "starts"}
_EDGES = {
    JobStatus.SUBMITTED: {JobStatus.SUBMITTED, JobStatus.RUNNING, JobStatus.FAILED, JobStatus.CANCELLED},
    JobStatus.RUNNING: set(JobStatus),
    JobStatus.COMPLETED: {JobStatus.COMPLETED},
    JobStatus.FAILED: {JobStatus.FAILED, JobStatus.SUBMITTED},
    JobStatus.CANCELLED: {JobStatus.CANCELLED},
}
_MOST_CONFLICTS = 10
# What a row may still show once its job has ended: that its token was used again, and how its execution ended.
_AFTER_THE_END = dict.fromkeys(("conflicts", "handle", "executing", "executingSince", "notedAt"))


class Broken(AssertionError):  # noqa: N818 - it is a finding
    """The ledger broke a promise."""

    def __init__(self, promise: str, *evidence: object) -> None:
        super().__init__(f"{promise}: {', '.join(map(str, evidence))}")
        self.promise = promise


@dataclass(frozen=True)
class Deed:
    """One write that an actor asked for, what became of it, and what its actor was told.

    Attributes
    ----------
    token : str
        The attempt that asked, if one did.
    says : object
        What it writes: a result, an error and a time, a history, a handle.
    start : str
        The start that it is of, if it is of one.
    after : str
        The start whose place that one takes.
    until : int
        Until when, in true time, its actor may rely on the lease or hold that it asked for.
    lease_ends : int
        Until when, in true time, the lease lasts if it is this call that took it.
    done : bool
        Whether it took effect.
    outcome : Outcome or None
        What its actor was told; None if it was told before, and the write came late.

    """

    change: str
    key: JobKey
    token: str = ""
    says: object = None
    until: int = 0
    lease_ends: int = 0
    done: bool = False
    outcome: Outcome | None = None
    told: Job | None = None
    start: str = ""
    after: str = ""

    @property
    def identity(self) -> tuple[str, str, str, object]:
        """What makes two writes the same one, tried twice."""
        change = "cancel" if self.change == "record_cancelled" else self.change
        return change, self.token, self.start, self.says

    def shows_in(self, job: Job) -> bool:
        """Whether this is how a job stands after this write."""
        failed = (JobStatus.FAILED, self.token or None, self.says)
        match self.change:
            case "claim" | "claim_started" | "renew":
                shows = (job.status, job.attempt) == (JobStatus.RUNNING, self.token)
            case "release":
                shows = (job.status, job.attempt) == (JobStatus.SUBMITTED, self.token)
            case "complete":
                shows = (job.status, job.attempt, job.result) == (JobStatus.COMPLETED, self.token, self.says)
            case "fail":
                shows = (job.status, job.attempt, job.error) == failed
            case "cancel" | "record_cancelled":
                shows = (job.status, job.ended_at) == (JobStatus.CANCELLED, self.says)
            case "abort" | "expire" | "record_failed":
                shows = (job.status, None, (job.error, job.ended_at)) == failed
            case "reopen":
                shows = job.status.is_open and job.history == self.says
            case "begin":
                shows = job.start_token == self.start
            case "note":
                shows = (job.start_token, job.handle) == (self.start, self.says)
            case "fail_started":
                ended = (job.error, job.ended_at)
                shows = (job.status, job.start_token, ended) == (JobStatus.FAILED, self.start, self.says)
            case "close":
                shows = (job.start_token, job.executing) == (self.start, "")
            case _:
                shows = (job.status, job.digest) == (JobStatus.SUBMITTED, self.says)
        return shows


@dataclass
class JobModel:
    """One job as it truly is, and as its actors see it.

    Attributes
    ----------
    beliefs : dict
        Which attempts' workers live, and until when, in true time, each may rely on its lease.
    holder : str or None
        The attempt whose job it truly is.
    start : str
        The last start.
    is_executing : bool
        Whether that was begun and is not closed.

    """

    row: Mapping[str, Any] | None = None
    beliefs: dict[str, int] = field(default_factory=dict)
    holder: str | None = None
    start: str = ""
    is_executing: bool = False
    _starts: int = 0
    _lease_ends: int = 0
    _hold_ends: int = 0
    _claims: int = 0
    _result: object = None
    _conflicts: set[str] = field(default_factory=set)
    _done: set[tuple[str, str, str, object]] = field(default_factory=set)
    _told_completed: set[str] = field(default_factory=set)

    @property
    def job(self) -> Job | None:
        """The job as it was on record after the last step."""
        return read_row(self.row) if self.row else None

    def judge(self, deeds: list[Deed], row: Mapping[str, Any] | None, now: int) -> None:
        """Hold what was done and told since against the row as it is now.

        Raises
        ------
        Broken
            They do not agree with the promises.

        """
        before = self.job
        for deed in deeds:
            if deed.outcome is Outcome.REFUSED and self._must_win(deed, before, now):
                raise Broken("whoever has the right to a change is not refused", deed, before)
            if deed.done:
                self._take_effect(deed, now)
        self._judge_row(self.row, row, is_changed=any(deed.done for deed in deeds))
        self.row = row
        for deed in deeds:
            if deed.change == "note_conflict":
                self._judge_note(deed, self.job)
            else:
                self._judge_answer(deed, self.job)

    # What took effect

    def _take_effect(self, deed: Deed, now: int) -> None:
        self._done.add(deed.identity)
        self._judge_effect(deed, now)
        if deed.change in _SETTING_FREE:
            self._set_free()
        match deed.change:
            case "claim" | "claim_started":
                self.holder, self._lease_ends = deed.token, deed.lease_ends
                self._hold_ends = 0  # it was held for this
                self._claims += 1
            case "renew":
                self._lease_ends = deed.lease_ends
            case "reopen":
                self._hold_ends = deed.until
                self.start, self._starts = "", 0
            case "complete":
                self._result = deed.says
            case "begin":
                self.start, self.is_executing = deed.start, True
                self._starts += 1
            case "close":
                self.is_executing = False
            case "note_conflict":
                self._conflicts.add(str(deed.says))

    def _judge_effect(self, deed: Deed, now: int) -> None:
        if deed.change in BY_ATTEMPT and self.holder != deed.token:
            raise Broken("an attempt that lost its job changes nothing", deed, f"it is {self.holder}'s")
        if deed.change in OF_STARTS:
            self._is_of_the_last_start(deed)
        elif deed.change in ("claim", "expire", "reopen") and self.is_executing:
            raise Broken("nobody else takes a job that is executing", deed, self.start)
        if deed.change in _OF_A_FREE_JOB:
            self._no_lease_holds(deed, now)
        if deed.change == "expire" and now <= self._hold_ends:
            raise Broken("a job does not expire while it is held", deed, now, self._hold_ends)

    def _is_of_the_last_start(self, deed: Deed) -> None:
        if deed.change == "begin":
            if self.is_executing or deed.after != self.start:
                raise Broken("a start takes the place of the last one, once that is over", deed, self.start)
        elif deed.start != self.start:
            raise Broken("an older start changes nothing", deed, self.start)
        elif deed.change != "note" and not self.is_executing:
            raise Broken("a start that is over changes nothing", deed)

    def _no_lease_holds(self, deed: Deed, now: int) -> None:
        holding = {token: until for token, until in self.beliefs.items() if token != deed.token and now <= until}
        if holding:
            raise Broken("no one takes a job while a lease holds", deed, now, holding)

    def _set_free(self) -> None:
        self.holder = None
        self.beliefs.clear()  # whoever still works on it has lost it, and will hear so

    # What the row says

    def _judge_row(
        self, before: Mapping[str, Any] | None, row: Mapping[str, Any] | None, is_changed: bool
    ) -> None:
        if not is_changed and row != before:
            raise Broken("a write that is refused or lost changes nothing", before, row)
        if row is None:
            if before is not None or is_changed:
                raise Broken("every recorded job has its row", before)
            return
        if _WHOLE - row.keys():
            raise Broken("every row is whole", row)
        job = read_row(row)
        if before is not None:
            if any(row[name] != before[name] for name in _FOREVER):
                raise Broken("the first submission stays", before, row)
            self._judge_step(read_row(before), job)
            if not read_row(before).status.is_open and job.status == before["status"]["S"]:
                self._judge_end(before, row)
        self._judge_job(job)

    def _judge_job(self, job: Job) -> None:
        if (job.start_token, bool(job.executing), job.starts) != (self.start, self.is_executing, self._starts):
            raise Broken("a row says which start was the last, and whether it is over", job, self.start)
        if job.attempts != self._claims:
            raise Broken("attempts are the claims that took effect", job, self._claims)
        if set(map(conflict_text, job.conflicts)) != self._conflicts:
            raise Broken("every conflict that was noted shows", job, self._conflicts)
        if len(job.conflicts) > _MOST_CONFLICTS:
            raise Broken("a row keeps few conflicts", job)
        if job.status is JobStatus.COMPLETED and job.result != self._result:
            raise Broken("a job's result is that of the attempt that completed it", job, self._result)
        if (job.ended_at is None) != job.status.is_open or (job.error is None) != (
            job.status is not JobStatus.FAILED
        ):
            raise Broken("a row has the end of its state, and no other", job)

    @staticmethod
    def _judge_step(before: Job, job: Job) -> None:
        if job.status not in _EDGES[before.status]:
            raise Broken("an end is the end", before, job)
        if before.status is JobStatus.FAILED and job.status is JobStatus.SUBMITTED:
            history = history_with_end(before)
        else:
            history = before.history
        if job.history != history:
            raise Broken("the history is what was", before, job)

    @staticmethod
    def _judge_end(before: Mapping[str, Any], row: Mapping[str, Any]) -> None:
        if {**before, **_AFTER_THE_END} != {**row, **_AFTER_THE_END}:
            raise Broken("an end is the end", before, row)

    # What the actors were told

    def _judge_answer(self, deed: Deed, job: Job | None) -> None:
        if deed.outcome is Outcome.WRITTEN:
            if deed.identity not in self._done or job is None or not deed.shows_in(job):
                raise Broken("who is told that it is written can rely on it", deed, job)
            self._learn(deed)
        elif deed.outcome is Outcome.REFUSED:
            # A record whose answer was lost is refused by its own row; whoever reads that row sees it. And what
            # is counted by a close is rather not counted than twice.
            is_known = deed.done or (deed.change == "complete" and deed.identity in self._done)
            if is_known and deed.change not in (*RECORDS, "close"):
                raise Broken("who is told that it is refused can rely on it", deed, job)
            if deed.told != job:
                raise Broken("a refusal tells how the job stands", deed, job)
            self.beliefs.pop(deed.token, None)

    @staticmethod
    def _judge_note(deed: Deed, job: Job | None) -> None:
        if deed.outcome is None or job is None or len(job.conflicts) >= _MOST_CONFLICTS:
            return
        if deed.says not in [conflict_text(one) for one in job.conflicts]:
            raise Broken("every conflict that was noted shows", deed, job)

    def _learn(self, deed: Deed) -> None:
        if deed.change in (*CLAIMS, "renew"):
            self.beliefs[deed.token] = deed.until
        elif deed.change == "complete":
            self._told_completed.add(deed.token)
            if len(self._told_completed) > 1:
                raise Broken("work is applied once", deed, self._told_completed)

    def _must_win(self, deed: Deed, before: Job | None, now: int) -> bool:
        """Whether the change is its actor's by right, so that no one gets stuck."""
        if before is None:
            return deed.change in RECORDS and not deed.done
        is_free = self.holder is None or now > self._lease_ends + 2 * ALLOWANCE_MS
        may_be_had = before.status.is_open and is_free
        is_idle, is_last_start = not self.is_executing, deed.start == self.start
        rights = {
            "claim": may_be_had and is_idle,
            **dict.fromkeys(BY_ATTEMPT, self.holder == deed.token),
            **dict.fromkeys(("cancel", "abort"), before.status.is_open),
            "expire": may_be_had and is_idle and now > self._hold_ends + 2 * ALLOWANCE_MS,
            "reopen": before.status is JobStatus.FAILED and is_idle and deed.says == history_with_end(before),
            "begin": may_be_had and is_idle and deed.after == self.start,
            "note": is_last_start,
            **dict.fromkeys(("claim_started", "fail_started"), may_be_had and self.is_executing and is_last_start),
            "close": self.is_executing and is_last_start and not deed.done,
        }
        return rights.get(deed.change, False)


def history_with_end(failed: Job) -> tuple[EarlierEnd, ...]:
    """Return the history that a failed job has once it is brought back."""
    assert failed.ended_at is not None
    assert failed.error is not None
    return (*failed.history, EarlierEnd(failed.ended_at, failed.error))
