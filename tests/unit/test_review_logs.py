"""Saved queries are run over the window in real time, and whatever becomes of one, the others are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from botocore.stub import Stubber
from sluice_harness.review import logs
from sluice_harness.review.logs import LogQuery, run_all, saved_queries
from unit.reviewed import START, window

if TYPE_CHECKING:
    from collections.abc import Iterator

    import boto3
    from mypy_boto3_logs import CloudWatchLogsClient

SLOW = LogQuery("slowest", "sort endToEndMs desc", ["/a", "/b"])
HISTORY = LogQuery("history", 'filter jobId = "JOB_ID"', ["/a"])


@pytest.fixture
def client(engine_session: boto3.Session) -> CloudWatchLogsClient:
    return engine_session.client("logs")


@pytest.fixture
def stubber(client: CloudWatchLogsClient) -> Iterator[Stubber]:
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_POLL_S", 0)


def started(stubber: Stubber, query: LogQuery, text: str) -> None:
    """Expect a query to be started over the window: ten minutes of a stage twelve times as fast as ours."""
    expected = {"logGroupNames": query.groups, "startTime": START, "endTime": START + 51, "queryString": text}
    stubber.add_response("start_query", {"queryId": query.name}, expected)


def answered(stubber: Stubber, query: LogQuery, *rows: dict[str, str], status: str = "Complete") -> None:
    results = [[{"field": name, "value": value} for name, value in row.items()] for row in rows]
    stubber.add_response("get_query_results", {"status": status, "results": results}, {"queryId": query.name})


def test_saved_queries_page_by_page(client: CloudWatchLogsClient, stubber: Stubber) -> None:
    # Given two pages of them
    prefix = {"queryDefinitionNamePrefix": "sluice-local/"}
    for names, sent, token in ((("b",), {}, {"nextToken": "t"}), (("a",), {"nextToken": "t"}, {})):
        found = [{"name": f"sluice-local/{name}", "queryString": name, "logGroupNames": ["/x"]} for name in names]
        stubber.add_response(
            "describe_query_definitions", {"queryDefinitions": found, **token}, {**prefix, **sent}
        )

    # Then all are there, by name
    assert saved_queries(client, "sluice-local/") == [LogQuery("a", "a", ["/x"]), LogQuery("b", "b", ["/x"])]


def test_rows_of_a_query_that_takes_its_time(client: CloudWatchLogsClient, stubber: Stubber) -> None:
    # Given a query that runs before it is complete, with a row that lacks a column
    started(stubber, SLOW, SLOW.text)
    answered(stubber, SLOW, status="Running")
    answered(stubber, SLOW, {"jobId": "1", "@ptr": "x"}, {"jobId": "2", "ms": "7"})

    # Then its rows are a table, without the pointers that mean nothing to a person
    (result,) = run_all(client, [SLOW], window())
    assert (result.columns, result.rows, result.problem) == (["jobId", "ms"], [["1", ""], ["2", "7"]], "")


def test_a_query_about_one_job_gets_one_that_another_names(client: CloudWatchLogsClient, stubber: Stubber) -> None:
    # Given a query with a placeholder before one that names jobs
    started(stubber, SLOW, SLOW.text)
    answered(stubber, SLOW, {"ms": "9", "jobId": "job-7"})
    started(stubber, HISTORY, 'filter jobId = "job-7"')
    answered(stubber, HISTORY, {"outcome": "completed"})

    # Then it is run with that job, and the order is kept
    history, slowest = run_all(client, [HISTORY, SLOW], window())
    assert (history.rows, history.note) == ([["completed"]], "with job-7 for JOB_ID")
    assert slowest.query == SLOW


def test_a_query_about_one_job_waits_for_a_job(client: CloudWatchLogsClient, stubber: Stubber) -> None:
    # Given no job
    started(stubber, SLOW, SLOW.text)
    answered(stubber, SLOW)
    history, _ = run_all(client, [HISTORY, SLOW], window())
    assert (history.problem, history.note) == ("", "no other query names a job to look for")


def test_a_failing_query_keeps_no_other_from_being_run(client: CloudWatchLogsClient, stubber: Stubber) -> None:
    # Given one that is refused, one that fails and one that does not
    refused, failing = LogQuery("refused", "stats", ["/a"]), LogQuery("failing", "fields x", ["/a"])
    stubber.add_client_error("start_query", "MalformedQueryException", "unexpected symbol")
    started(stubber, failing, failing.text)
    answered(stubber, failing, status="Failed")
    started(stubber, SLOW, SLOW.text)
    answered(stubber, SLOW, {"jobId": "1"})

    # Then each says what became of it
    problems = [result.problem for result in run_all(client, [refused, failing, SLOW], window())]
    assert "unexpected symbol" in problems[0]
    assert problems[1:] == ["the query ended as Failed", ""]


def test_a_query_without_end_is_stopped(
    client: CloudWatchLogsClient, stubber: Stubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a query that runs longer than anyone waits
    monkeypatch.setattr(logs, "_PATIENCE_S", -1.0)
    started(stubber, SLOW, SLOW.text)
    stubber.add_response("stop_query", {"success": True}, {"queryId": SLOW.name})

    # Then it is stopped, for it is paid for by what it reads
    (result,) = run_all(client, [SLOW], window())
    assert "did not end" in result.problem
