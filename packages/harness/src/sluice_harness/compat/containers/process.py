"""A container as a process of this machine: the command's own Python, its output line by line, and how it ends.

There is no Docker here. A container's command has to begin with ``python``, which is the interpreter that the
engine runs on, with the packages that are installed for it: an image is never looked at, and neither are its entry
point and its environment. What it has in common with a container: an environment and a home of its own, no
standard input, signals as ECS sends them, an end that takes all of its children along, and an exit code as Docker
counts it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from sluice_harness.compat import timers
from sluice_harness.compat.containers import entry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PYTHON = frozenset({"python", "python3"})
# What a process needs to run, whatever its image.
_KEPT = ("PATH", "LANG", "LC_ALL")
_BY_SIGNAL = 128


class StartError(Exception):
    """The container cannot be started; the message is what its task says of it."""


class Process:
    """One container that has been started.

    Raises
    ------
    StartError
        Its command is none of Python's, or this machine has no room for another process.

    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        program, *arguments = command or [""]
        if program not in PYTHON or not arguments:
            raise StartError(f"CannotStartContainerError: the local stage runs python, not {program!r}")
        self._home = Path(tempfile.mkdtemp(prefix="container-"))
        own = {"HOME": str(self._home), "TMPDIR": str(self._home), "PYTHONUNBUFFERED": "1"}
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", entry.__file__, *arguments],
                stdin=subprocess.PIPE,  # whose end it watches
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**kept, **own, **environment},
                cwd=self._home,
                start_new_session=True,
            )
        except OSError as error:
            raise StartError(f"CannotStartContainerError: {error}") from error

    def lines(self) -> Iterator[str]:
        """Yield its output, until it and all that it started have closed theirs."""
        assert self._process.stdout is not None  # noqa: S101 - as it was opened
        with self._process.stdout as output:
            for line in output:
                yield line.decode(errors="replace").rstrip("\n")

    def stop(self, grace_seconds: float) -> None:
        """Ask it to end, and end it if it has not done so in time."""
        self._signal(signal.SIGTERM)
        timers.after(grace_seconds, self.kill)

    def kill(self) -> None:
        """End it."""
        self._signal(signal.SIGKILL)

    def wait(self) -> int:
        """Wait for its end, end what it has left running, and return the exit code as Docker counts it."""
        code = self._process.wait()
        assert self._process.stdin is not None  # noqa: S101 - as it was opened
        self._process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        shutil.rmtree(self._home, ignore_errors=True)
        return code if code >= 0 else _BY_SIGNAL - code

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            self._process.send_signal(number)
