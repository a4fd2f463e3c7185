"""SQS event source mappings: batch responses, batch sizes, windows, prompt polling.

MiniStack counts an unknown or empty `itemIdentifier` in `batchItemFailures` as success and deletes its
messages, stops a mapping for a second after each failed invocation, reads at most ten messages a batch,
ignores the batching window, sleeps up to a second although a retry is due, and takes a batch's handles from
messages that may have been received again since.

Lambda treats a batch as a complete success on an empty or null list or response, and as a complete failure on
an exception, an invalid JSON response, or an item identifier that is empty, null, under a bad key or of no
message in the batch (Lambda Developer Guide, "Handling errors for an SQS event source in Lambda"). A standard
queue's batch holds up to 10,000 messages when a window is set (ibid., "Creating and configuring an Amazon SQS
event source mapping").

Closed by a poller of our own for queues, beside the engine's for streams. It fills a mapping's concurrency in
one pass and sleeps until something is sent, a batch ends, or a hidden message or a window becomes due.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from ministack.services import lambda_svc, sqs

from sluice_harness.compat.access import mapping_roles
from sluice_harness.compat.patching import expect
from sluice_harness.compat.queues import trace_header
from sluice_harness.compat.queues.queue_store import MessageStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Mapping = dict[str, Any]

_resting: dict[str, float] = {}  # mapping -> until when, after a throttle

observers: list[Callable[[Mapping, str, float], None]] = []
"""Called with a mapping and how many of its events met what, by the name of Lambda's metric."""


def tell(mapping: Mapping, metric: str, value: float) -> None:
    """Tell the observers of a mapping."""
    for observer in observers:
        observer(mapping, metric, value)


IDLE_SECONDS = 1.0
# After a throttle Lambda's pollers slow down; a mapping here rests for so long.
THROTTLED_SECONDS = 1.0
# Traffic on queues without a mapping wakes the poller too: it looks at most 200 times a second.
WAKE_GAP_SECONDS = 0.005


def apply() -> None:
    """Replace the engine's poll loop and its poll of SQS mappings."""
    expect(lambda_svc, "_poll_sqs")
    expect(lambda_svc, "_poll_loop")
    for name in ("_poll_kinesis", "_poll_dynamodb_streams", "_iter_all_esms"):
        expect(lambda_svc, name)
    expect(lambda_svc, "_get_func_record_for_qualifier", "name", "qualifier")
    expect(lambda_svc, "_sqs_esm_concurrency", "esm", "func_rec", "config", "queue")
    expect(lambda_svc, "_dispatch_esm_batch", "esm_id", "fn", "args")
    expect(lambda_svc, "_apply_filter_criteria", "records", "esm")
    expect(lambda_svc, "_execute_function", "func", "event")
    expect(lambda_svc, "_esm_inflight")
    expect(sqs, "_receive_messages_for_esm", "queue_url", "max_number")
    expect(sqs, "_queue_by_arn", "arn")
    poller = Poller()
    lambda_svc._poll_sqs = poller.poll
    lambda_svc._poll_loop = poller.run


class Poller:
    """Hands the messages of mapped queues to their functions; runs on the engine's poller thread."""

    def __init__(self) -> None:
        self._windows: dict[str, float] = {}  # mapping -> when its open batching window ends
        self._wake_at = 0.0

    def run(self) -> None:
        """Poll for ever: at once while there is work, else when there may be some."""
        wake = lambda_svc._esm_wake
        woken = False
        while True:
            wake.clear()
            took = [_guarded(poll) for poll in (self.poll, *_stream_polls())]
            if any(took):
                woken = False
                continue
            if woken:
                time.sleep(WAKE_GAP_SECONDS)
            woken = wake.wait(max(0.0, self._wake_at - time.time()))

    def poll(self) -> bool:
        """Dispatch what every mapping may take now; True if there was anything."""
        self._wake_at = time.time() + IDLE_SECONDS
        took = False
        for account, region, mapping in lambda_svc._iter_all_esms():
            with scope(account, region):
                took = _guarded(self._poll_mapping, mapping) or took
        return took

    def _poll_mapping(self, mapping: Mapping) -> bool:
        queue = sqs._queue_by_arn(mapping.get("EventSourceArn", ""))
        if queue is None or not mapping.get("Enabled", True) or self._rests(mapping):
            return False
        function, config = _function(mapping)
        if function is None:
            return False
        limit = int(lambda_svc._sqs_esm_concurrency(mapping, function, config, queue))
        took = False
        while lambda_svc._esm_inflight.get(mapping["UUID"], 0) < limit:
            batch = self._next_batch(mapping, function, queue)
            if not batch:
                self._wake_for_hidden(queue)
                break
            # Anew for each batch: an alias may share its invocations out between two versions.
            _dispatch(mapping, _function(mapping)[0] or function, queue, batch)
            took = True
        return took

    def _rests(self, mapping: Mapping) -> bool:
        until = _resting.get(mapping["UUID"], 0.0)
        if until <= time.time():
            return False
        self._wake_at = min(self._wake_at, until)
        return True

    def _next_batch(self, mapping: Mapping, function: Any, queue: dict[str, Any]) -> list[dict[str, Any]]:
        store = queue["messages"]
        size = int(mapping.get("BatchSize") or 10)
        if isinstance(store, MessageStore):
            sqs._expire_retained(queue)
            if not self._is_due(mapping, store, size):
                return []
        if _has_problem(mapping, function, mapping_roles.RECEIVE):
            return []
        if not isinstance(store, MessageStore):
            fifo: list[dict[str, Any]] = sqs._receive_messages_for_esm(queue["url"], size)
            return fifo
        visibility = int(queue["attributes"].get("VisibilityTimeout", "30"))
        batch: list[dict[str, Any]] = sqs._collect_msgs(queue, size, visibility)
        return batch

    def _is_due(self, mapping: Mapping, store: MessageStore, size: int) -> bool:
        visible = store.counts()[0]
        if not visible:
            self._windows.pop(mapping["UUID"], None)
            return False
        window = float(mapping.get("MaximumBatchingWindowInSeconds") or 0)
        if not window:
            return True
        ends = self._windows.setdefault(mapping["UUID"], time.time() + window)
        if visible < size and time.time() < ends:
            self._wake_at = min(self._wake_at, ends)
            return False
        del self._windows[mapping["UUID"]]
        return True

    def _wake_for_hidden(self, queue: dict[str, Any]) -> None:
        store = queue["messages"]
        due = store.next_due() if isinstance(store, MessageStore) else None
        if due is not None:
            self._wake_at = min(self._wake_at, due)


