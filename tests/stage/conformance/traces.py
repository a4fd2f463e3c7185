"""Traces for the conformance tests: made by hand, sent as the X-Ray SDK sends them, read as a tool reads them."""

from __future__ import annotations

import json
import os
import socket
import time
from typing import TYPE_CHECKING, Any

from stage.conformance import apis
from stage.conformance.functions import create_function, eventually, invoke

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

    Document = dict[str, Any]

ADDRESS = """
import os
def handler(event, context):
    return os.environ["AWS_XRAY_DAEMON_ADDRESS"]
"""


def new_id() -> str:
    return os.urandom(8).hex()


def new_root() -> str:
    return f"1-{int(time.time()):08x}-{os.urandom(12).hex()}"


def segment(root: str, name: str = "worker", **more: Any) -> Document:
    """Return a finished segment of a second that has just passed."""
    now = time.time()
    return {"trace_id": root, "id": new_id(), "name": name, "start_time": now - 1, "end_time": now, **more}


def put(engine: Engine, *documents: Document | str) -> list[Document]:
    """Send segments to X-Ray's API, and return those that it did not take."""
    texts = [one if isinstance(one, str) else json.dumps(one) for one in documents]
    answer = engine.client("xray").put_trace_segments(TraceSegmentDocuments=texts)
    return list(answer["UnprocessedTraceSegments"])


def daemon_address(engine: Engine, function: str | None = None) -> tuple[str, int]:
    """Return where a function would send its segments: that of `ADDRESS`, or a new one."""
    host, _, port = str(invoke(engine, function or create_function(engine, ADDRESS))).partition(":")
    return host, int(port)


def invoke_in(lambda_: Any, trace_id: str, function: str, payload: bytes = b"{}") -> None:
    """Invoke a function in a sampled trace, whatever comes of it; with boto3's client."""

    def add_header(params: Document, **_: Any) -> None:
        params["headers"]["X-Amzn-Trace-Id"] = f"Root={trace_id};Sampled=1"

    lambda_.meta.events.register("before-call.lambda.Invoke", add_header)
    try:
        lambda_.invoke(FunctionName=function, Payload=payload)["Payload"].read()
    finally:
        lambda_.meta.events.unregister("before-call.lambda.Invoke", add_header)


def send(address: tuple[str, int], *datagrams: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for datagram in datagrams:
            sender.sendto(datagram, address)


def datagram(document: Document) -> bytes:
    return b'{"format": "json", "version": 1}\n' + json.dumps(document).encode()


def read(engine: Any, root: str) -> list[Document]:
    """Return a trace's segments, none if X-Ray does not know it."""
    found = engine.client("xray").batch_get_traces(TraceIds=[root])["Traces"]
    return [json.loads(one["Document"]) for trace in found for one in trace["Segments"]]


def awaited(engine: Engine, root: str, segments: int = 1) -> dict[str, Document]:
    """Return a trace's segments by origin or name, as soon as there are so many."""
    found = eventually(lambda: [all_ for all_ in [read(engine, root)] if len(all_) >= segments])
    assert found, f"the trace has {read(engine, root)}"
    return {one.get("origin", one["name"]): one for one in found[0]}


def summaries(engine: Engine, expression: str, **options: Any) -> list[Document]:
    """Return the summaries of the last hour's traces that match an expression, all pages of them."""
    now = time.time()
    asked = {"StartTime": now - 3600, "EndTime": now + 1, "FilterExpression": expression, **options}
    pages = engine.client("xray").get_paginator("get_trace_summaries").paginate(**asked)
    return [summary for page in pages for summary in page["TraceSummaries"]]


def traced(engine: Engine, integration: Document, **options: Any) -> apis.Api:
    """Deploy an API whose stage traces."""
    return apis.deploy(engine, integration, stage={"TracingEnabled": True}, **options)
