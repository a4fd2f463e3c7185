from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sluice_core.jobs import JobError, JobKey, StoredResult
from sluice_core.ledger import Attempt
from unit import lambda_events
from unit.conftest import REQUEST_RETENTION_S
from unit.lambda_events import ANN, BEN, gateway_id, job

if TYPE_CHECKING:
    from types import ModuleType

    from sluice_core.ledger import JobLedger
    from unit.resources import Bucket, Output

SUBMITTED = 1_790_000_000_123
SUBMITTED_TEXT = "2026-09-21T14:13:20.123Z"
JOB = job("my-client-token-0001", at=SUBMITTED)
MINE = Attempt(JOB.key, "attempt-mine")
ADMINS = ("ops", "apiAdmins")

NOT_FOUND = {
    "type": "urn:sluice:problem:not-found",
    "title": "Not found",
    "status": 404,
    "detail": "There is no such resource for this caller.",
    "requestId": "request-1",
}


def ask(job_status: ModuleType, job_id: str = JOB.key.job_id, **request: Any) -> tuple[int, Any, dict[str, str]]:
    return lambda_events.ask(job_status, job_id, **request)


def test_a_submitted_job(job_status: ModuleType, ledger: JobLedger, output: Output) -> None:
    ledger.record([JOB])

    status, view, headers = ask(job_status)

    assert status == 200
    assert view == {
        "jobId": JOB.key.job_id,
        "jobType": "scripted",
        "status": "SUBMITTED",
        "submittedAt": SUBMITTED_TEXT,
    }
    assert headers == {"Content-Type": "application/json", "Cache-Control": "no-store", "Retry-After": "1"}
    assert output.values("StatusReads") == [1]


def test_a_running_job(job_status: ModuleType, ledger: JobLedger) -> None:
    ledger.record([JOB])
    ledger.claim([MINE], SUBMITTED + 1_000, SUBMITTED + 60_000)

    status, view, headers = ask(job_status)

    assert status == 200
    assert view == {
        "jobId": JOB.key.job_id,
        "jobType": "scripted",
        "status": "RUNNING",
        "submittedAt": SUBMITTED_TEXT,
        "startedAt": "2026-09-21T14:13:21.123Z",
    }
    assert headers["Retry-After"] == "1"


def test_a_completed_job_can_be_downloaded(job_status: ModuleType, ledger: JobLedger, bucket: Bucket) -> None:
    # Given a completed job with its result
    bucket.s3.put_object(Bucket=bucket.name, Key="results/a/b/c.csv", Body=b"1,2\r\n", ContentType="text/csv")
    ledger.record([JOB])
    ledger.claim([MINE], SUBMITTED + 1_000, SUBMITTED + 60_000)
    ledger.complete([(MINE, StoredResult("results/a/b/c.csv", "text/csv", 5))], SUBMITTED + 2_000)

    # When its owner asks
    asked_at = time.time()
    status, view, headers = ask(job_status)

    # Then the answer leads to the result, for a quarter of an hour
    assert status == 200
    result = view.pop("result")
    assert view == {
        "jobId": JOB.key.job_id,
        "jobType": "scripted",
        "status": "COMPLETED",
        "submittedAt": SUBMITTED_TEXT,
        "startedAt": "2026-09-21T14:13:21.123Z",
        "endedAt": "2026-09-21T14:13:22.123Z",
    }
    assert {name: result[name] for name in ("contentType", "bytes")} == {"contentType": "text/csv", "bytes": 5}
    assert set(result) == {"url", "expiresAt", "contentType", "bytes"}
    assert httpx.get(result["url"]).content == b"1,2\r\n"
    expires_at = datetime.strptime(result["expiresAt"], "%Y-%m-%dT%H:%M:%S.000Z").replace(tzinfo=UTC)
    assert int(asked_at) + 900 <= expires_at.timestamp() <= time.time() + 900
    # and there is nothing left to wait for
    assert headers == {"Content-Type": "application/json", "Cache-Control": "no-store"}


