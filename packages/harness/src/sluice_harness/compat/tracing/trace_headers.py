"""Trace headers and the decision to sample: what the first service a request meets settles for all that follow.

MiniStack samples every invocation of an actively traced function and decides nothing at the gateway. AWS's
services apply X-Ray's default rule, "the first request each second, and five percent of any additional requests",
unless the caller has decided: its `Sampled` is honoured, and so are its `Root` and `Parent` (X-Ray Developer
Guide, "Configuring sampling rules", "Tracing header"). The reservoir of the rule is shared by an account's
services; here each service has one, as long as X-Ray has not assigned quotas (ibid., "Sampling rule options").
"""

from __future__ import annotations

import os
import random
import re
import time
from dataclasses import dataclass

RATE = 0.05
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


class Sampler:
    """X-Ray's default rule, for each service by itself."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def decide(self, service: str) -> bool:
        """Whether to record the request that this service has just met, of which nobody has decided yet."""
        second = int(time.time())
        if self._last.get(service) != second:
            self._last[service] = second
            return True
        return random.random() < RATE  # noqa: S311 - sampling is no secret