def _stream_polls() -> tuple[Any, Any]:
    return lambda_svc._poll_kinesis, lambda_svc._poll_dynamodb_streams


def _guarded(poll: Any, *arguments: Any) -> bool:
    """Run one poll; whatever it meets, the thread and the other mappings must live."""
    try:
        return bool(poll(*arguments))
    except Exception:
        lambda_svc.logger.exception("an event source poll failed")
        return False


@contextlib.contextmanager
def scope(account: str, region: str) -> Iterator[None]:
    """Act as the mapping's owner: the engine keeps each account and region apart."""
    account_token = lambda_svc._request_account_id.set(account)
    region_token = lambda_svc._request_region.set(region)
    try:
        yield
    finally:
        lambda_svc._request_account_id.reset(account_token)
        lambda_svc._request_region.reset(region_token)


def _function(mapping: Mapping) -> tuple[Any, Any]:
    """Return the record of the function, and its configuration, that a mapping invokes now; none if it is gone."""
    found: tuple[Any, Any] = lambda_svc._get_func_record_for_qualifier(
        mapping["FunctionName"], mapping.get("Qualifier")
    )
    return found


def _has_problem(mapping: Mapping, function: Any, actions: tuple[str, ...]) -> bool:
    """Whether the function's role may not do one of these with the queue; the mapping then says so."""
    refusal = mapping_roles.refused(function["config"], mapping["EventSourceArn"], actions)
    if refusal:
        mapping["LastProcessingResult"] = f"PROBLEM: {refusal}"
    return refusal is not None


def _dispatch(mapping: Mapping, function: Any, queue: dict[str, Any], batch: list[dict[str, Any]]) -> None:
    records = lambda_svc._apply_filter_criteria([_record(message, mapping) for message in batch], mapping)
    tell(mapping, "PolledEventCount", len(batch))
    tell(mapping, "FilteredOutEventCount", len(batch) - len(records))
    if records:
        lambda_svc._dispatch_esm_batch(
            mapping["UUID"], _run_batch, mapping, function, queue["url"], batch, records
        )
    else:  # Lambda deletes what its filters drop
        _delete(mapping, function, queue["url"], batch)


def _record(message: dict[str, Any], mapping: Mapping) -> dict[str, Any]:
    record = {
        "messageId": message["id"],
        "receiptHandle": message["receipt_handle"],
        "body": message["body"],
        "attributes": sqs._build_sys_attrs(message, ["All"]),
        "messageAttributes": lambda_svc._sqs_message_attributes_to_camel_case(message["message_attributes"]),
        "md5OfBody": message["md5_body"],
        "eventSource": "aws:sqs",
        "eventSourceARN": mapping["EventSourceArn"],
        "awsRegion": mapping["EventSourceArn"].split(":")[3],
    }
    if message.get("md5_attrs"):
        record["md5OfMessageAttributes"] = message["md5_attrs"]
    return record


def _run_batch(
    mapping: Mapping, function: Any, url: str, batch: list[dict[str, Any]], records: list[dict[str, Any]]
) -> None:
    with trace_header.of_batch(records):
        result = lambda_svc._execute_function(function, {"Records": records})
    tell(mapping, "InvokedEventCount", 0 if result.get("throttle") else len(records))
    if result.get("throttle"):
        _resting[mapping["UUID"]] = time.time() + THROTTLED_SECONDS
    if result.get("error"):
        tell(mapping, "FailedInvokeEventCount", len(records))
        mapping["LastProcessingResult"] = "PROBLEM: Function call failed"
        lambda_svc.logger.warning("%s failed a batch: %s", mapping["FunctionName"], result.get("body"))
        return
    failed: set[str] = set()
    if "ReportBatchItemFailures" in (mapping.get("FunctionResponseTypes") or []):
        failed = failed_items(result.get("body"), {message["id"] for message in batch})
    mapping["LastProcessingResult"] = "OK" if not failed else "PROBLEM: Some records failed"
    tell(mapping, "FailedInvokeEventCount", len(failed))
    done = [message for message in batch if message["id"] not in failed]
    if _delete(mapping, function, url, done):
        tell(mapping, "DeletedEventCount", len(done))


def _delete(mapping: Mapping, function: Any, url: str, messages: list[dict[str, Any]]) -> bool:
    """Delete messages, unless the role may not: then they come again."""
    if _has_problem(mapping, function, mapping_roles.DELETE):
        return False
    with contextlib.suppress(sqs._Err):  # the queue was deleted meanwhile
        sqs._delete_messages_for_esm(url, {message["receipt_handle"] for message in messages})
    return True


def failed_items(response: Any, batch: set[str]) -> set[str]:
    """Return the ids of the items to retry, as `ReportBatchItemFailures` says: all when it is not valid."""
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
