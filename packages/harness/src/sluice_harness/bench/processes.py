"""CPU time of a local stage's processes, by what they are: the engine and each function's workers (proc(5))."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROC = Path("/proc")
_MS_PER_TICK = 1000 / os.sysconf("SC_CLK_TCK")
# Of stat(5), counted after the command's name in parentheses: parent, own user and system time, and the same
# of children that have ended.
_PARENT, _USER, _SYSTEM, _ENDED_USER, _ENDED_SYSTEM = 1, 11, 12, 13, 14
ENGINE, ENDED, CLIENT = "engine", "ended workers", "client"


def engine_of(state: Path) -> int:
    """Return the process id of the engine with this state folder.

    Raises
    ------
    LookupError
        There is none: it has ended, or this is no Linux.

    """
    wanted = str(state).encode()
    for folder in _PROC.glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        if b"sluice_harness.engine" in arguments and wanted in arguments:
            return int(folder.name)
    raise LookupError(f"no engine runs with the state folder {state}")


def cpu_ms(engine: int, functions: Mapping[str, str]) -> dict[str, float]:
    """Return user and system time so far, in ms: of the engine, of functions by name, of workers that have ended.

    Parameters
    ----------
    engine : int
        Its process id.
    functions : mapping
        Physical names of functions to the names that they are to have here.

    """
    used: dict[str, float] = defaultdict(float)
    own = _stat(engine)
    used[ENGINE] = (own[_USER] + own[_SYSTEM]) * _MS_PER_TICK
    used[ENDED] = (own[_ENDED_USER] + own[_ENDED_SYSTEM]) * _MS_PER_TICK
    for folder in _PROC.glob("[0-9]*"):
        try:
            worker = _stat(int(folder.name))
            if worker[_PARENT] != engine:
                continue
            variables = (folder / "environ").read_bytes().split(b"\0")
        except (OSError, LookupError):
            continue
        name = next((one[25:].decode() for one in variables if one.startswith(b"AWS_LAMBDA_FUNCTION_NAME=")), "")
        used[functions.get(name, "other")] += (worker[_USER] + worker[_SYSTEM]) * _MS_PER_TICK
    return dict(used)


def spent(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Return what was used between two readings.

    A worker that ended in between is gone from its function and with its whole life among those that have ended;
    what it had used before is taken off there.
    """
    used = {name: after.get(name, 0.0) - before.get(name, 0.0) for name in {*before, *after}}
    lost = sum(value for value in used.values() if value < 0)
    used = {name: max(0.0, value) for name, value in used.items()}
    used[ENDED] = max(0.0, used.get(ENDED, 0.0) + lost)
    return used


def _stat(process: int) -> list[int]:
    try:
        fields = (_PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
    except OSError as error:
        raise LookupError(f"process {process} has ended") from error
    return [0 if field.isalpha() else int(field) for field in fields]
