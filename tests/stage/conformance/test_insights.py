"""Logs Insights: the language of our saved queries, over JSON log lines, through boto3."""

from __future__ import annotations

import calendar
import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from stage.conformance.apis import unique
from stage.conformance.functions import create_function, eventually, invoke

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

# A moment whose bins of a minute and of five are known, yesterday or so.
BASE = int(time.time()) // 86_400 * 86_400 - 86_400 + 12 * 3600
EVENTS: list[tuple[int, dict[str, Any] | str]] = [
    (
        0,
        {
            "level": "INFO",
            "message": "completed",
            "jobType": "a",
            "ms": 100,
            "http": {"status": 200},
            "cold": True,
        },
    ),
    (10, {"level": "INFO", "message": "completed", "jobType": "b", "ms": 300, "http": {"status": 200}}),
    (
        70,
        {
            "level": "ERROR",
            "message": "failed",
            "jobType": "a",
            "ms": 200.5,
            "http": {"status": 503},
            "cold": False,
        },
    ),
    (130, {"level": "INFO", "message": "Failed Over", "jobType": "a", "ms": "1000", "tags": ["x", "y"]}),
    (310, {"level": "INFO", "message": "started", "jobType": "c", "none": None}),
    (320, "plain text, no JSON: ERROR"),
]


@dataclass(frozen=True)
class Log:
    """A log group, and queries of it."""

    engine: Engine
    group: str

    def start(self, query: str, **options: Any) -> str:
        asked = {"logGroupName": self.group, "startTime": BASE - 60, "endTime": BASE + 3600, **options}
        return str(self.engine.client("logs").start_query(queryString=query, **asked)["queryId"])

    def answer(self, query: str, **options: Any) -> dict[str, Any]:
        """Return the answer once the query is complete."""
        identifier, logs = self.start(query, **options), self.engine.client("logs")

        def ended() -> dict[str, Any] | None:
            found: dict[str, Any] = logs.get_query_results(queryId=identifier)
            return None if found["status"] in {"Scheduled", "Running"} else found

        found: dict[str, Any] = eventually(ended)
        assert found["status"] == "Complete"
        return found

    def rows(self, query: str, **options: Any) -> list[dict[str, str]]:
        """Return the results, pointers aside."""
        results = self.answer(query, **options)["results"]
        return [{cell["field"]: cell["value"] for cell in row if cell["field"] != "@ptr"} for row in results]

    def offsets(self, query: str) -> list[int]:
        """Return which events came, by their seconds, the oldest first."""
        rows = self.rows(f"{query} | display @timestamp")
        found = [time.strptime(row["@timestamp"].partition(".")[0], "%Y-%m-%d %H:%M:%S") for row in rows]
        return sorted(calendar.timegm(moment) - BASE for moment in found)


@pytest.fixture(scope="module")
def log(engine: Engine) -> Log:
    logs, group = engine.client("logs"), unique("/test/log")
    logs.create_log_group(logGroupName=group)
    lines = [(at, one if isinstance(one, str) else json.dumps(one)) for at, one in EVENTS]
    for stream, part in (("one", lines[:3]), ("two", lines[3:])):
        logs.create_log_stream(logGroupName=group, logStreamName=stream)
        events = [{"timestamp": (BASE + at) * 1000 + 7, "message": line} for at, line in part]
        logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)
    return Log(engine, group)


def test_without_commands_that_choose_a_row_has_time_and_message_and_the_newest_is_first(log: Log) -> None:
    answer = log.answer("limit 2")
    times = [{cell["field"]: cell["value"] for cell in row} for row in answer["results"]]
    day = time.strftime("%Y-%m-%d", time.gmtime(BASE))
    assert [row["@timestamp"] for row in times] == [f"{day} 12:05:20.007", f"{day} 12:05:10.007"]
    assert times[0]["@message"] == "plain text, no JSON: ERROR"
    assert all(set(row) == {"@timestamp", "@message", "@ptr"} for row in times)


def test_what_was_scanned_and_matched_is_counted(log: Log) -> None:
    found = log.answer('filter level = "INFO" | limit 1')["statistics"]
    assert (found["recordsScanned"], found["recordsMatched"], found["logGroupsScanned"]) == (6, 4, 1)
    assert found["bytesScanned"] == sum(len(one if isinstance(one, str) else json.dumps(one)) for _, one in EVENTS)


