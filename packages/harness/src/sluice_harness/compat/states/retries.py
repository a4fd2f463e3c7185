"""A retry waits as its retrier says: no longer than `MaxDelaySeconds`, and with jitter.

MiniStack knows neither and waits sixty seconds at most, whatever the retrier says. Amazon States Language has
`MaxDelaySeconds`, "the maximum value, in seconds, up to which a retry interval can increase", and
`JitterStrategy`, which with FULL "determines" a wait at random between nothing and the interval (Step Functions
Developer Guide, "Handling errors in Step Functions workflows", "Retrying after an error"). The first retrier that
names the error decides, and has `MaxAttempts` of its own.

Closed by handing the engine a retrier whose interval is the wait to come. Beyond sixty seconds the engine's limit
stays.
"""

from __future__ import annotations

import random
from typing import Any

from ministack.services import stepfunctions

from sluice_harness.compat.patching import expect

Retrier = dict[str, Any]


def apply() -> None:
    """Let the wait before a retry be that of its retrier."""
    find = expect(stepfunctions, "_find_matching_retrier", "retriers", "error", "retry_counts")

    def find_with_wait(retriers: list[Retrier], error: str, retry_counts: dict[int, int]) -> tuple[Any, int]:
        retrier, index = find(retriers, error, retry_counts)
        if retrier is None:
            return None, index
        return {**retrier, "IntervalSeconds": _wait(retrier, retry_counts.get(index, 0)), "BackoffRate": 1}, index

    stepfunctions._find_matching_retrier = find_with_wait


def _wait(retrier: Retrier, retries: int) -> float:
    """Return how many seconds to wait before the next try, after so many retries."""
    seconds: float = retrier.get("IntervalSeconds", 1) * retrier.get("BackoffRate", 2.0) ** retries
    seconds = min(seconds, retrier.get("MaxDelaySeconds", seconds))
    return random.uniform(0, seconds) if retrier.get("JitterStrategy") == "FULL" else seconds  # noqa: S311
