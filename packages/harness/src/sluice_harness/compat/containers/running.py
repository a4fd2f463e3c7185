"""Containers that run: from their specification to their end, as many at once as there is room for.

A process of Python takes a core for a second to start and some 60 MB. Fargate has as many as are asked for; here
those for which there is no room wait in order of age, as PENDING tasks and RUNNABLE jobs.
"""

from __future__ import annotations

import contextvars
import functools
import os
import threading
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ministack.core.concurrency import spawn_background

from sluice_harness.compat.containers.awslogs import Stream
from sluice_harness.compat.containers.images import pull
from sluice_harness.compat.containers.process import Process, StartError
from sluice_harness.compat.containers.task_role import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(frozen=True)
class Specification:
    """What a container is to be.

    Attributes
    ----------
    task_id : str
        Names its role's session.
    log : tuple of str, optional
        The log group and the log stream that its output goes to.
    stop_timeout_s : float
        How long it has between SIGTERM and SIGKILL.

    """

    task_id: str
    image: str
    command: Sequence[str]
    environment: Mapping[str, str]
    execution_role: str
    role: str = ""
    log: tuple[str, str] | None = None
    stop_timeout_s: float = 30.0


class Owner(Protocol):
    """Who is told what becomes of a container: first one of the first two, then its end."""

    def has_started(self) -> None:
        """Take note that it runs."""

    def has_not_started(self, reason: str) -> None:
        """Take note that it never will, and why."""

    def has_ended(self, exit_code: int) -> None:
        """Take note that it has run."""


class Container:
    """One container, started on a thread of its own."""

    def __init__(self, specification: Specification, owner: Owner) -> None:
        self._specification = specification
        self._owner = owner
        self._lock = threading.Lock()
        self._process: Process | None = None
        self._is_wanted = True

    def stop(self) -> None:
        """End it in order; one that is being started ends as soon as it runs."""
        with self._lock:
            self._is_wanted = False
            if self._process is not None:
                self._process.stop(self._specification.stop_timeout_s)

    def run(self) -> None:
        """Run it to its end."""
        with ExitStack() as held:
            try:
                process, log = self._start(held)
            except StartError as error:
                self._owner.has_not_started(str(error))
                return
            self._owner.has_started()
            with self._lock:
                self._process = process
                if not self._is_wanted:
                    process.stop(self._specification.stop_timeout_s)
            reader = spawn_background(_forward, process, log, thread_name="sluice-container-output")
            code = process.wait()
            reader.join()
        self._owner.has_ended(code)

    def _start(self, held: ExitStack) -> tuple[Process, Stream | None]:
        wanted = self._specification
        pull(wanted.image, wanted.execution_role)
        log = Stream(*wanted.log, wanted.execution_role) if wanted.log else None
        credentials = held.enter_context(Session(wanted.role, wanted.task_id)) if wanted.role else {}
        return Process(wanted.command, {**_given(), **credentials, **wanted.environment}), log


def _given() -> dict[str, str]:
    """Return what Fargate gives each container, and where this AWS is."""
    region, port = os.environ["AWS_DEFAULT_REGION"], os.environ["GATEWAY_PORT"]
    return {
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE",
        "AWS_ENDPOINT_URL": os.environ.get("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}"),
    }


def _forward(process: Process, log: Stream | None) -> None:
    for line in process.lines():
        if log is not None:
            log.write(line)


@dataclass
class Room:
    """Room for so much at once, given in the order in which it is asked for.

    Attributes
    ----------
    limit : float
        What is taken at most; what is larger by itself waits for ever, as in AWS.

    """

    limit: float
    _taken: float = 0.0
    _waiting: deque[tuple[float, Callable[[], None]]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, size: float, work: Callable[[], None]) -> None:
        """Do ``work`` in this context, on a thread of its own, as soon as there is room for it."""
        bound = functools.partial(contextvars.copy_context().run, work)
        with self._lock:
            self._waiting.append((size, bound))
        self._start()

    def _start(self) -> None:
        while due := self._next():
            spawn_background(self._do, *due, thread_name="sluice-container")

    def _next(self) -> tuple[float, Callable[[], None]] | None:
        with self._lock:
            if not self._waiting or self._taken + self._waiting[0][0] > self.limit:
                return None
            self._taken += self._waiting[0][0]
            return self._waiting.popleft()

    def _do(self, size: float, work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            with self._lock:
                self._taken -= size
            self._start()
