"""What a function's answer says about its batch, as Lambda reads `ReportBatchItemFailures`."""

from __future__ import annotations

from typing import Any


def failed_messages(response: Any, batch: set[str]) -> set[str]:
    """Return the ids of the messages to retry: the reported ones, or all when the report is not valid."""
    if response is None:
        return set()
    if not isinstance(response, dict):
        return batch
    failures = response.get("batchItemFailures")
    if failures is None:
        return set()
    if not isinstance(failures, list) or not all(isinstance(failure, dict) for failure in failures):
        return batch
    reported = [failure.get("itemIdentifier") for failure in failures]
    known = {identifier for identifier in reported if isinstance(identifier, str) and identifier in batch}
    # An identifier of no message means that nothing is known about any of them.
    return known if len(known) == len(set(map(repr, reported))) else batch
