"""The API's contract, as any client of any stage can rely on it: HTTP only, however the stage was deployed.

Every answer is held against `docs/openapi.yaml` besides; see conftest.py.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from stage.answers import assert_problem
from stage.running import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deployed.conftest import Site
    from stage.running import Person

pytestmark = pytest.mark.xdist_group("stage")

CALLS = [
    ("POST", "/submit-job"),
    ("GET", "/job-status"),
    ("GET", "/job-status/no-such-job-0123456789"),
    ("POST", "/cancel-job/no-such-job-0123456789"),
]
REPORT = {"station": "Reykjavik", "records": 24, "format": "csv", "seed": 7}
# The first job of a new stage meets cold starts, and new roles and names take their time to be known everywhere.
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def completed(ann: Person) -> dict[str, Any]:
    """A completed job of ann's."""
    final = ann.ended(ann.accepted({"parameters": REPORT}), PATIENCE_S)
    assert final["status"] == "COMPLETED", final
    return final


@pytest.fixture
def sleeper(ann: Person) -> Iterator[str]:
    """The id of a job of ann's that is open until the test is over."""
    job_id = ann.accepted({"parameters": {"workSeconds": 45}})
    yield job_id
    ann.cancel(job_id)


def without_request_id(answer: httpx.Response) -> dict[str, Any]:
    return {name: value for name, value in answer.json().items() if name != "requestId"}


# The way of a job


def test_a_submission_is_accepted_and_its_status_is_found(ann: Person) -> None:
    # When a job is submitted
    answer = ann.submit({"parameters": {"records": 1}})

    # Then it is accepted, and the answer says where to ask about it and when
    assert answer.status_code == 202, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    accepted = answer.json()
    assert accepted.keys() == {"jobId", "status", "statusUrl"}
    assert accepted["status"] == "SUBMITTED"
    assert accepted["statusUrl"] == f"{ann.api_url}/job-status/{accepted['jobId']}"
    assert accepted["statusUrl"].endswith(answer.headers["Location"])
    assert int(answer.headers["Retry-After"]) >= 1

    # And there it is found at once
    found = ann.get(accepted["statusUrl"])
    assert found.status_code == 200, found.text
    assert found.json()["jobId"] == accepted["jobId"]
    assert found.json()["status"] in {"SUBMITTED", "RUNNING", "COMPLETED"}
    assert found.headers["Cache-Control"] == "no-store"


def test_the_result_is_downloaded_without_a_token_and_is_right(completed: dict[str, Any]) -> None:
    # Given a completed job
    result = completed["result"]
    assert result.keys() == {"url", "expiresAt", "contentType", "bytes"}
    assert completed["submittedAt"] <= completed["startedAt"] <= completed["endedAt"] < result["expiresAt"]

    # When its result is fetched as its URL stands
    download = httpx.get(result["url"], timeout=30)

    # Then it is what was asked for
    assert download.status_code == 200, download.text
    assert download.headers["Content-Type"] == result["contentType"] == "text/csv; charset=utf-8"
    assert len(download.content) == result["bytes"]
    header, *rows = download.text.splitlines()
    assert header.startswith("station,time_utc,temperature_c,")
    assert len(rows) == REPORT["records"]
    assert all(row.startswith('"Reykjavik",') for row in rows)

    # And nobody gets it without the signature
    assert httpx.get(result["url"].partition("?")[0], timeout=30).status_code == 403


def test_a_client_token_repeated_runs_once(ann: Person) -> None:
    # Given a submission that is sent three times at once, for its client had no answer
    body = {"parameters": {**REPORT, "format": "ndjson"}, "clientToken": f"repeated-{ann.sub}"}
    with ThreadPoolExecutor(3) as pool:
        job_ids = set(pool.map(lambda _: ann.accepted(body), range(3)))

    # Then it is one job, under that token
    assert job_ids == {body["clientToken"]}
    (job_id,) = job_ids
    until(lambda: ann.status(job_id).status_code == 200, "the job is recorded", PATIENCE_S)
    final = ann.ended(job_id, PATIENCE_S)
    assert final["status"] == "COMPLETED"
    assert "conflicts" not in final
    assert [job["jobId"] for job in ann.list(limit="100").json()["jobs"]].count(job_id) == 1

    # When the token comes again with something else
    other = ann.submit({**body, "parameters": {"records": 1}})
    assert other.json()["jobId"] == job_id
    now = until(
        lambda: shown if "conflicts" in (shown := ann.status(job_id).json()) else None,
        "the job names the other submission",
        PATIENCE_S,
    )

    # Then that is not run either, and the job says so and stays as it was
    assert [one["requestId"] for one in now["conflicts"]] == [other.headers["x-amzn-RequestId"]]
    assert {name: now[name] for name in ("status", "startedAt", "endedAt")} == {
        name: final[name] for name in ("status", "startedAt", "endedAt")
    }
    assert now["result"]["bytes"] == final["result"]["bytes"]


