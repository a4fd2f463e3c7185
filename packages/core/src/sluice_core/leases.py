"""Leases: how long a claim holds a job, and how often its holder renews it.

A worker that dies stops renewing, so that its job is free for another within half a minute, however long its work.
"""

from __future__ import annotations

import random

BEAT_EVERY_S = 10
LEASE_MS = 30_000
# A lease lasts this much longer than it says to its holder, for clocks that disagree.
_CLOCK_SKEW_MS = 5_000
# Whoever meets another's lease comes back this much after its end, and not all at the same time.
_AFTER_S = (1, 5)


def lease_until(now_ms: int, lives_ms: int = LEASE_MS) -> int:
    """Return until when a lease lasts that begins now.

    Parameters
    ----------
    now_ms : int
        Epoch milliseconds.
    lives_ms : int
        How long the holder may yet live, in milliseconds, if that is less than a lease: a Lambda that is killed
        at its timeout needs none any more.

    Returns
    -------
    int
        Epoch milliseconds.

    """
    return now_ms + min(LEASE_MS, lives_ms) + _CLOCK_SKEW_MS


def free_in_s(lease_until_ms: int | None, now_ms: int) -> float:
    """Return in how many seconds to come back for a job whose lease lasts until then, in epoch milliseconds."""
    left_ms = max(0, (lease_until_ms or 0) - now_ms)
    return left_ms / 1000 + random.uniform(*_AFTER_S)  # noqa: S311 - jitter