def test_fields_are_found_in_nested_json_and_left_out_where_there_are_none(log: Log) -> None:
    query = """
    fields jobType, http.status as status, tags.1 # the second
    | fields @logStream, @log, cold
    | sort @timestamp asc
    """
    rows = log.rows(query)
    owner = f"000000000000:{log.group}"
    of_one, of_two = {"@logStream": "one", "@log": owner}, {"@logStream": "two", "@log": owner}
    assert rows == [
        {"jobType": "a", "status": "200", **of_one, "cold": "1"},
        {"jobType": "b", "status": "200", **of_one},
        {"jobType": "a", "status": "503", **of_one, "cold": "0"},
        {"jobType": "a", "tags.1": "y", **of_two},
        {"jobType": "c", **of_two},
        of_two,
    ]


FILTERS = {
    'level = "ERROR"': [70],
    "level = 'ERROR'": [70],
    "level != 'INFO'": [70],  # a field that is not there is not unequal
    "ms > 200": [10, 70, 130],  # numbers, in a text too
    "ms >= 200.5 and ms <= 300": [10, 70],
    'ms < "200"': [0],
    "http.status = 503": [70],
    'http.status = "503"': [70],
    "jobType = 'a' or jobType = 'c'": [0, 70, 130, 310],
    "jobType = 'a' and not level = 'ERROR'": [0, 130],
    "not (jobType = 'a' or jobType = 'b')": [310, 320],
    "jobType = 'c' or jobType = 'a' and ms = 100": [0, 310],
    'message like "ailed"': [70, 130],
    "message like /^failed/": [70],
    "message like /(?i)^failed/": [70, 130],
    "message =~ /^(?i)FAILED$/": [70],
    r"@message like /\d+\.\d/": [70],
    'message not like "ailed"': [0, 10, 310],
    'jobType in ["b", "c"]': [10, 310],
    "http.status in [503, 504]": [70],
    'jobType not in ["a", "b"]': [310],
    "ispresent(http.status)": [0, 10, 70],
    "not ispresent(ms)": [310, 320],
    "ispresent(none)": [],
    "cold = 1": [0],
    "cold = false": [70],
    "`jobType` = 'b'": [10],
    "@logStream = 'two' and @message like 'ERROR'": [320],
    "ms = ms": [0, 10, 70, 130],
    "JOBTYPE = 'a'": [],
}


@pytest.mark.parametrize(("condition", "expected"), FILTERS.items(), ids=FILTERS)
def test_filter_keeps_what_meets_its_condition(log: Log, condition: str, expected: list[int]) -> None:
    assert log.offsets(f"filter {condition}") == expected


def test_several_filters_are_all_met(log: Log) -> None:
    assert log.offsets("filter level = 'INFO' | filter ms > 100") == [10, 130]


def test_statistics_of_everything(log: Log) -> None:
    query = """stats count(*), count(ms) as measured, count_distinct(jobType) as types, sum(ms) as total,
        avg(ms) as mean, min(ms) as least, max(ms) as most, pct(ms, 50) as median, pct(ms, 95),
        max(level) as last"""
    assert log.rows(query) == [
        {
            "count(*)": "6",
            "measured": "4",
            "types": "3",
            "total": "1600.5",
            "mean": "400.125",
            "least": "100",
            "most": "1000",
            "median": "200.5",
            "pct(ms, 95)": "1000",
            "last": "INFO",
        }
    ]


def test_statistics_of_nothing_have_a_row_with_what_there_is(log: Log) -> None:
    assert log.rows("filter level = 'NONE' | stats count(*) as n, sum(ms) as total") == [{"n": "0"}]
    assert log.rows("filter level = 'NONE' | stats count(*) as n by jobType") == []


def test_statistics_by_fields_can_be_filtered_and_sorted(log: Log) -> None:
    query = "stats count(*) as n, avg(ms) as mean by jobType, level | filter n >= 1 | sort n desc, jobType asc"
    assert log.rows(query) == [
        {"jobType": "a", "level": "INFO", "n": "2", "mean": "550"},
        {"jobType": "a", "level": "ERROR", "n": "1", "mean": "200.5"},
        {"jobType": "b", "level": "INFO", "n": "1", "mean": "300"},
        {"jobType": "c", "level": "INFO", "n": "1"},
        {"n": "1"},  # the line that has neither
    ]


def test_an_average_has_at_most_four_decimals(log: Log) -> None:
    assert log.rows("filter ms in [100, 200.5] or http.status = 200 | stats avg(ms)") == [{"avg(ms)": "200.1667"}]