def test_a_failed_job_says_why(job_status: ModuleType, ledger: JobLedger) -> None:
    ledger.record_failed(JOB, JobError("INVALID_REQUEST", "Stationen „Ö“ finns inte."), SUBMITTED + 1)

    status, view, headers = ask(job_status)

    assert status == 200
    assert view == {
        "jobId": JOB.key.job_id,
        "jobType": "scripted",
        "status": "FAILED",
        "submittedAt": SUBMITTED_TEXT,
        "endedAt": "2026-09-21T14:13:20.124Z",
        "error": {"code": "INVALID_REQUEST", "message": "Stationen „Ö“ finns inte."},
    }
    assert "Retry-After" not in headers


def test_a_job_that_was_given_back_has_not_started(job_status: ModuleType, ledger: JobLedger) -> None:
    ledger.record([JOB])
    ledger.claim([MINE], SUBMITTED + 1_000, SUBMITTED + 60_000)
    ledger.release([MINE])

    _, view, headers = ask(job_status)

    assert (view["status"], headers["Retry-After"]) == ("SUBMITTED", "1")
    assert "startedAt" not in view


def test_a_job_that_was_brought_back_shows_its_failure_no_longer(
    job_status: ModuleType, ledger: JobLedger
) -> None:
    ledger.record([JOB])
    ledger.abort(JOB.key, JobError("ABORTED", "No."), SUBMITTED)
    failed = ledger.get(JOB.key)
    assert failed is not None
    ledger.reopen(failed, SUBMITTED, SUBMITTED + 10)

    view = ask(job_status)[1]

    assert set(view) == {"jobId", "jobType", "status", "submittedAt"}


def test_a_cancelled_job_says_when(job_status: ModuleType, ledger: JobLedger) -> None:
    ledger.record([JOB])
    ledger.claim([MINE], SUBMITTED + 1_000, SUBMITTED + 60_000)
    ledger.cancel(JOB.key, SUBMITTED + 2_000)

    _, view, headers = ask(job_status)

    assert view == {
        "jobId": JOB.key.job_id,
        "jobType": "scripted",
        "status": "CANCELLED",
        "submittedAt": SUBMITTED_TEXT,
        "startedAt": "2026-09-21T14:13:21.123Z",
        "endedAt": "2026-09-21T14:13:22.123Z",
    }
    assert "Retry-After" not in headers


def test_a_job_that_was_cancelled_before_it_was_recorded_has_no_type(
    job_status: ModuleType, ledger: JobLedger, now_ms: int
) -> None:
    key = JobKey(ANN, gateway_id(ANN, now_ms))
    ledger.record_cancelled(key, now_ms, now_ms + 1)

    view = ask(job_status, key.job_id)[1]

    assert set(view) == {"jobId", "status", "submittedAt", "endedAt"}


