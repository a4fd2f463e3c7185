"""Leases: how long a claim holds a job, and how often its holder renews it.

A worker that dies stops renewing, so that its job is free for another within half a minute, however long its work.
"""

from __future__ import annotations

BEAT_EVERY_S = 10
LEASE_MS = 30_000
# A lease lasts this much longer than it says to its holder, for clocks that disagree.
_CLOCK_SKEW_MS = 5_000


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
