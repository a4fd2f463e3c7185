"""One attempt at a job by a container, from its claim to the exit code.

The work has a thread of its own. The main thread stays free to renew the lease, to look at the clock and to take
SIGTERM, which Python gives to no other, whatever the work is busy with.
"""

from __future__ import annotations

import itertools
import logging
import queue
import random
import threading
import time
import traceback
import uuid
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from sluice_core import leases
from sluice_core.external import TRY_AGAIN
from sluice_core.jobs import TIMED_OUT, JobError, JobKey, now_ms
from sluice_core.ledger import Attempt, Outcome
from sluice_core.workloads import PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sluice_core.inputs import InputStore
    from sluice_core.jobs import Job, StoredResult
    from sluice_core.ledger import JobLedger, Write
    from sluice_core.results import ResultWriter
    from sluice_core.workloads import Workload

# The exit code of a container whose job has ended, or is not its own; the other is `external.TRY_AGAIN`.
ENDED = 0

# SIGKILL follows SIGTERM after 30 s (Amazon ECS, "stopTimeout"; AWS Batch, "Job timeouts"): time for the work to
# stop by itself, and then for the ledger.
_GRACE_S = 10
# How long a ledger that does not answer is asked again.
_INSIST_S = 120
_LONGEST_PAUSE_S = 10
# How long another's lease is waited for: one that is renewed meanwhile has a holder who lives.
_PATIENCE_S = 2 * leases.lease_until(0) / 1000

logger = logging.getLogger("sluice")


@dataclass(frozen=True, slots=True)
class Task:
    """What a container is to run.

    Attributes
    ----------
    start_token : str
        The start that the container is; the job's row has the last one's.
    timeout_s : int
        How long the work may take, in seconds, from the claim on.
    workloads : Mapping
        What may be run, by job type.

    """

    key: JobKey
    start_token: str
    timeout_s: int
    workloads: Mapping[str, Workload]


class _Happened(Enum):
    """What the main thread waits for."""

    WORK_ENDED = "work ended"
    TERMINATED = "terminated"
    TIMED_OUT = "timed out"
    LOST = "lost"


class _Work(threading.Thread):
    """The work, which may not come back when it is told to stop; no process waits for a daemon at its end."""

    def __init__(self, do: Callable[[threading.Event], StoredResult | None], at_end: Callable[[], None]) -> None:
        super().__init__(name="work", daemon=True)
        self.stop = threading.Event()
        self.stored: StoredResult | None = None
        self.error: BaseException | None = None
        self._do = do
        self._at_end = at_end

    def run(self) -> None:
        try:
            self.stored = self._do(self.stop)
        except BaseException as error:  # SystemExit, too: it would end this thread without a word
            self.error = error
        self._at_end()

    def wind_down(self) -> None:
        """Tell the work to stop, and give it a moment to do so."""
        self.stop.set()
        self.join(_GRACE_S)


