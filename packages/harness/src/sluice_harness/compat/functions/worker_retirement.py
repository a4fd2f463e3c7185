"""A new deployment lets running invocations end.

MiniStack kills a function's workers, busy ones too, whenever its code or configuration changes: their batches
fail, and their messages come back after a visibility timeout only.

Lambda goes on with the old environment until its invocation ends, and starts new ones for what comes next
(Lambda Developer Guide, "Lambda function states", "Function states during updates").

Closed by ending a busy worker, which its pool has forgotten already, once it is free.
"""

from __future__ import annotations

import time
from typing import Any

from ministack.core import lambda_runtime
from ministack.core.concurrency import spawn_background

from sluice_harness.compat.patching import expect

LOOK_EVERY_SECONDS = 0.1
# Past its function's timeout a worker is not busy: its invocation failed and will not release it.
GRACE_SECONDS = 5.0


def apply() -> None:
    """Make the engine end idle workers at once and busy ones afterwards."""
    kill = expect(lambda_runtime, "kill_workers", "workers")

    def kill_when_free(workers: list[Any]) -> None:
        busy = [worker for worker in workers if worker is not None and worker.in_use]
        kill([worker for worker in workers if worker not in busy])
        for worker in busy:
            spawn_background(_kill_later, kill, worker, thread_name="sluice-worker-retirement")

    lambda_runtime.kill_workers = kill_when_free


def _kill_later(kill: Any, worker: Any) -> None:
    deadline = time.monotonic() + float(worker.config.get("Timeout", 30)) + GRACE_SECONDS
    while worker.in_use and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_SECONDS)
    kill([worker])
