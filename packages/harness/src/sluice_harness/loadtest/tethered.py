"""Locust that ends when its owner does, however that ends: ``python -m sluice_harness.loadtest.tethered ...``.

Locust's arguments follow. Its standard input is a pipe of its owner's; once that is closed, Locust is interrupted,
as by Ctrl-C, and writes what it has.
"""

from __future__ import annotations

import _thread
import os
import runpy
import signal
import sys

_STDIN = 0


def main() -> None:
    """Run Locust in this process."""
    # A thread of the system's: Locust makes those of `threading` wait for one another.
    _thread.start_new_thread(_end_with_owner, ())
    sys.argv[0] = "locust"
    runpy.run_module("locust", run_name="__main__")


def _end_with_owner() -> None:
    while os.read(_STDIN, 1):
        pass
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    main()
