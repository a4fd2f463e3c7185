"""Jobs for containers to run, as the starter leaves them, and the containers' side of it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from sluice_core.executors import ECS
from sluice_core.inputs import InputStore
from sluice_core.ledger import Start
from sluice_core.workloads import WorkResult
from sluice_harness.description import ROOT
from unit import workloads_for_tests

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sluice_core.jobs import Submission
    from sluice_core.ledger import JobLedger
    from unit.resources import Bucket

START, NEXT_START = "00000000001-start-1", "00000000002-start-2"
TIMEOUT_S = 60
QUICK, DEAF = "scripted=unit.container_runs:Quick", "scripted=unit.container_runs:Deaf"
# Longer than any test waits for a process that should be long gone.
FOREVER_S = 120


class Quick:
    """Work that is done at once."""

    parameters_schema: ClassVar[Mapping[str, Any]] = {"type": "object"}

    def run(self, job_id: str, parameters: Mapping[str, Any], stop: threading.Event) -> WorkResult:  # noqa: ARG002
        return WorkResult(b"done", "text/plain", "txt")


class Deaf:
    """Work that heeds no event and leaves a thread behind for which Python would wait at its end."""

    parameters_schema: ClassVar[Mapping[str, Any]] = {"type": "object"}

    def run(self, job_id: str, parameters: Mapping[str, Any], stop: threading.Event) -> WorkResult:  # noqa: ARG002
        threading.Thread(target=threading.Event().wait, args=[FOREVER_S], daemon=False).start()
        threading.Event().wait(FOREVER_S)
        return WorkResult(b"", "text/plain", "txt")


@dataclass(frozen=True)
class Containers:
    """A stage as containers see it: a table, a bucket and the engine behind both."""

    ledger: JobLedger
    table: str
    bucket: Bucket
    endpoint_url: str
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def begin(self, submission: Submission) -> None:
        """Record a job and note its start, as the processor and the starter do."""
        self.ledger.record([submission])
        InputStore(self.bucket.s3, self.bucket.name).put(submission)
        self._begin(Start(submission.key, START, ECS), 10_000)

    def begin_anew(self, submission: Submission, now_ms: int) -> None:
        """Note that a start is over and its job is not, and the next start."""
        [write] = self.ledger.close([Start(submission.key, START, ECS)])
        assert write.is_written
        self._begin(Start(submission.key, NEXT_START, ECS, after=START), now_ms)

    def _begin(self, start: Start, now_ms: int) -> None:
        [write] = self.ledger.begin([start], now_ms)
        assert write.is_written

    def results(self) -> list[str]:
        """Return the keys of all results there are."""
        keys = self.bucket.keys()
        return [key for key in keys if key.startswith("results/")]

    def environment(self, submission: Submission, token: str = START, **changed: str) -> dict[str, str]:
        """Return what the definition and the start put into a container's environment."""
        return {
            "JOB_TABLE": self.table,
            "RESULT_BUCKET": self.bucket.name,
            "RETENTION_SECONDS": "604800",
            "WORKLOADS": workloads_for_tests.SETTING,
            "WORK_TIMEOUT_SECONDS": str(TIMEOUT_S),
            "AWS_DEFAULT_REGION": "us-east-1",
            "SLUICE_OWNER": submission.key.owner,
            "SLUICE_JOB_ID": submission.key.job_id,
            "SLUICE_START_TOKEN": token,
            **changed,
        }

    def aws(self) -> dict[str, str]:
        """Return what tells a process where AWS is, and who it is there."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def process(
        self, submission: Submission, *python: str, token: str = START, **changed: str
    ) -> subprocess.Popen[str]:
        """Run the entry point as a process of its own; arguments of Python take the place of its name."""
        process = subprocess.Popen(
            [sys.executable, *(python or ("-m", "sluice_core.run_job"))],
            env={
                "PYTHONPATH": str(ROOT / "tests"),
                **self.aws(),
                **self.environment(submission, token, **changed),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def end(self) -> None:
        """Leave no process behind."""
        for process in self.processes:
            process.kill()
            process.communicate()


def begun(process: subprocess.Popen[str]) -> None:
    """Wait until a process says that it has its job."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()
    assert json.loads(line)["outcome"] == "attempt begun"
