"""Execution environments start a few at a time, and invocations wait for them.

MiniStack starts a process for every invocation that finds none free, all at once. In AWS each environment has a
processor of its own; here a burst of thirty requests starts thirty interpreters on two cores, which then take ten
seconds to import boto3, while more requests come and start more.

Closed by starting as many of a function's environments at a time as there are cores, and the later the more there
are: beyond twice the cores, each further one only for an invocation that has waited half a second longer. Whoever
comes meanwhile takes the first that is free. So quick invocations queue for a few environments, and long ones get
theirs, as in AWS ("Understanding Lambda function scaling"), a little later.
"""

from __future__ import annotations

import os
import time
from threading import Condition
from typing import TYPE_CHECKING, Any

from ministack.core import lambda_runtime
from ministack.core.lambda_runtime import Worker
from ministack.services import lambda_svc

from sluice_harness.compat.patching import expect

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_SECONDS = 0.5
# Nobody waits longer, whatever the others do: an environment may hang in its start.
LONGEST_SECONDS = 10.0
LOOK_EVERY_SECONDS = 0.1


def apply() -> None:
    """Put a queue before the engine's pool of workers."""
    spawn = expect(Worker, "_spawn", "self")
    expect(lambda_runtime, "_worker_key", "func_name", "config", "qualifier")
    for owner in (lambda_runtime, lambda_svc):
        acquire = expect(
            owner, "acquire_worker", "func_name", "config", "code_zip", "qualifier", "max_concurrency"
        )
        release = expect(owner, "release_worker", "worker")
    queue = Queue(acquire, release, os.cpu_count() or 1)
    for owner in (lambda_runtime, lambda_svc):
        owner.acquire_worker, owner.release_worker = queue.acquire, queue.release

    def spawn_and_tell(worker: Any) -> None:
        try:
            spawn(worker)
        finally:
            queue.has_started(worker)

    Worker._spawn = spawn_and_tell


class Queue:
    """Invocations that wait for an environment, of any function."""

    def __init__(self, acquire: Callable[..., Any], release: Callable[[Any], None], cores: int) -> None:
        self._acquire = acquire
        self._release = release
        self._cores = cores
        self._changed = Condition()
        self._starting: dict[Any, str] = {}  # worker -> its function's key

    def acquire(
        self,
        func_name: str,
        config: dict[str, Any],
        code_zip: bytes,
        qualifier: str = "$LATEST",
        max_concurrency: int | None = None,
    ) -> Any:
        """Take a free environment, or start one when it is time to."""
        key = lambda_runtime._worker_key(func_name, config, qualifier)
        began = time.monotonic()
        with self._changed:
            while not (self._is_free(key) or self._may_start(key, time.monotonic() - began)):
                self._changed.wait(LOOK_EVERY_SECONDS)
            worker, reason = self._acquire(func_name, config, code_zip, qualifier, max_concurrency)
            if reason == "spawn":
                self._starting[worker] = key
        return worker, reason

    def release(self, worker: Any) -> None:
        """Give an environment back, and let the next invocation have it."""
        with self._changed:
            self._release(worker)
            self._starting.pop(worker, None)
            self._changed.notify_all()

    def has_started(self, worker: Any) -> None:
        """Take note that an environment is ready, or will never be."""
        with self._changed:
            self._starting.pop(worker, None)
            self._changed.notify_all()

    def _is_free(self, key: str) -> bool:
        return any(not worker.in_use for worker in lambda_runtime._workers.get(key, ()))

    def _may_start(self, key: str, waited: float) -> bool:
        starting = sum(each == key for each in self._starting.values())
        too_many = len(lambda_runtime._workers.get(key, ())) - 2 * self._cores + 1
        return waited >= LONGEST_SECONDS or (starting < self._cores and waited >= PATIENCE_SECONDS * too_many)
