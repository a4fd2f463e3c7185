"""The job ledger: every change of a job's status is one conditional write to the job table.

No two actors can both win a change, so deliveries may repeat and functions may die anywhere. Jobs come in
batches, so writes go in batches: one BatchExecuteStatement carries up to 25 conditional writes, each with an
outcome of its own, at the price of plain writes. `sluice_core.changes` is the whole protocol.

An answer may be lost although the write was done, and the SDK then tries again and is refused. A refusal whose
row shows this very write counts as written.
"""

from __future__ import annotations

import random
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from sluice_core.changes import CHANGES
from sluice_core.clients import is_transient
from sluice_core.jobs import EarlierEnd, Job, JobError, JobKey, JobStatus, StoredResult, Submission
from sluice_core.rows import (
    EXECUTION_INDEX,
    conflict_text,
    error_map,
    history_list,
    new_row,
    number,
    read_row,
    result_map,
    string,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import BatchStatementRequestTypeDef, BatchStatementResponseTypeDef

    from sluice_core.jobs import Conflict

_BATCH_STATEMENTS = 25  # BatchExecuteStatement, Amazon DynamoDB API Reference
_BATCH_KEYS = 100  # BatchGetItem, ibid.
_MOST_PAUSES = 5
# A row keeps this many conflicts; whoever repeats a token more often has seen one by then.
_CONFLICTS_KEPT = 10


class Outcome(Enum):
    """What became of one conditional write."""

    WRITTEN = "written"
    REFUSED = "refused"  # the condition did not hold; `Write.job` is the row as it stands
    UNAVAILABLE = "unavailable"  # throttled, failed or unanswered: it may have been written or not; try again


@dataclass(frozen=True, slots=True)
class Write:
    """One write's outcome, and after a refusal the row that caused it (None if there is no such job)."""

    outcome: Outcome
    job: Job | None = None

    @property
    def is_written(self) -> bool:
        """Whether the change took place."""
        return self.outcome is Outcome.WRITTEN

    @property
    def has_ended(self) -> bool:
        """Whether it was refused because the job has ended."""
        return self.job is not None and not self.job.status.is_open


@dataclass(frozen=True, slots=True)
class Attempt:
    """A claim on a job: only its holder may end or release the job."""

    key: JobKey
    token: str


@dataclass(frozen=True, slots=True)
class Start:
    """One start of a job by an external executor.

    Attributes
    ----------
    after : str
        The token of the start whose place it takes; empty for a job's first.

    """

    key: JobKey
    token: str
    executor: str
    after: str = ""


class JobLedger:
    """The job table's one writer.

    Parameters
    ----------
    retention_s : int
        How long a row is kept after submission, in seconds; the result's lifecycle rule is the same.

    Methods raise botocore's ClientError for what no retry mends, such as a missing grant, and RuntimeError if
    DynamoDB calls a statement wrong. Whatever may pass is an outcome: `Outcome.UNAVAILABLE`.

    """

    def __init__(self, dynamodb: DynamoDBClient, table: str, retention_s: int) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._retention_s = retention_s

    # What happens to every job

    def record(self, submissions: Sequence[Submission]) -> list[Write]:
        """Enter new jobs as SUBMITTED. A refusal is a duplicate; its row is read back for the caller."""
        return self._insert([new_row(one, self._retention_s) for one in submissions], submissions)

    def claim(
        self, attempts: Sequence[Attempt], now_ms: int, lease_until_ms: int, handle: str = ""
    ) -> list[Write]:
        """Take jobs to work on in this invocation, whose request id is the handle, until the lease lapses."""
        values = {"now": number(now_ms), "leaseUntil": number(lease_until_ms), "handle": string(handle)}
        return self._as_attempt("claim", [(one, values) for one in attempts], JobStatus.RUNNING)

    def complete(self, done: Sequence[tuple[Attempt, StoredResult]], now_ms: int) -> list[Write]:
        """End jobs with their results."""
        values = [(one, {"now": number(now_ms), "result": result_map(result)}) for one, result in done]
        return self._as_attempt("complete", values, JobStatus.COMPLETED)

    # What happens to some

    def record_failed(self, submission: Submission, error: JobError, now_ms: int) -> Write:
        """Enter a job that can never run, so that its client sees why."""
        ended = {"status": string(JobStatus.FAILED), "endedAt": number(now_ms), "error": error_map(error)}
        [write] = self._insert([new_row(submission, self._retention_s) | ended], [submission])
        return _recognised(write, lambda job: job.error == error and job.ended_at == now_ms)

    def record_cancelled(self, key: JobKey, submitted_at: int, now_ms: int) -> Write:
        """Enter a job that was cancelled before it was recorded; its request, when it comes, finds it ended."""
        unknown = Submission(key, "", {}, submitted_at)
        ended = {"status": string(JobStatus.CANCELLED), "endedAt": number(now_ms), "digest": string("")}
        [write] = self._insert([new_row(unknown, self._retention_s) | ended], [unknown])
        return _recognised(write, lambda job: job.status is JobStatus.CANCELLED and job.ended_at == now_ms)

    def renew(self, attempts: Sequence[Attempt], lease_until_ms: int) -> list[Write]:
        """Keep jobs for longer; a refusal says that the attempt has lost its job."""
        values = {"leaseUntil": number(lease_until_ms)}
        return self._as_attempt("renew", [(one, values) for one in attempts], JobStatus.RUNNING)

    def fail(self, failed: Sequence[tuple[Attempt, JobError]], now_ms: int) -> list[Write]:
        """End jobs for good with an error."""
        values = [(one, {"now": number(now_ms), "error": error_map(error)}) for one, error in failed]
        return self._as_attempt("fail", values, JobStatus.FAILED)

    def release(self, attempts: Sequence[Attempt]) -> list[Write]:
        """Give jobs back to be tried again."""
        return self._as_attempt("release", [(one, {}) for one in attempts], JobStatus.SUBMITTED)

    def cancel(self, key: JobKey, now_ms: int) -> Write:
        """End an open job at its owner's wish, whoever works on it."""
        [write] = self._change("cancel", [{"key": string(str(key)), "now": number(now_ms)}])
        return _recognised(write, lambda job: job.status is JobStatus.CANCELLED and job.ended_at == now_ms)

    def abort(self, key: JobKey, error: JobError, now_ms: int) -> Write:
        """End an open job at an operator's wish, whoever works on it."""
        [write] = self._end_with("abort", [key], error, now_ms)
        return write

    def expire(self, keys: Sequence[JobKey], error: JobError, now_ms: int) -> list[Write]:
        """End open jobs that nobody holds and no message will bring back."""
        return self._end_with("expire", keys, error, now_ms)

    def reopen(self, failed: Job, now_ms: int, held_until_ms: int) -> Write:
        """Make a FAILED job SUBMITTED again, as it was seen; until then no sweeper ends it.

        Raises
        ------
        ValueError
            The job has not failed.

        """
        if failed.status is not JobStatus.FAILED or failed.ended_at is None or failed.error is None:
            raise ValueError(f"only a FAILED job can be brought back, not one that is {failed.status}")
        history = (*failed.history, EarlierEnd(failed.ended_at, failed.error))
        values = {
            "key": string(str(failed.key)),
            "seen": number(failed.ended_at),
            "heldUntil": number(max(now_ms, held_until_ms)),
            "history": history_list(history),
        }
        [write] = self._change("reopen", [values])
        return _recognised(write, lambda job: job.status.is_open and job.history == history)

    def note_conflict(self, key: JobKey, conflict: Conflict) -> None:
        """Let the job show that its token was used again for something else; nothing of the job changes."""
        # Refused if the row is gone, or full.
        with suppress(self._dynamodb.exceptions.ConditionalCheckFailedException):
            self._dynamodb.update_item(
                TableName=self._table,
                Key={"jobKey": string(str(key))},
                UpdateExpression="ADD conflicts :one",
                ConditionExpression=(
                    "attribute_exists(jobKey) AND (attribute_not_exists(conflicts) OR size(conflicts) < :most)"
                ),
                ExpressionAttributeValues={
                    ":one": {"SS": [conflict_text(conflict)]},
                    ":most": number(_CONFLICTS_KEPT),
                },
            )

    # What happens to jobs of an external executor

    def begin(self, starts: Sequence[Start], now_ms: int) -> list[Write]:
        """Note that jobs are about to be started; a refusal shows the row, maybe with another start."""
        values = [{**_of_start(one), "after": string(one.after), "now": number(now_ms)} for one in starts]
        return [
            _recognised(write, lambda job, one=one: job.start_token == one.token)  # type: ignore[misc]
            for one, write in zip(starts, self._change("begin", values), strict=True)
        ]

    def note_handles(self, started: Sequence[tuple[Start, str]], now_ms: int) -> list[Write]:
        """Note by which handles the executor knows what it has started."""
        values = [{**_of_start(one), "handle": string(handle), "now": number(now_ms)} for one, handle in started]
        return self._change("note", values)

    def claim_started(self, attempt: Attempt, start_token: str, now_ms: int, lease_until_ms: int) -> Write:
        """Take a job to work on as what was started for it."""
        values = {"startToken": string(start_token), "now": number(now_ms), "leaseUntil": number(lease_until_ms)}
        [write] = self._as_attempt("claim_started", [(attempt, values)], JobStatus.RUNNING)
        return write

    def fail_started(self, failed: Sequence[tuple[Start, JobError]], now_ms: int) -> list[Write]:
        """End jobs whose start, or whose execution, has failed and which nobody works on."""
        values = [{**_of_start(one), "now": number(now_ms), "error": error_map(error)} for one, error in failed]
        ends = [(one.token, error, now_ms) for one, error in failed]
        return [
            _recognised(write, lambda job, end=end: (job.start_token, job.error, job.ended_at) == end)  # type: ignore[misc]
            for end, write in zip(ends, self._change("fail_started", values), strict=True)
        ]

    def close(self, starts: Sequence[Start]) -> list[Write]:
        """Note that executions are over; only one caller's write is written."""
        return self._change("close", [_of_start(one) for one in starts])

    def executing(self, executor: str) -> dict[JobKey, int]:
        """Return the jobs whose executions are not closed, and since when, oldest first; may lag by a second."""
        pages = self._dynamodb.get_paginator("query").paginate(
            TableName=self._table,
            IndexName=EXECUTION_INDEX,
            KeyConditionExpression="executing = :executor",
            ExpressionAttributeValues={":executor": string(executor)},
        )
        items = (item for page in pages for item in page["Items"])
        return {JobKey(*item["jobKey"]["S"].split("#", 1)): int(item["executingSince"]["N"]) for item in items}

    # Reading

    def get(self, key: JobKey) -> Job | None:
        """Read one job, consistently."""
        row = {"jobKey": string(str(key))}
        answer = self._dynamodb.get_item(TableName=self._table, Key=row, ConsistentRead=True)
        return read_row(answer["Item"]) if "Item" in answer else None

    def get_many(self, keys: Iterable[JobKey], *, consistent: bool = False) -> dict[JobKey, Job]:
        """Read those of many jobs that are on record."""
        wanted = [{"jobKey": string(str(key))} for key in dict.fromkeys(keys)]
        found: dict[JobKey, Job] = {}
        throttled = 0
        while wanted:
            batch, wanted = wanted[:_BATCH_KEYS], wanted[_BATCH_KEYS:]
            answer = self._dynamodb.batch_get_item(
                RequestItems={self._table: {"Keys": batch, "ConsistentRead": consistent}}
            )
            for item in answer["Responses"].get(self._table, []):
                job = read_row(item)
                found[job.key] = job
            left = answer.get("UnprocessedKeys", {}).get(self._table)
            if left:
                wanted += left["Keys"]  # type: ignore[arg-type]
                throttled += 1
                _pause(throttled)
        return found

    # Writing

    def _as_attempt(
        self, change: str, writes: Sequence[tuple[Attempt, Mapping[str, Any]]], becomes: JobStatus
    ) -> list[Write]:
        values = [{"key": string(str(one.key)), "attempt": string(one.token), **more} for one, more in writes]
        return [
            _recognised(write, lambda job, one=one, more=more: _is_by(job, one, becomes, more.get("error")))  # type: ignore[misc]
            for (one, more), write in zip(writes, self._change(change, values), strict=True)
        ]

    def _end_with(self, change: str, keys: Sequence[JobKey], error: JobError, now_ms: int) -> list[Write]:
        values = {"now": number(now_ms), "error": error_map(error)}
        writes = self._change(change, [{"key": string(str(key)), **values} for key in keys])
        return [_recognised(write, lambda job: job.error == error and job.ended_at == now_ms) for write in writes]

    def _change(self, change: str, writes: Sequence[Mapping[str, Any]]) -> list[Write]:
        statement, names = CHANGES[change].statement(self._table)
        return self._execute(
            [
                {
                    "Statement": statement,
                    "Parameters": [values[name] for name in names],
                    "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                }
                for values in writes
            ]
        )

    def _insert(self, rows: Sequence[Mapping[str, Any]], submissions: Sequence[Submission]) -> list[Write]:
        statements: list[BatchStatementRequestTypeDef] = []
        for row in rows:
            names = ", ".join(f"'{name}': ?" for name in row)
            statements.append(
                {
                    "Statement": f'INSERT INTO "{self._table}" VALUE {{{names}}}',
                    "Parameters": list(row.values()),
                }
            )
        return [
            self._with_row(one.key) if write.outcome is Outcome.REFUSED else write
            for one, write in zip(submissions, self._execute(statements), strict=True)
        ]

    def _with_row(self, key: JobKey) -> Write:
        """Read the row that refused an insert, which PartiQL does not return."""
        try:
            return Write(Outcome.REFUSED, self.get(key))
        except (ClientError, BotoCoreError) as error:
            if not is_transient(error):
                raise
            return Write(Outcome.UNAVAILABLE)

    def _execute(self, statements: Sequence[BatchStatementRequestTypeDef]) -> list[Write]:
        writes: list[Write] = []
        for start in range(0, len(statements), _BATCH_STATEMENTS):
            batch = statements[start : start + _BATCH_STATEMENTS]
            try:
                answer = self._dynamodb.batch_execute_statement(Statements=batch)
            except (ClientError, BotoCoreError) as error:
                if not is_transient(error):
                    raise
                writes.extend([Write(Outcome.UNAVAILABLE)] * len(batch))
            else:
                writes.extend(_write(response) for response in answer["Responses"])
        return writes


def _pause(throttled: int) -> None:
    """Wait before what a throttled table left out is asked for again, or give up (DynamoDB, "BatchGetItem")."""
    if throttled > _MOST_PAUSES:
        error = {"Code": "ThrottlingException", "Message": "keys were left unprocessed again and again"}
        raise ClientError({"Error": error}, "BatchGetItem")  # type: ignore[typeddict-item]
    time.sleep(random.uniform(0, 0.05 * 2**throttled))  # noqa: S311 - jitter


def _of_start(start: Start) -> dict[str, Any]:
    of_it = {"key": str(start.key), "startToken": start.token, "executor": start.executor}
    return {name: string(value) for name, value in of_it.items()}


def _write(response: BatchStatementResponseTypeDef) -> Write:
    error = response.get("Error")
    if error is None:
        return Write(Outcome.WRITTEN)
    match error.get("Code"):
        case "DuplicateItem":
            return Write(Outcome.REFUSED)
        case "ConditionalCheckFailed":
            return Write(Outcome.REFUSED, read_row(error["Item"]) if error.get("Item") else None)
        case "ValidationError" | "AccessDenied" | "ResourceNotFound" as code:
            # Ours to mend, not to retry: say so at once.
            raise RuntimeError(f"the job table refused a statement: {code}: {error.get('Message')}")
        case _:
            return Write(Outcome.UNAVAILABLE)


def _is_by(job: Job, attempt: Attempt, status: JobStatus, error: Mapping[str, Any] | None) -> bool:
    """Whether a row shows an attempt's own write; a failure may be an operator's or the sweeper's instead."""
    its_error = error_map(job.error) if job.error else None
    return (job.status, job.attempt, its_error) == (status, attempt.token, error)


def _recognised(write: Write, shows_it: Callable[[Job], bool]) -> Write:
    """Count a refusal as written if its row shows this very write: the first answer was lost."""
    if write.outcome is Outcome.REFUSED and write.job is not None and shows_it(write.job):
        return Write(Outcome.WRITTEN)
    return write
