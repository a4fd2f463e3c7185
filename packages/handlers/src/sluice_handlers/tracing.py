"""Traces: each job's own, from its client's POST through both queues to its result.

A batch holds jobs of many clients, each with a trace of its own in its message's ``AWSTraceHeader``, while Lambda
gives the invocation another. So a function writes segments into the jobs' traces itself: one for the wait in the
queue, one for what it did, with a subsegment for each call to AWS, a batched call in each of its jobs' traces.
Only for jobs that are sampled, and the X-Ray SDK, which costs a cold start as much as boto3, is imported by the
first of them (X-Ray Developer Guide, "Segment documents"; Amazon SQS Developer Guide, "Amazon SQS and AWS X-Ray").
"""

from __future__ import annotations

import hashlib
import socket
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from sluice_handlers.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import TracebackType

    from aws_xray_sdk.core.models.segment import Segment
    from sluice_core.jobs import JobKey, Submission

# Before each document (X-Ray Developer Guide, "Sending segment documents to the X-Ray daemon").
_HEADER = b'{"format": "json", "version": 1}\n'


def trace_id(header: str) -> str:
    """Return the trace id in a trace header, or nothing if there is none."""
    return _parse(header).get("Root", "")


def owner_hash(owner: str) -> str:
    """Return what stands for an owner in a trace: the same for the same, and no name."""
    return hashlib.sha256(owner.encode()).hexdigest()[:16]


class Tracer:
    """One invocation's part in its jobs' traces; writes them when the block ends.

    Parameters
    ----------
    function, queue : str
        What the segments are called: the function's, and that of the wait before it.

    """

    _daemon: socket.socket | None = None

    def __init__(self, function: str, queue: str) -> None:
        self._function = function
        self._queue = queue
        self._began = time.time()
        self._segments: dict[JobKey, Segment] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _harmless():
            for segment in self._segments.values():
                ends = [child.end_time for child in segment.subsegments]
                segment.close(max(ends, default=self._began))
                self._emit(segment)

    def follow(self, submission: Submission, record: Mapping[str, Any]) -> Submission:
        """Take a job's message up in its trace, if it is sampled; return the job with the trace as it goes on."""
        with _harmless():
            return self._follow(submission, record)
        return submission

    def _follow(self, submission: Submission, record: Mapping[str, Any]) -> Submission:
        header = _parse(submission.trace_header)
        if header.get("Sampled") != "1" or "Root" not in header or submission.key in self._segments:
            return submission
        waited = _segment(self._queue, header["Root"], header.get("Parent"))
        waited.start_time = int(record["attributes"]["SentTimestamp"]) / 1000
        waited.close(max(self._began, waited.start_time))
        self._emit(waited)
        segment = _segment(self._function, header["Root"], waited.id)
        segment.start_time = self._began
        segment.put_annotation("jobId", submission.key.job_id)
        segment.put_annotation("jobType", submission.job_type)
        segment.put_annotation("ownerHash", owner_hash(submission.key.owner))
        self._segments[submission.key] = segment
        return replace(submission, trace_header=f"Root={header['Root']};Parent={segment.id};Sampled=1")

    @contextmanager
    def call(self, keys: Iterable[JobKey], service: str, operation: str) -> Iterator[None]:
        """Time a call to AWS that is made for these jobs."""
        with self._step(keys, service, "aws", {"operation": operation}):
            yield

    @contextmanager
    def work(self, key: JobKey) -> Iterator[None]:
        """Time a job's own work."""
        with self._step([key], "work", "local", {}):
            yield

    def end(self, key: JobKey, outcome: str) -> None:
        """Note what became of a job here."""
        with _harmless():
            if key in self._segments:
                self._segments[key].put_annotation("outcome", outcome)

    @contextmanager
    def _step(self, keys: Iterable[JobKey], name: str, namespace: str, aws: Mapping[str, str]) -> Iterator[None]:
        segments = [segment for key in keys if (segment := self._segments.get(key))]
        if not segments:
            yield
            return
        began, is_fault = time.time(), True
        try:
            yield
            is_fault = False
        finally:
            with _harmless():
                for segment in segments:
                    _add(segment, name, namespace, aws, began, is_fault=is_fault)

    @classmethod
    def _emit(cls, segment: Segment) -> None:
        if cls._daemon is None:
            from aws_xray_sdk.core.daemon_config import DaemonConfig  # noqa: PLC0415 - for sampled jobs only

            address = DaemonConfig()
            # Connected, unlike the SDK's own emitter's, so that it receives from nobody else.
            with ExitStack() as unless_connected:
                daemon = unless_connected.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                daemon.setblocking(False)
                daemon.connect((address.udp_ip, address.udp_port))
                cls._daemon = daemon
                unless_connected.pop_all()
        with suppress(OSError):  # nobody listens, or does not keep up
            cls._daemon.send(_HEADER + segment.serialize().encode())


@contextmanager
def _harmless() -> Iterator[None]:
    """Do without a trace rather than fail a job for it."""
    try:
        yield
    except Exception as error:
        logger.warning("not traced", error=type(error).__name__)


def _segment(name: str, root: str, parent: str | None) -> Segment:
    from aws_xray_sdk.core.models.segment import Segment  # noqa: PLC0415 - for sampled jobs only

    return Segment(name, traceid=root, parent_id=parent)


def _add(
    segment: Segment, name: str, namespace: str, aws: Mapping[str, str], began: float, *, is_fault: bool
) -> None:
    from aws_xray_sdk.core.models.subsegment import Subsegment  # noqa: PLC0415

    step = Subsegment(name, namespace, segment)
    step.start_time = began
    step.aws = dict(aws)
    if is_fault:
        step.add_fault_flag()
        segment.add_fault_flag()
    segment.add_subsegment(step)
    step.close(time.time())


def _parse(header: str) -> dict[str, str]:
    """Read ``Root=...;Parent=...;Sampled=...`` (X-Ray Developer Guide, "Tracing header")."""
    return dict(part.split("=", 1) for part in header.split(";") if "=" in part)
