"""Runs a stage's saved queries in Logs Insights over the window, in real time, which is what logs go by."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mypy_boto3_logs import CloudWatchLogsClient

    from sluice_harness.review.window import Window

# What a saved query says where an id has to be filled in; and the column that other queries' ids are in.
_PLACEHOLDER = "JOB_ID"
_ID_COLUMN = "jobId"
_POINTER = "@ptr"
_PATIENCE_S = 60.0
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class LogQuery:
    """A saved query."""

    name: str
    text: str
    groups: Sequence[str]


@dataclass(frozen=True, slots=True)
class LogResult:
    """What a saved query found; `problem` says why it found nothing, if that is what is wrong."""

    query: LogQuery
    columns: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    problem: str = ""
    note: str = ""


def saved_queries(logs: CloudWatchLogsClient, prefix: str) -> list[LogQuery]:
    """Return the saved queries whose names begin with a prefix, named without it."""
    return [
        LogQuery(one["name"].removeprefix(prefix), one["queryString"], one.get("logGroupNames", []))
        for one in sorted(_definitions(logs, prefix), key=lambda one: str(one["name"]))
    ]


def _definitions(logs: CloudWatchLogsClient, prefix: str) -> Iterator[Any]:
    token: dict[str, Any] = {}
    while True:
        page = logs.describe_query_definitions(queryDefinitionNamePrefix=prefix, **token)
        yield from page["queryDefinitions"]
        if "nextToken" not in page:
            return
        token = {"nextToken": page["nextToken"]}


def run_all(logs: CloudWatchLogsClient, queries: Iterable[LogQuery], window: Window) -> list[LogResult]:
    """Run queries over a window, those about one job with the first that the others name, and keep their order."""
    in_order = list(queries)
    found = {query.name: _run(logs, query, window) for query in in_order if _PLACEHOLDER not in query.text}
    job_id = next(filter(None, map(_first_id, found.values())), "")
    for query in in_order:
        if query.name not in found:
            found[query.name] = _run(logs, query, window, job_id)
    return [found[query.name] for query in in_order]


def _first_id(result: LogResult) -> str:
    if _ID_COLUMN not in result.columns or not result.rows:
        return ""
    return result.rows[0][result.columns.index(_ID_COLUMN)]


def _run(logs: CloudWatchLogsClient, query: LogQuery, window: Window, job_id: str = "") -> LogResult:
    text = query.text
    note = ""
    if _PLACEHOLDER in text:
        if not job_id:
            return LogResult(query, note="no other query names a job to look for")
        text, note = text.replace(_PLACEHOLDER, job_id), f"with {job_id} for {_PLACEHOLDER}"
    try:
        answer = _results(logs, query, text, window)
    except (ClientError, BotoCoreError, TimeoutError) as error:
        return LogResult(query, problem=str(error), note=note)
    rows = [
        {cell["field"]: cell["value"] for cell in row if cell["field"] != _POINTER} for row in answer["results"]
    ]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    problem = "" if answer["status"] == "Complete" else f"the query ended as {answer['status']}"
    return LogResult(query, columns, [[row.get(name, "") for name in columns] for row in rows], problem, note)


def _results(logs: CloudWatchLogsClient, query: LogQuery, text: str, window: Window) -> Any:
    started = logs.start_query(
        logGroupNames=list(query.groups),
        startTime=int(window.real_start),
        endTime=int(window.real_end) + 1,
        queryString=text,
    )
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        answer = logs.get_query_results(queryId=started["queryId"])
        if answer["status"] not in ("Scheduled", "Running"):
            return answer
        time.sleep(_POLL_S)
    logs.stop_query(queryId=started["queryId"])
    raise TimeoutError(f"it did not end within {_PATIENCE_S:.0f} s")
