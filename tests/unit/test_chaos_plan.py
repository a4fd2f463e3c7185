"""The chaos run's choices: the same seed, the same jobs and the same faults, at the rates that were asked for."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.httpsession import URLLib3Session
from sluice_core.clients import is_transient
from sluice_harness.chaos.faults import Faults
from sluice_harness.chaos.plan import SHARES, Role, When, make_plan
from sluice_harness.chaos.worker_faults import (
    CALL_FAULTS,
    KILLS,
    Settings,
    call_fault,
    invocation_kill,
    refusal,
)

if TYPE_CHECKING:
    from pathlib import Path

SEED = 20
USUAL = Settings(SEED, "unused")
FUNCTIONS = ("processor", "batch_simulator", "job_status")


def call_faults(settings: Settings, calls: int = 1_500, function: str = "processor") -> list[str | None]:
    return [call_fault(settings, function, 0, "main", call) for call in range(calls)]


def kills(settings: Settings, invocations: int = 1_500, function: str = "processor") -> list[Any]:
    return [invocation_kill(settings, function, 0, number) for number in range(invocations)]


def test_the_same_seed_gives_the_same_jobs() -> None:
    assert make_plan(SEED, 500) == make_plan(SEED, 500)
    assert make_plan(SEED, 500) == make_plan(SEED, 900)[:500]
    assert [job.role for job in make_plan(SEED, 500)] != [job.role for job in make_plan(SEED + 1, 500)]


def test_every_role_has_its_share() -> None:
    # given
    jobs = 20_000

    # when
    plan = make_plan(SEED, jobs)

    # then, within about four standard deviations
    roles = Counter(job.role for job in plan)
    for role, share in SHARES.items():
        assert roles[role] == pytest.approx(share * jobs, abs=4 * (share * jobs) ** 0.5)
    assert sum(job.is_poison for job in plan) == pytest.approx(0.02 * jobs, rel=0.2)
    assert {job.cancel for job in plan if job.role is Role.CANCELLED} == {When.AFTER, When.RUNNING}


def test_a_plan_is_one_that_the_api_takes() -> None:
    plan = make_plan(999_999, 2_000)
    assert len({job.token for job in plan}) == len(plan)
    assert all(16 <= len(job.token) <= 64 for job in plan)
    assert all(job.parameters != job.again_parameters for job in plan if job.role is Role.CONFLICT)
    assert all(job.parameters == job.again_parameters for job in plan if job.role is Role.DUPLICATE)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_same_seed_gives_the_same_faults(function: str) -> None:
    assert call_faults(USUAL, function=function) == call_faults(USUAL, function=function)
    assert kills(USUAL, function=function) == kills(USUAL, function=function)


def test_workers_functions_lanes_and_seeds_have_faults_of_their_own() -> None:
    # given
    other_seed = Settings(SEED + 1, "unused")
    places = [(USUAL, "processor", 0, "main"), (USUAL, "processor", 1, "main"), (USUAL, "processor", 0, "other")]
    places += [(USUAL, "batch_simulator", 0, "main"), (other_seed, "processor", 0, "main")]

    # when
    found = {tuple(call_fault(*place, call) for call in range(1_000)) for place in places}

    # then
    assert len(found) == len(places)


def test_calls_fail_at_the_rates_that_were_set() -> None:
    # given no outages, which come on top
    settings = Settings(SEED, "unused", outage=0)

    # when
    found = Counter(call_faults(settings, 12_000))

    # then
    rates = (settings.throttle, settings.server_error, settings.timeout, settings.lost_response)
    for kind, rate in zip(CALL_FAULTS, rates, strict=True):
        assert found[kind] == pytest.approx(rate * 12_000, abs=4 * (rate * 12_000) ** 0.5)


def test_an_outage_lasts_as_long_as_botocore_tries() -> None:
    # given outages alone
    settings = Settings(SEED, "unused", throttle=0, server_error=0, timeout=0, lost_response=0, outage=0.01)

    # when
    failed = "".join("x" if fault else "." for fault in call_faults(settings))

    # then each run of failures is four long, or longer where two meet
    runs = [len(run) for run in failed.strip("x").split(".") if run]
    assert runs
    assert min(runs) >= 4


def test_invocations_are_killed_in_every_way_and_seldom() -> None:
    found = [kill for kill in kills(USUAL, 10_000) if kill]
    assert {kill.kind for kill in found} == set(KILLS)
    assert len(found) == pytest.approx(USUAL.kill * 10_000, rel=0.2)
    assert all(kill.ordinal < 12 and kill.seconds <= 0.4 for kill in found)


def test_a_rate_of_nothing_leaves_everything_alone() -> None:
    calm = Settings(SEED, "unused", **dict.fromkeys(("throttle", "server_error", "timeout"), 0.0), kill=0)
    calm = Settings(**{**asdict(calm), "lost_response": 0, "outage": 0})
    assert set(call_faults(calm)) == {None}
    assert set(kills(calm)) == {None}


CALLS: dict[str, Any] = {
    "dynamodb": lambda client: client.get_item(TableName="jobs", Key={"jobKey": {"S": "a"}}),
    "sqs": lambda client: client.send_message(QueueUrl="http://localhost/queue", MessageBody="a"),
    "s3": lambda client: client.put_object(Bucket="bucket", Key="key", Body=b"a"),
    "sts": lambda client: client.assume_role(RoleArn="arn:aws:iam::000000000000:role/a", RoleSessionName="ab"),
    "events": lambda client: client.put_events(Entries=[{"Source": "a"}]),
}


@pytest.mark.parametrize("fault", ["throttle", "server-error"])
@pytest.mark.parametrize("service", CALLS)
def test_a_refusal_is_one_that_the_service_could_give(
    monkeypatch: pytest.MonkeyPatch, service: str, fault: str
) -> None:
    # given
    monkeypatch.setattr(URLLib3Session, "send", lambda _, request: refusal(request, fault))
    client = boto3.client(
        service,  # type: ignore[call-overload]
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="a",
        config=Config(retries={"total_max_attempts": 1}),
    )

    # when
    with pytest.raises(ClientError) as caught:
        CALLS[service](client)

    # then the service's own parser finds its code, and it counts as passing
    assert caught.value.response["Error"]["Code"] not in ("400", "500", "503", "")
    assert is_transient(caught.value)


DOOMED = """
import sys
from sluice_harness.chaos.worker_faults import FaultyWorker, Settings
worker = FaultyWorker(Settings(**{settings!r}), "processor")
handler = worker.wrap_handler(lambda event, context: [worker.send(act, None, event) for _ in range(20)])
class Request:
    method, url, headers, body = "POST", "http://localhost/", {{}}, b""