class ContainerRun:
    """Claims a job, runs it and puts on record how it ended."""

    def __init__(self, task: Task, ledger: JobLedger, inputs: InputStore, results: ResultWriter) -> None:
        self._task = task
        self._ledger = ledger
        self._inputs = inputs
        self._results = results
        self._attempt = Attempt(task.key, uuid.uuid4().hex)
        self._job_type = ""
        self._claimed_at = 0.0
        # Of all queues only this one may be put into by a signal handler (queue, "SimpleQueue.put": reentrant).
        self._happened: queue.SimpleQueue[_Happened] = queue.SimpleQueue()
        self._work = _Work(self._do, lambda: self._happened.put(_Happened.WORK_ENDED))

    def terminate(self) -> None:
        """End soon; a signal handler may call this."""
        self._happened.put(_Happened.TERMINATED)

    def run(self) -> int:
        """Run the job and return the exit code; threads of the work may be left.

        Raises
        ------
        botocore.exceptions.ClientError
            What no retry mends.
        RuntimeError
            The job table refuses a statement, for want of a grant for example.

        """
        code = self._claim()
        if code is not None:
            return code
        self._report("attempt begun")
        self._work.start()
        match self._watch():
            case _Happened.TIMED_OUT:
                return self._time_out()
            case _Happened.LOST:
                return self._give_way()
            case _Happened.TERMINATED:
                self._work.wind_down()
        return self._settle()

    # The claim

    def _claim(self) -> int | None:
        """Take the job; return the exit code if it is not to be had."""
        until = time.monotonic() + _PATIENCE_S
        while True:
            write = _insist(self._try_to_claim)
            if write.is_written:
                self._claimed_at = time.monotonic()
                return None
            if write.outcome is Outcome.UNAVAILABLE:
                self._report("not claimed", is_bad=True, reason="the ledger does not answer")
                return TRY_AGAIN
            # An attempt of this very start may have died a moment ago: AWS Batch tries again by itself.
            wait_s = self._may_be_free_in(write.job)
            if wait_s is None or time.monotonic() + wait_s > until:
                self._report("not claimed", reason="ended, or another's")
                return ENDED
            if self._wait(wait_s) is _Happened.TERMINATED:
                return TRY_AGAIN

    def _try_to_claim(self) -> Write:
        now = now_ms()
        return self._ledger.claim_started(self._attempt, self._task.start_token, now, leases.lease_until(now))

    def _may_be_free_in(self, job: Job | None) -> float | None:
        """Return in how many seconds another's lease lapses, or None if it is not for that that we wait."""
        if job is None or not job.status.is_open or not job.executing or job.start_token != self._task.start_token:
            return None
        left_ms = max(0, (job.lease_until or 0) - now_ms())
        return left_ms / 1000 + random.uniform(0, 1)  # noqa: S311 - jitter

    # The work

    def _do(self, stop: threading.Event) -> StoredResult | None:
        """Do the work and store its result, unless nobody wants it any more."""
        submission = self._inputs.get(self._task.key)
        self._job_type = submission.job_type
        workload = self._task.workloads[submission.job_type]
        result = workload.run(submission.key.job_id, submission.parameters, stop)
        return None if stop.is_set() else self._results.put(submission.key, self._attempt.token, result)

    def _watch(self) -> _Happened:
        """Renew the lease until something happens."""
        deadline = self._claimed_at + self._task.timeout_s
        beat_at = self._claimed_at + leases.BEAT_EVERY_S
        while True:
            happened = self._wait(min(beat_at, deadline) - time.monotonic())
            if happened is not None:
                return happened
            if time.monotonic() >= deadline:
                return _Happened.TIMED_OUT
            beat_at = time.monotonic() + leases.BEAT_EVERY_S
            if self._is_lost():
                return _Happened.LOST

    def _wait(self, seconds: float) -> _Happened | None:
        """Wait for something to happen, or in vain."""
        try:
            return self._happened.get(timeout=max(0, seconds))
        except queue.Empty:
            return None

    def _is_lost(self) -> bool:
        try:
            [write] = self._ledger.renew([self._attempt], leases.lease_until(now_ms()))
        except (ClientError, BotoCoreError) as error:
            # The work goes on: without a lease it cannot end the job wrongly, only in vain.
            self._report("lease not renewed", is_bad=True, error=_kind(error))
            return False
        return write.outcome is Outcome.REFUSED

    # The end

    def _settle(self) -> int:
        """Put on record how the work has ended, by itself or told to stop."""
        error = self._work.error
        if self._work.stored is not None:  # it was done before it was told to stop, if it was
            return self._complete(self._work.stored)
        if self._work.stop.is_set():
            return self._give_back("attempt stopped")
        if isinstance(error, PermanentError):
            return self._fail(JobError(error.code, error.message))
        return self._give_back("attempt failed", error=_kind(error), where=_where(error))

    def _complete(self, stored: StoredResult) -> int:
        write = _insist(lambda: self._ledger.complete([(self._attempt, stored)], now_ms())[0])
        if write.outcome is Outcome.REFUSED:
            self._discard(stored)
            return ENDED
        return self._ended(write, "attempt completed", bytes=stored.size)

    def _fail(self, error: JobError) -> int:
        write = _insist(lambda: self._ledger.fail([(self._attempt, error)], now_ms())[0])
        return self._ended(write, "attempt failed for good", code=error.code)

    def _time_out(self) -> int:
        """Fail the job first: the work may not heed the event, and is then left to end with the process."""
        code = self._fail(TIMED_OUT)
        self._stop_for_nothing()
        return code

    def _give_way(self) -> int:
        """Stop for a job that has ended, or is another's by now."""
        self._report("attempt given up", reason="ended, or another's")
        self._stop_for_nothing()
        return ENDED

    def _stop_for_nothing(self) -> None:
        self._work.wind_down()
        if self._work.stored is not None:
            self._discard(self._work.stored)

    def _give_back(self, outcome: str, **fields: Any) -> int:
        write = _insist(lambda: self._ledger.release([self._attempt])[0])
        self._report(outcome, is_bad=True, runMs=self._run_ms(), **fields)
        return ENDED if write.outcome is Outcome.REFUSED else TRY_AGAIN

    def _ended(self, write: Write, outcome: str, **fields: Any) -> int:
        if write.outcome is Outcome.UNAVAILABLE:  # it may be on record or not: who looks next will see
            self._report("not on record", is_bad=True, reason="the ledger does not answer", **fields)
            return TRY_AGAIN
        self._report(outcome, runMs=self._run_ms(), **fields)
        return ENDED

    def _discard(self, stored: StoredResult) -> None:
        """Delete a result that came too late; if that fails, whoever settles the job deletes what is left."""
        self._report("attempt discarded", reason="ended, or another's")
        try:
            self._results.delete(stored)
        except (ClientError, BotoCoreError) as error:
            self._report("result not deleted", is_bad=True, error=_kind(error))

    def _run_ms(self) -> int:
        return round((time.monotonic() - self._claimed_at) * 1000)

    def _report(self, outcome: str, *, is_bad: bool = False, **fields: Any) -> None:
        """Write a line. Never a payload, a result or an error's text."""
        about = {"jobId": self._task.key.job_id, "startToken": self._task.start_token, "jobType": self._job_type}
        known = {name: value for name, value in {**about, **fields}.items() if value != ""}
        level = logging.WARNING if is_bad else logging.INFO
        logger.log(level, "job %s", outcome, extra={"fields": {"outcome": outcome, **known}})


def _insist(change: Callable[[], Write]) -> Write:
    """Make a change again and again until the ledger answers, or for two minutes."""
    give_up_at = time.monotonic() + _INSIST_S
    for tries in itertools.count():
        write = change()
        if write.outcome is not Outcome.UNAVAILABLE or time.monotonic() >= give_up_at:
            break
        time.sleep(random.uniform(0, min(2**tries, _LONGEST_PAUSE_S)))  # noqa: S311 - jitter
    return write


def _kind(error: BaseException | None) -> str:
    """Name an error without its text, which may carry the payload: by AWS's code, or by its class."""
    if isinstance(error, ClientError):
        return error.response["Error"]["Code"]
    return type(error).__name__


def _where(error: BaseException | None) -> str:
    """Return the line that raised an error."""
    frames = traceback.extract_tb(error.__traceback__ if error else None)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
