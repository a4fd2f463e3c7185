"""Segments of jobs: in each job's own trace, for sampled jobs only, and the SDK is not loaded for others."""

from __future__ import annotations

import gc
import json
import socket
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

# Before any test has a bad address: the SDK, loaded with one, drops a socket that is no concern of ours.
import aws_xray_sdk.core  # noqa: F401
import pytest
from sluice_core.jobs import JobKey
from sluice_core.work_queue import read_work_message
from sluice_handlers.tracing import Tracer, owner_hash, trace_id
from unit.lambda_events import ANN, handle, job, request_record, sqs_record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from sluice_core.ledger import JobLedger
    from unit.conftest import Dispatch
    from unit.external_stage import ExternalStage
    from unit.resources import Output, WorkQueue

ROOT = "1-5759e988-bd862e3fe1be46a994272793"
SAMPLED = f"Root={ROOT};Parent=53995c3f42cd8ad8;Sampled=1"
UNSAMPLED = f"Root={ROOT};Parent=53995c3f42cd8ad8;Sampled=0"


class Daemon:
    """Receives what is sent to the X-Ray daemon."""

    def __init__(self, receiver: socket.socket) -> None:
        self._receiver = receiver

    def segments(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        self._receiver.settimeout(0.2)
        while True:
            try:
                header, _, document = self._receiver.recv(65_536).partition(b"\n")
            except TimeoutError:
                return found
            assert json.loads(header) == {"format": "json", "version": 1}
            found.append(json.loads(document))


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        host, port = receiver.getsockname()
        monkeypatch.setenv("AWS_XRAY_DAEMON_ADDRESS", f"{host}:{port}")
        monkeypatch.setattr(Tracer, "_daemon", None)
        yield Daemon(receiver)
        if Tracer._daemon is not None:
            Tracer._daemon.close()


def traced(record: dict[str, Any], header: str) -> dict[str, Any]:
    record["attributes"]["AWSTraceHeader"] = header
    return record


def test_a_batch_s_calls_are_in_the_trace_of_each_sampled_job(
    processor: ModuleType, work_queue: WorkQueue, daemon: Daemon
) -> None:
    # Given a batch of two sampled jobs and one that is not
    other = SAMPLED.replace("5759e988", "5759e989")
    records = [
        traced(request_record("one", {}), SAMPLED),
        traced(request_record("two", {}), other),
        traced(request_record("three", {}), UNSAMPLED),
    ]

    handle(processor, *records)

    # Then the two have a wait and the function's part each, and nothing is in anybody else's trace
    segments = daemon.segments()
    assert sorted((one["trace_id"][2:10], one["name"]) for one in segments) == [
        ("5759e988", "request-queue"),
        ("5759e988", "sluice-processor"),
        ("5759e989", "request-queue"),
        ("5759e989", "sluice-processor"),
    ]
    for segment in segments:
        if segment["name"] == "sluice-processor":
            steps = segment["subsegments"]
            assert [(one["name"], one["namespace"]) for one in steps] == [("DynamoDB", "aws"), ("SQS", "aws")]
            assert segment["start_time"] <= steps[0]["start_time"] <= steps[0]["end_time"] <= segment["end_time"]
            assert segment["annotations"]["ownerHash"] == owner_hash(ANN) != ANN
        else:
            assert segment["parent_id"] == "53995c3f42cd8ad8"
    # and the work messages go on in them, or say that they are in none
    headers = {}
    for message in work_queue.receive():
        carried = message["Attributes"]["AWSTraceHeader"]
        headers[read_work_message(message["Body"]).key.job_id.strip("-")] = carried
    parts = {one["trace_id"]: one["id"] for one in segments if one["name"] == "sluice-processor"}
    assert headers["one"] == f"Root={ROOT};Parent={parts[ROOT]};Sampled=1"
    assert headers["three"] == UNSAMPLED


def test_a_start_is_in_the_trace_of_its_job(external: ExternalStage, daemon: Daemon) -> None:
    # Given a sampled job that waits for an external executor, beside one that is not
    external.queue(replace(job("one"), trace_header=SAMPLED), replace(job("two"), trace_header=UNSAMPLED))

    external.start()

    # Then its wait and its start are in its trace, and what was started goes on in it
    waited, start = daemon.segments()
    assert (waited["trace_id"], waited["name"], start["name"]) == (ROOT, "ecs-queue", "sluice-starter")
    assert (start["trace_id"], start["parent_id"]) == (ROOT, waited["id"])
    assert [one["name"] for one in start["subsegments"]] == ["S3", "DynamoDB", "ecs", "DynamoDB"]
    assert start["annotations"]["outcome"] == "started"
    started = [call.parameters["job"] for call in external.wire.made("Start")]
    headers = {one.key.job_id[:3]: one.trace_header for one in started}
    assert headers == {"one": f"Root={ROOT};Parent={start['id']};Sampled=1", "two": UNSAMPLED}


def test_work_that_fails_is_a_fault_of_its_trace(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, daemon: Daemon
) -> None:
    unlucky = replace(job("unlucky", do="transient"), trace_header=SAMPLED)
    ledger.record([unlucky])
    (record,) = dispatch(unlucky)

    handle(simulator, record)

    (segment,) = [one for one in daemon.segments() if one["name"] == "sluice-batch-simulator"]
    assert segment["fault"] is True
    assert [one["name"] for one in segment["subsegments"] if one.get("fault")] == ["work"]
    assert segment["annotations"]["outcome"] == "attempt failed"
    assert "made for" not in json.dumps(segment)


def test_a_job_that_comes_twice_has_one_segment(processor: ModuleType, daemon: Daemon) -> None:
    records = [traced(request_record("one", {}), SAMPLED), traced(request_record("one", {}), SAMPLED)]

    handle(processor, *records)

    assert [one["name"] for one in daemon.segments()] == ["request-queue", "sluice-processor"]


@pytest.mark.parametrize("header", ["", "Root=", "nonsense", "Sampled=1", f"Root={ROOT}", UNSAMPLED])
def test_without_a_sampled_trace_nothing_is_sent(processor: ModuleType, daemon: Daemon, header: str) -> None:
    handle(processor, traced(request_record("one", {}), header))

    assert daemon.segments() == []


def test_the_id_of_a_trace_is_its_root() -> None:
    assert trace_id(UNSAMPLED) == ROOT
    assert trace_id("") == trace_id("Self=1-2-3") == ""


def test_the_sdk_is_loaded_by_the_first_sampled_job() -> None:
    # Given a process of its own, as a cold start is
    code = f"""
import os, sys, time
os.environ["AWS_XRAY_DAEMON_ADDRESS"] = "127.0.0.1:9"
from sluice_core.jobs import JobKey, Submission
from sluice_handlers.tracing import Tracer
record = {{"attributes": {{"SentTimestamp": str(int(time.time() * 1000))}}}}
for header in ({UNSAMPLED!r}, {SAMPLED!r}):
    with Tracer("function", "queue") as tracer:
        tracer.follow(Submission(JobKey("o", "j"), "t", {{}}, 1, trace_header=header), record)
        with tracer.call([JobKey("o", "j")], "S3", "PutObject"):
            pass
    print("aws_xray_sdk" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "True"]


def test_a_function_s_own_time_runs_from_receive_to_its_last_call(daemon: Daemon) -> None:
    submission = replace(job("one"), trace_header=SAMPLED)
    sent_ms = int(time.time() * 1000) - 5_000
    record = sqs_record("{}")
    record["attributes"]["SentTimestamp"] = str(sent_ms)

    with Tracer("function", "queue") as tracer:
        tracer.follow(submission, record)
        with tracer.work(submission.key):
            pass
        last = time.time()
        time.sleep(0.01)  # for other jobs of the batch

    waited, segment = daemon.segments()
    assert waited["start_time"] == sent_ms / 1000
    assert 5 <= waited["end_time"] - waited["start_time"] < 15
    assert segment["end_time"] <= last


@pytest.mark.parametrize("address", ["nonsense", "host.invalid:2000", "127.0.0.1:notaport"])
def test_a_trace_that_cannot_be_written_fails_no_job(
    processor: ModuleType, ledger: JobLedger, daemon: Daemon, output: Output, *, address: str
) -> None:
    # Given a daemon's address that is of no use
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_XRAY_DAEMON_ADDRESS", address)

        # When a sampled job comes, then it is recorded as any other, and its line says so
        assert handle(processor, traced(request_record("one", {}), SAMPLED)) == []

    assert ledger.get(JobKey(ANN, "one".ljust(16, "-"))) is not None
    assert [line["outcome"] for line in output.logs if "outcome" in line] == ["recorded"]
    assert "not traced" in [line["message"] for line in output.logs]
    assert daemon.segments() == []
    gc.collect()  # a socket that we had left open would be told of here
