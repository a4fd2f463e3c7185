"""What one process of the load generator has seen: its jobs, by id, and its requests, by second and name."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict

from answers import kind_of

if TYPE_CHECKING:
    from pacing import Arrival
    from tokens import Owner

Seen = tuple[int, str]  # a second and a request's name


class JobRecord(TypedDict):
    """A submission that was answered with a 202: a line of ``jobs.jsonl``.

    Moments in epoch ms are the client's; ``submittedAt``, ``startedAt`` and ``endedAt`` are the service's own, as
    it answers. ``visibleMs`` is from the 202 to the first answer that knows the job.
    """

    owner: str
    jobId: str
    kind: str
    isQuiet: bool
    phase: str
    expected: str
    intendedAt: float
    sentAt: float
    acceptedAt: float
    visibleMs: float | None
    status: str | None
    endSeenAt: float | None
    submittedAt: str | None
    startedAt: str | None
    endedAt: str | None
    downloadMs: float | None
    bytes: int | None
    complaint: str | None


def now_ms() -> float:
    """Return the time in epoch ms."""
    return time.time() * 1000


def new_record(
    arrival: Arrival, owner: Owner, job_id: str, *, intended_at: float, sent_at: float, is_quiet: bool
) -> JobRecord:
    """Return the record of a job that was accepted just now."""
    return JobRecord(
        owner=owner.sub,
        jobId=job_id,
        kind=arrival.kind,
        isQuiet=is_quiet,
        phase=arrival.phase,
        expected="FAILED" if arrival.kind == "poison" else "COMPLETED",
        intendedAt=intended_at,
        sentAt=sent_at,
        acceptedAt=now_ms(),
        visibleMs=None,
        status=None,
        endSeenAt=None,
        submittedAt=None,
        startedAt=None,
        endedAt=None,
        downloadMs=None,
        bytes=None,
        complaint=None,
    )


def between_ms(first: str | None, last: str | None) -> float | None:
    """Return the ms between two moments of the service's, if it has told both."""
    if first is None or last is None:
        return None
    return (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds() * 1000


class Recorder:
    """Keeps what was seen until it is handed over.

    Attributes
    ----------
    submitted, followed, ended, errors : int
        Jobs accepted, jobs followed, those of them whose end was seen, requests that failed.
    phase : str
        Of the latest submission.
    is_done : bool
        Whether all that this process has to do is done and followed to its end.

    """

    def __init__(self) -> None:
        self._changed: dict[tuple[str, str], JobRecord] = {}
        self._times: defaultdict[Seen, list[float]] = defaultdict(list)
        self._errors: defaultdict[Seen, Counter[str]] = defaultdict(Counter)
        self._refused: Counter[str] = Counter()
        self._rejections: Counter[str] = Counter()
        self.submitted = self.followed = self.ended = self.errors = 0
        self.phase = "load"
        self.is_done = False

    def accepted(self, record: JobRecord) -> None:
        """Take note of a job that was accepted."""
        self.submitted += 1
        self.phase = record["phase"]
        self.changed(record)

    def changed(self, record: JobRecord) -> None:
        """Take note of what else is known of a job."""
        self._changed[record["owner"], record["jobId"]] = record

    def refused(self, kind: str) -> None:
        """Take note of a submission that was not accepted."""
        self._refused[kind] += 1

    def rejected(self, case: str) -> None:
        """Take note of a hostile request that was rejected as it has to be."""
        self._rejections[case] += 1

    def on_request(self, name: str, response_time: float, exception: Exception | None = None, **_: Any) -> None:
        """Take note of a request or of a job's time; a listener of Locust's ``request`` event."""
        seen = int(time.time()), name
        self._times[seen].append(round(response_time, 1))
        if exception is not None:
            self.errors += 1
            self._errors[seen][kind_of(exception)] += 1

    def take(self) -> dict[str, Any]:
        """Return what is new since the last time, as plain as a message has to be."""
        taken = {
            "jobs": [dict(record) for record in self._changed.values()],
            "requests": [[*seen, times, dict(self._errors.get(seen, {}))] for seen, times in self._times.items()],
            "refused": dict(self._refused),
            "rejections": dict(self._rejections),
            "standing": {
                "submitted": self.submitted,
                "followed": self.followed,
                "ended": self.ended,
                "errors": self.errors,
                "phase": self.phase,
                "isDone": self.is_done,
            },
        }
        for kept in (self._changed, self._times, self._errors, self._refused, self._rejections):
            kept.clear()
        return taken
