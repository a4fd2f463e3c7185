"""DynamoDB stream event source mappings: a reader for each, its retries and its reports.

MiniStack invokes the function of a stream on the thread that polls the queues, so that a slow one holds up every
queue of the stage; it ignores `ReportBatchItemFailures`, `BisectBatchOnFunctionError` and `MaximumRetryAttempts`,
repeats a failed batch after a second for ever, and hands over what its filter leaves of the next records instead
of a batch.

Lambda reads each shard with one batch in flight and in order. It retries a failed batch until it succeeds, its
retries are spent or its records are too old; the rest goes to the on-failure destination. It splits the batch in
two first if told to, without counting that as a retry; after a report it retries from the lowest sequence number
reported. An empty report is a success; one that is not valid fails the whole batch (Lambda Developer Guide,
"Process DynamoDB records with Lambda", "Configuring partial batch response with DynamoDB and Lambda").

Closed by a thread for each mapping with something to read, which ends when it has read all. The engine has one
shard a table, so parallelization does nothing. It keeps each record for a day, as AWS does; here those that every
mapping has read are dropped but for the newest: this is a process's memory.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ministack.services import dynamodb, lambda_svc

from sluice_harness.compat.access import mapping_roles
from sluice_harness.compat.monitoring.metric_store import store
from sluice_harness.compat.patching import expect
from sluice_harness.compat.queues.event_source_mapping import failed_items, scope, tell

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Mapping = dict[str, Any]

# Records taken from the stream at a time: GetRecords' own maximum.
PAGE_RECORDS = 1000
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
RECORDS_KEPT = 2000

# A position is an index into the stream: nobody reads while records are dropped from its front.
_trimming = threading.Lock()


@dataclass(frozen=True)
class Record:
    """A stream record and the position from which to read on once it is done with."""

    body: dict[str, Any]
    after: int

    @property
    def sequence_number(self) -> str:
        """The identifier of the record in a batch response."""
        return str(self.body["dynamodb"]["SequenceNumber"])


def apply() -> None:
    """Replace the engine's poll of DynamoDB streams."""
    expect(lambda_svc, "_poll_dynamodb_streams")
    expect(lambda_svc, "_dynamodb_stream_positions")
    expect(lambda_svc, "_dynamodb_stream_positions_lock")
    expect(lambda_svc, "_esms")
    failure = ("esm", "func_rec", "batch", "stream_arn", "result", "condition")
    expect(lambda_svc, "_send_ddb_stream_failure_record", *failure)
    for name in ("stream_start_position", "stream_end_position"):
        expect(dynamodb, name, "table_name", "account_id", "region")
    expect(dynamodb, "stream_records_since", "table_name", "position", "limit", "account_id", "region")
    expect(dynamodb, "_stream_records")
    expect(dynamodb, "_stream_trimmed")
    lambda_svc._poll_dynamodb_streams = poll


def poll() -> bool:
    """Start a reader for every mapping that has something to read and none yet; True if there was one."""
    started = False
    for account, region, mapping in lambda_svc._iter_all_esms():
        with scope(account, region):
            reader = Reader(mapping)
            if mapping["UUID"] not in lambda_svc._esm_inflight and reader.has_more():
                lambda_svc._dispatch_esm_batch(mapping["UUID"], reader.run)
                started = True
    return started


