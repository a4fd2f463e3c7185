"""POST /submit-job, as a client of the deployed stage sees it."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import httpx
import pytest
from sluice_core.callers import owner_tag

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stage.running import Person, RunningStage

pytestmark = pytest.mark.xdist_group("stage")

TRACE = "Root=1-67891233-abcdef012345678912345678;Parent=53995c3f42cd8ad8;Sampled=1"


def test_a_submission_is_accepted_at_once(ann: Person) -> None:
    # When a job is submitted
    answer = ann.submit({"jobType": "weather-report", "parameters": {"records": 3}})

    # Then it is accepted, and the answer says where and when to ask about it
    assert answer.status_code == 202
    assert answer.headers["Content-Type"] == "application/json"
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json().keys() == {"jobId", "status", "statusUrl"}
    assert answer.json()["status"] == "SUBMITTED"
    assert answer.headers["Location"].endswith(f"/job-status/{answer.json()['jobId']}")


def test_the_job_completes(ann: Person) -> None:
    # Given an accepted job
    job_id = ann.accepted({"parameters": {"records": 3}})

    # When it is followed to its end
    final = ann.ended(job_id)

    # Then it is completed, and its times are in order
    assert (final["jobId"], final["status"]) == (job_id, "COMPLETED")
    assert final["submittedAt"] <= final["startedAt"] <= final["endedAt"]


def test_the_status_url_works_with_the_token(ann: Person) -> None:
    # Given an accepted job
    accepted = ann.submit({}).json()

    # Then its status URL is absolute and answers for this job
    assert httpx.URL(accepted["statusUrl"]).is_absolute_url
    answer = ann.get(accepted["statusUrl"])
    assert (answer.status_code, answer.json()["jobId"]) == (200, accepted["jobId"])


def test_the_location_resolves_against_the_request(ann: Person) -> None:
    # Given an accepted job
    accepted = ann.submit({})

    # Then its Location, resolved as RFC 9110 says, is the status URL
    location = urljoin(str(accepted.request.url), accepted.headers["Location"])
    assert location == accepted.json()["statusUrl"]


@pytest.mark.parametrize("body", [b"{}", b'{"parameters": {}}', b""])
def test_a_job_without_settings_uses_the_defaults(ann: Person, body: bytes) -> None:
    # Given a submission that says nothing; API Gateway reads no body at all as an empty object
    accepted = ann.post(body)

    # When its job has ended
    final = ann.ended(accepted.json()["jobId"])

    # Then it is a weather report of 100 records in JSON
    assert (final["status"], final["jobType"]) == ("COMPLETED", "weather-report")
    assert final["result"]["contentType"] == "application/json"
    assert len(httpx.get(final["result"]["url"]).json()["observations"]) == 100


@pytest.mark.parametrize("prefix", ["", "Bearer ", "bearer "])
def test_a_token_may_stand_bare_or_after_bearer(ann: Person, prefix: str) -> None:
    assert ann.post(b"{}", token=prefix + ann.id_token).status_code == 202


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8"])
def test_json_may_name_its_charset(ann: Person, content_type: str) -> None:
    assert ann.post(b"{}", content_type=content_type).status_code == 202


def test_the_id_is_time_request_and_owner(ann: Person) -> None:
    # When a job is submitted without a token
    answer = ann.submit({})

    # Then its id says when, in which request, and for whom
    found = re.fullmatch(r"(\d{13})-([0-9a-f-]{36})-([0-9a-f]{8})", answer.json()["jobId"])
    assert found
    assert found[2] == answer.headers["x-amzn-RequestId"]
    assert found[3] == owner_tag(ann.sub)


def test_ids_sort_by_time(ann: Person) -> None:
    ids = [ann.accepted({}) for _ in range(3)]
    assert ids == sorted(ids)


@pytest.fixture
def quick_redelivery(stage: RunningStage) -> Iterator[None]:
    """A second message of a job that is running waits for its visibility; here that is short."""
    with stage.quick_redelivery():
        yield


def assert_ran_once(stage: RunningStage, owner: Person, job_id: str) -> None:
    stage.recorded(owner.sub, job_id)
    assert owner.ended(job_id)["status"] == "COMPLETED"
    stage.drained()
    row = stage.row(owner.sub, job_id)
    assert row
    assert row["attempts"] == {"N": "1"}
    assert len(stage.objects(f"results/{owner.sub}/{job_id}/")) == 1


@pytest.mark.usefixtures("quick_redelivery")
def test_a_repeated_client_token_is_one_job(stage: RunningStage, ann: Person) -> None:
    # Given a submission with a client token
    body = {"clientToken": "once-one-after-another", "parameters": {"records": 3}}

    # When it is sent before, and again after, its job has ended
    ids = [ann.accepted(body), ann.accepted(body)]
    stage.recorded(ann.sub, ids[0])
    ann.ended(ids[0])
    ids.append(ann.accepted(body))

    # Then the token is the job's id each time, and the job ran once
    assert ids == ["once-one-after-another"] * 3
    assert_ran_once(stage, ann, ids[0])


@pytest.mark.usefixtures("quick_redelivery")
def test_a_client_token_sent_concurrently_is_one_job(stage: RunningStage, ann: Person) -> None:
    # Given eight clients that send the same submission at the same time
    body = {"clientToken": "once-all-at-the-same-time", "parameters": {"records": 3}}
    start = threading.Barrier(8)

    def send(_: int) -> str:
        start.wait(30)
        return ann.accepted(body)

    # When all have their answers
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(send, range(8)))

    # Then it is one job, and it ran once
    assert ids == {"once-all-at-the-same-time"}
    assert_ran_once(stage, ann, "once-all-at-the-same-time")


@pytest.mark.usefixtures("quick_redelivery")
def test_a_client_token_with_other_parameters_never_runs_twice(stage: RunningStage, ann: Person) -> None:
    # Given a job that has ended
    job_id = ann.accepted({"clientToken": "once-other-parameters", "parameters": {"records": 3}})
    stage.recorded(ann.sub, job_id)
    first = ann.ended(job_id)

    # When its token comes again with other parameters
    ann.accepted({"clientToken": job_id, "parameters": {"records": 4}})

    # Then the job stays as it is, its result too
    assert_ran_once(stage, ann, job_id)
    assert ann.ended(job_id)["result"]["bytes"] == first["result"]["bytes"]


@pytest.mark.usefixtures("quick_redelivery")
def test_a_client_token_is_its_owners(stage: RunningStage, ann: Person, ben: Person) -> None:
    # When two users choose the same token
    token = "chosen-by-two-users"
    jobs = [
        person.accepted({"clientToken": token, "parameters": {"records": n}}) for person, n in ((ann, 1), (ben, 9))
    ]

    # Then each has a job of their own
    assert jobs == [token, token]
    assert_ran_once(stage, ann, token)
    assert_ran_once(stage, ben, token)
    assert ann.ended(token)["result"]["bytes"] < ben.ended(token)["result"]["bytes"]


def test_the_trace_header_arrives_on_the_message(stage: RunningStage, ann: Person) -> None:
    # Given a client that takes part in a trace
    with stage.paused():
        stage.drained()
        assert ann.post(b"{}", **{"X-Amzn-Trace-Id": TRACE}).status_code == 202
        message = stage.take_request()

    # Then the message carries it on
    assert "Root=1-67891233-abcdef012345678912345678" in message["Attributes"]["AWSTraceHeader"]


def test_a_trace_begins_at_the_gateway(stage: RunningStage, ann: Person) -> None:
    # Given a client that knows nothing of traces
    with stage.paused():
        stage.drained()
        ann.accepted({})
        message = stage.take_request()

    # Then the gateway begins one
    assert re.match(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24}", message["Attributes"]["AWSTraceHeader"])
