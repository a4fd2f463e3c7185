"""Lambda log streams: one for each execution environment, as long as the local stage can keep.

MiniStack opens a new log stream for every invocation, named otherwise than the function is told, and keeps
START, END and REPORT whatever the logging configuration says: a few hundred invocations a second fill its
memory within minutes and make every query of a log group slower.

Lambda writes to one stream per execution environment, `AWS_LAMBDA_LOG_STREAM_NAME` (Lambda Developer Guide,
"Sending Lambda function logs to CloudWatch Logs"); with `LogFormat: JSON`, platform lines are JSON and a
`SystemLogLevel` of WARN leaves out those of an invocation that went well (ibid., "Configuring JSON and plain
text log formats", "Log-level filtering").

Lambda writes them with the function's role: what that may not do, such as to create the stream, leaves the lines
lost, and the function as it is (ibid., "Defining Lambda function permissions with an execution role").

Closed by naming a worker's stream as it starts and writing each invocation's lines there. The newest lines
only are kept: this is a process's memory, not CloudWatch.
"""

from __future__ import annotations

import json
import time
import uuid
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from ministack.services import cloudwatch_logs, lambda_svc

from sluice_harness.compat.access import service_roles
from sluice_harness.compat.patching import expect

LINES_KEPT = 20_000

_current: ContextVar[str | None] = ContextVar("sluice_log_stream", default=None)


def apply() -> None:
    """Write Python functions' logs to their environments' streams."""
    emit = expect(
        lambda_svc,
        "_emit_lambda_logs",
        *("func", "request_id", "log_text", "error", "duration_ms", "log_source"),
    )
    expect(cloudwatch_logs, "_append_log_events", "stream", "events")
    expect(cloudwatch_logs, "_fanout_to_subscription_filters", "group_name", "stream_name", "events")
    expect(cloudwatch_logs, "_make_group_arn", "name")
    expect(lambda_svc, "_probe_peak_memory_mb", "func")

    def emit_to_environment(
        func: Any, request_id: str, log_text: str, error: bool, duration_ms: int, **source: Any
    ) -> None:
        stream = _current.get()
        if stream is None or source.get("log_source"):
            emit(func, request_id, log_text, error, duration_ms, **source)
            return
        _current.set(None)
        config = func.get("config") or func
        before, after = _platform_lines(func, config, request_id, duration_ms, error=error)
        _write(config, stream, [*before, *log_text.splitlines(), *after])

    lambda_svc._emit_lambda_logs = emit_to_environment


def enter(worker: Any, *, cold: bool) -> None:
    """Log what follows in this context to the worker's stream, a new one if it starts now."""
    if cold or not hasattr(worker, "log_stream"):
        version = worker.config.get("Version", "$LATEST")
        worker.log_stream = f"{datetime.now(UTC):%Y/%m/%d}/[{version}]{uuid.uuid4().hex}"
    _current.set(worker.log_stream)


def current() -> str | None:
    """Return the stream of the environment that is being used in this context."""
    return _current.get()


def _group(config: dict[str, Any]) -> str:
    return (config.get("LoggingConfig") or {}).get("LogGroup") or f"/aws/lambda/{config.get('FunctionName')}"


def _platform_lines(
    func: Any, config: dict[str, Any], request_id: str, duration: int, *, error: bool
) -> tuple[list[str], list[str]]:
    logging = config.get("LoggingConfig") or {}
    version, memory = config.get("Version", "$LATEST"), config.get("MemorySize", 128)
    if logging.get("LogFormat") != "JSON":
        used = lambda_svc._probe_peak_memory_mb(func)
        report = (
            f"REPORT RequestId: {request_id}\tDuration: {duration} ms\tBilled Duration: {duration} ms\t"
            f"Memory Size: {memory} MB\tMax Memory Used: {used} MB"
        )
        start = f"START RequestId: {request_id} Version: {version}"
        return [start], [f"END RequestId: {request_id}", report]
    metrics = {"durationMs": duration, "billedDurationMs": duration, "memorySizeMB": memory}
    status = "error" if error else "success"
    report = _platform_json("platform.report", requestId=request_id, metrics=metrics, status=status)
    if logging.get("SystemLogLevel") == "WARN":
        return [], [report] if error else []
    return [_platform_json("platform.start", requestId=request_id, version=version)], [report]


def _platform_json(kind: str, **record: Any) -> str:
    moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"time": moment, "type": kind, "record": record})


def _write(config: dict[str, Any], stream_name: str, lines: list[str]) -> None:
    group_name = _group(config)
    if lines and _may_write(config, group_name, stream_name):
        append(group_name, stream_name, lines)


def append(group_name: str, stream_name: str, lines: list[str]) -> None:
    """Add lines to a log stream, which is made, and its group, where they are not there."""
    now = int(time.time() * 1000)
    group = cloudwatch_logs._log_groups.setdefault(group_name, _new_group(group_name, now))
    stream = group["streams"].setdefault(stream_name, _new_stream(now))
    events = [{"timestamp": now, "message": line, "ingestionTime": now} for line in lines]
    cloudwatch_logs._append_log_events(stream, events)
    if len(stream["events"]) > LINES_KEPT:
        del stream["events"][: LINES_KEPT // 4]
    cloudwatch_logs._fanout_to_subscription_filters(group_name, stream_name, events)


def _may_write(config: dict[str, Any], group_name: str, stream_name: str) -> bool:
    streams = cloudwatch_logs._log_groups.get(group_name, {}).get("streams", {})
    arn = cloudwatch_logs._make_group_arn(group_name).removesuffix(":*")
    calls = [("logs:PutLogEvents", f"{arn}:log-stream:{stream_name}")]
    if stream_name not in streams:
        calls.append(("logs:CreateLogStream", f"{arn}:log-stream:"))  # its name is not in question
    if group_name not in cloudwatch_logs._log_groups:
        calls.append(("logs:CreateLogGroup", f"{arn}:log-stream:"))
    return not any(service_roles.of_function(config, *call) for call in calls)


def _new_group(name: str, now: int) -> dict[str, Any]:
    arn = cloudwatch_logs._make_group_arn(name)
    empty: dict[str, Any] = {"tags": {}, "subscriptionFilters": {}, "streams": {}}
    return {"arn": arn, "creationTime": now, "retentionInDays": None, **empty}


def _new_stream(now: int) -> dict[str, Any]:
    unknown = dict.fromkeys(("firstEventTimestamp", "lastEventTimestamp", "lastIngestionTime"))
    return {"events": [], "uploadSequenceToken": "1", "creationTime": now, **unknown}
