"""A scenario's load: one crowd in each process, which does its part of the schedule with a user of each kind.

The rate over time is the schedule's (`pacing`): Locust's own unit, the user, cannot hold one, for twice the users
of a slow service do not submit twice as much. Locust uses any class of shapes and any user that it finds in a
locustfile; these it is given only where there is a scenario.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

import gevent
from control import control_of
from followers import Poison, Submitter
from hostile import Hostile
from locust import LoadTestShape, User, constant, task
from locust.exception import StopUser
from process import process_of
from users import Forgetter, Lister, Poller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from control import Control, Go
    from locust.env import Environment
    from pacing import Arrival, Schedule
    from users import JobUser

KINDS: dict[str, type[JobUser]] = {
    one.kind: one for one in (Submitter, Forgetter, Poison, Poller, Lister, Hostile)
}
# How many submissions wait for their answers at a time when they are sent as fast as they are answered.
_AT_ONCE = 32
# How often those that were refused are made up for.
_ROUNDS = 3


class Crowd(User):
    """Does a process's part of a scenario; Locust starts one in each process."""

    abstract = False
    wait_time = constant(0)

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._process = process_of(environment)
        self._users = {kind: user(environment) for kind, user in KINDS.items()}

    @task
    def take_part(self) -> None:
        """Do all that there is to do, then wait to be stopped."""
        process = self._process
        if process.has_crowd:  # Locust gives a lost worker's users to another, whose part they are not
            raise StopUser
        process.has_crowd = True
        # Beforehand, and all are waited for: no request of the schedule is late because somebody signs in.
        is_signed_in = process.guarded(process.tokens.sign_in_all)
        process.guarded(self._take_part, is_signed_in)
        process.recorder.is_done = True
        while True:
            gevent.sleep(3_600)

    def _take_part(self, is_signed_in: bool) -> None:
        """Begin when all others do, who wait for this process even if it has nothing to send."""
        go = control_of(self.environment).wait_for_go()
        if is_signed_in:
            self._do(go)

    def _do(self, go: Go) -> None:
        """Do this process's part, and follow it to its end."""
        schedule = control_of(self.environment).schedule(len(self._process.tokens.owners))
        mine = (one for one in schedule if one.ordinal % go.processes == go.index)
        part = len(range(go.index, schedule.submissions, go.processes))
        if schedule.rate:
            self._at_their_moments(mine, go)
        else:
            self._as_fast_as_it_goes(mine)
        self._make_up(schedule, go, part)
        self._process.wait_for_answers()
        self._process.wait_for_ends()

    def _at_their_moments(self, arrivals: Iterator[Arrival], go: Go) -> None:
        for arrival in arrivals:
            due_s = go.starts_at + arrival.at_s
            gevent.sleep(max(0.0, due_s - time.time()))
            self._begin(arrival, due_s * 1000)

    def _begin(self, arrival: Arrival, intended_at: float) -> None:
        self._process.begin(self._users[arrival.kind].act, arrival, intended_at)

    def _as_fast_as_it_goes(self, arrivals: Iterator[Arrival]) -> None:
        for _ in range(_AT_ONCE):
            self._process.begin(self._send_on, arrivals)
        self._process.wait_for_answers()

    def _send_on(self, arrivals: Iterator[Arrival]) -> None:
        """Take one arrival after another, each once the one before is answered."""
        for arrival in arrivals:
            if self._process.is_closed:
                return
            self._users[arrival.kind].act(arrival, time.time() * 1000)

    def _make_up(self, schedule: Schedule, go: Go, part: int) -> None:
        """Submit again for what was refused, at the same pace: fewer jobs than were asked for are no run."""
        recorder = self._process.recorder
        for _ in range(_ROUNDS):
            self._process.wait_for_answers()
            missing = part - recorder.submitted
            if missing <= 0:
                return
            due_s = time.time()
            for arrival in itertools.islice(schedule.further(), missing):
                gevent.sleep(max(0.0, due_s - time.time()))
                self._begin(arrival, due_s * 1000)
                due_s += go.processes / schedule.rate if schedule.rate else 0.0


class ScenarioShape(LoadTestShape):
    """Runs a scenario to its end."""

    def __init__(self, control: Control) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._control = control

    def tick(self) -> tuple[int, float] | None:
        """Return how many crowds there are to be; None once everything is done and handed over."""
        processes = self._control.processes()
        return None if self._control.is_over() else (len(processes), float(len(processes)))
