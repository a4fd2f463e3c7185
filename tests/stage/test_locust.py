"""The load generator on a real stage: plain Locust, as people run it, and what it leaves behind."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sluice_harness.description import ROOT
from stage.running import claims, deployed, until
from tokens import TokenBook

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stage.running import RunningStage

pytestmark = pytest.mark.xdist_group("locust")

OWNERS = 3
SCENARIOS = """
[mixed]
about = "a bit of everything, and every refusal there is"
jobs = 30
rate = 10.0
stages = [{ seconds = 3, rate = 1.0 }]
users = { submitter = 0.2, forgetter = 0.2, poison = 0.1, poller = 0.05, lister = 0.05, hostile = 0.4 }
owners = 3
skew = 1.0

[burst]
about = "as fast as it goes"
jobs = 40
rate = 0
stages = []
users = { submitter = 0.2, forgetter = 0.7, hostile = 0.1 }
owners = 3
skew = 1.0

[noisy]
about = "quiet owners first, and then a noisy one beside them"
jobs = 44
rate = 20.0
stages = [{ seconds = 2, rate = 0.1 }, { seconds = 2, rate = 1.0 }]
users = { forgetter = 1.0 }
owners = 3
noisy_share = 0.9
"""


@pytest.fixture(scope="module")
def stage(assembly: Path) -> Iterator[RunningStage]:
    """A stage whose functions have each run once: a cold start is no part of what is looked at here."""
    with deployed("locust", assembly, owners=OWNERS) as running:
        ann = running.person("ann")
        ann.ended(ann.accepted({}))
        ann.list()
        ann.cancel("no-such-job-0123456789")
        yield running


class Generator:
    """Starts Locust on the stage and reads what it writes."""

    def __init__(self, stage: RunningStage, folder: Path) -> None:
        self.stage, self.out = stage, folder / "out"
        self._scenarios = folder / "scenarios.toml"
        self._scenarios.write_text(SCENARIOS)
        self.output = folder / "output.txt"

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        with self.output.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtests" / "locustfile.py"), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.out.parent,
                **options,
            )

    def headless(self, *arguments: str) -> subprocess.Popen[bytes]:
        return self.start("--headless", "--host", self.stage.description.apiUrl, *arguments)

    def scenario(self, name: str, *arguments: str) -> list[str]:
        return ["--scenario", name, "--scenarios", str(self._scenarios), "--out", str(self.out), *arguments]

    def ends(self, process: subprocess.Popen[bytes], within: float = 60) -> int:
        try:
            return process.wait(within)
        finally:
            process.kill()
            process.wait()

    def run(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.out / "run.json").read_text())
        return document

    def lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / name).read_text().splitlines()]

    def progress(self) -> dict[str, Any]:
        path = self.out / "progress.json"
        document: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return document


@pytest.fixture
def generator(stage: RunningStage, tmp_path: Path) -> Generator:
    return Generator(stage, tmp_path)


def client_sums(stage: RunningStage, name: str) -> float:
    """The sum of a metric that clients send, over all of the stage's time."""
    answer = stage.client("cloudwatch").get_metric_statistics(
        Namespace="Sluice",
        MetricName=name,
        Dimensions=[{"Name": "Stage", "Value": "local"}, {"Name": "Source", "Value": "client"}],
        StartTime=time.time() - 86_400,
        EndTime=time.time() + 3_600,
        Period=86_400,
        Statistics=["Sum"],
    )
    return float(sum(point["Sum"] for point in answer["Datapoints"]))


