"""GET /job-status: an owner's jobs, newest first, in pages, whatever else is submitted meanwhile."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from sluice_harness.bench.posting import post_many
from stage.answers import assert_problem
from stage.running import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stage.running import Person, RunningStage

pytestmark = pytest.mark.xdist_group("stage")

COUNT = 1_000
BODY = b'{"parameters": {"records": 1}}'
RECORDED_S = 120.0


def pages(person: Person, **query: str) -> Iterator[list[dict[str, Any]]]:
    """Page through a list to its end."""
    while True:
        answer = person.list(**query)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        yield page["jobs"]
        if "nextCursor" not in page:
            return
        query["cursor"] = page["nextCursor"]


def all_of(person: Person, **query: str) -> list[dict[str, Any]]:
    return [job for page in pages(person, **query) for job in page]


def ids(jobs: list[dict[str, Any]]) -> list[str]:
    return [job["jobId"] for job in jobs]


def recorded_count(stage: RunningStage, person: Person) -> int:
    return sum(row["jobKey"]["S"].startswith(f"{person.sub}#") for row in stage.rows())


@dataclass(frozen=True)
class Lister:
    """A user with a FAILED job, a CANCELLED one and then 1,000 that complete."""

    person: Person
    failed: str
    cancelled: str
    job_ids: list[str]


@pytest.fixture(scope="module")
def lister(stage: RunningStage) -> Lister:
    person = stage.newcomer("lister")
    failed = person.accepted({"parameters": {"colour": "red"}})
    person.ended(failed)
    with stage.unworked():
        cancelled = person.accepted({})
        assert person.cancel(cancelled).status_code == 200
    job_ids = post_many(person.api_url, person.id_token, BODY, COUNT).job_ids
    requests = stage.description.queues.request.url
    until(lambda: stage.depth(requests) == 0, "all jobs are recorded", RECORDED_S)
    assert recorded_count(stage, person) == COUNT + 2
    return Lister(person, failed, cancelled, job_ids)


# Pages


def test_each_of_1000_jobs_is_listed_once_while_others_are_submitted(
    stage: RunningStage, lister: Lister, ben: Person
) -> None:
    # Given 1,000 jobs of one owner, who goes on submitting, as another does
    person, over = lister.person, threading.Event()
    submitted: list[str] = []

    def go_on() -> None:
        while not over.is_set():
            for one in (person, ben):
                submitted.extend(post_many(one.api_url, one.id_token, BODY, 2).job_ids)
            over.wait(0.05)  # so that the machine has time for the list, too

    others = threading.Thread(target=go_on)
    others.start()
    try:
        # When the list is paged through from its beginning, at a time when some of those are in it
        until(lambda: recorded_count(stage, person) > COUNT + 2, "another job is recorded")
        listed = list(pages(person, limit="37"))
    finally:
        over.set()
        others.join()

    # Then each page but the last is full, and each of the 1,000 is on one of them, newest first
    jobs = [job for page in listed for job in page]
    assert {len(page) for page in listed[:-1]} == {37}
    assert len(set(ids(jobs))) == len(jobs)
    older = set(lister.job_ids)
    assert sorted(job_id for job_id in ids(jobs) if job_id in older) == sorted(older)
    times = [job["submittedAt"] for job in jobs]
    assert times == sorted(times, reverse=True)

    # And all the others are jobs of the same owner
    assert set(ids(jobs)) <= older | set(submitted) | {lister.failed, lister.cancelled}
    assert all(stage.row(person.sub, job_id) for job_id in set(ids(jobs)) - older)


def test_a_listed_job_is_as_its_status_says(stage: RunningStage, lister: Lister) -> None:
    stage.drained(RECORDED_S)
    # Given the list with the oldest two jobs at its end, the one cancelled and the other failed
    listed = all_of(lister.person, limit="100")
    *_, cancelled, failed = listed

    # Then it shows them as their statuses do; a completed one without its URL, which is made on demand
    assert failed == lister.person.status(lister.failed).json()
    assert cancelled == lister.person.status(lister.cancelled).json()
    completed = lister.person.ended(lister.job_ids[0])
    (shown,) = [job for job in listed if job["jobId"] == lister.job_ids[0]]
    del completed["result"]["url"], completed["result"]["expiresAt"]
    assert shown == completed


def test_the_default_is_20_jobs(lister: Lister) -> None:
    answer = lister.person.list()
    assert len(answer.json()["jobs"]) == 20
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json().keys() == {"jobs", "nextCursor"}


@pytest.mark.parametrize("limit", ["100", "101", "99999", "9" * 400])
def test_a_limit_above_the_maximum_is_the_maximum(lister: Lister, limit: str) -> None:
    assert len(lister.person.list(limit=limit).json()["jobs"]) == 100


@pytest.mark.parametrize("limit", ["1", "007"])
def test_a_small_limit_holds(lister: Lister, limit: str) -> None:
    assert len(lister.person.list(limit=limit).json()["jobs"]) == int(limit)


@pytest.mark.parametrize("limit", ["0", "-1", "abc", "", "1.5", "+5", " 5", "1e2", "000", "٣", "²"])
def test_a_limit_that_is_none_is_a_400(stage: RunningStage, lister: Lister, limit: str) -> None:
    assert_problem(lister.person.list(limit=limit), 400, "invalid-query", stage)


@pytest.mark.parametrize("status", ["", "DONE", "completed", "COMPLETED,FAILED", "SUBMITTED "])
def test_a_status_that_is_none_is_a_400(stage: RunningStage, lister: Lister, status: str) -> None:
    assert_problem(lister.person.list(status=status), 400, "invalid-query", stage)


# Filters


def test_the_filter_finds_what_there_is(stage: RunningStage, lister: Lister) -> None:
    # Given jobs that have all ended
    stage.drained(RECORDED_S)

    # When they are listed by status, then each list has those of its status
    found = {one: all_of(lister.person, status=one, limit="100") for one in ("COMPLETED", "FAILED", "CANCELLED")}
    assert {status: {job["status"] for job in jobs} for status, jobs in found.items()} == {
        status: {status} for status in found
    }
    assert ids(found["FAILED"]) == [lister.failed]
    assert ids(found["CANCELLED"]) == [lister.cancelled]
    assert set(lister.job_ids) <= set(ids(found["COMPLETED"]))
    assert sum(map(len, found.values())) == recorded_count(stage, lister.person)
    for status in ("SUBMITTED", "RUNNING"):
        assert all_of(lister.person, status=status, limit="100") == []


def test_a_rare_status_costs_no_request_its_time(lister: Lister) -> None:
    # When the one failed job is looked for behind 1,000 others, a single job at a time
    found = list(pages(lister.person, status="FAILED", limit="1"))

    # Then a page may be empty and not the last, for a request looks at so many jobs and no more
    assert len(found) > 1
    assert found[0] == []
    assert [ids(page) for page in found if page] == [[lister.failed]]


def test_an_owner_without_jobs_has_an_empty_list(stage: RunningStage) -> None:
    assert stage.newcomer("jobless").list().json() == {"jobs": []}


# Whose jobs


def test_an_admin_names_an_owner(stage: RunningStage, ada: Person, lister: Lister) -> None:
    # Given jobs that have all ended, so that their list stands still
    stage.drained(RECORDED_S)

    # When the admin names their owner, then the list is the owner's, page by page
    theirs = list(pages(ada, owner=lister.person.sub, limit="100"))
    assert theirs == list(pages(lister.person, limit="100"))

    # And without a name it is the admin's own
    assert not set(ids(all_of(ada))) & set(lister.job_ids)


@pytest.mark.parametrize("owner", ["", "no one", "a#1", "x" * 129, "../ann"])
def test_an_owner_that_is_none_is_a_404(stage: RunningStage, ada: Person, owner: str) -> None:
    assert_problem(ada.list(owner=owner), 404, "not-found", stage)


def test_an_unknown_owner_has_an_empty_list(ada: Person) -> None:
    assert ada.list(owner="nobody").json() == {"jobs": []}


def test_whoever_is_no_admin_names_an_owner_in_vain(stage: RunningStage, ben: Person, lister: Lister) -> None:
    # Given a job of the other's own
    stage.drained(RECORDED_S)
    own = ben.accepted({})
    ben.ended(own)

    # When they name another owner, then the list is their own
    seen = all_of(ben, owner=lister.person.sub, limit="100")
    assert own in ids(seen)
    assert seen == all_of(ben, limit="100")
    assert not set(ids(seen)) & set(lister.job_ids)


@pytest.mark.parametrize("token", ["", "not-a-token"])
def test_without_a_token_nothing_is_listed(stage: RunningStage, ann: Person, token: str) -> None:
    answer = ann.http.get(f"{ann.api_url}/job-status", headers={"Authorization": token} if token else {})
    assert_problem(answer, 401, "unauthorized", stage)
