"""A job's trace: one trace id from the client's POST through both queues to the result."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from stage.running import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stage.running import Person, RunningStage

pytestmark = pytest.mark.xdist_group("stage")


def new_trace_id() -> str:
    return f"1-{int(time.time()):08x}-{os.urandom(12).hex()}"


def submit(person: Person, trace_id: str, *, sampled: int) -> str:
    header = f"Root={trace_id};Sampled={sampled}"
    answer = person.post(b"{}", **{"X-Amzn-Trace-Id": header})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["jobId"])


def documents(stage: RunningStage, trace_id: str) -> list[dict[str, Any]]:
    traces = stage.client("xray").batch_get_traces(TraceIds=[trace_id])["Traces"]
    return [json.loads(segment["Document"]) for trace in traces for segment in trace["Segments"]]


def everything(segments: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """All segments and their subsegments."""
    for segment in segments:
        yield segment
        yield from everything(segment.get("subsegments", []))


def whole(stage: RunningStage, trace_id: str) -> dict[str, dict[str, Any]]:
    """The segments by name, once the worker has written its own."""

    def look() -> dict[str, dict[str, Any]] | None:
        found = {segment["name"]: segment for segment in documents(stage, trace_id)}
        return found if "sluice-batch-simulator" in found else None

    return until(look, "the worker's segment")


def test_a_job_s_trace_shows_every_step_under_one_id(stage: RunningStage, ann: Person) -> None:
    # Given a job whose client asks for a trace
    trace_id = new_trace_id()
    job_id = submit(ann, trace_id, sampled=1)
    ann.ended(job_id)

    # When its trace is read, then it has the API, both queues and both functions
    segments = whole(stage, trace_id)
    assert {"request-queue", "sluice-processor", "work-queue", "sluice-batch-simulator"} <= segments.keys()
    (api,) = [one for one in segments.values() if one.get("origin") == "AWS::ApiGateway::Stage"]
    # and what they called
    called = {name: [one["name"] for one in everything([segment])][1:] for name, segment in segments.items()}
    assert called["sluice-processor"] == ["DynamoDB", "SQS"]
    assert called["sluice-batch-simulator"] == ["DynamoDB", "work", "S3", "DynamoDB"]
    assert "SQS" in called[api["name"]]
    # all under one id, each hung on what came before it
    assert {segment["trace_id"] for segment in segments.values()} == {trace_id}
    assert segments["sluice-processor"]["parent_id"] == segments["request-queue"]["id"]
    assert segments["work-queue"]["parent_id"] == segments["sluice-processor"]["id"]
    assert segments["sluice-batch-simulator"]["parent_id"] == segments["work-queue"]["id"]
    # in the order in which it happened
    order = ["request-queue", "sluice-processor", "work-queue", "sluice-batch-simulator"]
    starts = [segments[name]["start_time"] for name in order]
    assert starts == sorted(starts)
    assert all(segment["end_time"] >= segment["start_time"] for segment in everything(list(segments.values())))


def test_a_trace_is_found_by_its_job_and_does_not_name_the_owner(stage: RunningStage, ann: Person) -> None:
    trace_id = new_trace_id()
    job_id = submit(ann, trace_id, sampled=1)
    ann.ended(job_id)
    segments = whole(stage, trace_id)

    for name in ("sluice-processor", "sluice-batch-simulator"):
        annotations = segments[name]["annotations"]
        assert annotations.keys() == {"jobId", "jobType", "ownerHash", "outcome"}
        assert (annotations["jobId"], annotations["jobType"]) == (job_id, "weather-report")
    assert segments["sluice-processor"]["annotations"]["outcome"] == "recorded"
    assert segments["sluice-batch-simulator"]["annotations"]["outcome"] == "completed"
    assert ann.sub not in json.dumps(segments)

    # When it is asked for by the job's id, then it is the one that is found
    now = time.time()
    found = stage.client("xray").get_trace_summaries(
        StartTime=now - 300, EndTime=now + 5, FilterExpression=f'annotation.jobId = "{job_id}"'
    )
    assert [summary["Id"] for summary in found["TraceSummaries"]] == [trace_id]


def test_what_is_not_sampled_is_not_traced_but_its_id_is_logged(stage: RunningStage, ann: Person) -> None:
    trace_id = new_trace_id()
    since_ms = int(time.time() * 1000) - 1_000
    job_id = submit(ann, trace_id, sampled=0)
    ann.ended(job_id)

    # Then nobody has written a segment
    assert documents(stage, trace_id) == []
    # and both functions' lines of the job carry the trace's id all the same
    for function in (stage.description.functions.processor, stage.description.functions.batchSimulator):

        def lines(function: str = function) -> list[dict[str, Any]]:
            logged = [json.loads(line) for line in stage.log_lines(function, since_ms) if line.startswith("{")]
            return [line for line in logged if line.get("jobId") == job_id]

        (line,) = until(lines, "the function's line of the job")
        assert line["traceId"] == trace_id
