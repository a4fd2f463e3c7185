"""A real engine process for the conformance tests: one per pytest worker, on a free port."""

from __future__ import annotations

import contextlib
import functools
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest
from botocore.config import Config
from stage.conformance import containers
from stage.conformance import machines as state_machines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

READY_WITHIN = 30.0


@dataclass(frozen=True)
class Engine:
    """Where an engine listens, and clients for it."""

    url: str

    def client(self, service: str, access_key: str = "test", secret_key: str = "test", **options: Any) -> Any:
        """A boto3 client; key "test" is the engine's root under AUTH=true, which may do everything."""
        return _client(self.url, service, access_key, secret_key, tuple(options.items()))


@functools.cache  # a client takes longer to make than a test to run
def _client(url: str, service: str, access_key: str, secret_key: str, options: tuple[Any, ...]) -> Any:
    return boto3.client(
        service,  # type: ignore[call-overload]
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(retries={"total_max_attempts": 1}),
        **dict(options),
    )


@contextlib.contextmanager
def running_engine(state: Path, *options: str) -> Iterator[Engine]:
    """Start an engine that keeps its files under ``state``, and end it by closing its standard input."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "sluice_harness.engine", "--port", str(port), "--state", str(state)]
    with subprocess.Popen([*command, *options], stdin=subprocess.PIPE) as process:
        try:
            engine = Engine(f"http://127.0.0.1:{port}")
            _wait_until_ready(engine, process)
            yield engine
        finally:
            process.communicate(timeout=READY_WITHIN)  # closes its standard input, which ends it


def _wait_until_ready(engine: Engine, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the engine ended with {process.returncode}"
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{engine.url}/_ministack/ready").status_code == httpx.codes.OK:
                return
        time.sleep(0.05)
    raise TimeoutError(f"no answer from {engine.url} within {READY_WITHIN:.0f} s")


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with running_engine(tmp_path_factory.mktemp("engine")) as running:
        yield running


@pytest.fixture(scope="session")
def fast_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine whose minutes are seconds, and that takes faults; its tests share an xdist group of this name."""
    with running_engine(tmp_path_factory.mktemp("fast_engine"), "--speed", "60", "--faults-api") as running:
        yield running


@pytest.fixture(scope="session")
def site(engine: Engine) -> containers.Site:
    """A stack of containers, for the tests of ECS and of Batch."""
    return containers.create(engine)


@pytest.fixture(scope="session")
def machines(engine: Engine) -> state_machines.Machines:
    """A function behind an alias, and a role for state machines that invoke it."""
    return state_machines.create(engine)
