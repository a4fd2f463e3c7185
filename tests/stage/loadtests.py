"""Load tests as somebody runs them: the command, in a process of its own, on a stage that is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sluice_harness.description import ROOT
from stage.running import until

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from stage.running import RunningStage

_WITHIN_S = 240
_SCENARIO = """
[short]
about = "a few seconds of everything"
jobs = {jobs}
rate = 4.0
stages = [{{ seconds = 5, rate = 1.0 }}]
users = {{ submitter = 0.4, forgetter = 0.3, poller = 0.1, lister = 0.2 }}
owners = 4
alarms = {{ expected = {expected}, allowed = {allowed} }}
[short.thresholds]
{thresholds}
"""
JOBS = 20


@dataclass(frozen=True)
class Outcome:
    """What a load test came to: its exit code, what it printed, its verdict and its folder."""

    code: int
    said: str
    verdict: dict[str, Any]
    folder: Path

    @property
    def failed(self) -> dict[str, dict[str, Any]]:
        """The checks that did not hold, by group and name."""
        return {f"{one['group']}: {one['name']}": one for one in self.verdict["checks"] if not one["held"]}

    @property
    def results(self) -> dict[str, bool]:
        """Whether each check held."""
        return {f"{one['group']}: {one['name']}": one["held"] for one in self.verdict["checks"]}


class LoadTest:
    """One run of the command, under way."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._out = folder / "out"
        command = [sys.executable, "-m", "sluice_harness.loadtest", "--out", str(self._out), *arguments]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "200"},
        )

    def outcome(self) -> Outcome:
        """Wait for its end."""
        try:
            said, _ = self.process.communicate(timeout=_WITHIN_S)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
        verdict = self._out / "verdict.json"
        assert verdict.exists(), said
        return Outcome(self.process.returncode, said, json.loads(verdict.read_text()), self._out)

    def progress(self) -> dict[str, Any]:
        """Return how far it is; nothing before its first second is over."""
        file = self._out / "progress.json"
        said: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return said


def short(
    folder: Path,
    stage: RunningStage,
    *arguments: str,
    expected: Iterable[str] = (),
    strict: bool = False,
    patience_s: int = 5,
    thresholds: str = "unexpected_answers_share = { at_most = 0.0 }",
) -> LoadTest:
    """Begin a run of a few seconds; what else the same cores do may fire alarms, unless it is strict."""
    file = folder / "scenarios.toml"
    allowed = [] if strict else alarm_names(stage)
    content = _SCENARIO.format(jobs=JOBS, expected=list(expected), allowed=allowed, thresholds=thresholds)
    file.write_text(content)
    where = ["--stage", stage.name, "--scenarios", str(file), "--scenario", "short"]
    where += ["--patience", str(patience_s)]
    return LoadTest(folder, *where, *arguments)


def alarm_names(stage: RunningStage) -> list[str]:
    """Return the stage's alarms, without their prefix."""
    pages = stage.client("cloudwatch").get_paginator("describe_alarms")
    found = [
        alarm["AlarmName"].removeprefix("sluice-local-")
        for page in pages.paginate(AlarmTypes=["MetricAlarm", "CompositeAlarm"])
        for kind in ("MetricAlarms", "CompositeAlarms")
        for alarm in page[kind]
    ]
    assert found
    return found


def take_work(stage: RunningStage, *, delete: bool) -> dict[str, Any]:
    """Receive a message of the work queue, whose consumer is stopped; it is deleted, or shown again at once."""
    sqs, url = stage.client("sqs"), stage.description.queues.work.url

    def receive() -> dict[str, Any] | None:
        answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=1, WaitTimeSeconds=1)
        messages = answer.get("Messages", [])
        return messages[0] if messages else None

    message = until(receive, "work is queued")
    if delete:
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    else:
        sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
    return message
