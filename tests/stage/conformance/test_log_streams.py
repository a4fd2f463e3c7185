"""One log stream per execution environment, and platform lines as the logging configuration has them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from stage.conformance.functions import create_function, invoke, log_lines

CODE = """
def handler(event, context):
    print("hello")
    return context.log_stream_name
"""
FAILING = """
def handler(event, context):
    raise LookupError
"""


def test_an_environment_writes_to_the_stream_it_is_told(engine: Any) -> None:
    # given
    name = create_function(engine, CODE)

    # when
    told = {invoke(engine, name) for _ in range(3)}

    # then
    group = f"/aws/lambda/{name}"
    streams = engine.client("logs").describe_log_streams(logGroupName=group)["logStreams"]
    assert {stream["logStreamName"] for stream in streams} == told
    assert len(told) == 1
    lines = log_lines(engine, group)
    assert [line.split()[0] for line in lines] == ["START", "hello", "END", "REPORT"] * 3


@pytest.mark.parametrize(
    ("level", "expected"), [("INFO", ["platform.start", "hello", "platform.report"]), ("WARN", ["hello"])]
)
def test_json_logging_has_platform_lines_by_level(engine: Any, level: str, expected: list[str]) -> None:
    # given
    settings = {"LogFormat": "JSON", "SystemLogLevel": level, "ApplicationLogLevel": "INFO"}
    name = create_function(engine, CODE, LoggingConfig=settings)

    # when
    invoke(engine, name)

    # then
    lines = log_lines(engine, f"/aws/lambda/{name}")
    assert [json.loads(line)["type"] if line.startswith("{") else line for line in lines] == expected


def test_what_went_wrong_is_reported_at_the_highest_level_too(engine: Any) -> None:
    # given
    settings = {"LogFormat": "JSON", "SystemLogLevel": "WARN", "ApplicationLogLevel": "INFO"}
    name = create_function(engine, FAILING, LoggingConfig=settings)

    # when
    engine.client("lambda").invoke(FunctionName=name)

    # then
    reports = [line for line in log_lines(engine, f"/aws/lambda/{name}") if '"platform.report"' in line]
    assert [json.loads(report)["record"]["status"] for report in reports] == ["error"]
