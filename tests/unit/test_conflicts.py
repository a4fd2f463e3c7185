"""The same clientToken for something else: the first submission stays as it was, and its job shows the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from sluice_core.jobs import Conflict, JobStatus
from unit.lambda_events import ask, handle, ids, job, request_record, row
from unit.wire_faults import TRANSIENT, Fault

if TYPE_CHECKING:
    from types import ModuleType

    from sluice_core.ledger import JobLedger
    from unit.resources import Output, WorkQueue
    from unit.wire_faults import Wire

NOW = 1_790_000_000_000
FIRST = job("token", n=1)
TOKEN = FIRST.key.job_id


def submission(n: int, later_ms: int = 0, **request: Any) -> dict[str, Any]:
    """Return a request under the token; what it asks for, and when, are told apart by numbers."""
    body = {"jobType": "scripted", "parameters": {"n": n}}
    return request_record("token", body, at=NOW + later_ms, request_id=f"request-{later_ms}", **request)


def test_other_parameters_are_shown_at_the_job_and_never_run(
    processor: ModuleType, job_status: ModuleType, ledger: JobLedger, *, work_queue: WorkQueue, output: Output
) -> None:
    # Given a job
    assert handle(processor, submission(1)) == []
    assert work_queue.job_ids() == [TOKEN]

    # When its token comes with other parameters, then nothing is started
    assert handle(processor, submission(2, 250)) == []
    assert work_queue.receive() == []

    # Then the first submission's job is as it was, but for the note
    found = row(ledger, FIRST)
    assert (found.status, found.digest, found.submitted_at) == (JobStatus.SUBMITTED, FIRST.digest, NOW)
    assert found.conflicts == (Conflict(NOW + 250, "request-250"),)

    # and whoever looks there sees whose request was not run, and what to do
    status, view, _ = ask(job_status, TOKEN)
    assert (status, view["status"]) == (200, "SUBMITTED")
    [conflict] = view["conflicts"]
    assert set(conflict) == {"code", "message", "requestId", "submittedAt"}
    assert (conflict["code"], conflict["requestId"]) == ("CLIENT_TOKEN_REUSED", "request-250")
    assert conflict["submittedAt"] == "2026-09-21T14:13:20.250Z"
    assert output.values("SubmissionsConflicting") == [1]
    assert output.values("SubmissionsDuplicate") == []


def test_within_one_batch_the_first_wins(
    processor: ModuleType, ledger: JobLedger, work_queue: WorkQueue, output: Output
) -> None:
    assert handle(processor, submission(1), submission(2, 5), submission(1, 9)) == []

    assert work_queue.job_ids() == [TOKEN]
    found = row(ledger, FIRST)
    assert found.digest == FIRST.digest
    assert found.conflicts == (Conflict(NOW + 5, "request-5"),)
    assert output.values("SubmissionsDuplicate") == [1]


def test_a_repeated_delivery_notes_it_once(processor: ModuleType, ledger: JobLedger) -> None:
    handle(processor, submission(1))
    for receives in range(1, 4):
        assert handle(processor, submission(2, 5, receives=receives)) == []

    assert row(ledger, FIRST).conflicts == (Conflict(NOW + 5, "request-5"),)


def test_several_conflicts_are_shown_in_order_up_to_ten(processor: ModuleType, ledger: JobLedger) -> None:
    handle(processor, submission(1))
    for n in range(14):
        assert handle(processor, submission(2, 100 - n)) == []

    conflicts = row(ledger, FIRST).conflicts
    assert len(conflicts) == 10
    assert list(conflicts) == sorted(conflicts)


@pytest.mark.parametrize("body", ["{", {"jobType": "scripted", "surprise": 1}])
def test_an_invalid_body_under_a_used_token_is_a_conflict(
    processor: ModuleType, ledger: JobLedger, *, work_queue: WorkQueue, output: Output, body: Any
) -> None:
    handle(processor, submission(1))
    work_queue.receive()
    invalid = request_record("token", body, at=NOW + 5, request_id="request-5")

    # When it comes, however often
    for _ in range(2):
        assert handle(processor, invalid) == []

    # Then it ends no job that can run
    found = row(ledger, FIRST)
    assert (found.status, found.error) == (JobStatus.SUBMITTED, None)
    assert found.conflicts == (Conflict(NOW + 5, "request-5"),)
    assert output.values("SubmissionsRejected") == []


def test_an_invalid_body_behind_a_valid_one_in_its_batch_is_a_conflict(
    processor: ModuleType, ledger: JobLedger, work_queue: WorkQueue
) -> None:
    invalid = request_record("token", "{", at=NOW + 5, request_id="request-5")

    assert handle(processor, submission(1), invalid) == []

    assert work_queue.job_ids() == [TOKEN]
    assert row(ledger, FIRST).conflicts == (Conflict(NOW + 5, "request-5"),)


def test_an_invalid_body_before_a_valid_one_in_its_batch_fails_nobody(
    processor: ModuleType, ledger: JobLedger, work_queue: WorkQueue
) -> None:
    # Given a batch in which the invalid submission of a token comes before the valid one, among others
    invalid = request_record("token", "{", at=NOW, request_id="request-0")
    other = request_record("other", {"jobType": "scripted"})

    # When it is processed, then all of it is
    assert handle(processor, invalid, submission(1, 5), other) == []

    # Then the valid one runs, as one does that comes in a batch of its own
    assert work_queue.job_ids() == ["other-----------", TOKEN]
    assert row(ledger, FIRST).status is JobStatus.SUBMITTED


def test_a_submission_that_was_invalid_first_shows_the_valid_one_as_its_conflict(
    processor: ModuleType, ledger: JobLedger, work_queue: WorkQueue
) -> None:
    handle(processor, request_record("token", "{"))

    assert handle(processor, submission(1, 5)) == []

    assert work_queue.receive() == []
    found = row(ledger, FIRST)
    assert (found.status, found.error and found.error.code) == (JobStatus.FAILED, "INVALID_REQUEST")
    assert found.conflicts == (Conflict(NOW + 5, "request-5"),)


def test_repetitions_in_a_batch_are_compared_with_the_job_on_record(
    processor: ModuleType, ledger: JobLedger, output: Output
) -> None:
    # Given a job on record, and a batch in which another's submission comes before its own repetition
    handle(processor, submission(1))

    assert handle(processor, submission(2, 5), submission(1, 7)) == []

    # Then only what asked for something else than the job is a conflict
    assert row(ledger, FIRST).conflicts == (Conflict(NOW + 5, "request-5"),)
    assert output.values("SubmissionsDuplicate") == [1]


def test_every_conflicting_repetition_of_a_batch_is_shown(processor: ModuleType, ledger: JobLedger) -> None:
    # Given a job on record, and a batch with the same other submission twice
    handle(processor, submission(1))

    assert handle(processor, submission(2, 5), submission(2, 7)) == []

    # Then each of the two clients finds its request at the job
    assert row(ledger, FIRST).conflicts == (Conflict(NOW + 5, "request-5"), Conflict(NOW + 7, "request-7"))


def test_another_job_type_is_something_else(processor: ModuleType, ledger: JobLedger) -> None:
    handle(processor, request_record("token", {"jobType": "scripted"}))

    handle(processor, request_record("token", {"jobType": "weather-report"}, at=NOW + 5, request_id="r"))

    assert row(ledger, FIRST).conflicts == (Conflict(NOW + 5, "r"),)


def test_a_job_in_its_end_state_shows_conflicts_too(
    processor: ModuleType, ledger: JobLedger, job_status: ModuleType
) -> None:
    ledger.record([FIRST])
    ledger.cancel(FIRST.key, NOW + 1)

    assert handle(processor, submission(2, 5)) == []

    assert row(ledger, FIRST).ended_at == NOW + 1
    assert [one["requestId"] for one in ask(job_status, TOKEN)[1]["conflicts"]] == ["request-5"]


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_note_that_could_not_be_taken_is_taken_when_the_message_comes_back(
    processor: ModuleType, ledger: JobLedger, wire: Wire, fault: Fault
) -> None:
    handle(processor, submission(1))
    wire.strike(fault, "UpdateItem", times=1)
    record = submission(2, 5)

    assert handle(processor, record) == ids(record)
    assert handle(processor, record) == []

    assert row(ledger, FIRST).conflicts == (Conflict(NOW + 5, "request-5"),)


def test_a_missing_grant_for_the_note_raises(processor: ModuleType, wire: Wire) -> None:
    handle(processor, submission(1))
    wire.strike(Fault.DENIED, "UpdateItem")

    with pytest.raises(ClientError, match="AccessDenied"):
        handle(processor, submission(2, 5))


@pytest.mark.parametrize("n", [1, 2], ids=["the same again", "something else"])
def test_a_later_request_does_not_hide_the_first_one_s_return(
    processor: ModuleType, ledger: JobLedger, work_queue: WorkQueue, n: int
) -> None:
    # Given a request that was recorded, and died before its work was started
    ledger.record([job("token", n=1, at=NOW)])

    # When it comes back behind another one of its token
    assert handle(processor, submission(n, 250), submission(1, receives=2)) == []

    # Then its work is started, once
    assert work_queue.job_ids() == [TOKEN]