def act(session, request):
    print("acted", flush=True)
for _ in range(50):
    handler(Request, None)
"""


def test_a_doomed_worker_writes_its_line_and_is_killed(tmp_path: Path) -> None:
    # given a worker of whose invocations every one is to die
    faults = Faults(
        Settings(SEED, str(tmp_path), throttle=0, server_error=0, timeout=0, lost_response=0, outage=0, kill=1)
    )
    faults.start()

    # when
    script = DOOMED.format(settings=json.loads(faults.file.read_text()))
    ended = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False) for _ in "ab"
    ]

    # then it dies of SIGKILL at the call that was chosen, and its successor has faults of its own
    assert [one.returncode for one in ended] == [-signal.SIGKILL] * 2
    lines = faults.record()
    assert [line["worker"] for line in lines] == [0, 1]
    for line, one in zip(lines, ended, strict=True):
        kill = invocation_kill(faults.settings, "processor", line["worker"], line["invocation"])
        assert kill is not None
        assert line["kind"] == kill.kind
        acted = one.stdout.count("acted") - 20 * line["invocation"]
        assert kill.kind not in KILLS[:2] or acted == kill.ordinal + (kill.kind == "kill-before-answer")


def test_nothing_happens_before_the_start_and_after_the_stop(tmp_path: Path) -> None:
    # given
    faults = Faults(Settings(SEED, str(tmp_path), throttle=1, kill=1))
    script = DOOMED.format(settings=json.loads(faults.file.read_text()))

    # when
    faults.start()
    faults.stop()
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    # then
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("acted") == 50 * 20
    assert faults.record() == []
