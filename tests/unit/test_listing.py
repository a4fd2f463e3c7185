"""An owner's jobs in pages: `GET /job-status` over the real index."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from sluice_core import listing
from sluice_core.jobs import JobError
from sluice_core.listing import DEFAULT, MOST
from sluice_core.rows import LIST_SHARDS, new_row
from unit import lambda_events
from unit.conftest import RETENTION_S
from unit.lambda_events import ANN, BEN, job

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from sluice_core.jobs import Submission
    from sluice_core.ledger import JobLedger
    from unit.conftest import ClientMaker
    from unit.resources import Output
    from unit.wire_faults import Wire

NOW = 1_790_000_000_000
ADMINS = ("apiAdmins",)


def ask(
    job_status: ModuleType, *, owner: str = ANN, groups: tuple[str, ...] = (), **query: str
) -> tuple[int, Any]:
    status, document, headers = lambda_events.ask(
        job_status, None, owner=owner, groups=groups, query=query or None
    )
    kind = "application/json" if status == 200 else "application/problem+json"
    assert headers == {"Content-Type": kind, "Cache-Control": "no-store"}
    assert status != 200 or set(document) <= {"jobs", "nextCursor"}
    return status, document


def pages(job_status: ModuleType, **query: Any) -> Iterator[list[str]]:
    """Follow the cursors to the end."""
    for _ in range(200):
        status, page = ask(job_status, **query)
        assert status == 200
        yield [one["jobId"] for one in page["jobs"]]
        if "nextCursor" not in page:
            return
        query["cursor"] = page["nextCursor"]
    pytest.fail("the list has no end")


def all_of(job_status: ModuleType, **query: Any) -> list[str]:
    return list(itertools.chain.from_iterable(pages(job_status, **query)))


def record(ledger: JobLedger, number: int, *, every_ms: int = 1_000, owner: str = ANN) -> list[Submission]:
    """Enter so many jobs, and return them newest first."""
    jobs = [job(f"job-{n:03}", owner=owner, at=NOW + n * every_ms) for n in range(number)]
    ledger.record(jobs)
    return jobs[::-1]


def ids(jobs: list[Submission]) -> list[str]:
    return [one.key.job_id for one in jobs]


# --- order and pages


def test_the_newest_come_first_from_all_shards(job_status: ModuleType, ledger: JobLedger, output: Output) -> None:
    jobs = record(ledger, 17)
    shards = {new_row(one, RETENTION_S)["listKey"]["S"] for one in jobs}
    assert len(shards) == LIST_SHARDS  # else this test would say little

    status, page = ask(job_status)

    assert status == 200
    assert [one["jobId"] for one in page["jobs"]] == ids(jobs)
    assert "nextCursor" not in page
    assert page["jobs"][0] == {
        "jobId": "job-016---------",
        "jobType": "scripted",
        "status": "SUBMITTED",
        "submittedAt": "2026-09-21T14:13:36.000Z",
    }
    assert output.values("StatusReads") == [1]


def test_an_owner_without_jobs_has_an_empty_list(job_status: ModuleType, ledger: JobLedger) -> None:
    record(ledger, 3, owner=BEN)

    assert ask(job_status) == (200, {"jobs": []})


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 11, 12, 13])
def test_pages_show_each_job_once_and_end(job_status: ModuleType, ledger: JobLedger, limit: int) -> None:
    jobs = record(ledger, 12)

    found = list(pages(job_status, limit=str(limit)))

    assert list(itertools.chain.from_iterable(found)) == ids(jobs)
    assert [len(page) for page in found] == [min(limit, 12 - n) for n in range(0, 12, limit)]


@pytest.mark.parametrize("limit", [1, 3, 5, 12])
def test_jobs_of_the_same_millisecond_are_each_shown_once(
    job_status: ModuleType, ledger: JobLedger, limit: int
) -> None:
    # Given twelve at one time, between an older and a newer one
    same = record(ledger, 12, every_ms=0)
    older, newer = job("older", at=NOW - 1), job("newer", at=NOW + 1)
    ledger.record([older, newer])

    found = all_of(job_status, limit=str(limit))

    assert (found[0], found[-1]) == (newer.key.job_id, older.key.job_id)
    assert sorted(found[1:-1]) == sorted(ids(same))


def test_jobs_that_come_in_while_somebody_pages_shift_nothing(job_status: ModuleType, ledger: JobLedger) -> None:
    jobs = record(ledger, 9)
    found: list[str] = []

    for number, page in enumerate(pages(job_status, limit="2")):
        found += page
        ledger.record([job(f"new-{number}", at=NOW + 10**6 + number)])

    assert found == ids(jobs)


def test_one_of_the_very_millisecond_where_a_page_ended_is_not_skipped(
    job_status: ModuleType, ledger: JobLedger
) -> None:
    record(ledger, 3)
    _, page = ask(job_status, limit="1")
    late = job("aaa", at=NOW + 2_000)  # the time of the one that was shown
    ledger.record([late])

    _, rest = ask(job_status, cursor=page["nextCursor"])

    assert [one["jobId"] for one in rest["jobs"]] == [late.key.job_id, "job-001---------", "job-000---------"]


def test_a_row_that_has_expired_is_skipped(
    job_status: ModuleType, ledger: JobLedger, wire: Wire, engine: ClientMaker, table: str
) -> None:
    # Given an index that shows a job whose row is gone already
    jobs = record(ledger, 6)
    keys = [{"jobKey": {"S": str(one.key)}} for one in jobs]
    rows = engine.client("dynamodb").batch_get_item(RequestItems={table: {"Keys": keys}})["Responses"][table]
    gone = str(jobs[2].key)
    wire.answer(
        "BatchGetItem", {"Responses": {table: [one for one in rows if one["jobKey"]["S"] != gone]}}, times=9
    )

    # Then the pages go on behind it
    assert all_of(job_status, limit="2") == ids(jobs[:2] + jobs[3:])


def test_a_page_is_four_queries_and_one_read(job_status: ModuleType, ledger: JobLedger, wire: Wire) -> None:
    record(ledger, 30)

    ask(job_status, limit="10")

    operations = [call.operation for call in wire.calls]
    assert operations == ["Query"] * LIST_SHARDS + ["BatchGetItem"]
    assert {call.parameters["Limit"] for call in wire.made("Query")} == {11}


# --- limits


@pytest.mark.parametrize(
    ("limit", "shown"),
    [("1", 1), ("007", 7), ("99", 99), ("100", 100), ("101", 100), ("1000", 100), ("9" * 5000, 100)],
)
def test_a_limit_above_the_maximum_is_the_maximum(
    job_status: ModuleType, ledger: JobLedger, limit: str, shown: int
) -> None:
    record(ledger, MOST + 1)

    status, page = ask(job_status, limit=limit)

    assert (status, len(page["jobs"])) == (200, shown)
    assert "nextCursor" in page


def test_without_a_limit_a_page_has_twenty(job_status: ModuleType, ledger: JobLedger) -> None:
    record(ledger, 25)

    assert DEFAULT == len(ask(job_status)[1]["jobs"]) == 20


@pytest.mark.parametrize(
    "query",
    [{"limit": one} for one in ("", "0", "000", "-1", "+1", "1.5", "1e2", " 1", "ten", "²", "٣", "0x10")]
    + [{"status": one} for one in ("", "completed", "DONE", "COMPLETED,FAILED", "None")],
)
def test_a_query_that_means_nothing_is_a_problem(
    job_status: ModuleType, output: Output, query: dict[str, str]
) -> None:
    status, problem, _ = lambda_events.ask(job_status, None, query=query)

    assert (status, problem["type"]) == (400, "urn:sluice:problem:invalid-query")
    assert output.values("StatusReads") == []


# --- the filter


def test_a_filter_shows_those_of_its_status_only(job_status: ModuleType, ledger: JobLedger) -> None:
    jobs = record(ledger, 12)
    for one in jobs[::3]:
        ledger.cancel(one.key, NOW)
    ledger.abort(jobs[1].key, JobError("ABORTED", "No."), NOW)

    assert all_of(job_status, status="CANCELLED") == ids(jobs[::3])
    assert all_of(job_status, status="CANCELLED", limit="1") == ids(jobs[::3])
    assert all_of(job_status, status="FAILED", limit="5") == ids([jobs[1]])
    assert all_of(job_status, status="RUNNING", limit="5") == []
    assert len(all_of(job_status, status="SUBMITTED", limit="3")) == 7


def test_few_among_many_are_found_in_pages_that_may_be_empty(
    job_status: ModuleType, ledger: JobLedger, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two cancelled jobs at the far end of many, and requests that look at ten each
    monkeypatch.setattr(listing, "_LOOKED_AT", 10)
    monkeypatch.setattr(listing, "MOST", 5)
    jobs = record(ledger, 60)
    for one in jobs[-2:]:
        ledger.cancel(one.key, NOW)

    found = list(pages(job_status, status="CANCELLED", limit="5"))

    # Then each request ends after its share, and the last ones find them
    assert found == [[]] * 5 + [ids(jobs[-2:])]
    assert len(wire.made("BatchGetItem")) == 12


def test_one_request_looks_at_five_hundred_jobs_at_most(
    job_status: ModuleType, ledger: JobLedger, wire: Wire
) -> None:
    record(ledger, 620)

    status, page = ask(job_status, status="FAILED", limit="100")

    assert (status, page["jobs"]) == (200, [])
    looked_at = sum(
        len(one["Keys"]) for call in wire.made("BatchGetItem") for one in call.parameters["RequestItems"].values()
    )
    assert looked_at == 500
    # and the next one goes on from there
    assert ask(job_status, status="FAILED", limit="100", cursor=page["nextCursor"]) == (200, {"jobs": []})


# --- whose list it is


def test_everyone_sees_their_own(job_status: ModuleType, ledger: JobLedger) -> None:
    anns, bens = record(ledger, 3), record(ledger, 2, owner=BEN)

    assert all_of(job_status) == ids(anns)
    assert all_of(job_status, owner=BEN) == ids(bens)


def test_an_admin_may_name_an_owner_and_nobody_else_may(job_status: ModuleType, ledger: JobLedger) -> None:
    anns, bens = record(ledger, 5), record(ledger, 2, owner=BEN)

    def listed(**caller: Any) -> list[str]:
        query = {"owner": ANN, "limit": "2"}
        document = lambda_events.ask(job_status, None, query=query, **caller)[1]
        return [one["jobId"] for one in document["jobs"]]

    assert listed(owner=BEN, groups=ADMINS) == ids(anns)[:2]
    assert listed(owner=BEN, groups=("ops", "x,apiAdmins")) == ids(bens)
    assert listed(owner=BEN) == ids(bens)


@pytest.mark.parametrize("owner", ["", "no such owner", "a#0", "x" * 129])
def test_an_owner_that_cannot_be_is_not_found(job_status: ModuleType, owner: str) -> None:
    answer = lambda_events.ask(job_status, None, owner=BEN, groups=ADMINS, query={"owner": owner})

    assert answer[0] == 404


def test_few_of_a_status_are_found_in_few_calls_however_few_are_asked_for(
    job_status: ModuleType, ledger: JobLedger, wire: Wire
) -> None:
    # Given one cancelled job behind 150 others
    jobs = record(ledger, 151)
    ledger.cancel(jobs[-1].key, NOW)

    status, page = ask(job_status, status="CANCELLED", limit="1")

    # Then a hundred are looked at in a step: four shards and one read, twice
    assert (status, [one["jobId"] for one in page["jobs"]]) == (200, ids(jobs[-1:]))
    assert (len(wire.made("Query")), len(wire.made("BatchGetItem"))) == (8, 2)