def test_statistics_by_time(log: Log) -> None:
    day = time.strftime("%Y-%m-%d", time.gmtime(BASE))
    assert log.rows("stats count(*) as n by bin(5m) | sort bin(5m) asc") == [
        {"bin(5m)": f"{day} 12:00:00.000", "n": "4"},
        {"bin(5m)": f"{day} 12:05:00.000", "n": "2"},
    ]
    minutes = log.rows("stats count(*) by bin(1m) as minute, @logStream | sort minute asc | display minute")
    assert [row["minute"][11:16] for row in minutes] == ["12:00", "12:01", "12:02", "12:05"]


def test_statistics_can_be_taken_of_statistics(log: Log) -> None:
    assert log.rows("stats count(*) as n by jobType | stats max(n) as most") == [{"most": "3"}]


def test_sort_knows_numbers_and_puts_what_is_missing_last(log: Log) -> None:
    assert [row.get("ms") for row in log.rows("fields ms | sort ms desc")] == [
        "1000",
        "300",
        "200.5",
        "100",
        None,
        None,
    ]
    assert [row.get("ms") for row in log.rows("fields ms | sort ms")] == [
        "100",
        "200.5",
        "300",
        "1000",
        None,
        None,
    ]


def test_limits(log: Log) -> None:
    assert len(log.rows("limit 4", limit=3)) == 3
    assert len(log.rows("limit 2", limit=3)) == 2
    assert log.rows("sort ms asc | limit 1 | fields ms") == [{"ms": "100"}]


def test_display_shows_only_what_it_names(log: Log) -> None:
    assert log.rows("fields level, ms | filter ms = 100 | display ms") == [{"ms": "100"}]


def test_dedup_keeps_the_first_of_each(log: Log) -> None:
    # the newest of each type; the line without a type is no duplicate of anything
    rows = log.rows("fields jobType, ms | dedup jobType | limit 10")
    assert rows == [{}, {"jobType": "c"}, {"jobType": "a", "ms": "1000"}, {"jobType": "b", "ms": "300"}]
    rows = log.rows("fields jobType, ms | sort ms asc | filter ispresent(ms) | dedup jobType")
    assert rows == [{"jobType": "a", "ms": "100"}, {"jobType": "b", "ms": "300"}]


def test_comments_are_none_of_the_query(log: Log) -> None:
    query = "# a query\nfilter message like 'no # comment' or ms = 100 # | limit 0\n| fields ms"
    assert log.rows(query) == [{"ms": "100"}]


def test_time_is_in_seconds_with_both_ends(log: Log) -> None:
    assert len(log.rows("fields ms", startTime=BASE + 10, endTime=BASE + 70)) == 1  # 70.007 is after the end
    assert len(log.rows("fields ms", startTime=BASE, endTime=BASE + 71)) == 3


def test_several_groups_are_queried_by_names_and_by_arns(engine: Engine, log: Log) -> None:
    # given another log group
    logs, other = engine.client("logs"), unique("/test/other")
    logs.create_log_group(logGroupName=other)
    logs.create_log_stream(logGroupName=other, logStreamName="s")
    event = {"timestamp": BASE * 1000, "message": '{"ms": 5}'}
    logs.put_log_events(logGroupName=other, logStreamName="s", logEvents=[event])

    # then both are one, however they are named
    query, both = "stats count(*) as n, min(ms) as least", [log.group, other]
    expected = [{"n": "7", "least": "5"}]
    logs = engine.client("logs")
    arns = [f"arn:aws:logs:us-east-1:000000000000:log-group:{name}" for name in both]
    for named in ({"logGroupNames": both}, {"logGroupIdentifiers": arns}):
        times = {"startTime": BASE - 60, "endTime": BASE + 3600}
        identifier = logs.start_query(queryString=query, **named, **times)["queryId"]
        found = eventually(lambda: logs.get_query_results(queryId=identifier)["results"])  # noqa: B023
        assert [{cell["field"]: cell["value"] for cell in row} for row in found] == expected


def test_a_functions_log_is_queried_as_it_is_written(engine: Engine) -> None:
    # given a function that writes a line of JSON
    code = "import json\ndef handler(event, context):\n    print(json.dumps({'took': 12, 'job': {'id': 'j'}}))\n"
    name = create_function(engine, code)
    invoke(engine, name)
    group, now = f"/aws/lambda/{name}", int(time.time())
    eventually(lambda: engine.client("logs").describe_log_groups(logGroupNamePrefix=group)["logGroups"])

    # then it is found by what it has
    rows = eventually(
        lambda: Log(engine, group).rows(
            'filter job.id = "j" | fields took, @timestamp', startTime=now - 60, endTime=now + 60
        )
    )
    assert rows[0]["took"] == "12"


