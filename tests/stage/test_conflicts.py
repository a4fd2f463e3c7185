"""The same clientToken for something else: the first submission stays as it is, and shows the other one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from stage.running import until

if TYPE_CHECKING:
    from stage.running import Person, RunningStage

pytestmark = pytest.mark.xdist_group("stage")


def body(token: str, records: int) -> dict[str, Any]:
    return {"clientToken": token, "parameters": {"records": records, "seed": 7}}


def request_id(answer: httpx.Response) -> str:
    assert answer.status_code == 202, answer.text
    return answer.headers["x-amzn-RequestId"]


def conflicting(person: Person, job_id: str, count: int = 1) -> list[str]:
    """Wait until a job shows so many conflicts, and return the ids of their requests."""

    def look() -> list[str] | None:
        answer = person.status(job_id)
        found = answer.json().get("conflicts", []) if answer.status_code == 200 else []
        return [one["requestId"] for one in found] if len(found) >= count else None

    return until(look, f"job {job_id} shows {count} conflicts")


def records_of(shown: dict[str, Any]) -> int:
    """Download a result and count what is in it."""
    assert shown["status"] == "COMPLETED"
    return len(httpx.get(shown["result"]["url"]).json()["observations"])


def assert_ran_once(stage: RunningStage, owner: Person, job_id: str) -> None:
    row = stage.row(owner.sub, job_id)
    assert row
    assert row["attempts"] == {"N": "1"}
    assert len(stage.objects(f"results/{owner.sub}/{job_id}/")) == 1


def test_a_later_submission_is_shown_as_a_conflict(stage: RunningStage, ann: Person) -> None:
    # Given a job that has ended
    first = ann.submit(body("conflict-one-after-another", 3))
    job_id = first.json()["jobId"]
    stage.recorded(ann.sub, job_id)
    before = ann.ended(job_id)
    row = stage.recorded(ann.sub, job_id)

    # When its token comes again for something else
    second = ann.submit(body("conflict-one-after-another", 4))

    # Then the second client finds its own request at the status of the job
    assert second.json()["jobId"] == job_id
    assert conflicting(ann, job_id) == [request_id(second)]
    (conflict,) = ann.status(job_id).json()["conflicts"]
    assert conflict.keys() == {"code", "message", "requestId", "submittedAt"}
    assert conflict["code"] == "CLIENT_TOKEN_REUSED"
    assert before["submittedAt"] <= conflict["submittedAt"] <= datetime.now(UTC).isoformat()

    # And nothing else of the job has changed
    after = ann.status(job_id).json()
    assert records_of(before) == records_of(after) == 3
    assert {**stage.recorded(ann.sub, job_id), "conflicts": None} == {**row, "conflicts": None}
    assert_ran_once(stage, ann, job_id)


def test_of_two_at_the_same_moment_one_is_the_job_and_one_the_conflict(stage: RunningStage, ann: Person) -> None:
    # Given two clients that use one token for different things at the same moment
    token, start = "conflict-at-the-same-moment", threading.Barrier(2)

    def send(records: int) -> tuple[int, str]:
        start.wait(30)
        return records, request_id(ann.submit(body(token, records)))

    with ThreadPoolExecutor(2) as pool:
        sent = dict(pool.map(send, (3, 4)))

    # When the job has ended, then its result is what one of them asked for, and the conflict is the other's
    stage.recorded(ann.sub, token)
    ran = records_of(ann.ended(token))
    other = 7 - ran
    assert conflicting(ann, token) == [sent[other]]
    stage.drained()
    assert_ran_once(stage, ann, token)
    assert records_of(ann.ended(token)) == ran


def test_the_first_in_the_queue_is_the_job_even_within_a_batch(stage: RunningStage, ann: Person) -> None:
    # Given three submissions under one token that wait together
    token = "conflict-within-a-batch"
    with stage.paused():
        first, second, third = [request_id(ann.submit(body(token, records))) for records in (3, 4, 3)]

    # When they are processed
    stage.recorded(ann.sub, token)
    shown = ann.ended(token)

    # Then one of the two equal ones is the job, and the odd one, in whatever order they came, is the conflict
    if records_of(shown) == 3:
        assert conflicting(ann, token) == [second]
    else:
        assert set(conflicting(ann, token, 2)) == {first, third}
    stage.drained()
    assert_ran_once(stage, ann, token)


def test_a_retry_of_the_same_is_no_conflict(stage: RunningStage, ann: Person) -> None:
    # Given a job
    token = "conflict-there-is-none"
    ann.accepted(body(token, 3))
    stage.recorded(ann.sub, token)

    # When the very same comes again, with its members in another order too, before and after the job has ended
    ann.accepted(body(token, 3))
    ann.ended(token)
    ann.accepted({"parameters": {"seed": 7, "records": 3}, "jobType": "weather-report", "clientToken": token})
    stage.drained()

    # Then there is no conflict
    shown = ann.ended(token)
    assert "conflicts" not in shown
    assert records_of(shown) == 3
    assert_ran_once(stage, ann, token)


def test_a_conflict_with_a_failed_job_does_not_run_either(stage: RunningStage, ann: Person) -> None:
    # Given a job that has failed for its parameters
    token = "conflict-with-a-failure"
    ann.accepted({"clientToken": token, "parameters": {"colour": "red"}})
    stage.recorded(ann.sub, token)
    failed = ann.ended(token)

    # When its client mends them and uses the token again, then that is a conflict, and the failure stays
    mended = request_id(ann.submit(body(token, 3)))
    assert conflicting(ann, token) == [mended]
    shown = ann.ended(token)
    assert shown.pop("conflicts")
    assert shown == failed
    assert stage.objects(f"results/{ann.sub}/{token}/") == []


def test_other_owners_have_no_part_in_it(stage: RunningStage, ann: Person, ben: Person) -> None:
    # Given two owners who choose the same token for different things
    token = "conflict-of-two-owners"
    ann.accepted(body(token, 3))
    ben.accepted(body(token, 4))

    # Then each has what they asked for, and no conflict
    for person, records in ((ann, 3), (ben, 4)):
        stage.recorded(person.sub, token)
        shown = person.ended(token)
        assert "conflicts" not in shown
        assert records_of(shown) == records


def test_many_conflicts_are_shown_as_far_as_they_help(stage: RunningStage, ann: Person) -> None:
    # Given a client that uses one token for everything
    token = "conflict-upon-conflict"
    ann.accepted(body(token, 1))
    stage.recorded(ann.sub, token)
    sent = [request_id(ann.submit(body(token, records))) for records in range(2, 16)]

    # When all have been processed
    stage.drained()

    # Then it is shown ten of its requests, so that the row does not grow for ever
    shown = conflicting(ann, token, 10)
    assert len(shown) == len(set(shown)) == 10
    assert set(shown) < set(sent)
    assert records_of(ann.ended(token)) == 1
