"""Many jobs in one call, and calls that fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError
from botocore.stub import Stubber
from sluice_core.clients import is_transient
from sluice_core.jobs import Conflict, JobError, StoredResult
from sluice_core.ledger import Attempt, JobLedger, Outcome, Write
from sluice_core.rows import new_row
from unit.conftest import RETENTION_S
from unit.lambda_events import job
from unit.ledger_steps import JOB, LEASE_END, LOST, MINE, NOW, RESULT, WRITTEN, cancel, claim, outcomes, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_dynamodb import DynamoDBClient
    from unit.conftest import ClientMaker

UNAVAILABLE = Write(Outcome.UNAVAILABLE)


@pytest.fixture(scope="module")
def dynamodb() -> DynamoDBClient:
    """Return a client whose answers are recorded ones (DynamoDB API Reference), as the engine never throttles."""
    return boto3.client(
        "dynamodb", region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )


@pytest.fixture
def answers(dynamodb: DynamoDBClient) -> Iterator[Stubber]:
    with Stubber(dynamodb) as answers:
        yield answers
        answers.assert_no_pending_responses()


@pytest.fixture
def scripted(dynamodb: DynamoDBClient, answers: Stubber) -> JobLedger:  # noqa: ARG001 - it must be there
    return JobLedger(dynamodb, "jobs", RETENTION_S)


# Batches


def test_no_jobs_are_no_calls(scripted: JobLedger) -> None:
    # Given a client that refuses every call
    writes = [
        scripted.record([]),
        scripted.claim([], NOW, LEASE_END),
        scripted.renew([], LEASE_END),
        scripted.complete([], NOW),
        scripted.fail([], NOW),
        scripted.release([]),
        scripted.expire([], LOST, NOW),
        scripted.begin([], NOW),
        scripted.note_handles([], NOW),
        scripted.fail_started([], NOW),
        scripted.close([]),
    ]
    assert writes == [[]] * 11
    assert scripted.get_many([]) == {}


def test_sixty_jobs_keep_their_order_through_every_change(ledger: JobLedger) -> None:
    # Given sixty jobs, which take three calls; every seventh is on record already
    jobs = [job(f"job-{n:02}", at=NOW) for n in range(60)]
    ledger.record(jobs[::7])

    # When all are recorded, then just those are refused, each with its own row
    writes = ledger.record(jobs)
    assert [n for n, write in enumerate(writes) if write.outcome is Outcome.REFUSED] == list(range(0, 60, 7))
    assert [write.job.key for write in writes if write.job] == [one.key for one in jobs[::7]]

    # When all are claimed, and all but every ninth completed by their holders
    attempts = [Attempt(one.key, f"attempt-{n}") for n, one in enumerate(jobs)]
    assert ledger.claim(attempts, NOW, LEASE_END) == [WRITTEN] * 60
    done = [
        (Attempt(one.key, "a stranger's") if n % 9 == 0 else one, StoredResult(f"key-{n}", "text/plain", n))
        for n, one in enumerate(attempts)
    ]
    writes = ledger.complete(done, NOW + 1)

    # Then just those are refused, and each row has its own result
    assert [n for n, write in enumerate(writes) if write.outcome is Outcome.REFUSED] == list(range(0, 60, 9))
    rows = ledger.get_many([one.key for one in jobs], consistent=True)
    assert [rows[one.key].result for one in jobs] == [
        None if n % 9 == 0 else StoredResult(f"key-{n}", "text/plain", n) for n in range(60)
    ]

    # and the sweeper ends just the others, once their leases have lapsed
    writes = ledger.expire([one.key for one in jobs], LOST, LEASE_END + 1)
    assert [n for n, write in enumerate(writes) if write.is_written] == list(range(0, 60, 9))


def test_one_refusal_holds_up_no_other(ledger: JobLedger) -> None:
    jobs = [job(f"job-{n}", at=NOW) for n in range(3)]
    ledger.record([jobs[0], jobs[2]])

    writes = ledger.claim([Attempt(one.key, "mine") for one in jobs], NOW, LEASE_END)

    assert outcomes(writes) == ["written", "refused", "written"]


# Reading many


def test_more_jobs_are_read_than_one_call_holds(ledger: JobLedger) -> None:
    # Given 230 jobs, every tenth of which is not on record
    jobs = [job(f"job-{n:03}", at=NOW + n) for n in range(230)]
    recorded = [one for n, one in enumerate(jobs) if n % 10]
    ledger.record(recorded)

    # When all are read, some of them asked for twice
    rows = ledger.get_many([one.key for one in [*jobs, *jobs[:50]]], consistent=True)

    # Then each that is there is found, and it is itself
    assert rows.keys() == {one.key for one in recorded}
    assert all(rows[one.key].key == one.key for one in recorded)
    assert all(rows[one.key].submitted_at == one.submitted_at for one in recorded)


def test_what_one_read_leaves_is_read_by_the_next(scripted: JobLedger, answers: Stubber) -> None:
    # Given a table that answers for one job at a time
    jobs = [job(f"job-{n}", at=NOW) for n in range(2)]
    [first, second] = [new_row(one, RETENTION_S) for one in jobs]
    left = {"jobs": {"Keys": [{"jobKey": second["jobKey"]}], "ConsistentRead": True}}
    answers.add_response("batch_get_item", {"Responses": {"jobs": [first]}, "UnprocessedKeys": left})
    answers.add_response(
        "batch_get_item", {"Responses": {"jobs": [second]}, "UnprocessedKeys": {}}, {"RequestItems": left}
    )

    assert list(scripted.get_many([one.key for one in jobs], consistent=True)) == [one.key for one in jobs]


def test_a_table_that_leaves_keys_again_and_again_is_given_up(
    scripted: JobLedger, answers: Stubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a table that never answers
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    left = {"jobs": {"Keys": [{"jobKey": {"S": str(JOB.key)}}]}}
    for _ in range(6):
        answers.add_response("batch_get_item", {"Responses": {}, "UnprocessedKeys": left})

    # Then it is asked six times, with longer pauses each time, and the caller is told that this may pass
    with pytest.raises(ClientError) as given_up:
        scripted.get_many([JOB.key])
    assert is_transient(given_up.value)
    assert len(pauses) == 5
    assert all(0 <= pause <= 0.1 * 2**n for n, pause in enumerate(pauses))


# What may pass


def test_a_throttled_write_is_unavailable(scripted: JobLedger, answers: Stubber) -> None:
    codes = ["ThrottlingError", "ProvisionedThroughputExceeded", "InternalServerError", "TransactionConflict"]
    errors: list[dict[str, Any]] = [{"Error": {"Code": code, "Message": "later"}} for code in codes]
    answers.add_response("batch_execute_statement", {"Responses": [*errors, {}]})

    writes = scripted.release([Attempt(job(f"job-{n}").key, "mine") for n in range(5)])

    assert writes == [UNAVAILABLE] * 4 + [WRITTEN]


@pytest.mark.parametrize(
    ("code", "status"),
    [("InternalServerError", 500), ("ServiceUnavailable", 503), ("ThrottlingException", 400)],
)
def test_a_call_that_may_succeed_later_is_unavailable(
    scripted: JobLedger, answers: Stubber, code: str, status: int
) -> None:
    # Given thirty jobs, which take two calls, the first of which fails as a whole
    attempts = [Attempt(job(f"job-{n}").key, "mine") for n in range(30)]
    answers.add_client_error("batch_execute_statement", code, http_status_code=status)
    answers.add_response("batch_execute_statement", {"Responses": [{}] * 5})

    assert scripted.claim(attempts, NOW, LEASE_END) == [UNAVAILABLE] * 25 + [WRITTEN] * 5


@pytest.mark.parametrize("error", [EndpointConnectionError, ReadTimeoutError])
@pytest.mark.parametrize("change", [record, claim, cancel])
def test_a_call_that_is_not_answered_is_unavailable(
    scripted: JobLedger,
    dynamodb: DynamoDBClient,
    monkeypatch: pytest.MonkeyPatch,
    error: type[EndpointConnectionError | ReadTimeoutError],
    change: Callable[[JobLedger], list[Write]],
) -> None:
    def unanswered(**_: Any) -> None:
        raise error(endpoint_url="https://dynamodb.us-east-1.amazonaws.com")

    monkeypatch.setattr(dynamodb, "batch_execute_statement", unanswered)

    assert change(scripted) == [UNAVAILABLE]


def test_a_refused_record_whose_row_cannot_be_read_is_unavailable(scripted: JobLedger, answers: Stubber) -> None:
    answers.add_response("batch_execute_statement", {"Responses": [{"Error": {"Code": "DuplicateItem"}}]})
    answers.add_client_error("get_item", "InternalServerError", http_status_code=500)

    assert record(scripted) == [UNAVAILABLE]


# What no retry mends


@pytest.mark.parametrize("code", ["ValidationError", "AccessDenied", "ResourceNotFound"])
def test_a_statement_that_is_wrong_raises(scripted: JobLedger, answers: Stubber, code: str) -> None:
    answers.add_response("batch_execute_statement", {"Responses": [{"Error": {"Code": code, "Message": "never"}}]})

    with pytest.raises(RuntimeError, match=f"{code}: never"):
        scripted.release([MINE])


@pytest.mark.parametrize(
    "change",
    [
        record,
        claim,
        cancel,
        lambda ledger: ledger.fail([(MINE, JobError("A", "B"))], NOW),
        lambda ledger: ledger.complete([(MINE, RESULT)], NOW),
    ],
)
def test_a_call_without_a_grant_raises(
    scripted: JobLedger, answers: Stubber, change: Callable[[JobLedger], object]
) -> None:
    answers.add_client_error("batch_execute_statement", "AccessDeniedException", http_status_code=400)

    with pytest.raises(ClientError, match="AccessDenied"):
        change(scripted)


def test_a_refused_record_whose_row_may_not_be_read_raises(scripted: JobLedger, answers: Stubber) -> None:
    answers.add_response("batch_execute_statement", {"Responses": [{"Error": {"Code": "DuplicateItem"}}]})
    answers.add_client_error("get_item", "AccessDeniedException", http_status_code=400)

    with pytest.raises(ClientError, match="AccessDenied"):
        record(scripted)


def test_a_conflict_that_could_not_be_noted_raises(scripted: JobLedger, answers: Stubber) -> None:
    """Its message comes again, and so does the note."""
    answers.add_client_error("update_item", "InternalServerError", http_status_code=500)

    with pytest.raises(ClientError, match="InternalServerError"):
        scripted.note_conflict(JOB.key, Conflict(NOW, "request-1"))


def test_a_table_that_is_not_there_raises(engine: ClientMaker) -> None:
    ledger = JobLedger(engine.client("dynamodb"), "no-such-table", RETENTION_S)

    with pytest.raises((ClientError, RuntimeError), match="ResourceNotFound"):
        record(ledger)
