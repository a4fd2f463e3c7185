"""Runs Locust: as one process, or as a master with workers on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from sluice_harness.description import ROOT

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

LOADTESTS = ROOT / "loadtests"
# Longer than the locustfile's own last words take.
_GOODBYE_S = 30.0
_LOOPBACK = "127.0.0.1"
# A worker that never comes keeps nobody.
_IN_TIME = ("--expect-workers-max-wait", "60")
_LOG = "locust.log"


@dataclass(frozen=True, slots=True)
class Command:
    """What Locust is to do.

    Attributes
    ----------
    host : str
        The API's address.
    workers : int
        How many processes make load beside a master; 0 for one process alone.
    arguments : tuple of str
        The locustfile's own: ``--scenario`` and the rest.

    """

    locustfile: Path
    host: str
    workers: int
    arguments: tuple[str, ...]


class Load:
    """Locust's processes, which end with the block.

    They are in sessions of their own: Ctrl-C is for the owner, which then ends them in order.
    """

    def __init__(self, command: Command, out: Path) -> None:
        self._command = command
        self._out = out
        self._processes: list[subprocess.Popen[bytes]] = []
        self._was_ended = False

    def __enter__(self) -> Self:
        self._out.mkdir(parents=True, exist_ok=True)
        alone = ["--headless", "--host", self._command.host, *self._command.arguments, "--out", str(self._out)]
        if not self._command.workers:
            self._start(_LOG, alone)
            return self
        port = str(_free_port())
        master = ["--master", "--master-bind-host", _LOOPBACK, "--master-bind-port", port]
        self._start(_LOG, [*master, "--expect-workers", str(self._command.workers), *_IN_TIME, *alone])
        for number in range(1, self._command.workers + 1):
            worker = ["--worker", "--master-host", _LOOPBACK, "--master-port", port]
            self._start(f"worker-{number}.log", worker)
        return self

    def _start(self, log: str, arguments: list[str]) -> None:
        command = [
            sys.executable,
            "-m",
            "sluice_harness.loadtest.tethered",
            "-f",
            str(self._command.locustfile),
            *arguments,
        ]
        path = os.environ.get("PYTHONPATH", "")
        with (self._out / log).open("wb") as output:
            self._processes.append(
                subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,  # closed with us, which ends it
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    # A locustfile of one's own may build on the users that are here.
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(LOADTESTS), path]))},
                )
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    @property
    def is_running(self) -> bool:
        """Whether the master, or the only process, still runs."""
        return self._processes[0].poll() is None

    @property
    def exit_code(self) -> int | None:
        """The worst exit code of all of them, once they have ended; None if that was before their time."""
        return None if self._was_ended else max((process.returncode for process in self._processes), key=abs)

    def end(self) -> None:
        """End what still runs: the master tells its workers, and each writes what it has."""
        if self.is_running:
            self._was_ended = True
            self._processes[0].send_signal(signal.SIGINT)
        for process in self._processes:
            if not _has_ended(process, _GOODBYE_S):
                self._was_ended = True
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()

    def progress(self) -> dict[str, Any]:
        """Return what ``progress.json`` says just now; nothing before the first second is over."""
        with contextlib.suppress(OSError, ValueError):
            said: dict[str, Any] = json.loads((self._out / "progress.json").read_text())
            return said
        return {}


def _has_ended(process: subprocess.Popen[bytes], within_s: float) -> bool:
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def last_lines(out: Path, count: int = 15) -> str:
    """Return the end of Locust's log, for somebody who has to see why it died."""
    with contextlib.suppress(OSError):
        return "\n".join((out / _LOG).read_text(errors="replace").splitlines()[-count:])
    return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
