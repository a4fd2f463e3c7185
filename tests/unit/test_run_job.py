"""A container's run of a job: how it claims, works and ends, inside of this process."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import pytest
from sluice_core import container_run, run_job
from sluice_core.external import TRY_AGAIN
from sluice_core.jobs import JobError, JobStatus
from sluice_core.ledger import Attempt
from unit.container_runs import START, Containers
from unit.lambda_events import job, row

if TYPE_CHECKING:
    from collections.abc import Callable

    from sluice_core.container_run import ContainerRun
    from sluice_core.jobs import Submission
    from sluice_core.ledger import JobLedger
    from unit.conftest import ClientMaker
    from unit.resources import Bucket
    from unit.wire_faults import Wire

    MakeRun = Callable[..., ContainerRun]

SECRET = "hunter2-secret"
THEIRS = "attempt-of-another"
MINE = job("mine")


@pytest.fixture
def containers(engine: ClientMaker, ledger: JobLedger, table: str, bucket: Bucket) -> Containers:
    return Containers(ledger, table, bucket, engine.endpoint_url)


@pytest.fixture
def container(containers: Containers, wire: Wire, lambda_environment: pytest.MonkeyPatch) -> MakeRun:
    """Make the run of a job that a container would make of its environment."""
    assert wire.calls == []
    assert lambda_environment

    def make(submission: Submission, token: str = START, **changed: str) -> ContainerRun:
        return run_job.configured_run(containers.environment(submission, token, **changed))

    return make


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record)["fields"] for record in caplog.records if record.name == "sluice"]


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "sluice")
    return caplog


def test_a_job_is_run_and_its_result_stored(
    containers: Containers,
    container: MakeRun,
    ledger: JobLedger,
    runs: list[str],
    logged: pytest.LogCaptureFixture,
) -> None:
    # Given a job that was started
    containers.begin(MINE)

    # When the container runs it
    assert container(MINE).run() == 0

    # Then it has run once, and its result lies where the row says, under this attempt's name
    assert runs == [MINE.key.job_id]
    found = row(ledger, MINE)
    assert (found.status, found.attempts, found.error) == (JobStatus.COMPLETED, 1, None)
    assert found.result is not None
    assert found.attempt is not None
    assert found.attempt in found.result.object_key
    assert containers.results() == [found.result.object_key]
    assert containers.bucket.read(found.result.object_key) == f"made for {MINE.key.job_id}".encode()
    # and it holds the job for longer than it takes to renew that
    assert found.lease_until is not None
    assert found.started_at is not None
    assert found.lease_until - found.started_at == 35_000

    # And two lines say so
    begun, completed = lines(logged)
    assert begun["outcome"] == "attempt begun"
    assert completed.pop("runMs") >= 0
    assert completed == {
        "outcome": "attempt completed",
        "jobId": MINE.key.job_id,
        "jobType": "scripted",
        "startToken": START,
        "bytes": found.result.size,
    }


def test_what_can_never_succeed_fails_at_once(
    containers: Containers, container: MakeRun, ledger: JobLedger, logged: pytest.LogCaptureFixture
) -> None:
    hopeless = job("hopeless", do="permanent", secret=SECRET)
    containers.begin(hopeless)

    assert container(hopeless).run() == 0

    found = row(ledger, hopeless)
    assert (found.status, found.error) == (JobStatus.FAILED, JobError("BAD_STATION", f"no station {SECRET}"))
    assert containers.results() == []
    assert (lines(logged)[-1]["outcome"], lines(logged)[-1]["code"]) == ("attempt failed for good", "BAD_STATION")
    assert SECRET not in logged.text + str(lines(logged))


@pytest.mark.parametrize(("do", "error"), [("transient", "ConnectionError"), ("die", "Death")])
def test_what_may_pass_frees_the_job_and_asks_for_another_try(
    containers: Containers,
    container: MakeRun,
    ledger: JobLedger,
    *,
    logged: pytest.LogCaptureFixture,
    do: str,
    error: str,
) -> None:
    unlucky = job("unlucky", do=do, secret=SECRET)
    containers.begin(unlucky)

    assert container(unlucky).run() == TRY_AGAIN

    # Then another may have it at once, as the same start or as the next one
    found = row(ledger, unlucky)
    assert (found.status, found.lease_until, found.error) == (JobStatus.SUBMITTED, 0, None)
    assert containers.results() == []

    # And a line says what it was and where, but not its text, which quotes the payload
    line = lines(logged)[-1]
    assert (line["outcome"], line["error"], line["jobType"]) == ("attempt failed", error, "scripted")
    assert line["where"].startswith("workloads_for_tests.py:")
    assert SECRET not in logged.text + str(lines(logged))


def test_input_that_is_not_there_is_no_end(
    containers: Containers, container: MakeRun, ledger: JobLedger, logged: pytest.LogCaptureFixture
) -> None:
    containers.begin(MINE)
    containers.bucket.s3.delete_object(Bucket=containers.bucket.name, Key=containers.bucket.keys()[0])

    assert container(MINE).run() == TRY_AGAIN

    assert row(ledger, MINE).status is JobStatus.SUBMITTED
    assert lines(logged)[-1]["error"] == "NoSuchKey"


@pytest.mark.parametrize("why", ["no such job", "ended", "started anew"])
def test_what_is_not_to_be_run_is_left_alone(
    containers: Containers, container: MakeRun, ledger: JobLedger, *, runs: list[str], wire: Wire, why: str
) -> None:
    # Given a container that comes too late
    if why != "no such job":
        containers.begin(MINE)
    if why == "ended":
        ledger.cancel(MINE.key, 20_000)
    if why == "started anew":
        containers.begin_anew(MINE, 20_000)
    before = ledger.get(MINE.key)

    # When it runs, then it ends at once, without having done anything
    assert container(MINE).run() == 0
    assert len(wire.changes("claim_started")) == 1
    assert runs == []
    assert ledger.get(MINE.key) == before


def test_the_lease_of_an_attempt_that_died_is_waited_for(
    containers: Containers,
    container: MakeRun,
    ledger: JobLedger,
    *,
    monkeypatch: pytest.MonkeyPatch,
    wire: Wire,
    now_ms: int,
) -> None:
    # Given a start whose first container died: AWS Batch has run it again, and the lease has half a second to go
    containers.begin(MINE)
    ends = now_ms + 500
    assert ledger.claim_started(Attempt(MINE.key, THEIRS), START, now_ms, ends).is_written

    # When the second one runs, then it takes the job once that has lapsed, and does not ask all the time
    monkeypatch.setattr("random.uniform", lambda *_: 0)
    assert container(MINE).run() == 0
    assert len(wire.changes("claim_started")) <= 3
    found = row(ledger, MINE)
    assert (found.status, found.attempts) == (JobStatus.COMPLETED, 2)
    assert found.started_at is not None
    assert found.started_at > ends


def test_another_who_lives_keeps_the_job(
    containers: Containers,
    container: MakeRun,
    ledger: JobLedger,
    *,
    monkeypatch: pytest.MonkeyPatch,
    runs: list[str],
    now_ms: int,
) -> None:
    # Given another container of the same start, whose lease lasts longer than this one would wait
    containers.begin(MINE)
    assert ledger.claim_started(Attempt(MINE.key, THEIRS), START, now_ms, now_ms + 30_000).is_written
    monkeypatch.setattr(container_run, "_PATIENCE_S", 0.2)

    # When this one runs, then it gives way
    assert container(MINE).run() == 0
    assert runs == []
    assert row(ledger, MINE).attempt == THEIRS


def test_a_container_that_waits_can_be_told_to_end(
    containers: Containers, container: MakeRun, ledger: JobLedger, now_ms: int
) -> None:
    containers.begin(MINE)
    assert ledger.claim_started(Attempt(MINE.key, THEIRS), START, now_ms, now_ms + 30_000).is_written
    run = container(MINE)
    run.terminate()

    began = time.monotonic()
    assert run.run() == TRY_AGAIN
    assert time.monotonic() - began < 10
    assert row(ledger, MINE).attempt == THEIRS


@pytest.mark.parametrize("name", [*run_job.OF_THE_STAGE, *run_job.OF_THE_JOB])
def test_a_setting_that_is_missing_is_named_with_the_next_step(
    containers: Containers, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    # Given an environment that lacks one setting
    settings = containers.environment(MINE)
    for one, value in settings.items():
        monkeypatch.setenv(one, value)
    monkeypatch.delenv(name)

    # When it is run, then it says which, and where from, and no value
    assert run_job.main([]) == run_job.MISCONFIGURED
    said = capsys.readouterr().err
    assert f"not set: {name}." in said
    assert "docs/containers.md" in said
    assert not [value for one, value in settings.items() if len(value) > 5 and value in said.replace(one, "")]


@pytest.mark.parametrize(
    ("setting", "value", "complaint"),
    [
        ("WORK_TIMEOUT_SECONDS", "1h", "WORK_TIMEOUT_SECONDS must be a whole number of seconds"),
        ("RETENTION_SECONDS", "-1", "RETENTION_SECONDS must be a whole number of seconds"),
        ("WORKLOADS", "scripted=unit.nowhere:Scripted", "cannot load unit.nowhere:Scripted"),
    ],
)
def test_a_setting_that_is_wrong_is_named(
    containers: Containers,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    setting: str,
    value: str,
    complaint: str,
) -> None:
    for one, usual in containers.environment(MINE, **{setting: value}).items():
        monkeypatch.setenv(one, usual)

    assert run_job.main([]) == run_job.MISCONFIGURED
    assert complaint in capsys.readouterr().err


def test_help_lists_the_settings_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_job.main(["--help"])

    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert [one for one in (*run_job.OF_THE_STAGE, *run_job.OF_THE_JOB) if f"  {one} " not in said] == []
    assert [code for code in run_job.EXIT_CODES if f"\n  {code} " not in said] == []
