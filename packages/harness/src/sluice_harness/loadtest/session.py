"""One load test from end to end: the stage, the load, what is waited for, the evidence, the verdict, its files."""

from __future__ import annotations

import contextlib
import json
import secrets
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sluice_harness.client import temporary_users
from sluice_harness.deploy.target import of_stage
from sluice_harness.loadtest import collect, report, waiting, warmup
from sluice_harness.loadtest.evidence import Evidence, read_client
from sluice_harness.loadtest.load import Command, Load
from sluice_harness.loadtest.malformed import Malformed
from sluice_harness.loadtest.verdict import as_document, judge
from sluice_harness.local_stage import LocalStage
from sluice_harness.review.collect import Observer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sluice_harness.description import StageDescription
    from sluice_harness.loadtest.evidence import ClientSide
    from sluice_harness.loadtest.progress import Display
    from sluice_harness.loadtest.scenarios import Scenario
    from sluice_harness.loadtest.verdict import Verdict

_POLL_S = 1.0
VERDICT, REPORT = "verdict.json", "report.html"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a session is to do.

    Attributes
    ----------
    stage : StageDescription or None
        Where; None for a local stage of its own, with stage time so many times as fast (`speed`).
    patience_s : float
        How long nothing may change before a wait is given up.
    credentials : Path or None
        Whom to sign in as, in place of the stage's users.
    temporary_users : int
        How many users to make for the run, and to sign in as; they are taken away at its end.

    """

    scenario: Scenario
    scenarios: Path
    locustfile: Path
    out: Path
    stage: StageDescription | None
    jobs: int | None = None
    rate: float | None = None
    workers: int = 0
    speed: float = 10.0
    patience_s: float = 120.0
    credentials: Path | None = None
    temporary_users: int = 0

    @property
    def asked(self) -> int:
        """How many submissions have to be accepted."""
        return self.scenario.jobs if self.jobs is None else self.jobs

    def command(self, host: str, credentials: Path | None) -> Command:
        """Return what Locust is to do, as the users in a file if there is one."""
        arguments = ["--scenario", self.scenario.name, "--scenarios", str(self.scenarios)]
        arguments += ["--patience", str(self.patience_s)]
        for name, value in (("jobs", self.jobs), ("rate", self.rate), ("credentials", credentials)):
            arguments += [] if value is None else [f"--{name}", str(value)]
        return Command(self.locustfile, host, self.workers, tuple(arguments))


class Session:
    """One run of a plan."""

    def __init__(self, plan: Plan, display: Display) -> None:
        self._plan = plan
        self._display = display
        self._interrupted = False

    def run(self) -> Verdict:
        """Make the load, judge it, and write both files into the plan's folder.

        After Ctrl-C the load is ended in order and what there is is judged; a second one is a KeyboardInterrupt.
        """
        with self._stage() as stage, self._users(stage) as credentials:
            observer = Observer(stage)
            malformed = Malformed(observer, self._plan.scenario.malformed_messages)
            try:
                began, client = self._load(observer, malformed, credentials)
                evidence = self._evidence(observer, malformed, began, client)
            finally:
                if self._plan.stage is not None:
                    self._tidy(malformed)
            return self._write(evidence)

    @contextlib.contextmanager
    def _stage(self) -> Iterator[StageDescription]:
        if self._plan.stage is not None:
            yield self._plan.stage
            return
        name = f"loadtest-{self._plan.scenario.name}"
        owners = self._plan.scenario.owners
        with LocalStage(name, speed=self._plan.speed, owners=owners, progress=self._display.tell) as local:
            stage = local.deploy()
            warmup.start_functions(stage, self._display.tell)
            yield stage

    @contextlib.contextmanager
    def _users(self, stage: StageDescription) -> Iterator[Path | None]:
        """Make the run's own users, if it has any, and yield the file of those to sign in as."""
        if not self._plan.temporary_users:
            yield self._plan.credentials
            return
        run = f"loadtest-{secrets.token_hex(4)}"
        names = [f"{run}-{number}" for number in range(1, self._plan.temporary_users + 1)]
        cognito = of_stage(stage).client("cognito-idp")
        self._display.tell(f"making {len(names)} users for this run")
        with (
            temporary_users(cognito, stage.userPoolId, names) as users,
            tempfile.TemporaryDirectory() as folder,  # which nobody else may read
        ):
            file = Path(folder) / "users.json"
            file.write_text(json.dumps([asdict(user) for user in users]))
            yield file

    def _load(
        self, observer: Observer, malformed: Malformed, credentials: Path | None
    ) -> tuple[float, ClientSide]:
        """Make the load, and return when it began and what its clients saw."""
        plan, began = self._plan, time.time()
        with Load(plan.command(observer.stage.apiUrl, credentials), plan.out) as load:
            try:
                malformed.put()
                while load.is_running:
                    self._display.show(load.progress(), collect.depths(observer))
                    time.sleep(_POLL_S)
            except KeyboardInterrupt:
                self._interrupt("ending the load")
            load.end()
            self._display.show(load.progress(), {})
            return began, read_client(plan.out, load.exit_code)

    def _evidence(self, observer: Observer, malformed: Malformed, began: float, client: ClientSide) -> Evidence:
        plan, accepted = self._plan, {job.key for job in client.jobs}
        tell = self._display.tell
        moments = collect.moments(observer, began, time.time())
        try:
            if not self._interrupted:
                waiting.until_drained(observer, accepted, plan.patience_s, tell)
                moments = collect.moments(observer, began, time.time())
                waiting.until_measured(observer, moments, accepted, tell)
                waiting.until_fired(observer, moments, plan.scenario.expected_alarms, tell)
                waiting.until_looked_at(observer, moments, tell)
        except KeyboardInterrupt:
            self._interrupt("judging what there is")
        tell("collecting the evidence")
        stage = collect.stage_side(observer, moments, accepted, malformed.bodies)
        return Evidence(
            scenario=plan.scenario,
            asked=plan.asked,
            client=client,
            stage=stage,
            malformed=malformed.count,
            interrupted=self._interrupted,
        )

    def _interrupt(self, what: str) -> None:
        self._interrupted = True
        self._display.tell(f"interrupted: {what}")

    def _tidy(self, malformed: Malformed) -> None:
        if malformed.count:
            self._display.tell("taking the malformed messages out again")
            malformed.take_out()

    def _write(self, evidence: Evidence) -> Verdict:
        self._display.tell("judging")
        verdict = judge(evidence)
        document = json.dumps(as_document(evidence, verdict), indent=2)
        (self._plan.out / VERDICT).write_text(document + "\n")
        report.write(evidence, verdict, self._plan.out / REPORT, time.time())
        return verdict
