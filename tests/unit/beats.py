"""Waiting for the heart to beat, and losing a job to another meanwhile."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sluice_core.ledger import Attempt
from unit.workloads_for_tests import LONGEST_WAIT_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from sluice_core.jobs import Submission
    from sluice_core.ledger import JobLedger
    from unit.wire_faults import Wire

BEAT_S = 0.03
THEIRS = "attempt-of-another"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONGEST_WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def wait_for_beats(wire: Wire, number: int = 2) -> None:
    """Wait until so many beats have begun and ended since."""
    already = len(wire.made("ChangeMessageVisibilityBatch"))
    wait_until(lambda: len(wire.made("ChangeMessageVisibilityBatch")) > already + number)


def overtake(ledger: JobLedger, submission: Submission, now_ms: int) -> None:
    """Have another worker claim a job, as if its lease had lapsed."""
    [write] = ledger.claim([Attempt(submission.key, THEIRS)], now_ms + 10**6, now_ms + 2 * 10**6)
    assert write.is_written
