"""Where segments wait to be read: the newest of them, by trace.

MiniStack has no X-Ray. AWS keeps traces for 30 days and puts a subsegment that was sent by itself where its
parent is; a document sent again under the same id replaces the one before it (X-Ray Developer Guide, "AWS X-Ray
segment documents", "Sending segment documents to AWS X-Ray"). This is a process's memory, so it keeps a number
of segments, as text, and forgets the oldest traces.
"""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from sluice_harness.compat.tracing.trace_headers import parse

SEGMENTS_KEPT = 50_000
DOCUMENT_BYTES = 64 * 1024
NAME_CHARACTERS = 200
_ID = re.compile(r"[0-9a-f]{16}")
_OBJECTS = ("annotations", "http", "aws")

Document = dict[str, Any]


class InvalidSegmentError(Exception):
    """A segment that X-Ray does not take.

    Attributes
    ----------
    segment_id : str or None
        Its id, where that could be read.
    code : str
        X-Ray's error code.

    """

    def __init__(self, segment_id: str | None, code: str) -> None:
        super().__init__(f"Invalid segment. ErrorCode: {code}")
        self.segment_id = segment_id
        self.code = code


@dataclass(frozen=True, slots=True)
class Segment:
    """A document as it was sent, and what places it; times in epoch seconds, no end while it is in progress."""

    id: str
    trace_id: str
    start: float
    end: float | None
    text: str


@dataclass(slots=True)
class Trace:
    """A trace's segments by id, in the order of their arrival, and when the newest came."""

    id: str
    segments: dict[str, Segment] = field(default_factory=dict)
    updated: float = 0.0

    @property
    def start(self) -> float:
        """When its earliest segment started."""
        return min(segment.start for segment in self.segments.values())

    @property
    def duration(self) -> float:
        """Seconds from the earliest start to the latest end."""
        return max(segment.end or segment.start for segment in self.segments.values()) - self.start

    def documents(self) -> list[Document]:
        """Return its segments, each with the subsegments that were sent by themselves and belong to it."""
        sent: list[Document] = [json.loads(segment.text) for segment in self.segments.values()]
        entities: dict[str, Document] = {}
        for document in sent:
            _index(document, entities)
        whole = []
        for document in sent:
            parent = entities.get(document.get("parent_id", ""))
            if document.get("type") == "subsegment" and parent is not None and parent is not document:
                _adopt(parent, document)
            else:
                whole.append(document)
        return whole


class TraceStore:
    """The newest traces. Usable from several threads."""

    def __init__(self, kept: int = SEGMENTS_KEPT) -> None:
        self._kept = kept
        self._traces: dict[str, Trace] = {}
        self._count = 0
        self._lock = threading.Lock()

    def put(self, text: str) -> None:
        """Keep a document.

        Raises
        ------
        InvalidSegmentError
            It is none, or larger than 64 KB.

        """
        segment = read_segment(text)
        with self._lock:
            trace = self._traces.setdefault(segment.trace_id, Trace(segment.trace_id))
            self._count += segment.id not in trace.segments
            # Copied, so that whoever reads the trace meanwhile reads it as it was.
            trace = Trace(trace.id, {**trace.segments, segment.id: segment}, time.time())
            self._traces[segment.trace_id] = trace
            while self._count > self._kept:
                oldest = self._traces.pop(next(iter(self._traces)))
                self._count -= len(oldest.segments)

    def get(self, trace_id: str) -> Trace | None:
        """Return a trace, if it is known."""
        with self._lock:
            return self._traces.get(trace_id)

    def all(self) -> list[Trace]:
        """Return every trace, the one that was first heard of first."""
        with self._lock:
            return list(self._traces.values())


def read_segment(text: str) -> Segment:
    """Check a document as X-Ray does.

    Raises
    ------
    InvalidSegmentError
        What is wrong with it, by X-Ray's code.

    """
    try:
        document = json.loads(text)
    except ValueError:
        raise InvalidSegmentError(None, "ParseError") from None
    if not isinstance(document, dict):
        raise InvalidSegmentError(None, "ParseError")
    identifier = document.get("id")
    known = identifier if isinstance(identifier, str) else None
    code = _complaint(document, text)
    if code or known is None:
        raise InvalidSegmentError(known, code or "MissingId")
    end = document.get("end_time")
    return Segment(known, document["trace_id"], document["start_time"], end, text)


def _complaint(document: Document, text: str) -> str | None:
    end, is_open = document.get("end_time"), document.get("in_progress") is True
    is_child = document.get("type") == "subsegment"
    name = document.get("name")
    trace_id, parent = document.get("trace_id"), document.get("parent_id")
    is_trace_id = isinstance(trace_id, str) and parse(f"Root={trace_id}") is not None
    rules = [
        (len(text.encode()) <= DOCUMENT_BYTES, "DocumentSizeExceeded"),
        ("id" in document, "MissingId"),
        (_is_id(document.get("id")), "InvalidId"),
        ("name" in document, "MissingName"),
        (isinstance(name, str) and 0 < len(name) <= NAME_CHARACTERS, "InvalidName"),
        ("trace_id" in document, "MissingTraceId"),
        (is_trace_id, "InvalidTraceId"),
        (_is_number(document.get("start_time")), "InvalidStartTime"),
        (_is_number(end) or (is_open and end is None), "InvalidEndTime"),
        (_is_id(parent) or (parent is None and not is_child), "InvalidParentId"),
        (_are_children(document.get("subsegments", [])), "InvalidSubsegments"),
        (all(isinstance(document.get(name, {}), dict) for name in _OBJECTS), "InvalidDocument"),
    ]
    return next((code for holds, code in rules if not holds), None)


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_children(found: Any) -> bool:
    return isinstance(found, list) and all(
        isinstance(one, dict)
        and _is_id(one.get("id"))
        and isinstance(one.get("name"), str)
        and _is_number(one.get("start_time"))
        and isinstance(one.get("annotations", {}), dict)
        and _are_children(one.get("subsegments", []))
        for one in found
    )


def _index(document: Document, entities: dict[str, Document]) -> None:
    entities[document["id"]] = document
    for child in document.get("subsegments", []):
        _index(child, entities)


def _adopt(parent: Document, child: Document) -> None:
    own = [one for one in parent.get("subsegments", []) if one["id"] != child["id"]]
    parent["subsegments"] = [*own, child]
