"""Trace headers, as services pass them on (X-Ray Developer Guide, "Tracing header")."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass

_ROOT = re.compile(r"1-[0-9a-f]{8}-[0-9a-f]{24}")
_ENTITY = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class TraceHeader:
    """What `X-Amzn-Trace-Id` and `AWSTraceHeader` carry.

    Attributes
    ----------
    root : str
        The trace's id, ``1-<8 hex digits of its second>-<24 hex digits>``.
    parent : str or None
        The id of the segment or subsegment that made the call.
    sampled : bool or None
        Whether the trace is recorded; None while that is open.

    """

    root: str
    parent: str | None = None
    sampled: bool | None = None

    def __str__(self) -> str:
        parts = [f"Root={self.root}"]
        if self.parent:
            parts.append(f"Parent={self.parent}")
        if self.sampled is not None:
            parts.append(f"Sampled={int(self.sampled)}")
        return ";".join(parts)


def parse(text: str | None) -> TraceHeader | None:
    """Read a header; None if it names no valid trace, which is as if it had not been sent."""
    fields = dict(part.strip().split("=", 1) for part in (text or "").split(";") if "=" in part)
    if not _ROOT.fullmatch(fields.get("Root", "")):
        return None
    parent = fields.get("Parent", "")
    sampled = {"0": False, "1": True}.get(fields.get("Sampled", ""))
    return TraceHeader(fields["Root"], parent if _ENTITY.fullmatch(parent) else None, sampled)


def new_root() -> str:
    """Return the id of a new trace."""
    return f"1-{int(time.time()):08x}-{os.urandom(12).hex()}"


def new_id() -> str:
    """Return the id of a new segment or subsegment."""
    return os.urandom(8).hex()
