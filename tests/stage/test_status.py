"""GET /job-status/{job-id}: who may see a job, what they see, and what its download URL is good for."""

from __future__ import annotations

import csv
import io
import itertools
import json
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from stage.answers import assert_problem
from stage.running import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stage.running import Person, RunningStage

pytestmark = pytest.mark.xdist_group("stage")


@pytest.fixture(scope="module")
def completed(ann: Person) -> str:
    """The id of a completed job of ann's."""
    job_id = ann.accepted({"parameters": {"station": "Reykjavik", "records": 24, "format": "csv"}})
    assert ann.ended(job_id)["status"] == "COMPLETED"
    return job_id


# A job that the processor has not seen


@pytest.fixture
def paused(stage: RunningStage) -> Iterator[None]:
    with stage.paused():
        yield


@pytest.fixture
def waiting(paused: None, ann: Person) -> str:  # noqa: ARG001 - the order is the point
    """The id of a job that is in the request queue only."""
    return ann.accepted({})


def test_a_job_is_submitted_before_it_is_recorded(stage: RunningStage, ann: Person, waiting: str) -> None:
    # Given a job that no function has seen
    assert stage.row(ann.sub, waiting) is None

    # When its owner asks
    answer = ann.status(waiting)

    # Then it is SUBMITTED, and to be asked about again
    assert (answer.status_code, answer.json()["status"]) == (200, "SUBMITTED")
    assert answer.json()["jobId"] == waiting
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.headers["Cache-Control"] == "no-store"


def test_it_completes_once_the_processor_sees_it(stage: RunningStage, ann: Person) -> None:
    # Given a job that waited, and said since when
    with stage.paused():
        job_id = ann.accepted({})
        waiting = ann.status(job_id).json()

    # When the processor runs again
    final = ann.ended(job_id)

    # Then the job completes, and its submission stays where it was
    assert final["status"] == "COMPLETED"
    assert final["submittedAt"] == waiting["submittedAt"]


def without_request_id(answer: httpx.Response) -> dict[str, Any]:
    return {name: value for name, value in answer.json().items() if name != "requestId"}


def assert_like_an_unknown_job(stage: RunningStage, person: Person, job_id: str, **query: str) -> None:
    seen, unknown = person.status(job_id, **query), person.status("no-such-job-0123456789")
    assert_problem(seen, 404, "not-found", stage)
    assert without_request_id(seen) == without_request_id(unknown)
    assert seen.headers.keys() == unknown.headers.keys()


def test_a_strangers_waiting_job_is_like_an_unknown_one(stage: RunningStage, ben: Person, waiting: str) -> None:
    assert_like_an_unknown_job(stage, ben, waiting)


def test_a_strangers_job_is_like_an_unknown_one(stage: RunningStage, ben: Person, completed: str) -> None:
    assert_like_an_unknown_job(stage, ben, completed)


def test_naming_its_owner_helps_no_stranger(stage: RunningStage, ann: Person, ben: Person, completed: str) -> None:
    assert_like_an_unknown_job(stage, ben, completed, owner=ann.sub)


def test_naming_its_owner_helps_no_stranger_with_a_waiting_job(
    stage: RunningStage, ann: Person, ben: Person, waiting: str
) -> None:
    assert_like_an_unknown_job(stage, ben, waiting, owner=ann.sub)


def test_an_admin_sees_another_owners_job(ann: Person, ada: Person, completed: str) -> None:
    # When the admin names its owner
    answer = ada.status(completed, owner=ann.sub)

    # Then the job is shown as to its owner, and its result may be downloaded
    assert answer.status_code == 200
    seen, own = answer.json(), ann.status(completed).json()
    assert httpx.get(seen.pop("result")["url"]).content == httpx.get(own.pop("result")["url"]).content
    assert seen == own


def test_an_admin_sees_another_owners_waiting_job(ann: Person, ada: Person, waiting: str) -> None:
    answer = ada.status(waiting, owner=ann.sub)
    assert (answer.status_code, answer.json()["status"]) == (200, "SUBMITTED")


def test_an_admin_must_name_the_owner(stage: RunningStage, ada: Person, completed: str) -> None:
    assert_problem(ada.status(completed), 404, "not-found", stage)


# Results


def test_the_members_are_those_of_the_contract(ann: Person, completed: str) -> None:
    seen = ann.status(completed)
    assert "Retry-After" not in seen.headers
    assert seen.json().keys() == {*("jobId", "jobType", "status", "submittedAt", "startedAt", "endedAt", "result")}
    assert seen.json()["result"].keys() == {"url", "expiresAt", "contentType", "bytes"}


def test_the_url_needs_no_credentials(ann: Person, completed: str) -> None:
    # Given what the status says of the result
    result = ann.status(completed).json()["result"]

    # When anyone who has the URL gets it
    download = httpx.get(result["url"])

    # Then it is as was said
    assert download.status_code == 200
    assert download.headers["Content-Type"] == result["contentType"]
    assert len(download.content) == result["bytes"]


def test_a_browser_saves_it_under_the_jobs_name(ann: Person, completed: str) -> None:
    download = httpx.get(ann.status(completed).json()["result"]["url"])
    assert download.headers["Content-Disposition"] == f'attachment; filename="{completed}.csv"'


def test_the_url_lives_for_15_minutes(ann: Person, completed: str) -> None:
    # When the URL is made
    before = int(time.time())
    result = ann.status(completed).json()["result"]

    # Then it expires 15 minutes later, and the status says when
    assert query(result["url"])["X-Amz-Expires"] == "900"
    assert before <= datetime.fromisoformat(result["expiresAt"]).timestamp() - 900 <= time.time()


