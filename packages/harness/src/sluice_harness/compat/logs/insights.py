"""Logs Insights: StartQuery and StopQuery over the engine's log groups.

MiniStack knows `fields`, some forms of `filter`, `sort` and `limit`, skips every other command as if it were
not there (`stats` among them), looks into no JSON message, keeps running a query until it is done and answers
StopQuery with success whatever it is asked.

Logs Insights reads JSON messages and refuses what it does not understand with MalformedQueryException
(CloudWatch Logs User Guide, "CloudWatch Logs Insights query syntax"; CloudWatch Logs API reference,
"StartQuery", "StopQuery").

Closed by a language of our own, as much of it as our saved queries use, run on a thread; a client has to ask
for the results until they are complete, as in AWS. The engine's GetQueryResults gives them out.
"""

from __future__ import annotations

import base64
import json
import logging
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ministack.core import responses
from ministack.services import cloudwatch_logs

from sluice_harness.compat.logs.insights_execution import Execution
from sluice_harness.compat.logs.insights_syntax import parse_query
from sluice_harness.compat.logs.insights_tokens import MalformedQueryError
from sluice_harness.compat.logs.insights_values import Record
from sluice_harness.compat.patching import expect

if TYPE_CHECKING:
    from sluice_harness.compat.logs.insights_syntax import Command

    Answer = tuple[int, dict[str, str], bytes]

DEFAULT_LIMIT = 10_000
MOST_ROWS = 100_000
MOST_GROUPS = 50
QUERIES_KEPT = 1_000
_ENDED = {"Complete", "Failed", "Cancelled"}
_runner = ThreadPoolExecutor(1, thread_name_prefix="logs-insights")


class InvalidParameterError(Exception):
    """CloudWatch Logs' InvalidParameterException."""


def apply() -> None:
    """Replace the engine's StartQuery and StopQuery."""
    expect(cloudwatch_logs, "_start_query", "data")
    expect(cloudwatch_logs, "_stop_query", "data")
    expect(cloudwatch_logs, "_get_query_results", "data")
    expect(cloudwatch_logs, "_resolve_query_log_groups", "data")
    for name in ("_queries", "_log_groups", "_log_events_lock"):
        expect(cloudwatch_logs, name)
    cloudwatch_logs._start_query = _start
    cloudwatch_logs._stop_query = _stop


def _start(data: dict[str, Any]) -> Answer:
    try:
        groups = _groups(data)
        start, end, limit = _window(data)
        commands = parse_query(str(data.get("queryString", "")))
    except InvalidParameterError as error:
        return _error("InvalidParameterException", str(error))
    except MalformedQueryError as error:
        return _malformed(error)
    unknown = [name for name in groups if name not in cloudwatch_logs._log_groups]
    if unknown:
        return _error("ResourceNotFoundException", f"Log group '{unknown[0]}' does not exist.")
    query: dict[str, Any] = {"status": "Running", "results": []}
    queries, identifier = cloudwatch_logs._queries, str(uuid.uuid4())
    queries[identifier] = query
    for oldest in list(queries)[:-QUERIES_KEPT]:
        del queries[oldest]
    _runner.submit(_run, query, commands, _snapshot(groups, start, end), limit)
    return _json(200, {"queryId": identifier})


def _groups(data: dict[str, Any]) -> list[str]:
    found: list[str] = cloudwatch_logs._resolve_query_log_groups(data)
    if not 0 < len(found) <= MOST_GROUPS:
        raise InvalidParameterError(
            f"logGroupName, logGroupNames or logGroupIdentifiers must name 1 to {MOST_GROUPS} log groups"
        )
    return found


def _window(data: dict[str, Any]) -> tuple[int, int, int]:
    start, end, limit = data.get("startTime"), data.get("endTime"), data.get("limit", DEFAULT_LIMIT)
    if data.get("queryLanguage", "CWLI") != "CWLI":
        raise InvalidParameterError("queryLanguage must be CWLI: the others are not served here")
    if not isinstance(start, int) or not isinstance(end, int):
        raise InvalidParameterError("startTime and endTime must be epoch seconds")
    if end < start:
        raise InvalidParameterError("endTime must not come before startTime")
    if not isinstance(limit, int) or not 0 < limit <= MOST_ROWS:
        raise InvalidParameterError(f"limit must be from 1 to {MOST_ROWS}")
    return start, end, limit


def _snapshot(groups: list[str], start: int, end: int) -> list[tuple[str, str, dict[str, Any]]]:
    """Return the events of a time range, both ends included, each with its log and its stream."""
    account = responses.get_account_id()
    found = []
    with cloudwatch_logs._log_events_lock:
        for name in groups:
            for stream, kept in cloudwatch_logs._log_groups[name]["streams"].items():
                log = f"{account}:{name}"
                events = kept["events"]
                found += [(log, stream, one) for one in events if start * 1000 <= one["timestamp"] <= end * 1000]
    return found


def _run(
    query: dict[str, Any], commands: list[Command], events: list[tuple[str, str, dict[str, Any]]], limit: int
) -> None:
    if query["status"] in _ENDED:
        return
    try:
        execution = Execution(commands, [_record(*event, at) for at, event in enumerate(events)], limit)
    except Exception:
        logging.getLogger(__name__).exception("a Logs Insights query failed")
        query["status"] = "Failed"
        return
    query["results"] = execution.rows
    query["statistics"] = {
        "recordsMatched": float(execution.matched),
        "recordsScanned": float(len(events)),
        "bytesScanned": float(sum(len(event["message"].encode()) for _, _, event in events)),
        "logGroupsScanned": float(len({log for log, _, _ in events})),
    }
    if query["status"] not in _ENDED:
        query["status"] = "Complete"


def _record(log: str, stream: str, event: dict[str, Any], at: int) -> Record:
    pointer = (
        event.get("eventId") or base64.b64encode(f"{log}/{stream}/{event['timestamp']}/{at}".encode()).decode()
    )
    return Record(
        {
            "@timestamp": event["timestamp"],
            "@message": event["message"],
            "@log": log,
            "@logStream": stream,
            "@ingestionTime": event["ingestionTime"],
            "@ptr": pointer,
        },
        event["message"],
    )


def _stop(data: dict[str, Any]) -> Answer:
    query = cloudwatch_logs._queries.get(data.get("queryId", ""))
    if query is None:
        return _error("ResourceNotFoundException", f"The query {data.get('queryId')} does not exist.")
    if query["status"] in _ENDED:
        return _error("InvalidParameterException", f"The query {data['queryId']} is not running.")
    query["status"] = "Cancelled"
    return _json(200, {"success": True})


def _malformed(error: MalformedQueryError) -> Answer:
    location = {"startCharOffset": error.start, "endCharOffset": error.end}
    detail = {"location": location, "message": str(error)}
    return _error("MalformedQueryException", str(error), queryCompileError=detail)


def _error(code: str, message: str, **more: Any) -> Answer:
    return _json(400, {"__type": code, "message": message, **more})


def _json(status: int, document: dict[str, Any]) -> Answer:
    return status, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(document).encode()