class Reader:
    """Hands one mapping's records to its function, in order, until there are no more."""

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        self._table = _table_of(mapping["EventSourceArn"])
        self._pause = FIRST_PAUSE_SECONDS

    def has_more(self) -> bool:
        """Whether the mapping is to be served and its stream goes on."""
        return (
            self._is_live()
            and self._function() is not None
            and int(dynamodb.stream_end_position(self._table)) > self._position()
            and self._may_read()
        )

    def _may_read(self) -> bool:
        config = self._function()["config"]
        refusal = mapping_roles.refused(config, self._mapping["EventSourceArn"], mapping_roles.READ)
        if refusal:
            self._mapping["LastProcessingResult"] = f"PROBLEM: {refusal}"
        return refusal is None

    def run(self) -> None:
        """Deliver all there is; on the way out the engine wakes the poller, which sees what came meanwhile."""
        try:
            while self.has_more():
                batch, after = self._next_batch()
                tell(self._mapping, "PolledEventCount", after - self._position())
                tell(self._mapping, "FilteredOutEventCount", after - self._position() - len(batch))
                if self._deliver(batch):
                    self._move_to(after)
                    _forget(self._mapping["EventSourceArn"], self._table)
        except Exception:
            lambda_svc.logger.exception("reading %s failed", self._mapping["EventSourceArn"])
            time.sleep(LONGEST_PAUSE_SECONDS)  # the poller would start the next reader at once

    def _is_live(self) -> bool:
        """Whether the mapping exists, is enabled and reads the table's present stream."""
        return (
            self._table is not None
            and self._mapping["UUID"] in lambda_svc._esms
            and bool(self._mapping.get("Enabled", True))
            and (dynamodb._tables.get(self._table) or {}).get("LatestStreamArn") == self._mapping["EventSourceArn"]
        )

    def _function(self) -> Any:
        name, qualifier = self._mapping["FunctionName"], self._mapping.get("Qualifier")
        return lambda_svc._get_func_record_for_qualifier(name, qualifier)[0]

    # Where it has come to

    def _position(self) -> int:
        """Return where to read on: never before the oldest record, which may have expired unread."""
        oldest = int(dynamodb.stream_start_position(self._table))
        found = lambda_svc._dynamodb_stream_positions.get(self._mapping["UUID"])
        if found is None:
            from_start = self._mapping.get("StartingPosition") == "TRIM_HORIZON"
            found = oldest if from_start else int(dynamodb.stream_end_position(self._table))
            self._move_to(found)
        return max(int(found), oldest)

    def _move_to(self, position: int) -> None:
        with lambda_svc._dynamodb_stream_positions_lock:
            if self._mapping["UUID"] in lambda_svc._esms:  # else its position has been released for good
                lambda_svc._dynamodb_stream_positions[self._mapping["UUID"]] = position

    # What it reads

    def _next_batch(self) -> tuple[list[Record], int]:
        """Return a batch and the position after it; in a batching window, once it is full or over."""
        ends = time.monotonic() + float(self._mapping.get("MaximumBatchingWindowInSeconds") or 0)
        while True:
            batch, after = self._read()
            left = ends - time.monotonic()
            if left <= 0 or not batch or len(batch) >= self._batch_size():
                return batch, after
            time.sleep(min(left, FIRST_PAUSE_SECONDS))

    def _read(self) -> tuple[list[Record], int]:
        batch: list[Record] = []
        after = self._position()
        while page := self._page(after):
            kept = {id(one) for one in lambda_svc._apply_filter_criteria(page, self._mapping)}
            for after, body in enumerate(page, after + 1):  # noqa: B020
                if id(body) in kept:
                    batch.append(Record(body, after))
                    if len(batch) == self._batch_size():
                        return batch, after
        return batch, after

    def _page(self, position: int) -> list[dict[str, Any]]:
        with _trimming:
            page: list[dict[str, Any]] = dynamodb.stream_records_since(self._table, position, PAGE_RECORDS)
        return page

    def _batch_size(self) -> int:
        return int(self._mapping.get("BatchSize") or 100)

    # What it does with a batch

    def _deliver(self, records: list[Record]) -> bool:
        """Invoke the function until it has done with every record; False if the mapping ended before that."""
        waiting = [(records, 0)] if records else []
        while waiting:
            batch, retries = waiting.pop()
            if not self._is_live() or (function := self._function()) is None:
                return False
            tell(self._mapping, "IteratorAge", (time.time() - _written(batch[-1])) * 1000)
            result = lambda_svc._execute_function(function, {"Records": [one.body for one in batch]})
            done = self._count_done(result, batch)
            tell(self._mapping, "InvokedEventCount", 0 if result.get("throttle") else len(batch))
            tell(self._mapping, "FailedInvokeEventCount", len(batch) - done)
            if done:
                self._pause = FIRST_PAUSE_SECONDS
                self._move_to(batch[done - 1].after)
                retries = 0
            left = batch[done:]
            if left:
                waiting += self._to_retry(function, result, left, retries)
        return True

    def _count_done(self, result: dict[str, Any], batch: Sequence[Record]) -> int:
        """Return how many records, from the first, are not to come again."""
        if result.get("error"):
            self._mapping["LastProcessingResult"] = "PROBLEM: Function call failed"
            lambda_svc.logger.warning("%s failed a batch: %s", self._mapping["FunctionName"], result.get("body"))
            return 0
        failed: set[str] = set()
        if "ReportBatchItemFailures" in (self._mapping.get("FunctionResponseTypes") or []):
            failed = failed_items(result.get("body"), {one.sequence_number for one in batch})
        self._mapping["LastProcessingResult"] = "OK" if not failed else "PROBLEM: Some records failed"
        reported = (n for n, one in enumerate(batch) if one.sequence_number in failed)
        return next(reported, len(batch))

    def _to_retry(
        self, function: Any, result: dict[str, Any], batch: list[Record], retries: int
    ) -> Iterator[tuple[list[Record], int]]:
        """Yield the parts of a failed batch that are to be tried again, the last one first."""
        time.sleep(self._pause)
        # Lambda tries again more than once a minute, and a stage's minute may be short.
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS, store.clock.real_seconds(30))
        if result.get("error") and self._mapping.get("BisectBatchOnFunctionError") and len(batch) > 1:
            half = len(batch) // 2
            yield batch[half:], retries
            yield batch[:half], retries
        elif condition := self._gives_up(batch, retries):
            bodies, arn = [one.body for one in batch], self._mapping["EventSourceArn"]
            lambda_svc._send_ddb_stream_failure_record(self._mapping, function, bodies, arn, result, condition)
            kept = ((self._mapping.get("DestinationConfig") or {}).get("OnFailure") or {}).get("Destination")
            name = "OnFailureDestinationDeliveredEventCount" if kept else "DroppedEventCount"
            tell(self._mapping, name, len(batch))
            self._move_to(batch[-1].after)
        else:
            yield batch, retries + 1

    def _gives_up(self, batch: Sequence[Record], retries: int) -> str | None:
        """Return why a batch is not tried again, in Lambda's words; by default it always is."""
        most, oldest = (
            int(-1 if (value := self._mapping.get(name)) is None else value)
            for name in ("MaximumRetryAttempts", "MaximumRecordAgeInSeconds")
        )
        if 0 <= most <= retries:
            return "RetryAttemptsExhausted"
        return "MaxRecordAgeExceeded" if 0 < oldest < time.time() - _written(batch[0]) else None


