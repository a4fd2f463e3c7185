"""The engine process: MiniStack, served by uvicorn on loopback, with our compatibility layer applied.

Run as ``python -m sluice_harness.engine --port N --state DIR``; `sluice_harness.stage` starts and stops it.
It ends when its standard input closes, so a stage whose owner was killed takes its workers with it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sluice_harness.chaos import faults
from sluice_harness.description import forget_all
from sluice_harness.stage_clock import StageClock

if TYPE_CHECKING:
    from collections.abc import Sequence

    import uvicorn

REGION = "us-east-1"
ACCOUNT = "000000000000"
# The file that says, in the state folder, that this very engine answers.
READY = "ready"
_REMOVAL_SECONDS = 10.0
_REMOVAL_PAUSE_SECONDS = 0.2


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until standard input closes or a signal arrives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True, help="folder for worker code, logs and objects")
    parser.add_argument("--name", help="whose description in build/stages to remove at the end")
    parser.add_argument("--faults", type=Path, help="settings of the faults that workers suffer; see chaos.faults")
    parser.add_argument("--speed", type=float, default=1.0, help="stage seconds in a second (default: 1)")
    parser.add_argument(
        "--started-at", type=float, default=time.time(), help="when stage time began, epoch seconds"
    )
    parser.add_argument("--faults-api", action="store_true", help="serve /_sluice/faults; see compat.faults")
    options = parser.parse_args(argv)
    _set_environment(options.port, options.state)
    # uvicorn ends in order and then raises the signal again; this turns it into an exit that cleans up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with asyncio.Runner(loop_factory=_event_loop) as runner:
            runner.run(_serve(options))
    finally:
        _remove(options.state)
        if options.name:
            forget_all(f"http://127.0.0.1:{options.port}")


def _remove(state: Path) -> None:
    """Remove the state folder; on other threads, workers that are being started may still unpack into it."""
    deadline = time.monotonic() + _REMOVAL_SECONDS
    while state.exists() and time.monotonic() < deadline:
        shutil.rmtree(state, ignore_errors=True)
        time.sleep(_REMOVAL_PAUSE_SECONDS)


def _set_environment(port: int, state: Path) -> None:
    """Configure MiniStack, which reads its settings at import; Lambda workers inherit what is left."""
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LC_ALL") if name in os.environ}
    os.environ.clear()
    os.environ.update(
        keep,
        AUTH="true",
        AWS_DEFAULT_REGION=REGION,
        MINISTACK_REGION=REGION,
        BIND_HOST="127.0.0.1",
        GATEWAY_PORT=str(port),
        MINISTACK_HOST="127.0.0.1",
        IOT_MTLS_ENABLED="0",
        SFTP_ENABLED="0",
        LOG_LEVEL="WARNING",
        TMPDIR=str(state),
    )


def _event_loop() -> asyncio.AbstractEventLoop:
    """Return libuv's loop: with httptools' parser, which uvicorn takes by itself, HTTP costs half as much CPU."""
    import uvloop  # noqa: PLC0415 - after the environment is set

    return uvloop.new_event_loop()


async def _serve(options: argparse.Namespace) -> None:
    import uvicorn  # noqa: PLC0415 - after the environment is set

    served = _application(options)
    config = uvicorn.Config(
        served,
        host="127.0.0.1",
        port=options.port,
        date_header=False,  # MiniStack sends its own; a second Date header fails the CDK CLI
        server_header=False,
        proxy_headers=False,  # else a client's X-Forwarded-For would become its address
        timeout_keep_alive=75,  # longer than clients keep a connection: else one is closed as a request is sent
        log_level="warning",
        lifespan="on",
    )
    server = uvicorn.Server(config)
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _stop_at_eof, server)
    async with asyncio.TaskGroup() as tasks:
        announcement = tasks.create_task(_announce(server, options.state / READY))
        await server.serve()
        announcement.cancel()


def _application(options: argparse.Namespace) -> Any:
    """Return the engine as it is to be served: patched, on the stage's time, and faulty if that is asked for."""
    from ministack.app import app  # noqa: PLC0415 - after the environment is set

    from sluice_harness import compat  # noqa: PLC0415
    from sluice_harness.compat import faults as faults_on_demand  # noqa: PLC0415
    from sluice_harness.compat.monitoring.metric_store import store  # noqa: PLC0415

    store.clock = StageClock(options.speed, options.started_at)
    if options.faults_api:
        faults_on_demand.apply()  # first: what they do counts in the metrics
    served = compat.apply(app)
    _collect_rarely()
    if options.faults is not None:
        faults.apply(options.faults)
    return faults_on_demand.serve(served) if options.faults_api else served


def _collect_rarely() -> None:
    """Look for cycles less often: a stage keeps what it is given, and each look goes through all of it."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def _announce(server: uvicorn.Server, ready: Path) -> None:
    while not server.started:
        await asyncio.sleep(0.01)
    ready.touch()


def _stop_at_eof(server: uvicorn.Server) -> None:
    if not os.read(sys.stdin.fileno(), 1):
        server.should_exit = True
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())


if __name__ == "__main__":
    main()