MALFORMED = {
    "parse @message '*' as x": "'parse'",
    "fields ms | unmask x": "'unmask'",
    "fields abs(ms)": "'abs'",
    "fields @duration": "'@duration'",
    "filter ms": "the end of the query",
    "filter ms > 1 +": "not '+'|unexpected character '\\+'",
    "filter strcontains(message, 'x')": "'strcontains'",
    "filter message like x": "'x'",
    "filter message like /(/": "regular expression",
    "filter a = 1 b": "'b'",
    "filter (a = 1": "the end of the query",
    "filter a in [1": "the end of the query",
    "stats stddev(ms)": "'stddev'",
    "stats pct(ms, 101)": "'101'",
    "stats count(*) by bin(5x)": "'5x'",
    "stats count(*) by datefloor(@timestamp, 1h)": "'datefloor'",
    "sort ms sideways": "'sideways'",
    "limit 0": "'0'",
    "limit many": "'many'",
    "fields ms | dedup ms | sort ms": "only limit may come after dedup",
    "fields ms |": "expected a command",
    "fields": "expected a field",
    'filter a = "b': "unexpected character",
}


@pytest.mark.parametrize(("query", "named"), MALFORMED.items(), ids=MALFORMED)
def test_what_is_not_understood_is_refused_by_name(log: Log, query: str, named: str) -> None:
    with pytest.raises(ClientError) as refused:
        log.start(query)
    answer: Any = refused.value.response
    assert answer["Error"]["Code"] == "MalformedQueryException"
    assert re.search(named, answer["Error"]["Message"])
    assert "Supported here are" in answer["Error"]["Message"]
    location = answer["queryCompileError"]["location"]
    assert 0 <= location["startCharOffset"] <= location["endCharOffset"] <= len(query)


def test_a_log_group_that_is_not_there_is_said_to_be_missing(log: Log) -> None:
    with pytest.raises(ClientError, match="'/no/such' does not exist") as refused:
        log.start("fields ms", logGroupName="/no/such")
    assert refused.value.response["Error"]["Code"] == "ResourceNotFoundException"


WRONG = [{"endTime": BASE - 61}, {"limit": 100_001}, {"logGroupName": None}, {"queryLanguage": "SQL"}]


@pytest.mark.parametrize("options", WRONG)
def test_parameters_that_make_no_sense_are_refused(log: Log, options: dict[str, Any]) -> None:
    asked = {"logGroupName": log.group, "startTime": BASE - 60, "endTime": BASE, **options}
    asked = {name: value for name, value in asked.items() if value is not None}
    with pytest.raises(ClientError) as refused:
        log.engine.client("logs").start_query(queryString="fields ms", **asked)
    assert refused.value.response["Error"]["Code"] == "InvalidParameterException"


def test_a_query_that_runs_can_be_stopped(engine: Engine) -> None:
    # given a log that takes a while to read, and queries of it that wait for each other
    logs, group = engine.client("logs"), unique("/test/long")
    logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName="s")
    events = [{"timestamp": BASE * 1000 + n, "message": json.dumps({"n": n, "m": n % 7})} for n in range(10_000)]
    logs.put_log_events(logGroupName=group, logStreamName="s", logEvents=events)
    last = [Log(engine, group).start("stats count(*) by n, m") for _ in range(8)][-1]

    # when the last is stopped, then it never comes to results
    assert logs.stop_query(queryId=last)["success"] is True
    Log(engine, group).answer("limit 1")  # the ones before it have ended
    found = logs.get_query_results(queryId=last)
    assert (found["status"], found["results"]) == ("Cancelled", [])


def test_a_query_that_has_ended_cannot_be_stopped(log: Log) -> None:
    logs, identifier = log.engine.client("logs"), log.start("fields ms")
    eventually(lambda: logs.get_query_results(queryId=identifier)["status"] == "Complete")
    with pytest.raises(ClientError, match="is not running") as refused:
        logs.stop_query(queryId=identifier)
    assert refused.value.response["Error"]["Code"] == "InvalidParameterException"
    with pytest.raises(ClientError) as refused:
        logs.stop_query(queryId="none")
    assert refused.value.response["Error"]["Code"] == "ResourceNotFoundException"
