"""POST /cancel-job/{job-id}: wherever a job stands it ends at once, stays ended, and leaves nothing behind."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from stage.answers import assert_problem
from stage.messages import job_of, letters
from stage.running import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx
    from stage.running import Person, RunningStage

pytestmark = pytest.mark.xdist_group("stage")


def assert_cancelled(answer: httpx.Response, job_id: str) -> None:
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    shown = answer.json()
    assert (shown["jobId"], shown["status"]) == (job_id, "CANCELLED")
    assert shown["submittedAt"] <= shown["endedAt"]
    assert not shown.keys() & {"result", "error"}


def assert_never_ran(stage: RunningStage, owner: Person, job_id: str) -> None:
    """Check that a job has stayed cancelled although all its messages have come."""
    stage.drained()
    row = stage.row(owner.sub, job_id)
    assert row
    assert (row["status"], row["attempts"]) == ({"S": "CANCELLED"}, {"N": "0"})
    assert stage.objects(f"results/{owner.sub}/{job_id}/") == []


# In each state


def test_a_job_that_is_not_recorded_yet(stage: RunningStage, ann: Person) -> None:
    # Given a job whose request waits in the queue
    with stage.paused():
        job_id = ann.accepted({})
        assert stage.row(ann.sub, job_id) is None

        # When it is cancelled
        answer = ann.cancel(job_id)

        # Then it has ended at once, and says so from now on
        assert_cancelled(answer, job_id)
        assert ann.status(job_id).json() == answer.json()
        assert "Retry-After" not in ann.status(job_id).headers

    # And its request is dropped when it comes
    assert_never_ran(stage, ann, job_id)
    assert ann.status(job_id).json()["status"] == "CANCELLED"


def test_a_job_that_waits_for_a_worker(stage: RunningStage, ann: Person) -> None:
    # Given a job whose message waits in the work queue
    work = stage.description.queues.work.url
    with stage.unworked():
        job_id = ann.accepted({"clientToken": "cancelled-in-the-work-queue"})
        stage.recorded(ann.sub, job_id)
        until(lambda: stage.depth(work) == 1, "its message waits")

        # When it is cancelled, then it has ended at once
        assert_cancelled(ann.cancel(job_id), job_id)
        assert ann.status(job_id).json()["status"] == "CANCELLED"
        assert stage.depth(work) == 1

    # And its message is acknowledged when it comes
    assert_never_ran(stage, ann, job_id)


def test_a_job_that_runs(stage: RunningStage, ann: Person) -> None:
    # Given a job in the middle of its work
    job_id = ann.accepted({"parameters": {"workSeconds": 45}})
    ann.reached(job_id, "RUNNING")

    # When it is cancelled, then it has ended at once
    began = time.monotonic()
    assert_cancelled(ann.cancel(job_id), job_id)
    assert ann.status(job_id).json()["status"] == "CANCELLED"

    # And at its next heartbeat, long before its time, the work stops, and leaves neither message nor object
    stage.drained()
    assert time.monotonic() - began < 30
    assert stage.objects(f"results/{ann.sub}/{job_id}/") == []
    row = stage.row(ann.sub, job_id)
    assert row
    assert (row["status"], row["attempts"]) == ({"S": "CANCELLED"}, {"N": "1"})


def test_a_result_that_comes_too_late_is_deleted(stage: RunningStage, ann: Person) -> None:
    # Given a job that will be done before its worker's first heartbeat, and a warm function to cancel it
    simulator, since_ms = stage.description.functions.batchSimulator, time.time_ns() // 1_000_000
    assert ann.cancel("no-such-job-0123456789").status_code == 404
    job_id = ann.accepted({"parameters": {"workSeconds": 4}})
    ann.reached(job_id, "RUNNING")

    # When it is cancelled
    assert_cancelled(ann.cancel(job_id), job_id)

    # Then its worker finds that out only when it has stored the result, and deletes that
    until(
        lambda: any("discarded" in line and job_id in line for line in stage.log_lines(simulator, since_ms)),
        "the worker has discarded the result",
    )
    stage.drained()
    assert stage.objects(f"results/{ann.sub}/{job_id}/") == []
    assert ann.status(job_id).json()["status"] == "CANCELLED"


def test_a_job_that_has_completed(stage: RunningStage, ann: Person) -> None:
    job_id = ann.accepted({})
    assert ann.ended(job_id)["status"] == "COMPLETED"
    assert_unmoved(stage, ann, job_id)


def test_a_job_that_has_failed(stage: RunningStage, ann: Person) -> None:
    job_id = ann.accepted({"parameters": {"colour": "red"}})
    assert ann.ended(job_id)["status"] == "FAILED"
    assert_unmoved(stage, ann, job_id)


def test_a_job_that_was_cancelled(stage: RunningStage, ann: Person) -> None:
    with stage.unworked():
        job_id = ann.accepted({})
        assert_cancelled(ann.cancel(job_id), job_id)
        assert_unmoved(stage, ann, job_id)


def assert_unmoved(stage: RunningStage, person: Person, job_id: str) -> None:
    """Check that an ended job cannot be cancelled, and that the attempt changes nothing."""
    row = stage.row(person.sub, job_id)
    assert_problem(person.cancel(job_id), 409, "already-ended", stage)
    assert stage.row(person.sub, job_id) == row


# At the same time as others


def test_a_cancelled_token_does_not_run_when_it_comes_again(stage: RunningStage, ann: Person) -> None:
    # Given a cancelled job with a client token
    body = {"clientToken": "cancelled-and-sent-again", "parameters": {"records": 2}}
    with stage.unworked():
        job_id = ann.accepted(body)
        stage.recorded(ann.sub, job_id)
        assert_cancelled(ann.cancel(job_id), job_id)

    # When a client that has missed that repeats the submission, then it is dropped
    ann.accepted(body)
    assert_never_ran(stage, ann, job_id)
    assert "conflicts" not in ann.status(job_id).json()


def test_of_many_who_cancel_the_job_is_cancelled_once(stage: RunningStage, ann: Person) -> None:
    # Given a job that waits
    with stage.unworked():
        job_id = ann.accepted({})

        # When it is cancelled from three sides
        with ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(lambda _: ann.cancel(job_id), range(3)))

        # Then whoever is not told that it is cancelled is told that it has ended; all see the same end
        assert {answer.status_code for answer in answers} <= {200, 409}
        ends = {answer.json()["endedAt"] for answer in answers if answer.status_code == 200}
        assert ends == {ann.status(job_id).json()["endedAt"]}
    assert_never_ran(stage, ann, job_id)


def test_a_job_is_either_cancelled_or_completed(stage: RunningStage, ben: Person) -> None:
    # Given jobs that are cancelled while they are taken up, run and ended
    def submit_and_cancel(number: int) -> tuple[str, int]:
        job_id = ben.accepted({"parameters": {"records": 1}})
        # Some at once, others while they are with the processor, with a worker, or done.
        until(lambda: number % 4 == 0 or ben.status(job_id).json()["status"] != "SUBMITTED", "a moment to cancel")
        return job_id, ben.cancel(job_id).status_code

    with ThreadPoolExecutor(3) as pool:
        cancelled = list(pool.map(submit_and_cancel, range(40)))
    stage.drained()

    # Then each has the one end that the answer said, and an object only if it completed
    for job_id, status_code in cancelled:
        shown = ben.status(job_id).json()
        assert (status_code, shown["status"]) in {(200, "CANCELLED"), (409, "COMPLETED")}
        objects = stage.objects(f"results/{ben.sub}/{job_id}/")
        assert len(objects) == (shown["status"] == "COMPLETED")


# Who may


@pytest.fixture
def waiting(stage: RunningStage, ann: Person) -> Iterator[str]:
    """The id of a job of ann's that waits for a worker until the test is over."""
    with stage.unworked():
        job_id = ann.accepted({"parameters": {"records": 1}})
        stage.recorded(ann.sub, job_id)
        yield job_id
    ann.ended(job_id)


