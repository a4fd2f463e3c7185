"""A container whose job or whose time is lost, whose stage does not answer, or which is told to end."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from sluice_core import container_run, leases, run_job
from sluice_core.external import TRY_AGAIN
from sluice_core.jobs import TIMED_OUT, JobStatus
from sluice_core.results import ResultWriter
from unit.beats import BEAT_S, wait_until
from unit.container_runs import NEXT_START, START, Containers
from unit.lambda_events import job, row
from unit.wire_faults import TRANSIENT, Fault
from unit.workloads_for_tests import LONGEST_WAIT_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from sluice_core.container_run import ContainerRun
    from sluice_core.jobs import StoredResult, Submission
    from sluice_core.ledger import JobLedger
    from unit.conftest import ClientMaker, Lapse, Meanwhile
    from unit.resources import Bucket
    from unit.wire_faults import Wire

    MakeRun = Callable[..., ContainerRun]

LONG = job("long", wait=True)
MINE = job("mine")
OUTCOMES = pytest.mark.parametrize("do", ["succeed", "permanent", "transient"])


@pytest.fixture
def containers(engine: ClientMaker, ledger: JobLedger, table: str, bucket: Bucket) -> Containers:
    return Containers(ledger, table, bucket, engine.endpoint_url)


@pytest.fixture
def container(containers: Containers, wire: Wire, lambda_environment: pytest.MonkeyPatch) -> MakeRun:
    """Make the run of a job that a container would make of its environment, with a quick heart."""
    assert wire.calls == []
    lambda_environment.setattr(leases, "BEAT_EVERY_S", BEAT_S)
    lambda_environment.setattr(container_run, "_LONGEST_PAUSE_S", 0.01)

    def make(submission: Submission, token: str = START, **changed: str) -> ContainerRun:
        return run_job.configured_run(containers.environment(submission, token, **changed))

    return make


def test_the_lease_is_renewed_while_the_work_goes_on(
    containers: Containers, container: MakeRun, ledger: JobLedger, *, meanwhile: Meanwhile, wire: Wire
) -> None:
    # Given work during which the heart beats
    containers.begin(MINE)
    meanwhile[MINE.key.job_id] = lambda: wait_until(lambda: len(wire.changes("renew")) > 2)

    # When it ends, then it has held its job for longer and longer
    assert container(MINE).run() == 0
    found = row(ledger, MINE)
    assert found.status is JobStatus.COMPLETED
    assert found.lease_until is not None
    assert found.started_at is not None
    assert found.lease_until - found.started_at > 35_000


@pytest.mark.parametrize("fault", [*TRANSIENT, Fault.DENIED])
def test_a_renewal_that_fails_stops_no_work(
    containers: Containers,
    container: MakeRun,
    ledger: JobLedger,
    *,
    meanwhile: Meanwhile,
    wire: Wire,
    fault: Fault,
) -> None:
    containers.begin(MINE)
    meanwhile[MINE.key.job_id] = lambda: wait_until(lambda: len(wire.changes("renew")) > 2)
    wire.strike_change(fault, "renew")

    assert container(MINE).run() == 0
    assert row(ledger, MINE).status is JobStatus.COMPLETED


@OUTCOMES
def test_a_cancelled_job_s_work_is_told_to_stop_and_whatever_it_gives_is_discarded(
    containers: Containers,
    container: MakeRun,
    ledger: JobLedger,
    *,
    meanwhile: Meanwhile,
    stopped: list[str],
    now_ms: int,
    do: str,
) -> None:
    # Given work that goes on until it is told to stop
    long = job("long", do=do, wait=True)
    containers.begin(long)
    meanwhile[long.key.job_id] = lambda: ledger.cancel(long.key, now_ms)

    # When its job is cancelled, then it is stopped, and it is as if it had never been
    assert container(long).run() == 0
    assert stopped == [long.key.job_id]
    found = row(ledger, long)
    assert (found.status, found.ended_at, found.error) == (JobStatus.CANCELLED, now_ms, None)
    assert containers.results() == []


def test_work_that_the_next_start_has_taken_over_is_stopped(
    containers: Containers,
    container: MakeRun,
    ledger: JobLedger,
    *,
    meanwhile: Meanwhile,
    stopped: list[str],
    now_ms: int,
) -> None:
    # Given a container that was cut off for so long that its job was started anew
    containers.begin(LONG)
    meanwhile[LONG.key.job_id] = lambda: containers.begin_anew(LONG, now_ms + 10**6)

    # When it is back, then it stops, and the job is the other's
    assert container(LONG).run() == 0
    assert stopped == [LONG.key.job_id]
    found = row(ledger, LONG)
    assert (found.status, found.start_token, found.attempt) == (JobStatus.SUBMITTED, NEXT_START, None)
    assert containers.results() == []


@pytest.mark.parametrize("fault", [None, Fault.DENIED])
def test_a_result_that_comes_too_late_is_deleted(
    containers: Containers,
    container: MakeRun,
    ledger: JobLedger,
    *,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: Meanwhile,
    wire: Wire,
    now_ms: int,
    fault: Fault | None,
) -> None:
    # Given work that ends before the next beat could tell it that its job is cancelled
    containers.begin(MINE)
    meanwhile[MINE.key.job_id] = lambda: ledger.cancel(MINE.key, now_ms)
    run = container(MINE)
    monkeypatch.setattr(leases, "BEAT_EVERY_S", 60)
    if fault:
        wire.strike(fault, "DeleteObject")

    # When it ends, then its result was stored and is gone; what cannot be deleted is left to whoever settles it
    assert run.run() == 0
    assert len(wire.made("PutObject")) == 1
    assert len(containers.results()) == (1 if fault else 0)
    assert (row(ledger, MINE).status, row(ledger, MINE).result) == (JobStatus.CANCELLED, None)


@OUTCOMES
def test_work_that_takes_too_long_fails_and_is_stopped(
    containers: Containers, container: MakeRun, ledger: JobLedger, *, stopped: list[str], do: str
) -> None:
    # Given work that may take a second and takes until it is told to stop
    long = job("long", do=do, wait=True)
    containers.begin(long)

    # When that second is over
    assert container(long, WORK_TIMEOUT_SECONDS="1").run() == 0

    # Then the job has failed with what the client is to know, and the work has stopped
    found = row(ledger, long)
    assert (found.status, found.error) == (JobStatus.FAILED, TIMED_OUT)
    assert found.started_at is not None
    assert found.ended_at is not None
    assert 1_000 <= found.ended_at - found.started_at < 10_000
    assert stopped == [long.key.job_id]
    assert containers.results() == []


def test_a_deadline_waits_for_nobody(
    containers: Containers,
    container: MakeRun,
    ledger: JobLedger,
    *,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: Meanwhile,
) -> None:
    # Given work that heeds no event
    deaf = threading.Event()
    meanwhile[MINE.key.job_id] = lambda: deaf.wait(LONGEST_WAIT_S)
    monkeypatch.setattr(container_run, "_GRACE_S", 0.05)
    containers.begin(MINE)

    # When its time is over, then the run ends all the same, with the job failed
    assert container(MINE, WORK_TIMEOUT_SECONDS="1").run() == 0
    [work] = [thread for thread in threading.enumerate() if thread.name == "work"]
    assert row(ledger, MINE).error == TIMED_OUT

    # And what the work makes of it then is not stored
    deaf.set()
    work.join()
    assert containers.results() == []


@OUTCOMES
def test_a_container_that_is_told_to_end_frees_its_job(
    containers: Containers,
    container: MakeRun,
    ledger: JobLedger,
    *,
    meanwhile: Meanwhile,
    stopped: list[str],
    do: str,
) -> None:
    # Given work that goes on until it is told to stop
    long = job("long", do=do, wait=True)
    containers.begin(long)
    run = container(long)
    meanwhile[long.key.job_id] = run.terminate

    # When its container is to end, then another is to try, whatever the work gives
    assert run.run() == TRY_AGAIN
    assert stopped == [long.key.job_id]
    found = row(ledger, long)
    assert (found.status, found.lease_until, found.error) == (JobStatus.SUBMITTED, 0, None)
    assert containers.results() == []


def test_a_container_that_is_stopped_because_its_job_was_cancelled_asks_for_no_other_try(
    containers: Containers,
    container: MakeRun,
    ledger: JobLedger,
    *,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: Meanwhile,
    now_ms: int,
) -> None:
    # Given a job whose cancellation stops its container, before a beat tells it
    containers.begin(LONG)
    run = container(LONG)
    monkeypatch.setattr(leases, "BEAT_EVERY_S", 60)

    def cancel() -> None:
        ledger.cancel(LONG.key, now_ms)
        run.terminate()

    meanwhile[LONG.key.job_id] = cancel

    assert run.run() == 0
    assert row(ledger, LONG).status is JobStatus.CANCELLED


def test_what_was_done_before_the_end_came_counts(
    containers: Containers, container: MakeRun, ledger: JobLedger, *, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a container that is told to end while it stores its result
    containers.begin(MINE)
    run = container(MINE)
    put = ResultWriter.put

    def slowly(self: ResultWriter, *arguments: Any) -> StoredResult:
        run.terminate()
        wait_until(run._work.stop.is_set)
        return put(self, *arguments)

    monkeypatch.setattr(ResultWriter, "put", slowly)

    # Then the job is complete
    assert run.run() == 0
    assert row(ledger, MINE).status is JobStatus.COMPLETED
    assert len(containers.results()) == 1


@pytest.mark.parametrize("fault", [*TRANSIENT, Fault.REPEATED])
@pytest.mark.parametrize(
    ("change", "do", "code", "status"),
    [
        ("claim_started", "succeed", 0, JobStatus.COMPLETED),
        ("complete", "succeed", 0, JobStatus.COMPLETED),
        ("fail", "permanent", 0, JobStatus.FAILED),
        ("release", "transient", TRY_AGAIN, JobStatus.SUBMITTED),
    ],
)
def test_a_ledger_that_does_not_answer_is_asked_again(
    containers: Containers,
    container: MakeRun,
    ledger: JobLedger,
    *,
    wire: Wire,
    fault: Fault,
    change: str,
    do: str,
    code: int,
    status: JobStatus,
) -> None:
    mine = job("mine", do=do)
    containers.begin(mine)
    wire.strike_change(fault, change, times=3)

    assert container(mine).run() == code

    found = row(ledger, mine)
    assert (found.status, found.attempts) == (status, 1)
    assert len(containers.results()) == (status is JobStatus.COMPLETED)


@pytest.mark.parametrize("fault", [Fault.NO_ANSWER, Fault.LOST_ANSWER])
@pytest.mark.parametrize(
    ("change", "do", "status"),
    [
        ("claim_started", "succeed", JobStatus.RUNNING),
        ("complete", "succeed", JobStatus.COMPLETED),
        ("fail", "permanent", JobStatus.FAILED),
        ("release", "transient", JobStatus.SUBMITTED),
    ],
)
def test_a_ledger_that_stays_silent_is_given_up_and_nothing_of_the_job_deleted(
    containers: Containers,
    container: MakeRun,
    ledger: JobLedger,
    *,
    monkeypatch: pytest.MonkeyPatch,
    wire: Wire,
    fault: Fault,
    change: str,
    do: str,
    status: JobStatus,
) -> None:
    # Given a ledger that never answers one change, whether it acts upon it or not
    mine = job("mine", do=do)
    containers.begin(mine)
    monkeypatch.setattr(container_run, "_INSIST_S", 0.1)
    wire.strike_change(fault, change)

    # When it is given up, then another try is asked for
    assert container(mine).run() == TRY_AGAIN
    assert len(wire.changes(change)) > 1

    # And a result is kept: it may be the job's
    before = JobStatus.SUBMITTED if change == "claim_started" else JobStatus.RUNNING
    assert row(ledger, mine).status is (status if fault is Fault.LOST_ANSWER else before)
    assert len(containers.results()) == (change == "complete")


def test_what_no_retry_mends_is_not_tried_again(containers: Containers, container: MakeRun, wire: Wire) -> None:
    containers.begin(MINE)
    wire.strike_change(Fault.DENIED, "claim_started")

    with pytest.raises(ClientError):
        container(MINE).run()

    assert len(wire.changes("claim_started")) == 1


def test_the_lease_of_a_container_that_died_lets_the_next_start_begin(
    containers: Containers, container: MakeRun, ledger: JobLedger, *, lapse: Lapse, runs: list[str], now_ms: int
) -> None:
    # Given a container that died: it holds a lease that nobody renews
    containers.begin(MINE)
    assert container(MINE)._try_to_claim().is_written

    # When that has lapsed and the job is started anew
    lapse(MINE)
    containers.begin_anew(MINE, now_ms)
    assert container(MINE, NEXT_START).run() == 0

    # Then it is complete, once, and both are on record
    found = row(ledger, MINE)
    assert (found.status, found.attempts, found.starts) == (JobStatus.COMPLETED, 2, 2)
    assert runs == [MINE.key.job_id]
