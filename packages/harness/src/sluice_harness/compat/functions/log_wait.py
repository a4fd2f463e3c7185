"""Lambda logs without waiting: a worker says when an invocation's output has ended.

MiniStack cannot tell whether a worker will still print, so it waits 50 ms for a first line after each
invocation and 5 ms for a further one; lines that come later land in the log of the next invocation. It reads
each answer on a thread of its own, and it ends the worker of a handler that raised, so that the next
invocation starts cold.

Lambda adds nothing to an invocation for its logs, keeps them in order, and an exception in a handler does not
end its execution environment (Lambda Developer Guide, "Understanding the Lambda execution environment
lifecycle", "Runtime error").

Closed by a line on standard error at the end of each invocation (and by the Python workers only: Node.js ones
stay on the engine's path), and by an invoke that reads until it.
"""

from __future__ import annotations

import json
import os
import queue
import select
import time
from typing import Any

from ministack.core import lambda_runtime
from ministack.core.lambda_runtime import Worker

from sluice_harness.compat import faults
from sluice_harness.compat.functions import log_streams
from sluice_harness.compat.patching import expect, replace_once

END = "\x1esluice-end-of-invocation"
# A worker that lives but whose sentinel does not come has closed its standard error.
SENTINEL_SECONDS = 0.25
CHUNK_BYTES = 1 << 16

_LAST_FLUSH = "        _real_stdout.flush()\n\nrun()\n"
_SENTINEL = f"""        for _ms_stream in (sys.stdout, sys.stderr):
            try:
                _ms_stream.flush()
            except Exception:
                pass
        os.write(2, {END!r}.encode() + b"\\n")
"""


def apply() -> None:
    """Make Python workers end their logs, and read them that way."""
    invoke = expect(
        Worker,
        "invoke",
        "self",
        "event",
        "request_id",
        "trace_id",
        "depth",
        "durable",
        "invoked_function_arn",
    )
    for name, parameters in {"_spawn": ("self",), "_drain_stderr": ("self",)}.items():
        expect(Worker, name, *parameters)
    replace_once(lambda_runtime, "_PYTHON_WORKER_SCRIPT", _LAST_FLUSH, _SENTINEL + _LAST_FLUSH)

    def invoke_worker(self: Any, event: Any, request_id: str, **context: Any) -> dict[str, Any]:
        if not str(self.config.get("Runtime", "python3.12")).startswith("python"):
            other: dict[str, Any] = invoke(self, event, request_id, **context)
            return other
        with self._lock:
            return _invoke(self, event, request_id, context)

    Worker.invoke = invoke_worker


def _invoke(worker: Any, event: Any, request_id: str, context: dict[str, Any]) -> dict[str, Any]:
    cold = worker._proc is None or worker._proc.poll() is not None
    log_streams.enter(worker, cold=cold)
    if cold:
        worker._spawn()
        worker._cold = False
    process = worker._proc
    started = time.perf_counter()
    timeout = float(worker.config.get("Timeout", 30))
    left = timeout - faults.hold_up(worker.func_name, timeout)
    answer = _exchange(process, _envelope(worker, event, request_id, left, context), left)
    if answer is None:
        lambda_runtime.logger.warning("Lambda %s timed out", worker.func_name)
        answer = {"status": "error", "error": f"Task timed out after {timeout:.2f} seconds", "worker": "dead"}
    answer["cold_start"] = cold
    answer["duration_ms"] = (time.perf_counter() - started) * 1000
    if answer.pop("worker", "alive") == "dead":
        worker._proc = None
        lambda_runtime._signal(process)
        lambda_runtime._collect(process, time.monotonic() + lambda_runtime._REAP_GRACE)
        worker._stderr_thread.join(SENTINEL_SECONDS)  # what it printed before it died
    answer["log"] = _log(worker, alive=worker._proc is not None)
    return answer


def _envelope(worker: Any, event: Any, request_id: str, timeout: float, context: dict[str, Any]) -> bytes:
    arn = context.get("invoked_function_arn")
    values = {
        "request_id": request_id,
        "invoked_function_arn": worker.config.get("FunctionArn", "") if arn is None else arn,
        "timeout_ms": int(timeout * 1000),
        "trace_id": context.get("trace_id"),
        "depth": context.get("depth"),
        "durable": context.get("durable") or {},
    }
    return json.dumps({"event": event, "ctx": values}).encode() + b"\n"


def _exchange(process: Any, envelope: bytes, timeout: float) -> dict[str, Any] | None:
    """Send one invocation and return its answer, or None when it did not come in time."""
    deadline = time.monotonic() + timeout
    dead = {"status": "error", "error": "Worker process died", "worker": "dead"}
    try:
        process.stdin.buffer.write(envelope)
        process.stdin.buffer.flush()
    except OSError:
        return dead
    descriptor = process.stdout.fileno()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    held = b""
    while (left := deadline - time.monotonic()) > 0:
        if not poll.poll(left * 1000):
            break
        chunk = os.read(descriptor, CHUNK_BYTES)
        if not chunk:
            return dead
        *lines, held = (held + chunk).split(b"\n") if b"\n" in chunk else (held + chunk,)
        for line in lines:
            answer = _answer(line)
            if answer:
                return answer
    return None


def _answer(line: bytes) -> dict[str, Any] | None:
    """Return a line of the protocol; native code may print others to standard output."""
    if not line.startswith(b"{"):
        return None
    try:
        answer = json.loads(line)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) and answer.get("status") in {"ok", "error"} else None


def _log(worker: Any, *, alive: bool) -> str:
    """Return what the invocation printed, in order and without the sentinel."""
    lines = []
    while alive:
        try:
            line = worker._stderr_queue.get(timeout=SENTINEL_SECONDS)
        except queue.Empty:
            break
        text, end, _ = line.partition(END)
        if text or not end:
            lines.append(text)
        if end:
            return "\n".join(lines)
    return "\n".join([*lines, *filter(None, [worker._drain_stderr().replace(END, "")])])