def test_a_scenario_runs_to_its_end_and_writes_all_that_was_seen(
    stage: RunningStage, generator: Generator
) -> None:
    # given what clients have measured before
    before = {name: client_sums(stage, name) for name in ("ClientSubmissions", "ClientErrors")}

    # when a scenario with everything in it is run
    code = generator.ends(generator.headless(*generator.scenario("mixed")))

    # then all went well
    run, jobs = generator.run(), generator.lines("jobs.jsonl")
    assert (code, run["exceptions"], run["refused"]) == (0, [], {}), generator.output.read_text()
    assert [(name, one["failures"]) for name, one in run["requests"].items() if one["failures"]] == []
    assert run["isComplete"]
    assert (run["scenario"], run["asked"], run["workers"]) == ("mixed", 30, 1)
    # every submission is there, as the stage has recorded it, and those that were followed have ended as they must
    assert run["submitted"] == len(jobs) == 30
    assert {(one["owner"], one["jobId"]) for one in jobs} <= {
        tuple(row["jobKey"]["S"].split("#", 1)) for row in until_recorded(stage, jobs)
    }
    followed = [one for one in jobs if one["kind"] != "forgetter"]
    assert {one["kind"] for one in jobs} == {"submitter", "poison", "forgetter"}
    assert [one for one in followed if one["status"] != one["expected"] or one["complaint"]] == []
    assert all(one["bytes"] and one["downloadMs"] for one in jobs if one["kind"] == "submitter")
    assert all(one["intendedAt"] <= one["sentAt"] <= one["acceptedAt"] for one in jobs)
    assert all(one["visibleMs"] >= 1_000 for one in followed), "Retry-After is honoured"
    # every refusal that was tried was the right one
    assert sum(run["rejections"].values()) >= 17
    assert {"no token", "huge body", "another owner's id", "bad cursor"} <= run["rejections"].keys()
    # the seconds add up to the run, and the progress has come to its end
    counted = sum(
        line["count"] for line in generator.lines("requests.jsonl") if line["name"] == "POST /submit-job"
    )
    assert counted == 30
    assert generator.progress() == {
        "submitted": 30,
        "asked": 30,
        "followed": len(followed),
        "ended": len(followed),
        "errors": 0,
        "users": 0,
        "phase": "load",
    }
    # and the clients' metrics say the same
    assert client_sums(stage, "ClientSubmissions") - before["ClientSubmissions"] == 30
    assert client_sums(stage, "ClientErrors") == before["ClientErrors"]


