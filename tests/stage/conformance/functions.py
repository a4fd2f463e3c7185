"""Functions and event source mappings for the conformance tests of queues and Lambda."""

from __future__ import annotations

import io
import json
import sys
import time
import uuid
import zipfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# What AWS has for functions that log, trace, and follow queues and streams.
EXECUTION_POLICIES = (
    "service-role/AWSLambdaSQSQueueExecutionRole",
    "service-role/AWSLambdaDynamoDBExecutionRole",
    "AWSXRayDaemonWriteAccess",
)
RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"


def unique(prefix: str) -> str:
    """Return a name that no other test of this engine uses."""
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def zipped(code: str) -> bytes:
    """Return a deployment package with ``code`` as its module ``index``."""
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("index.py", code)
    return package.getvalue()


def create_function(engine: Any, code: str, **settings: Any) -> str:
    """Create a function from the source of ``index.handler`` and return its name once it is active.

    Its role, of the same name, may do what `EXECUTION_POLICIES` allow.
    """
    name = unique("function")
    iam, client = engine.client("iam"), engine.client("lambda")
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
    for policy in EXECUTION_POLICIES:
        iam.attach_role_policy(RoleName=name, PolicyArn=f"arn:aws:iam::aws:policy/{policy}")
    client.create_function(
        FunctionName=name,
        Runtime=RUNTIME,
        Role=role["Role"]["Arn"],
        Handler="index.handler",
        Code={"ZipFile": zipped(code)},
        **{"Timeout": 5, **settings},
    )
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.02})
    return name


def permit(engine: Any, function: str, service: str, source: str) -> None:
    """Let one source of a service invoke a function."""
    engine.client("lambda").add_permission(
        FunctionName=function,
        StatementId=unique("permission"),
        Action="lambda:InvokeFunction",
        Principal=f"{service}.amazonaws.com",
        SourceArn=source,
    )


def create_queue(engine: Any, **attributes: str) -> tuple[str, str]:
    """Create a standard queue and return its URL and ARN."""
    client = engine.client("sqs")
    url = client.create_queue(QueueName=unique("queue"), Attributes=attributes)["QueueUrl"]
    return url, client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]


def invoke(engine: Any, name: str, payload: Any = None) -> Any:
    """Invoke a function and return its answer, decoded."""
    answer = engine.client("lambda").invoke(FunctionName=name, Payload=json.dumps(payload))
    return json.load(answer["Payload"])


def depth(engine: Any, url: str) -> dict[str, int]:
    """Return how many messages of a queue are visible, in flight and delayed."""
    prefix = "ApproximateNumberOfMessages"
    found = engine.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return {
        "visible": int(found[prefix]),
        "in flight": int(found[f"{prefix}NotVisible"]),
        "delayed": int(found[f"{prefix}Delayed"]),
    }


def log_lines(engine: Any, group: str) -> list[str]:
    """Return what is in a log group, in order."""
    pages = engine.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group)
    return [event["message"] for page in pages for event in page["events"]]


def eventually(probe: Callable[[], Any], within: float = 10.0) -> Any:
    """Return ``probe()`` as soon as it is true, or its last value after ``within`` seconds."""
    for _ in _ticks(within):
        if found := probe():
            return found
    return probe()


def _ticks(within: float) -> Iterator[None]:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        yield
        time.sleep(0.02)
