"""The nox sessions that pipelines call: that each is there, what arguments it takes, and what it does in AWS."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shlex
import sys
from typing import TYPE_CHECKING
from unittest.mock import patch

from sluice_harness.deploy import __main__ as deploying
from sluice_harness.deploy import pipeline
from sluice_harness.description import ROOT
from sluice_harness.loadtest import __main__ as loadtest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# The actions that each session takes in AWS, on a stage that is deployed.
_USERS = {"cognito-idp:AdminCreateUser", "cognito-idp:AdminSetUserPassword", "cognito-idp:AdminDeleteUser"}
ACTIONS = {
    "describe": {"cloudformation:DescribeStacks"},
    "smoke": {"cloudformation:DescribeStacks", *_USERS},
    "integration": {
        *_USERS,
        *("cloudwatch:DescribeAlarms", "cloudwatch:DescribeAlarmHistory", "cloudwatch:GetDashboard"),
        "xray:BatchGetTraces",
        *("lambda:ListEventSourceMappings", "lambda:GetFunctionConfiguration"),
        *("apigateway:GET", "logs:DescribeLogGroups"),
    },
    "loadtest": {
        *_USERS,
        *("cloudwatch:DescribeAlarms", "cloudwatch:DescribeAlarmHistory", "cloudwatch:GetDashboard"),
        *("cloudwatch:GetMetricData", "cloudwatch:ListMetrics", "dynamodb:Scan", "s3:ListBucket"),
        *("sqs:GetQueueAttributes", "sqs:ReceiveMessage", "sqs:ChangeMessageVisibility"),
        *("logs:CreateLogStream", "logs:PutLogEvents"),
    },
}
_CALL = re.compile(r"\buvx nox -s (?P<names>[\w ]+?)(?: -- (?P<arguments>.*))?$", re.MULTILINE)


def called(commands: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each session that a script's lines call, with its arguments."""
    for call in _CALL.finditer(commands):
        for name in call["names"].split():
            yield name, shlex.split(call["arguments"] or "")


def complaint(name: str, arguments: list[str]) -> str | None:
    """Say what is wrong with a call of a session, if anything is."""
    if name not in _sessions():
        return f"there is no session {name}"
    takes = _TAKES.get(name)
    if takes is None:
        return f"{name} takes no arguments" if arguments else None
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            takes(arguments)
    except SystemExit:
        return f"{name} does not take {shlex.join(arguments)}"
    return None


def _sessions() -> set[str]:
    module = ast.parse((ROOT / "noxfile.py").read_text())
    return {
        node.name
        for node in module.body
        if isinstance(node, ast.FunctionDef)
        if any("nox.session" in ast.unparse(decorator) for decorator in node.decorator_list)
    }


def _of_stages(session: str) -> Callable[[list[str]], object]:
    return lambda arguments: deploying._parser().parse_args([session, *arguments])


def _of_loadtest(arguments: list[str]) -> None:
    with patch.object(sys, "argv", ["loadtest", *arguments]):
        loadtest._options()


def _of_pytest(arguments: list[str]) -> None:
    if not all((ROOT / argument).exists() for argument in arguments):
        raise SystemExit


def _of_integration(arguments: list[str]) -> None:
    option, *_ = arguments
    if len(arguments) != 2 or f'"{option}"' not in (ROOT / "tests" / "deployed" / "conftest.py").read_text():
        raise SystemExit


_TAKES: dict[str, Callable[[list[str]], object]] = {
    **{session: _of_stages(session) for session in ("deploy", "describe", "smoke")},
    "integration": _of_integration,
    "loadtest": _of_loadtest,
    "pipeline": lambda arguments: pipeline.parser().parse_args(arguments),
    "test": _of_pytest,
}