def until_recorded(stage: RunningStage, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Wait for those jobs' rows that nobody has followed."""
    for one in jobs:
        stage.recorded(one["owner"], one["jobId"])
    return stage.rows()


def test_locust_s_own_statistics_show_the_jobs_times(generator: Generator) -> None:
    assert generator.ends(generator.headless(*generator.scenario("burst", "--jobs", "20"))) == 0
    shown = generator.output.read_text()
    for what in ("submit", "time to visible", "queue wait", "run time", "end to end", "download"):
        assert f"job: {what}" in shown


def test_as_fast_as_it_goes_submits_as_many_as_were_asked_for(generator: Generator) -> None:
    assert generator.ends(generator.headless(*generator.scenario("burst"))) == 0
    jobs = generator.lines("jobs.jsonl")
    assert len(jobs) == 40
    assert max(one["sentAt"] for one in jobs) - min(one["sentAt"] for one in jobs) < 20_000


def test_quiet_owners_come_first_and_a_noisy_one_after_them(generator: Generator) -> None:
    assert generator.ends(generator.headless(*generator.scenario("noisy"))) == 0
    jobs = generator.lines("jobs.jsonl")
    loud = {one["owner"] for one in jobs if not one["isQuiet"]}
    assert len(loud) == 1
    assert {one["isQuiet"] for one in jobs if one["phase"] == "baseline"} == {True}
    sent = [one["isQuiet"] for one in jobs if one["phase"] == "load"]
    assert sent.count(False) > 0.7 * len(sent)


def test_two_workers_do_it_together_and_nothing_is_lost(generator: Generator) -> None:
    # given a master and two workers, who are told nothing but where it is
    port = str(free_port())
    with contextlib.ExitStack() as processes:
        master = generator.headless(
            *generator.scenario("mixed"), "--master", "--expect-workers", "2", *master_at(port)
        )
        processes.callback(generator.ends, master, 0.1)
        workers = [generator.start("--worker", "--master-host", "127.0.0.1", "--master-port", port) for _ in "12"]
        # when they have run
        code = generator.ends(master)
        processes.pop_all()
        assert [generator.ends(worker, 20) for worker in workers] == [0, 0], generator.output.read_text()

    # then it is all there, once
    run, jobs = generator.run(), generator.lines("jobs.jsonl")
    assert (code, run["exceptions"], run["workers"], run["isComplete"]) == (0, [], 2, True)
    assert run["submitted"] == len({(one["owner"], one["jobId"]) for one in jobs}) == len(jobs) == 30
    followed = [one for one in jobs if one["kind"] != "forgetter"]
    assert [one for one in followed if one["status"] != one["expected"]] == []
    # evenly paced, though two have made it
    times = sorted(one["intendedAt"] for one in jobs)
    assert [later - sooner for sooner, later in itertools.pairwise(times)] == pytest.approx([100] * 29, abs=0.01)


def test_plain_locust_needs_no_scenario_and_writes_nothing(generator: Generator) -> None:
    code = generator.ends(generator.headless("-u", "6", "-r", "6", "-t", "6s"))
    assert code == 0, generator.output.read_text()
    shown = generator.output.read_text()
    assert all(name in shown for name in ("POST /submit-job", "GET result", "job: end to end"))
    assert not generator.out.exists()


def test_fewer_jobs_than_were_asked_for_is_a_failure(stage: RunningStage, generator: Generator) -> None:
    # given a gateway that lets hardly anything through
    with throttled(stage):
        code = generator.ends(generator.headless(*generator.scenario("burst"), "--patience", "5"))
    # then it says so, and what it was answered
    run = generator.run()
    assert code == 1
    assert run["submitted"] < run["asked"]
    assert set(run["refused"]) == {"HTTP 429"}


@contextlib.contextmanager
def throttled(stage: RunningStage) -> Iterator[None]:
    """Let one request a second through."""
    gateway, path = stage.client("apigateway"), "/*/*/throttling"
    (api,) = gateway.get_rest_apis()["items"]
    settings = gateway.get_stage(restApiId=api["id"], stageName="local")["methodSettings"]["*/*"]

    def limit(rate: float, burst: int) -> None:
        operations = [
            {"op": "replace", "path": f"{path}/{name}", "value": str(value)}
            for name, value in (("rateLimit", rate), ("burstLimit", burst))
        ]
        gateway.update_stage(restApiId=api["id"], stageName="local", patchOperations=operations)

    limit(1, 1)
    try:
        yield
    finally:
        limit(settings["throttlingRateLimit"], settings["throttlingBurstLimit"])


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_still_writes_everything(generator: Generator, end: signal.Signals) -> None:
    # given a run that would last for minutes
    process = generator.headless(*generator.scenario("mixed", "--jobs", "3000"))
    try:
        until(lambda: generator.progress().get("submitted", 0) >= 10, "some jobs are submitted", 30)
        # when it is stopped
        os.kill(process.pid, end)
        code = generator.ends(process, 20)
    finally:
        generator.ends(process, 0.1)
    # then it says what it had done, and that it was not all
    run = generator.run()
    assert code == 1
    assert 10 <= run["submitted"] == len(generator.lines("jobs.jsonl")) < 3_000
    assert not run["isComplete"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "http://127.0.0.1:9/none", "-t", "2s"], "no stage describes itself"),
        (["--host", "http://127.0.0.1:9/none", "--scenario", "tea"], "there is no scenario 'tea'"),
    ],
)
def test_what_cannot_be_run_says_why(generator: Generator, arguments: list[str], words: str) -> None:
    assert generator.ends(generator.start("--headless", *arguments)) == 1
    assert words in generator.output.read_text()


@pytest.mark.parametrize("refresh_token", [None, "no longer good"])
def test_a_token_is_renewed_in_time_by_whatever_the_pool_allows(
    stage: RunningStage, refresh_token: str | None
) -> None:
    # given an owner whose token is good for a while, and then nearly over
    book = TokenBook(stage.description, stage.description.users, 1)
    (owner,) = book.owners
    first = book.token(owner)
    assert book.token(owner) == first
    assert time.time() + 60 < owner.renew_at < claims(first)["exp"]
    owner.refresh_token = refresh_token or owner.refresh_token
    owner.renew_at = 0.0
    # when it is needed, then it is another one that is good
    renewed = book.token(owner)
    assert owner.renew_at > time.time() + 60
    assert claims(renewed)["sub"] == owner.sub
    answer = httpx.get(f"{stage.description.apiUrl}/job-status", headers={"Authorization": renewed}, timeout=30)
    assert answer.status_code == 200


def master_at(port: str) -> list[str]:
    return ["--master-bind-host", "127.0.0.1", "--master-bind-port", port]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
