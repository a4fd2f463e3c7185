"""Cold starts: CPU of a fresh process that imports a handler, as a ratio to importing boto3 and making a client.

Each round starts every process once, one after the other: an empty interpreter, the baseline and the functions,
all with the code that ships on the path; the baseline with boto3 besides, which does not ship. What counts is user
and system time of the child, as the kernel accounts for it when it is reaped; the interpreter's own start is taken
off on both sides, since it is in Lambda's runtime before any code of ours, and in both would only draw every ratio
towards 1.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3

from sluice_harness.bench.figures import Spread, cold_ratio
from sluice_harness.engine import REGION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sluice_harness.bench.assembly import DeployedFunction

ROUNDS = 15
EMPTY, BASELINE = "empty", "baseline"
_BASELINE_CODE = "import boto3\nboto3.client('dynamodb')"
_BOTO3 = Path(boto3.__file__).parents[1]
# Lambda's environments are frozen, not torn down: what Python does at its end is no part of a start.
_END = "\nimport os\nos._exit(0)"
# Those that write their jobs' traces, with what the first sampled job makes them do but for its calls of AWS.
TRACED = ("processor", "batch-simulator")
_SAMPLED = """
from sluice_core.jobs import JobKey, Submission
from sluice_handlers.tracing import Tracer
header = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
job = Submission(JobKey("owner", "1790000000000-job"), "weather-report", {}, 1790000000000, trace_header=header)
with Tracer("sluice", "queue") as tracer:
    tracer.follow(job, {"attributes": {"SentTimestamp": "1790000000000"}})
    with tracer.call([job.key], "DynamoDB", "BatchExecuteStatement"):
        pass
"""


@dataclass(frozen=True, slots=True)
class ColdStart:
    """What one kind of start costs: in ms with the interpreter's own, and as a ratio without it."""

    cpu: Spread
    ratio: float


def measure(
    functions: Sequence[DeployedFunction],
    *,
    rounds: int = ROUNDS,
    progress: Callable[[], object] = lambda: None,
) -> dict[str, ColdStart]:
    """Return what the starts cost: by function, and ``NAME, sampled`` of those that trace.

    Parameters
    ----------
    functions : sequence
        At least one; their code's folder is the baseline's, too.
    rounds : int, optional
        How many count.
    progress : callable, optional
        Called after each round, of which there is one more than counts: it warms the disk's cache.

    Raises
    ------
    RuntimeError
        A process failed; the message carries what it said.

    """
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as daemon:
        daemon.bind(("127.0.0.1", 0))
        daemon.setblocking(False)
        starts = _starts(functions, daemon.getsockname()[1])
        times: dict[str, list[float]] = {name: [] for name in starts}
        for number in range(rounds + 1):
            for name, (code, folder, environment) in starts.items():
                cpu_ms = _run(code, folder, environment)
                if name.endswith(_SUFFIX):
                    _expect_segments(daemon, name)
                if number:
                    times[name].append(cpu_ms)
            progress()
    empty, baseline = times[EMPTY], times[BASELINE]
    return {
        name: ColdStart(Spread.of(each), cold_ratio(each, baseline, empty) if name != EMPTY else 0.0)
        for name, each in times.items()
    }


_SUFFIX = ", sampled"


def _starts(functions: Sequence[DeployedFunction], daemon: int) -> dict[str, tuple[str, Path, Mapping[str, str]]]:
    code = functions[0].code
    starts: dict[str, tuple[str, Path, Mapping[str, str]]] = {
        EMPTY: ("pass", code, {}),
        BASELINE: (_BASELINE_CODE, code, {"PYTHONPATH": f"{code}{os.pathsep}{_BOTO3}"}),
    }
    for one in functions:
        starts[one.name] = (f"import {one.module}", one.code, one.environment)
    for one in functions:
        if one.name in TRACED:
            traced = {**one.environment, "AWS_XRAY_DAEMON_ADDRESS": f"127.0.0.1:{daemon}"}
            starts[one.name + _SUFFIX] = (f"import {one.module}{_SAMPLED}", one.code, traced)
    return starts


def runtime_environment(code: Path) -> dict[str, str]:
    """Return what Lambda sets for every function, and credentials that open nothing."""
    return {
        "PATH": os.environ.get("PATH", ""),
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "HOME": "/nonexistent",
        "PYTHONPATH": str(code),
        "LAMBDA_TASK_ROOT": str(code),
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
        "AWS_LAMBDA_FUNCTION_NAME": "bench",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
    }


def python(*arguments: str) -> list[str]:
    """Return the command of a Python that sees the standard library and ``PYTHONPATH`` only."""
    return [sys.executable, "-S", "-P", *arguments]


def _run(code: str, folder: Path, environment: Mapping[str, str]) -> float:
    """Run code in a fresh process and return its user and system time in ms."""
    process = subprocess.Popen(
        python("-c", code + _END),
        env={**runtime_environment(folder), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None  # noqa: S101 - for mypy
    with process.stderr:
        said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"a start failed:\n{code}\n{said.decode(errors='replace')[-2_000:]}")
    return (usage.ru_utime + usage.ru_stime) * 1000


def _expect_segments(daemon: socket.socket, name: str) -> None:
    """See that the trace was really written: a tracer that fails does without."""
    received = 0
    try:
        while daemon.recv(1 << 16):
            received += 1
    except BlockingIOError:
        if not received:
            raise RuntimeError(f"{name}: no segment was sent; adapt the sampled job in bench/cold.py") from None