def test_a_job_is_cancelled_once(site: Site, ann: Person, sleeper: str) -> None:
    # Given a job that waits or runs, when it is cancelled
    answer = ann.cancel(sleeper)

    # Then it has ended
    assert answer.status_code == 200, answer.text
    assert (answer.json()["jobId"], answer.json()["status"]) == (sleeper, "CANCELLED")
    now = ann.status(sleeper)
    assert now.json()["status"] == "CANCELLED"
    assert "Retry-After" not in now.headers

    # And cannot be cancelled again
    assert_problem(ann.cancel(sleeper), 409, "already-ended", site)


def test_a_completed_job_cannot_be_cancelled(site: Site, ann: Person, completed: dict[str, Any]) -> None:
    assert_problem(ann.cancel(completed["jobId"]), 409, "already-ended", site)


def test_a_job_that_cannot_succeed_fails_and_says_why(ann: Person) -> None:
    # Given a submission whose parameters its job type does not take, when it is followed to its end
    final = ann.ended(ann.accepted({"parameters": {"colour": "red"}}), PATIENCE_S)

    # Then it has failed, for a reason that a program and a person can read
    assert final["status"] == "FAILED"
    assert final["error"]["code"] == "INVALID_PARAMETERS"
    assert "colour" in final["error"]["message"]


def test_the_list_has_one_s_own_jobs_newest_first(ann: Person, completed: dict[str, Any]) -> None:
    # Given a job later than another
    later = ann.accepted({"parameters": {"records": 1}})
    ann.ended(later, PATIENCE_S)

    # When the jobs are listed page by page
    jobs: list[dict[str, Any]] = []
    query = {"limit": "2"}
    while True:
        page = ann.list(**query).json()
        assert len(page["jobs"]) <= 2
        jobs += page["jobs"]
        if "nextCursor" not in page:
            break
        query["cursor"] = page["nextCursor"]

    # Then each is there once, in that order, without a way to download it
    ids = [job["jobId"] for job in jobs]
    assert len(set(ids)) == len(ids)
    assert ids.index(later) < ids.index(completed["jobId"])
    assert jobs[ids.index(later)]["result"].keys() == {"contentType", "bytes"}


# Who may


@pytest.mark.parametrize(("method", "path"), CALLS)
@pytest.mark.parametrize("token", [None, "nonsense", "Bearer a.b.c"])
def test_without_a_token_every_call_is_refused(
    site: Site, ann: Person, method: str, path: str, token: str | None
) -> None:
    headers = {} if token is None else {"Authorization": token}
    answer = ann.http.request(
        method, f"{ann.api_url}{path}", headers=headers, json={} if method == "POST" else None
    )
    assert_problem(answer, 401, "unauthorized", site)
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_another_owner_s_job_is_like_an_unknown_one(
    site: Site, ann: Person, ben: Person, completed: dict[str, Any]
) -> None:
    # Given a job of ann's, and an id that nobody has
    theirs, unknown = completed["jobId"], "no-such-job-0123456789"

    # When ben asks for either, or wants it cancelled, by its id alone or with its owner's name
    for call in (ben.status, ben.cancel):
        for query in ({}, {"owner": ann.sub}):
            refused, missing = call(theirs, **query), call(unknown, **query)

            # Then the answers are the same
            assert_problem(refused, 404, "not-found", site)
            assert_problem(missing, 404, "not-found", site)
            assert without_request_id(refused) == without_request_id(missing)

    # And it is in nobody's list but ann's
    assert ben.list().json() == ben.list(owner=ann.sub).json() == {"jobs": []}


# What is refused


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"not JSON", id="not-json"),
        pytest.param(b"[]", id="array"),
        pytest.param(b'{"owner": "ben"}', id="unknown-member"),
        pytest.param(b'{"jobType": "no-such-type"}', id="unknown-type"),
        pytest.param(b'{"clientToken": "too-short"}', id="short-token"),
        pytest.param(b'{"clientToken": "sixteen-letters-\\n"}', id="token-with-line-break"),
        pytest.param(b'{"parameters": {"records": 0}}', id="out-of-range"),
    ],
)
def test_what_the_schema_refuses_is_a_400(site: Site, ann: Person, body: bytes) -> None:
    assert_problem(ann.post(body), 400, "invalid-body", site)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded"])
def test_another_content_type_is_a_415(site: Site, ann: Person, content_type: str) -> None:
    assert_problem(ann.post(b"{}", content_type=content_type), 415, "unsupported-media-type", site)


@pytest.mark.parametrize(("method", "path"), [("GET", "/nowhere"), ("PUT", "/submit-job"), ("GET", "/cancel-job")])
def test_an_unknown_path_or_method_is_a_404(site: Site, ann: Person, method: str, path: str) -> None:
    assert_problem(ann.http.request(method, f"{ann.api_url}{path}"), 404, "not-found", site)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ({"status": "DONE"}, "invalid-query"),
        ({"limit": "0"}, "invalid-query"),
        ({"cursor": "made-up"}, "invalid-cursor"),
    ],
)
def test_a_wrong_query_is_a_400(site: Site, ann: Person, query: dict[str, str], name: str) -> None:
    assert_problem(ann.list(**query), 400, name, site)