def test_a_fresh_id_of_the_gateway_is_submitted_before_it_is_on_record(
    job_status: ModuleType, now_ms: int, output: Output
) -> None:
    job_id = gateway_id(ANN, now_ms - 2_000)

    status, view, headers = ask(job_status, job_id)

    assert status == 200
    assert {name: view[name] for name in ("jobId", "status")} == {"jobId": job_id, "status": "SUBMITTED"}
    submitted_at = datetime.strptime(view["submittedAt"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    assert round(submitted_at.timestamp() * 1000) == now_ms - 2_000
    assert headers["Retry-After"] == "1"
    assert output.values("StatusReads") == [1]


def test_the_row_outranks_the_id(job_status: ModuleType, ledger: JobLedger, now_ms: int) -> None:
    recorded = job(gateway_id(ANN, now_ms), at=now_ms)
    ledger.record_failed(recorded, JobError("INVALID_REQUEST", "No."), now_ms)

    assert ask(job_status, recorded.key.job_id)[1]["status"] == "FAILED"


@pytest.mark.parametrize(
    "job_id",
    [
        "unknown-client-token",
        "short",
        "x" * 5000,
        "my-client-token-0001#",
        f"{BEN}#my-client-token-0001",
        "../../etc/passwd/etc",
        "half-a-pair-\ud800-------",
        "åäö" * 10,
    ],
)
def test_an_unknown_id_is_a_problem_and_a_404(job_status: ModuleType, output: Output, job_id: str) -> None:
    status, problem, headers = ask(job_status, job_id)

    assert (status, problem) == (404, NOT_FOUND)
    assert headers == {"Content-Type": "application/problem+json", "Cache-Control": "no-store"}
    assert output.values("StatusReads") == []


def test_an_outdated_id_of_the_gateway_is_unknown(job_status: ModuleType, now_ms: int) -> None:
    outdated = gateway_id(ANN, now_ms - REQUEST_RETENTION_S * 1000)

    assert ask(job_status, outdated)[:2] == (404, NOT_FOUND)


def test_a_stranger_s_job_is_told_from_no_job_by_nothing(
    job_status: ModuleType, ledger: JobLedger, now_ms: int
) -> None:
    # Given a job of Ann's on record, and one that still waits
    ledger.record([JOB])
    waiting = gateway_id(ANN, now_ms)

    # When Ben asks for them, and for one that never was
    answers = [ask(job_status, one, owner=BEN) for one in (JOB.key.job_id, waiting, "never-was-such-a-job")]

    # Then the answers are the same to the byte
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][:2] == (404, NOT_FOUND)


def test_the_same_token_of_two_owners_shows_each_their_own(job_status: ModuleType, ledger: JobLedger) -> None:
    bens = job(JOB.key.job_id, owner=BEN, at=SUBMITTED + 60_000)
    ledger.record([JOB, bens])

    assert ask(job_status)[1]["submittedAt"] == SUBMITTED_TEXT
    assert ask(job_status, owner=BEN)[1]["submittedAt"] == "2026-09-21T14:14:20.123Z"


def test_an_admin_may_name_another_owner(job_status: ModuleType, ledger: JobLedger, now_ms: int) -> None:
    ledger.record([JOB])

    assert ask(job_status, owner=BEN, groups=ADMINS, query={"owner": ANN})[1]["status"] == "SUBMITTED"
    assert ask(job_status, gateway_id(ANN, now_ms), owner=BEN, groups=ADMINS, query={"owner": ANN})[0] == 200
    # and sees their own without
    assert ask(job_status, owner=BEN, groups=ADMINS)[0] == 404
    assert ask(job_status, owner=ANN, groups=ADMINS, query={"limit": "5"})[0] == 200
    assert ask(job_status, owner=ANN, groups=ADMINS, query={"owner": "nobody"})[:2] == (404, NOT_FOUND)
    assert ask(job_status, owner=ANN, groups=ADMINS, query={"owner": ""})[:2] == (404, NOT_FOUND)


@pytest.mark.parametrize("groups", [(), ("ops",), ("apiadmins",), ("xapiAdmins",), ("x,apiAdmins",)])
def test_nobody_else_may(job_status: ModuleType, ledger: JobLedger, groups: tuple[str, ...]) -> None:
    ledger.record([JOB])

    assert ask(job_status, owner=BEN, groups=groups, query={"owner": ANN})[:2] == (404, NOT_FOUND)
    # and asking for another's changes nothing about one's own
    assert ask(job_status, owner=ANN, groups=groups, query={"owner": BEN})[1]["status"] == "SUBMITTED"


def test_the_view_gives_no_internals_away(job_status: ModuleType, ledger: JobLedger, bucket: Bucket) -> None:
    ledger.record([JOB])
    ledger.claim([MINE], SUBMITTED, SUBMITTED + 60_000)

    body = json.dumps(ask(job_status)[1])

    for internal in (ANN, "attempt", "lease", "digest", bucket.name, "arn:"):
        assert internal not in body


def test_every_caller_gets_a_url_of_the_same_session(job_status: ModuleType, ledger: JobLedger) -> None:
    # Assuming the role for each answer would cost a call and run into STS's quota
    ledger.record([JOB])
    ledger.claim([MINE], SUBMITTED, SUBMITTED + 60_000)
    ledger.complete([(MINE, StoredResult("results/a/b/c.csv", "text/csv", 5))], SUBMITTED)

    urls = [httpx.URL(ask(job_status)[1]["result"]["url"]) for _ in range(2)]

    assert urls[0].params["X-Amz-Credential"] == urls[1].params["X-Amz-Credential"]


def test_logs_name_no_one(job_status: ModuleType, output: Output) -> None:
    ask(job_status, "unknown-client-token")

    assert [(line["message"], line["status"]) for line in output.logs] == [("refused", 404)]
    assert JobKey(ANN, "x").owner not in output.text
