"""What an invocation prints is in its log group, whole and in order, and is not waited for."""

from __future__ import annotations

import time
from typing import Any

from stage.conformance.functions import create_function, eventually, invoke, log_lines, unique


def printed(engine: Any, group: str) -> list[str]:
    platform = ("START ", "END ", "REPORT ")
    return [line for line in log_lines(engine, group) if not line.startswith(platform)]


def test_a_silent_invocation_does_not_wait_for_logs(engine: Any) -> None:
    # given
    name = create_function(engine, "def handler(event, context): return event")
    client = engine.client("lambda")
    invoke(engine, name)

    # when
    took = []
    for _ in range(20):
        start = time.perf_counter()
        client.invoke(FunctionName=name, Payload="{}")
        took.append(time.perf_counter() - start)

    # then
    assert min(took) < 0.05


def test_what_is_printed_is_logged_in_order(engine: Any) -> None:
    # given
    code = """
import os, sys
def handler(event, context):
    for number in range(event["lines"]):
        print(f"out {number}")
        print(f"err {number}", file=sys.stderr)
    os.write(2, b"native\\n")
    print("no newline", end="")
    return "done"
"""
    name = create_function(engine, code)

    # when
    answers = [invoke(engine, name, {"lines": lines}) for lines in (300, 1)]

    # then
    assert answers == ["done", "done"]
    ends = ["native", "no newline"]
    first = [f"{stream} {n}" for n in range(300) for stream in ("out", "err")]
    assert printed(engine, f"/aws/lambda/{name}") == [*first, *ends, "out 0", "err 0", *ends]


def test_logs_go_to_the_group_of_the_logging_configuration(engine: Any) -> None:
    # given
    group = unique("/sluice/shared")
    code = "import os\ndef handler(event, context): print(os.environ['AWS_LAMBDA_LOG_GROUP_NAME'])"
    name = create_function(engine, code, LoggingConfig={"LogGroup": group})

    # when
    invoke(engine, name)

    # then
    assert eventually(lambda: printed(engine, group)) == [group]


def test_a_handler_that_raises_is_logged_and_keeps_its_environment(engine: Any) -> None:
    # given
    code = """
calls = []
def handler(event, context):
    calls.append(event)
    print("call", len(calls))
    if event == "raise":
        raise ValueError("on purpose")
    return len(calls)
"""
    name = create_function(engine, code)

    # when
    answers = [invoke(engine, name, event) for event in ("fine", "raise", "fine")]

    # then
    assert answers[0] == 1
    assert {**answers[1], "requestId": "", "stackTrace": answers[1]["stackTrace"][-1].strip()} == {
        "errorMessage": "on purpose",
        "errorType": "ValueError",
        "requestId": "",
        "stackTrace": 'raise ValueError("on purpose")',
    }
    assert answers[2] == 3
    lines = printed(engine, f"/aws/lambda/{name}")
    assert [line for line in lines if line.startswith("call")] == ["call 1", "call 2", "call 3"]
    assert "ValueError: on purpose" in lines


def test_an_invocation_that_times_out_is_ended_and_logged(engine: Any) -> None:
    # given
    code = """
import time
def handler(event, context):
    print("before")
    time.sleep(event)
    return "after"
"""
    name = create_function(engine, code, Timeout=1)

    # when
    answers = [invoke(engine, name, seconds) for seconds in (5, 0)]

    # then
    assert answers[0]["errorType"] == "Sandbox.Timedout"
    assert answers[1] == "after"
    assert [line for line in printed(engine, f"/aws/lambda/{name}") if line == "before"] == ["before"] * 2


def test_an_environment_that_exits_fails_its_invocation_and_the_next_starts_cold(engine: Any) -> None:
    # given
    code = """
import os
def handler(event, context):
    if event == "exit":
        print("leaving")
        os._exit(3)
    return "fine"
"""
    name = create_function(engine, code)

    # when
    answers = [invoke(engine, name, event) for event in ("exit", "stay")]

    # then
    assert "errorType" in answers[0]
    assert answers[1] == "fine"
    assert "leaving" in printed(engine, f"/aws/lambda/{name}")
