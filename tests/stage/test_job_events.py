"""Job events: each end state reaches whoever asked the event bus for it, and no event tells what is in a job."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import fastjsonschema
import pytest
from sluice_core.events import DETAIL_SCHEMA
from stage.consumer import EventConsumer
from stage.messages import discard, set_aside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stage.running import Person, RunningStage

pytestmark = pytest.mark.xdist_group("stage")

PLACE = "A-payload-that-is-nobodys-business"
ENDS = ["COMPLETED", "FAILED", "CANCELLED running", "CANCELLED queued", "CANCELLED unrecorded", "FAILED swept"]


@pytest.fixture(scope="module")
def consumer(stage: RunningStage) -> Iterator[EventConsumer]:
    """Who wants to know of every end."""
    with EventConsumer(stage, "sluice-test-all") as everything:
        yield everything


@pytest.fixture(scope="module")
def failures(stage: RunningStage) -> Iterator[EventConsumer]:
    """Who wants to know of failures only."""
    with EventConsumer(stage, "sluice-test-failures", status=["FAILED"]) as failed:
        yield failed


@pytest.fixture(scope="module")
def owner(stage: RunningStage) -> Person:
    return stage.newcomer("eventful")


@pytest.fixture(scope="module")
def jobs(
    stage: RunningStage, consumer: EventConsumer, failures: EventConsumer, owner: Person
) -> dict[str, dict[str, Any]]:
    """One job for each way to end, as its owner sees it; the consumers are there before them."""
    assert consumer.received == failures.received == []
    queues = stage.description.queues
    made = {"COMPLETED": owner.accepted({"parameters": {"station": PLACE, "records": 2}})}
    made["FAILED"] = owner.accepted({"parameters": {"station": PLACE, PLACE: PLACE}})
    assert owner.ended(made["COMPLETED"])["status"] == "COMPLETED"
    assert owner.ended(made["FAILED"])["status"] == "FAILED"
    made["CANCELLED running"] = owner.accepted({"parameters": {"station": PLACE, "workSeconds": 8}})
    owner.reached(made["CANCELLED running"], "RUNNING")
    cancel(owner, made["CANCELLED running"])
    with stage.paused():
        made["CANCELLED unrecorded"] = owner.accepted({"parameters": {"station": PLACE}})
        cancel(owner, made["CANCELLED unrecorded"])
    stage.drained()
    with stage.unworked():
        made["CANCELLED queued"] = owner.accepted({"parameters": {"station": PLACE}})
        stage.recorded(owner.sub, made["CANCELLED queued"])
        cancel(owner, made["CANCELLED queued"])
    stage.drained()
    with stage.unworked():
        # A message that no worker will see again, as if all had died of it
        made["FAILED swept"] = owner.accepted({"parameters": {"station": PLACE}})
        stage.recorded(owner.sub, made["FAILED swept"])
        set_aside(stage, queues.work.url, queues.work.dlqUrl)
    stage.sweep()
    discard(stage, queues.work.dlqUrl, made["FAILED swept"])
    return {how: owner.ended(job_id) for how, job_id in made.items()}


def cancel(owner: Person, job_id: str) -> None:
    assert owner.cancel(job_id).status_code == 200


def event_of(consumer: EventConsumer, job: dict[str, Any]) -> dict[str, Any]:
    """Wait for a job's event."""
    return consumer.wait_for(lambda detail: bool(detail["jobId"] == job["jobId"]), f"the end of {job['jobId']}")


@pytest.mark.parametrize("how", ENDS)
def test_each_end_is_published(
    consumer: EventConsumer, owner: Person, jobs: dict[str, dict[str, Any]], how: str
) -> None:
    # Given a job that has ended
    job = jobs[how]
    assert job["status"] == how.split(" ", maxsplit=1)[0]

    # When its event has come
    event = event_of(consumer, job)

    # Then it says what it is, in its documented form
    assert (event["source"], event["detail-type"]) == ("Sluice", "Job Ended")
    detail = event["detail"]
    fastjsonschema.compile(dict(DETAIL_SCHEMA))(detail)

    # And what its owner sees: when it began and ended, and how
    assert (detail["stage"], detail["owner"], detail["status"]) == ("local", owner.sub, job["status"])
    assert detail["jobType"] == job.get("jobType", "")
    for name in ("submittedAt", "startedAt", "endedAt"):
        assert (name in detail) == (name in job)
        if name in job:
            assert detail[name] == round(datetime.fromisoformat(job[name]).timestamp() * 1000)
    assert detail.get("errorCode") == job.get("error", {}).get("code")
    assert detail.get("resultBytes") == job.get("result", {}).get("bytes")
    assert detail.get("contentType") == job.get("result", {}).get("contentType")


def test_it_says_how_often_the_work_was_begun(consumer: EventConsumer, jobs: dict[str, dict[str, Any]]) -> None:
    begun = {how: event_of(consumer, job)["detail"]["attempts"] for how, job in jobs.items()}
    assert begun == {how: int(how in {"COMPLETED", "FAILED", "CANCELLED running"}) for how in ENDS}


def test_the_reason_is_a_code(consumer: EventConsumer, jobs: dict[str, dict[str, Any]]) -> None:
    assert event_of(consumer, jobs["FAILED"])["detail"]["errorCode"] == "INVALID_PARAMETERS"
    assert event_of(consumer, jobs["FAILED swept"])["detail"]["errorCode"] == "WORKER_LOST"


def test_no_event_holds_a_payload(consumer: EventConsumer, jobs: dict[str, dict[str, Any]]) -> None:
    # Given the events of jobs whose parameters all hold a text
    events = [event_of(consumer, job) for job in jobs.values()]

    # Then it is in none of them, although one error's message quotes it
    assert PLACE in jobs["FAILED"]["error"]["message"]
    assert PLACE not in str(events)


def test_a_filter_by_status_works(
    consumer: EventConsumer, failures: EventConsumer, jobs: dict[str, dict[str, Any]]
) -> None:
    # Given that all ends have been published, the failures among them to who wants only those
    for job in jobs.values():
        event_of(consumer, job)
        if job["status"] == "FAILED":
            event_of(failures, job)

    # Then nothing else has come there
    assert {event["detail"]["status"] for event in failures.receive()} == {"FAILED"}


def test_what_changes_of_an_ended_job_is_no_end(stage: RunningStage, consumer: EventConsumer, ann: Person) -> None:
    # Given a job that has ended, whose event has come
    token = "an-event-and-a-conflict"
    ann.accepted({"clientToken": token, "parameters": {"records": 1}})
    stage.recorded(ann.sub, token)
    event_of(consumer, ann.ended(token))

    # When a conflict is noted at it, and then another job ends
    ann.accepted({"clientToken": token, "parameters": {"records": 2}})
    stage.drained()
    assert ann.status(token).json()["conflicts"]
    last = ann.accepted({"parameters": {"records": 1}})
    event_of(consumer, ann.ended(last))

    # Then only the other has an event, for those of one table's stream come in order
    events = [event["detail"]["jobId"] for event in consumer.received]
    assert events.count(token) == 1
