"""What a container's process runs first: it watches the engine, and then does as ``python`` does.

A thread waits for the other end of standard input, which the engine holds, to hang up, and takes the whole process
group with it; the container's own standard input is empty, as Fargate's is. Run as ``python -P entry.py`` and what
follows ``python`` in the container's command.
"""

from __future__ import annotations

import os
import runpy
import select
import signal
import sys
import threading


def main() -> None:
    """Run ``-m MODULE``, ``-c CODE`` or ``FILE``, with the arguments that follow."""
    _end_with_engine()
    kind, *rest = sys.argv[1:]
    if kind == "-m":
        sys.argv = rest
        sys.path.insert(0, "")
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 - what it was asked for
    else:
        sys.argv = [kind, *rest]
        runpy.run_path(kind, run_name="__main__")


def _end_with_engine() -> None:
    watched = os.dup(0)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    threading.Thread(target=_wait_for_hang_up, args=(watched,), daemon=True).start()


def _wait_for_hang_up(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, 0)  # no events asked for: only a hang-up is reported
    poll.poll()
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