def test_an_unknown_job_is_a_404(stage: RunningStage, ann: Person) -> None:
    assert_problem(ann.cancel("no-such-job-0123456789"), 404, "not-found", stage)
    assert_problem(ann.cancel("short"), 404, "not-found", stage)


@pytest.mark.parametrize("names_owner", [False, True], ids=["plainly", "naming-its-owner"])
def test_another_owners_job_is_like_an_unknown_one(
    stage: RunningStage, ann: Person, ben: Person, waiting: str, *, names_owner: bool
) -> None:
    # When a stranger cancels
    query = {"owner": ann.sub} if names_owner else {}
    refused, unknown = ben.cancel(waiting, **query), ben.cancel("no-such-job-0123456789", **query)

    # Then the answer is that for a job which does not exist, and nothing has happened
    assert_problem(refused, 404, "not-found", stage)
    assert without_request_id(refused) == without_request_id(unknown)
    assert refused.headers.keys() == unknown.headers.keys()
    assert ann.status(waiting).json()["status"] == "SUBMITTED"


def test_another_owners_unrecorded_job_is_a_404(stage: RunningStage, ann: Person, ben: Person) -> None:
    # Given a job of ann's that no function has seen
    with stage.paused():
        job_id = ann.accepted({})

        # When a stranger cancels it, then there is no such job, and none is made
        assert_problem(ben.cancel(job_id), 404, "not-found", stage)
        assert stage.row(ben.sub, job_id) is None

    # And it completes
    assert ann.ended(job_id)["status"] == "COMPLETED"


def test_an_admin_cancels_what_the_owner_named_has(
    stage: RunningStage, ann: Person, ada: Person, waiting: str
) -> None:
    # Without the owner's name it is not the admin's job
    assert_problem(ada.cancel(waiting), 404, "not-found", stage)

    # With it, it is cancelled
    assert_cancelled(ada.cancel(waiting, owner=ann.sub), waiting)
    assert ann.status(waiting).json()["status"] == "CANCELLED"


@pytest.mark.parametrize("token", ["", "not-a-token", "Bearer a.b.c"])
def test_without_a_token_nothing_is_cancelled(stage: RunningStage, ann: Person, waiting: str, token: str) -> None:
    headers = {"Authorization": token} if token else {}
    answer = ann.http.post(f"{ann.api_url}/cancel-job/{waiting}", headers=headers)
    assert_problem(answer, 401, "unauthorized", stage)
    assert ann.status(waiting).json()["status"] == "SUBMITTED"


def test_other_methods_are_none(stage: RunningStage, ann: Person, waiting: str) -> None:
    answer = ann.get(f"{ann.api_url}/cancel-job/{waiting}")
    assert_problem(answer, 404, "not-found", stage)
    assert ann.status(waiting).json()["status"] == "SUBMITTED"


def test_nothing_cancelled_is_set_aside(stage: RunningStage) -> None:
    # After all that, there is nothing for an operator to look at
    for queue in (stage.description.queues.request, stage.description.queues.work):
        assert [job_of(letter) for letter in letters(stage, queue.dlqUrl)] == []


def without_request_id(answer: httpx.Response) -> dict[str, object]:
    return {name: value for name, value in answer.json().items() if name != "requestId"}