def query(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def changed(name: str, change: Callable[[str], str]) -> Callable[[str], httpx.URL]:
    return lambda url: httpx.URL(url).copy_set_param(name, change(query(url)[name]))


def of_another_job(url: str) -> httpx.URL:
    whole = httpx.URL(url)
    folder, name = whole.path.rsplit("/", 1)
    return whole.copy_with(path=f"{folder}0/{name}")


TAMPERED: dict[str, Callable[[str], httpx.URL]] = {
    "longer-life": changed("X-Amz-Expires", lambda _: "604800"),
    "later-date": changed("X-Amz-Date", lambda date: f"{date[:-2]}{'1' if date[-2] != '1' else '2'}Z"),
    "signature": changed("X-Amz-Signature", lambda signed: signed[:-1] + ("0" if signed[-1] != "0" else "1")),
    "credential": changed("X-Amz-Credential", lambda credential: f"A{credential}"),
    "key": of_another_job,
    "unsigned": lambda url: httpx.URL(url).copy_with(query=None),
}


@pytest.mark.parametrize("tamper", [pytest.param(tamper, id=name) for name, tamper in TAMPERED.items()])
def test_a_changed_url_is_a_403(ann: Person, completed: str, tamper: Callable[[str], httpx.URL]) -> None:
    # Given a URL that works
    url = ann.status(completed).json()["result"]["url"]
    assert httpx.get(url).status_code == 200

    # When it is changed, then it works no more
    assert httpx.get(tamper(url)).status_code == 403


def test_a_changed_session_token_is_refused(ann: Person, completed: str) -> None:
    # S3 has a 400 for this one: InvalidToken (Amazon S3 API Reference, "Error responses").
    tamper = changed("X-Amz-Security-Token", lambda token: f"{token}A")
    answer = httpx.get(tamper(ann.status(completed).json()["result"]["url"]))
    assert answer.status_code == 400
    assert "InvalidToken" in answer.text


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_the_url_is_for_reading_only(ann: Person, completed: str, method: str) -> None:
    url = ann.status(completed).json()["result"]["url"]
    assert httpx.request(method, url).status_code == 403
    assert httpx.get(url).status_code == 200


def test_an_expired_url_is_a_403(stage: RunningStage, ann: Person, completed: str) -> None:
    # Given a URL of the same object that lives for two seconds
    (key,) = stage.objects(f"results/{ann.sub}/{completed}/")
    place = {"Bucket": stage.description.resultBucket, "Key": key}
    s3 = stage.local.client("s3", signature_version="s3v4")
    url = s3.generate_presigned_url("get_object", Params=place, ExpiresIn=2)
    s3.close()
    assert httpx.get(url).status_code == 200

    # Then it stops working
    until(lambda: httpx.get(url).status_code == 403, "the URL has expired", 10)


def of_json(text: str) -> list[str]:
    return [row["time_utc"] for row in json.loads(text)["observations"]]


def of_csv(text: str) -> list[str]:
    return [row["time_utc"] for row in csv.DictReader(io.StringIO(text, newline=""))]


def of_ndjson(text: str) -> list[str]:
    return [json.loads(line)["time_utc"] for line in text.splitlines()]


@pytest.mark.parametrize(
    ("chosen", "content_type", "times"),
    [
        ("json", "application/json", of_json),
        ("csv", "text/csv; charset=utf-8", of_csv),
        ("ndjson", "application/x-ndjson", of_ndjson),
    ],
)
def test_every_format_can_be_read(
    ann: Person, chosen: str, content_type: str, times: Callable[[str], list[str]]
) -> None:
    # Given a job for a format
    job_id = ann.accepted(
        {"parameters": {"station": 'Z\xfcrich, "HB"', "records": 24, "format": chosen, "seed": 7}}
    )

    # When its result is downloaded
    result = ann.ended(job_id)["result"]
    text = httpx.get(result["url"]).content.decode()

    # Then it is 24 hours one after another, in that format
    assert result["contentType"] == content_type
    hours = [datetime.fromisoformat(moment) for moment in times(text)]
    assert len(hours) == 24
    assert {(later - earlier).total_seconds() for earlier, later in itertools.pairwise(hours)} == {3600.0}


# Failures


def test_an_unknown_parameter_fails_the_job(ann: Person) -> None:
    # Given a submission that the gateway's schema lets pass
    job_id = ann.accepted({"parameters": {"colour": "red"}})

    # When its job has ended
    final = ann.ended(job_id)

    # Then it has failed, and says why in words its client can act on
    assert final["status"] == "FAILED"
    assert final["error"].keys() == {"code", "message"}
    assert final["error"]["code"] == "INVALID_PARAMETERS"
    assert "'colour'" in final["error"]["message"]
    assert "result" not in final


def test_a_failed_job_is_not_tried_again(stage: RunningStage, ann: Person) -> None:
    # Given a job that has failed for good
    job_id = ann.accepted({"parameters": {"colour": "blue"}})
    ann.ended(job_id)

    # Then it was tried once, and nothing of it is left in a queue or a dead-letter queue
    stage.drained()
    row = stage.row(ann.sub, job_id)
    assert row
    assert row["attempts"] == {"N": "1"}
    assert stage.objects(f"results/{ann.sub}/{job_id}/") == []
