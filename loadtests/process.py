"""What one process of the load generator shares among its users: stage, owners, records, greenlets."""

from __future__ import annotations

import random
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from client_metrics import ClientMetrics
from gevent.pool import Group
from records import Recorder
from sluice_core import metrics
from tokens import TokenBook

if TYPE_CHECKING:
    from collections.abc import Callable

    from locust.env import Environment
    from records import JobRecord
    from sluice_harness.description import StageDescription, User
    from tokens import Owner

_RECENT = 200
_GRACE_S = 3
_JOB_METRICS = {
    "submit": metrics.CLIENT_SUBMIT_LATENCY,
    "time to visible": metrics.CLIENT_TIME_TO_VISIBLE,
    "queue wait": metrics.CLIENT_QUEUE_WAIT,
    "run time": metrics.CLIENT_RUN_TIME,
    "end to end": metrics.CLIENT_END_TO_END,
    "download": metrics.CLIENT_DOWNLOAD_TIME,
}


class Process:
    """One process in one run.

    Parameters
    ----------
    patience_s : float
        How long a follower waits for its job's end while no other job in this process ends either.
    owners : int or None
        As how many of the users to sign in; None for all.

    Attributes
    ----------
    visible, ended : deque
        Recent jobs that a status read has to know, and recent ones that have ended: owner and id.
    is_closed : bool
        Whether the run is over, so that nothing new is begun.
    has_crowd : bool
        Whether somebody here does this process's part of a scenario.

    """

    def __init__(
        self,
        environment: Environment,
        stage: StageDescription,
        users: list[User],
        *,
        owners: int | None = None,
        patience_s: float,
        has_noisy_owner: bool = False,
    ) -> None:
        self._environment = environment
        self.stage = stage
        self.tokens = TokenBook(stage, users, owners)
        self.recorder = Recorder()
        self.metrics = ClientMetrics(stage)
        self.visible: deque[tuple[Owner, str]] = deque(maxlen=_RECENT)
        self.ended: deque[tuple[Owner, str]] = deque(maxlen=_RECENT)
        self.open: dict[str, JobRecord] = {}
        self.has_crowd = False
        self._acts, self._followers = Group(), Group()
        self.is_closed = False
        self._patience_s = patience_s
        self._has_noisy_owner = has_noisy_owner
        self._last_end = time.monotonic()
        environment.events.request.add_listener(self._on_request)

    def close(self) -> None:
        """Stop all that is under way; jobs that were followed stay as they were last seen."""
        self.is_closed = True
        self._followers.kill(block=True, timeout=_GRACE_S)
        self._acts.join(timeout=_GRACE_S)  # a submission is to be known, if it can be
        self._acts.kill(block=True, timeout=_GRACE_S)
        for record in self.open.values():
            record["complaint"] = "not followed to its end: the run was stopped"
            self.recorder.changed(record)
        self.open.clear()
        self._environment.events.request.remove_listener(self._on_request)

    def begin(self, function: Callable[..., None], *arguments: Any) -> None:
        """Run what a user does beside everything else, unless the run is over."""
        if not self.is_closed:
            self._acts.spawn(self.guarded, function, *arguments)

    def follow(self, function: Callable[..., None], *arguments: Any) -> None:
        """Run what follows a job beside everything else, unless the run is over."""
        if not self.is_closed:
            self._followers.spawn(self.guarded, function, *arguments)

    def guarded(self, function: Callable[..., None], *arguments: Any) -> bool:
        """Run a function, and return whether it went well; what it raises is reported as a user's exception."""
        try:
            function(*arguments)
        except Exception as error:
            report(self._environment, error)
            return False
        return True

    def wait_for_answers(self) -> None:
        """Wait until nothing is under way but followers."""
        self._acts.join()

    def wait_for_ends(self) -> None:
        """Wait until no job is followed any more."""
        self._followers.join()

    @property
    def at_work(self) -> int:
        """How many clients are doing something just now."""
        return len(self._acts) + len(self._followers)

    def _on_request(self, name: str, exception: Exception | None = None, **measured: Any) -> None:
        self.recorder.on_request(name, exception=exception, **measured)
        if exception is not None:
            self.metrics.add(metrics.CLIENT_ERRORS)

    def job_time(self, what: str, ms: float, failure: Exception | None = None) -> None:
        """Show a job's time in Locust's own statistics, and send it as a metric unless it failed."""
        self._environment.events.request.fire(
            request_type="JOB",
            name=f"job: {what}",
            response_time=ms,
            response_length=0,
            exception=failure,
            context={},
        )
        if failure is None:
            self.metrics.add(_JOB_METRICS[what], ms)

    def is_quiet(self, owner: int) -> bool:
        """Whether this owner is one of those beside a noisy one."""
        return self._has_noisy_owner and owner != 0

    def saw_acceptance(self, record: JobRecord) -> None:
        """Take note of a job that was accepted just now."""
        self.recorder.accepted(record)
        self.metrics.add(metrics.CLIENT_SUBMISSIONS)
        self.job_time("submit", record["acceptedAt"] - record["intendedAt"])

    def saw_end(self) -> None:
        """Take note that a job has ended: the service is at work."""
        self._last_end = time.monotonic()
        self.recorder.ended += 1

    def has_patience(self, since: float) -> bool:
        """Whether to wait on, for a job accepted at this monotonic time: while it, or any end, is recent."""
        return time.monotonic() - max(since, self._last_end) < self._patience_s

    def an_owner(self) -> Owner:
        """Return any owner."""
        return random.choice(self.tokens.owners)  # noqa: S311 - load, not secrets


_processes: dict[int, Process] = {}


def process_of(environment: Environment) -> Process:
    """Return the run that an environment's users take part in."""
    return _processes[id(environment)]


def enter(environment: Environment, process: Process) -> None:
    """Make a run the one that an environment's users take part in."""
    _processes[id(environment)] = process


def report(environment: Environment, error: Exception) -> None:
    """Have Locust count an exception, wherever it was raised; its exit code is then not 0."""
    environment.events.user_error.fire(user_instance=None, exception=error, tb=error.__traceback__)
