from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from sluice_core.jobs import JobError, JobKey, JobStatus, StoredResult
from sluice_core.ledger import Attempt
from unit.conftest import REQUEST_RETENTION_S
from unit.lambda_events import ANN, BEN, ask, gateway_id, handle, job, request_record, row
from unit.wire_faults import TRANSIENT, Fault

if TYPE_CHECKING:
    from types import ModuleType

    from sluice_core.ledger import JobLedger
    from unit.conftest import Dispatch
    from unit.resources import Output, WorkQueue
    from unit.wire_faults import Wire

JOB = job("my-client-token-0001")
MINE = Attempt(JOB.key, "attempt-mine")
ADMINS = ("ops", "apiAdmins")
HEADERS = {"Content-Type": "application/json", "Cache-Control": "no-store"}
PROBLEM_HEADERS = {"Content-Type": "application/problem+json", "Cache-Control": "no-store"}


def cancel(cancel_job: ModuleType, job_id: str = JOB.key.job_id, **request: Any) -> tuple[int, Any]:
    status, document, headers = ask(cancel_job, job_id, **request)
    assert headers == (HEADERS if status == 200 else PROBLEM_HEADERS)
    return status, document


def ended_now(view: dict[str, Any]) -> bool:
    ended = datetime.strptime(view["endedAt"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    return abs(time.time() - ended.timestamp()) < 60


# --- each state


def test_a_submitted_job_ends_at_once(cancel_job: ModuleType, ledger: JobLedger, output: Output) -> None:
    # Given a job that waits for its turn
    ledger.record([JOB])

    # When its owner cancels it, then the answer is the job as it is now
    status, view = cancel(cancel_job)
    assert status == 200
    assert ended_now(view)
    assert view == {
        "jobId": JOB.key.job_id,
        "jobType": "scripted",
        "status": "CANCELLED",
        "submittedAt": "2026-09-21T14:13:20.000Z",
        "endedAt": view["endedAt"],
    }

    # and so is the row
    found = row(ledger, JOB)
    assert (found.status, found.error, found.result) == (JobStatus.CANCELLED, None, None)
    assert output.values("JobsCancelled") == [1]
    assert [(line["outcome"], line["jobId"]) for line in output.logs] == [("cancelled", JOB.key.job_id)]


def test_its_message_is_dropped_when_it_comes(
    cancel_job: ModuleType, simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, runs: list[str]
) -> None:
    ledger.record([JOB])
    cancel(cancel_job)
    before = row(ledger, JOB)

    assert handle(simulator, *dispatch(JOB)) == []
    assert runs == []
    assert row(ledger, JOB) == before


def test_a_running_job_ends_and_its_worker_cannot_complete_it(
    cancel_job: ModuleType, ledger: JobLedger, now_ms: int
) -> None:
    ledger.record([JOB])
    ledger.claim([MINE], now_ms, now_ms + 60_000)

    status, view = cancel(cancel_job)

    assert (status, view["status"]) == (200, "CANCELLED")
    assert view["startedAt"] < view["endedAt"] or view["startedAt"] == view["endedAt"]
    [late] = ledger.complete([(MINE, StoredResult("results/a", "text/plain", 1))], now_ms)
    assert not late.is_written
    assert row(ledger, JOB).status is JobStatus.CANCELLED


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
def test_a_job_that_has_ended_stays_as_it_is(
    cancel_job: ModuleType, ledger: JobLedger, output: Output, end: str
) -> None:
    ledger.record([JOB])
    ledger.claim([MINE], 10, 20)
    if end == "completed":
        ledger.complete([(MINE, StoredResult("results/a", "text/plain", 1))], 15)
    elif end == "failed":
        ledger.fail([(MINE, JobError("BAD", "No."))], 15)
    else:
        assert cancel(cancel_job)[0] == 200
    before = row(ledger, JOB)

    status, problem = cancel(cancel_job)

    assert (status, problem["type"]) == (409, "urn:sluice:problem:already-ended")
    assert row(ledger, JOB) == before
    assert output.values("JobsCancelled") == ([1] if end == "cancelled" else [])


def test_a_job_that_was_brought_back_can_be_cancelled(cancel_job: ModuleType, ledger: JobLedger) -> None:
    ledger.record([JOB])
    ledger.abort(JOB.key, JobError("ABORTED", "No."), 5)
    ledger.reopen(row(ledger, JOB), 6, 10**15)

    status, view = cancel(cancel_job)

    assert (status, view["status"]) == (200, "CANCELLED")
    assert "error" not in view


# --- not yet recorded


def test_a_job_whose_request_still_waits_is_cancelled_and_its_request_dropped(
    cancel_job: ModuleType,
    processor: ModuleType,
    ledger: JobLedger,
    *,
    work_queue: WorkQueue,
    output: Output,
    now_ms: int,
) -> None:
    # Given an id that the gateway made two seconds ago, and no row
    at = now_ms - 2_000
    job_id = gateway_id(ANN, at)

    # When it is cancelled
    status, view = cancel(cancel_job, job_id)
    assert status == 200
    assert set(view) == {"jobId", "status", "submittedAt", "endedAt"}
    assert (view["jobId"], view["status"]) == (job_id, "CANCELLED")
    assert ended_now(view)

    # and its request comes later, however often
    for _ in range(2):
        assert handle(processor, request_record(job_id, {"jobType": "scripted"}, at=at)) == []

    # Then it is not run, and nothing but the cancellation is to be seen
    assert work_queue.receive() == []
    found = ledger.get(JobKey(ANN, job_id))
    assert found is not None
    assert (found.status, found.submitted_at, found.conflicts) == (JobStatus.CANCELLED, at, ())
    assert output.values("JobsCancelled") == [1]
    for metric in ("SubmissionsRecorded", "SubmissionsConflicting", "SubmissionsRejected"):
        assert output.values(metric) == []
    assert cancel(cancel_job, job_id)[0] == 409


def test_an_invalid_request_for_it_changes_nothing_either(
    cancel_job: ModuleType, processor: ModuleType, ledger: JobLedger, now_ms: int
) -> None:
    job_id = gateway_id(ANN, now_ms)
    cancel(cancel_job, job_id)

    assert handle(processor, request_record(job_id, "{", at=now_ms)) == []

    found = ledger.get(JobKey(ANN, job_id))
    assert found is not None
    assert (found.status, found.error, found.conflicts) == (JobStatus.CANCELLED, None, ())


def test_a_job_that_is_recorded_meanwhile_is_cancelled_all_the_same(
    cancel_job: ModuleType, ledger: JobLedger, monkeypatch: pytest.MonkeyPatch, now_ms: int
) -> None:
    # Given a processor that records the job between the look and the write
    recorded = job(gateway_id(ANN, now_ms), at=now_ms)
    record_cancelled = type(ledger).record_cancelled

    def too_late(self: JobLedger, *args: Any) -> Any:
        ledger.record([recorded])
        return record_cancelled(self, *args)

    monkeypatch.setattr(type(ledger), "record_cancelled", too_late)

    status, view = cancel(cancel_job, recorded.key.job_id)

    assert (status, view["status"], view["jobType"]) == (200, "CANCELLED", "scripted")
    assert row(ledger, recorded).status is JobStatus.CANCELLED


@pytest.mark.parametrize(
    "job_id",
    [
        "unknown-client-token",
        "short",
        "x" * 65,
        f"{BEN}#my-client-token-0001",
        "half-a-pair-\ud800-------",
        gateway_id(ANN, 1_500_000_000_000),
    ],
)
def test_an_unknown_job_cannot_be_cancelled(
    cancel_job: ModuleType, ledger: JobLedger, output: Output, job_id: str
) -> None:
    status, problem = cancel(cancel_job, job_id)

    assert (status, problem["type"]) == (404, "urn:sluice:problem:not-found")
    assert ledger.get(JobKey(ANN, job_id.encode("ascii", "replace").decode())) is None
    assert output.values("JobsCancelled") == []


def test_an_outdated_id_leaves_no_row(cancel_job: ModuleType, ledger: JobLedger, now_ms: int) -> None:
    outdated = gateway_id(ANN, now_ms - REQUEST_RETENTION_S * 1000)

    assert cancel(cancel_job, outdated)[0] == 404
    assert ledger.get(JobKey(ANN, outdated)) is None


# --- whose job it is


def test_another_owner_s_job_is_told_from_none_by_nothing(
    cancel_job: ModuleType, ledger: JobLedger, now_ms: int
) -> None:
    # Given a job of Ann's on record, and one that still waits
    ledger.record([JOB])
    waiting = gateway_id(ANN, now_ms)

    # When Ben would cancel them, and one that never was
    answers = [cancel(cancel_job, one, owner=BEN) for one in (JOB.key.job_id, waiting, "never-was-such-a-job")]

    # Then the answers are the same, and nothing has happened
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0] == 404
    assert row(ledger, JOB).status is JobStatus.SUBMITTED
    assert ledger.get(JobKey(ANN, waiting)) is None
    assert ledger.get(JobKey(BEN, waiting)) is None


def test_an_admin_may_cancel_another_owner_s_job(cancel_job: ModuleType, ledger: JobLedger, now_ms: int) -> None:
    ledger.record([JOB])
    waiting = gateway_id(ANN, now_ms)
    request: dict[str, Any] = {"owner": BEN, "groups": ADMINS, "query": {"owner": ANN}}

    assert cancel(cancel_job, **request)[1]["status"] == "CANCELLED"
    assert cancel(cancel_job, waiting, **request)[1]["status"] == "CANCELLED"
    assert row(ledger, JOB).status is JobStatus.CANCELLED
    assert ledger.get(JobKey(ANN, waiting)) is not None


@pytest.mark.parametrize("groups", [(), ("ops",), ("x,apiAdmins",)])
def test_nobody_else_may(cancel_job: ModuleType, ledger: JobLedger, groups: tuple[str, ...]) -> None:
    ledger.record([JOB])

    assert cancel(cancel_job, owner=BEN, groups=groups, query={"owner": ANN})[0] == 404
    assert row(ledger, JOB).status is JobStatus.SUBMITTED


def test_an_admin_who_names_no_owner_means_their_own(cancel_job: ModuleType, ledger: JobLedger) -> None:
    bens = job(JOB.key.job_id, owner=BEN)
    ledger.record([JOB, bens])

    assert cancel(cancel_job, owner=BEN, groups=ADMINS)[0] == 200
    assert cancel(cancel_job, owner=BEN, groups=ADMINS, query={"owner": "no such owner"})[0] == 404
    assert (row(ledger, bens).status, row(ledger, JOB).status) == (JobStatus.CANCELLED, JobStatus.SUBMITTED)


# --- when DynamoDB fails


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_cancellation_of_unknown_outcome_is_a_503_and_may_be_repeated(
    cancel_job: ModuleType, ledger: JobLedger, wire: Wire, fault: Fault
) -> None:
    ledger.record([JOB])
    wire.strike_change(fault, "cancel", times=1)

    status, problem = cancel(cancel_job)

    assert (status, problem["type"]) == (503, "urn:sluice:problem:cancel-unavailable")
    # The second try finds out: the answer to the first may have been all that was lost
    assert cancel(cancel_job)[0] == (409 if fault is Fault.LOST_ANSWER else 200)
    assert row(ledger, JOB).status is JobStatus.CANCELLED


@pytest.mark.parametrize("recorded", [True, False])
def test_an_answer_that_the_sdk_lost_and_asked_for_again_is_a_200(
    cancel_job: ModuleType, ledger: JobLedger, wire: Wire, now_ms: int, recorded: bool
) -> None:
    mine = job(gateway_id(ANN, now_ms), at=now_ms)
    if recorded:
        ledger.record([mine])
    wire.strike(Fault.REPEATED, "BatchExecuteStatement")

    assert cancel(cancel_job, mine.key.job_id)[0] == 200


def test_a_missing_grant_raises(cancel_job: ModuleType, ledger: JobLedger, wire: Wire) -> None:
    ledger.record([JOB])
    wire.strike_change(Fault.DENIED, "cancel")

    with pytest.raises(ClientError, match="AccessDenied"):
        cancel(cancel_job)
