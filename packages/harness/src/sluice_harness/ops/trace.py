"""``sluice-ops trace``: where a job's time went, seen in its trace."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sluice_harness.compat.tracing.trace_headers import new_root
from sluice_harness.ops.output import bar, say, show_json
from sluice_harness.ops.stage import Failure
from sluice_harness.ops.waterfall import Trace, draw

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from mypy_boto3_xray import XRayClient

    from sluice_harness.ops.stage import Access

# What one call takes (AWS X-Ray API Reference, "GetTraceSummaries", "BatchGetTraces").
_LONGEST_RANGE = timedelta(hours=24)
_TRACES_A_CALL = 5


def show_traces(access: Access, options: argparse.Namespace) -> int:
    """Print every trace of a job, the oldest first."""
    with bar("looking for the job's traces"):
        found = find_traces(access.xray, options.id, options.hours)
    if not found:
        raise Failure(_not_found(options.id, options.hours))
    if options.json:
        traces = [{"id": one.id, "duration": one.duration, "segments": one.segments} for one in found]
        show_json({"jobId": options.id, "traces": traces})
        return 0
    for number, trace in enumerate(found):
        if number:
            say("")
        draw(trace)
    return 0


def find_traces(xray: XRayClient, job_id: str, hours: float) -> list[Trace]:
    """Return the traces that began within the last hours and are annotated with a job's id, the oldest first.

    Raises
    ------
    botocore.exceptions.ClientError
        X-Ray refused to tell.

    """
    expression = f"annotation.jobId = {json.dumps(job_id)}"
    pages = xray.get_paginator("get_trace_summaries")
    found: dict[str, None] = {}  # a trace may be in two pages while it grows
    for start, end in _ranges(datetime.now(UTC), timedelta(hours=hours)):
        for page in pages.paginate(StartTime=start, EndTime=end, FilterExpression=expression):
            found.update((summary["Id"], None) for summary in page["TraceSummaries"])
    return sorted(_read(xray, list(found)), key=lambda trace: trace.start)


def _ranges(now: datetime, length: timedelta) -> Iterator[tuple[datetime, datetime]]:
    start = now - length
    while start < now:
        end = min(start + _LONGEST_RANGE, now)
        yield start, end
        start = end


def _read(xray: XRayClient, trace_ids: list[str]) -> Iterator[Trace]:
    pages = xray.get_paginator("batch_get_traces")
    for first in range(0, len(trace_ids), _TRACES_A_CALL):
        segments: dict[str, list[str]] = {}
        durations: dict[str, float] = {}
        for page in pages.paginate(TraceIds=trace_ids[first : first + _TRACES_A_CALL]):
            for trace in page["Traces"]:
                segments.setdefault(trace["Id"], []).extend(one["Document"] for one in trace["Segments"])
                durations[trace["Id"]] = trace.get("Duration", 0.0)
        for trace_id, documents in segments.items():
            yield Trace(trace_id, durations[trace_id], [json.loads(text) for text in documents])


def _not_found(job_id: str, hours: float) -> str:
    return (
        f"no trace of job {job_id} began within the last {hours:g} hours. It was not sampled (X-Ray records the "
        "first request each second and, by the stage's rule, few of the others), or it is older (--hours), or its "
        "trace is not there yet: look again in some seconds. To have a submission traced for sure, send this "
        f"header with it, a new one each time:\n  X-Amzn-Trace-Id: Root={new_root()};Sampled=1"
    )
