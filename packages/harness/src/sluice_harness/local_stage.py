"""The local stage: the engine in a process of its own, with the real template deployed to it.

Nothing outlives it: the engine ends when its standard input closes, which happens however its owner ends, and
takes its workers and its folder with it.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import boto3
from botocore.config import Config
from sluice_core.callers import ADMIN_GROUP

from sluice_harness import cdk_cli
from sluice_harness.client import add_user
from sluice_harness.description import ROOT, StageDescription, User, forget_all, from_outputs
from sluice_harness.engine import ACCOUNT, READY, REGION
from sluice_harness.stage_clock import StageClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

# The engine takes these for the account's root; they are no secret and open nothing elsewhere.
ROOT_KEY = "test"
_START_SECONDS = 30
_STOP_SECONDS = 15


class StageError(Exception):
    """The local stage could not be brought up; the message says why and where its log is."""


class LocalStage:
    """A stage on this machine, as a context manager.

    Parameters
    ----------
    name : str
        Names the description file; stages of different names run side by side.
    stage : str, optional
        Whose settings it has: ``local``, or ``longwork``, which has every executor.
    port : int, optional
        Where to listen on loopback; a free port if not given.
    progress : callable, optional
        Told in a few words what is being done.
    faults : Path, optional
        The settings of the faults that its Lambda workers suffer; `sluice_harness.chaos` writes them.
    speed : float, optional
        Stage seconds in a second, for metrics, alarms and schedules.
    faults_api : bool, optional
        Whether the engine takes faults on demand; see `sluice_harness.compat.faults`.
    owners : int, optional
        How many ordinary users it has: ann, ben, and as many others as a load test wants.

    """

    def __init__(
        self,
        name: str = "local",
        *,
        stage: str = "local",
        port: int | None = None,
        progress: Callable[[str], None] = lambda _: None,
        faults: Path | None = None,
        speed: float = 1.0,
        faults_api: bool = False,
        owners: int = 2,
    ) -> None:
        self._name = name
        self._stage = stage
        self._port = port or _free_port()
        self._progress = progress
        self._faults = faults
        self._faults_api = faults_api
        self._owners = owners
        self.clock = StageClock(speed, time.time())
        self.state = Path(tempfile.mkdtemp(prefix="sluice-stage-"))
        self._log = ROOT / "build" / "logs" / f"{name}.log"
        self._engine: subprocess.Popen[bytes] | None = None
        self.endpoint_url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._progress("starting the engine")
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "sluice_harness.engine"]
        command += ["--faults", str(self._faults)] if self._faults else []
        command += ["--faults-api"] if self._faults_api else []
        command += ["--speed", str(self.clock.speed), "--started-at", str(self.clock.origin)]
        with self._log.open("wb") as log:
            self._engine = subprocess.Popen(
                [*command, "--port", str(self._port), "--state", str(self.state), "--name", self._name],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the owner, which then ends the engine in order
            )
        deadline = time.monotonic() + _START_SECONDS
        # The engine's own word, in its own folder: whatever answers on the port may be somebody else's.
        while not (self.state / READY).exists():
            if self._engine.poll() is not None or time.monotonic() > deadline:
                raise StageError(f"the engine did not start on port {self._port}; its log is {self._log}")
            time.sleep(0.05)

    def wait(self) -> None:
        """Wait for as long as the engine runs.

        Raises
        ------
        StageError
            It ended by itself.

        """
        if self._engine is not None:
            self._engine.wait()
        raise StageError(f"the engine has ended; its log is {self._log}")

    def stop(self) -> None:
        """End the engine, its workers and its folder."""
        forget_all(self.endpoint_url)
        if self._engine is not None and self._engine.stdin is not None:
            self._engine.stdin.close()
            try:
                self._engine.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._engine.kill()
                self._engine.wait()
        # Workers of an engine that was killed write there until they notice.
        deadline = time.monotonic() + _STOP_SECONDS
        while self.state.exists() and time.monotonic() < deadline:
            shutil.rmtree(self.state, ignore_errors=True)
            time.sleep(0.05)

    def deploy(self, assembly: Path | None = None) -> StageDescription:
        """Deploy an assembly (synthesized here if not given), add users, and describe the stage."""
        if assembly is None:
            self._progress("synthesizing the stacks")
            assembly = cdk_cli.synthesize(self._stage, ROOT / "build" / "cdk.out" / self._name, on_engine=True)
        self._progress("deploying with the CDK CLI")
        environment = engine_environment(self.endpoint_url)
        cdk_cli.bootstrap(assembly, environment, ACCOUNT, REGION)
        outputs = cdk_cli.deploy(assembly, environment)
        users = self._add_users(outputs["UserPoolId"])
        description = from_outputs(
            outputs,
            users,
            stage=self._stage,
            region=REGION,
            account=ACCOUNT,
            endpointUrl=self.endpoint_url,
            apiUrl=engine_api_url(self.endpoint_url, outputs["ApiId"], self._stage),
            speed=self.clock.speed,
            startedAt=self.clock.origin,
        )
        description.save(self._name)
        return description

    def client(self, service: str, **options: Any) -> Any:
        """Return a boto3 client of this stage with its root credentials."""
        return boto3.client(
            service,  # type: ignore[call-overload]
            endpoint_url=self.endpoint_url,
            region_name=REGION,
            aws_access_key_id=ROOT_KEY,
            aws_secret_access_key=ROOT_KEY,
            config=Config(max_pool_connections=32, **options),
        )

    def _add_users(self, pool: str) -> list[User]:
        """Add the ordinary users and an admin, with passwords made for this run."""
        names = [*_ORDINARY, *(f"load-{number:02}" for number in range(1, self._owners - len(_ORDINARY) + 1))]
        cognito = self.client("cognito-idp")
        return [*(add_user(cognito, pool, name) for name in names), add_user(cognito, pool, "ada", [ADMIN_GROUP])]


_ORDINARY = ("ann", "ben")


def engine_environment(endpoint_url: str) -> dict[str, str]:
    """Return what makes AWS's tools speak to the engine at this address, as its account's root."""
    return {
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_ENDPOINT_URL_S3": endpoint_url,
        "AWS_ACCESS_KEY_ID": ROOT_KEY,
        "AWS_SECRET_ACCESS_KEY": ROOT_KEY,
        "AWS_REGION": REGION,
    }


def engine_api_url(endpoint_url: str, api_id: str, stage: str) -> str:
    """Return where an API that is deployed to the engine takes requests."""
    return f"{endpoint_url}/restapis/{api_id}/{stage}/_user_request_"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