def _written(record: Record) -> float:
    return float(record.body["dynamodb"]["ApproximateCreationDateTime"])


def _forget(stream_arn: str, table: str | None) -> None:
    """Drop from the front of a stream what each of its mappings has read, except the newest."""
    with _trimming:
        readers = [one["UUID"] for one in lambda_svc._esms.values() if one["EventSourceArn"] == stream_arn]
        positions = [lambda_svc._dynamodb_stream_positions.get(reader) for reader in readers]
        records = dynamodb._stream_records.get(table)
        if not records or not positions or None in positions:
            return
        oldest = int(dynamodb.stream_start_position(table))
        excess = min(*map(int, positions), oldest + len(records) - RECORDS_KEPT) - oldest
        if excess >= RECORDS_KEPT:  # seldom: it moves all that is left
            del records[:excess]
            dynamodb._stream_trimmed[table] = oldest + excess


def _table_of(stream_arn: str) -> str | None:
    """Return the table of a stream's ARN, arn:aws:dynamodb:REGION:ACCOUNT:table/NAME/stream/LABEL."""
    kind, *rest = stream_arn.split(":", 5)[-1].split("/")
    is_stream = ":dynamodb:" in stream_arn and kind == "table" and rest[1:2] == ["stream"]
    return rest[0] if is_stream else None
