"""What a noisy owner did to the others, in words for the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluice_harness.loadtest.measures import quiet_p95_ms, quiet_service_p95_ms
from sluice_harness.review.figures import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sluice_harness.loadtest.evidence import Evidence

# Amazon SQS Developer Guide, "Amazon SQS fair queues".
_AWS = (
    "In AWS both queues are fair: each message carries its owner as MessageGroupId, and while one owner has a "
    "disproportionate share of the messages in flight, SQS delivers the other owners' first. The noisy one waits "
    "longer, and the others about as long as without it."
)
_LOCAL = "The local stage's queues give out messages in that order, too."


def fairness(evidence: Evidence) -> Iterator[str]:
    """Yield what the quiet owners felt, if the scenario has a noisy one."""
    if evidence.scenario.noisy_share is None:
        return
    yield (
        f"Quiet owners' end to end p95, as clients saw it: {_pair(evidence, quiet_p95_ms)}. "
        f"By the ledger, without the time between two polls: {_pair(evidence, quiet_service_p95_ms)}."
    )
    yield _AWS
    if evidence.stage.is_local:
        yield _LOCAL


def _pair(evidence: Evidence, measured: Callable[..., float | None]) -> str:
    before, under = measured(evidence, baseline=True), measured(evidence, baseline=False)
    return f"{duration(before)} alone, {duration(under)} beside the noisy owner"
