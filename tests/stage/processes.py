"""What Linux says of a stage's processes, ports and sockets."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from stage.running import until

if TYPE_CHECKING:
    from stage.running import RunningStage

PROC = Path("/proc")
LISTENING = "0A"
UNCONNECTED = "07"
LOOPBACK = {"0100007F", "00000000000000000000000001000000"}


def processes() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def parent_of(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        return int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    return None


def command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return (PROC / str(pid) / "cmdline").read_text(errors="replace")
    return ""


def children_of(pid: int) -> list[int]:
    return [child for child in processes() if parent_of(child) == pid]


def working_in(folder: str) -> list[int]:
    """Return the processes that have a folder in their command line, environment or working directory."""
    return [pid for pid in processes() if pid != os.getpid() and _mentions(pid, folder)]


def _mentions(pid: int, text: str) -> bool:
    place = PROC / str(pid)
    with contextlib.suppress(OSError):
        said = command(pid) + str((place / "cwd").readlink()) + (place / "environ").read_text(errors="replace")
        return text in said
    return False


def bound_addresses(pid: int) -> set[str]:
    """Return the addresses, as the kernel writes them, on which a process takes connections or datagrams."""
    own = set()
    for descriptor in (PROC / str(pid) / "fd").iterdir():
        with contextlib.suppress(OSError):
            own.add(str(descriptor.readlink()))
    found = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in (PROC / str(pid) / "net" / table).read_text().splitlines()[1:]:
            fields = line.split()
            if f"socket:[{fields[9]}]" in own and fields[3] in {LISTENING, UNCONNECTED}:
                found.add(fields[1].partition(":")[0])
    return found


def is_open(endpoint: str) -> bool:
    url = httpx.URL(endpoint)
    with socket.socket() as probe:
        return probe.connect_ex((url.host, url.port or 80)) == 0


def engine_of(stage: RunningStage) -> int:
    """Find a stage's engine by the port that it was told."""
    port = str(httpx.URL(str(stage.description.endpointUrl)).port)
    (engine,) = [
        pid
        for pid in processes()
        if f"\0--port\0{port}\0" in command(pid) and "sluice_harness.engine" in command(pid)
    ]
    return engine


def workers_of(stage: RunningStage, function: str) -> list[int]:
    """Find the worker processes of a function: children of the stage's engine, which names their folders so."""
    folder = f"ministack-lambda-{function}-"
    return [pid for pid in children_of(engine_of(stage)) if folder in command(pid)]


def kill_workers(stage: RunningStage, function: str) -> None:
    """Kill all of a function's workers, as an out-of-memory killer would, and wait until they are gone."""
    workers = workers_of(stage, function)
    assert workers, f"{function} has no worker"
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not set(workers) & set(workers_of(stage, function)), "the workers are gone", 10)
