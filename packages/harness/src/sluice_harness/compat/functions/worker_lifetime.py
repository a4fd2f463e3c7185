"""Worker processes end with the engine, whatever ends it.

MiniStack's workers leave when their standard input closes, but look at it only between invocations: a handler
that sleeps or loops when the engine is killed stays behind, with its endpoint gone.

Lambda's environments are Lambda's: none outlives the service (Lambda Developer Guide, "Understanding the
Lambda execution environment lifecycle", "Shutdown phase").

Closed by a thread in each Python worker that waits for the other end of its standard input to hang up. The
kernel's parent-death signal would not do: it comes when the *thread* that started the worker ends.
"""

from __future__ import annotations

from ministack.core import lambda_runtime

from sluice_harness.compat.patching import replace_once

_FIRST_LINE = "    init = json.loads(sys.stdin.readline())\n"
_WATCH = """    import select, threading
    def _ms_leave_with_engine():
        _ms_poll = select.poll()
        _ms_poll.register(0, 0)  # no events asked for: only a hang-up is reported
        _ms_poll.poll()
        os._exit(0)
    threading.Thread(target=_ms_leave_with_engine, daemon=True).start()
"""


def apply() -> None:
    """Add the watching thread to the engine's Python worker."""
    replace_once(lambda_runtime, "_PYTHON_WORKER_SCRIPT", _FIRST_LINE, _FIRST_LINE + _WATCH)
