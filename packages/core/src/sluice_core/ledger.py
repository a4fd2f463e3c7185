"""The job ledger: every change of a job's status is one conditional write to the job table.

No two actors can both win a change, so deliveries may repeat and functions may die anywhere. Jobs come in
batches, so writes go in batches: one BatchExecuteStatement carries up to 25 conditional writes, each with an
outcome of its own, at the price of plain writes.

========  =================================================  =========================================
change    holds only if                                      afterwards
========  =================================================  =========================================
record    there is no such job                               SUBMITTED (or FAILED, if it never can run)
claim     SUBMITTED or RUNNING, and no lease holds           RUNNING, my attempt, lease set
complete  RUNNING, my attempt                                COMPLETED, result
fail      RUNNING, my attempt                                FAILED, error
release   RUNNING, my attempt                                SUBMITTED, to be claimed again
========  =================================================  =========================================
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from sluice_core.jobs import Job, JobError, JobKey, JobStatus, StoredResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import BatchStatementRequestTypeDef, BatchStatementResponseTypeDef

    from sluice_core.jobs import Submission

_BATCH_STATEMENTS = 25  # BatchExecuteStatement, Amazon DynamoDB API Reference
# One owner's listing is spread over this many index partitions (1,000 writes/s each).
LIST_SHARDS = 4


class Outcome(Enum):
    """What became of one conditional write."""

    WRITTEN = "written"
    REFUSED = "refused"  # the condition did not hold; `Write.job` is the row as it stands
    UNAVAILABLE = "unavailable"  # throttled or failed; try again


@dataclass(frozen=True, slots=True)
class Write:
    """One write's outcome, and after a refusal the row that caused it (None if there is no such job)."""

    outcome: Outcome
    job: Job | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A claim on a job: only its holder may end or release the job."""

    key: JobKey
    token: str


class JobLedger:
    """The job table's one reader and writer.

    Parameters
    ----------
    retention_s : int
        How long a row is kept after submission, in seconds; the result's lifecycle rule is the same.

    All methods raise botocore's ClientError when the whole call fails; then nothing is known of its writes.

    """

    def __init__(self, dynamodb: DynamoDBClient, table: str, retention_s: int) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._retention_s = retention_s

    def record(self, submissions: Sequence[Submission]) -> list[Write]:
        """Enter new jobs as SUBMITTED. A refusal is a duplicate; its row is read back for the caller."""
        return self._insert([self._new_row(one) for one in submissions], submissions)

    def record_failed(self, submission: Submission, error: JobError, now_ms: int) -> Write:
        """Enter a job that can never run, so that its client sees why."""
        row = self._new_row(submission) | {
            "status": _string(JobStatus.FAILED),
            "endedAt": _number(now_ms),
            "error": _error(error),
        }
        return self._insert([row], [submission])[0]

    def claim(self, attempts: Sequence[Attempt], now_ms: int, lease_until_ms: int) -> list[Write]:
        """Take jobs to work on until the lease lapses."""
        return self._update(
            """SET "status" = 'RUNNING' SET "attempt" = ? SET "attempts" = "attempts" + 1
               SET "leaseUntil" = ? SET "startedAt" = ?
               WHERE "jobKey" = ?
               AND "status" IN ['SUBMITTED', 'RUNNING'] AND "leaseUntil" < ?""",
            [
                [
                    _string(one.token),
                    _number(lease_until_ms),
                    _number(now_ms),
                    _string(str(one.key)),
                    _number(now_ms),
                ]
                for one in attempts
            ],
        )

    def complete(self, done: Sequence[tuple[Attempt, StoredResult]], now_ms: int) -> list[Write]:
        """End jobs with their results."""
        return self._update(
            """SET "status" = 'COMPLETED' SET "endedAt" = ? SET "result" = ?
               WHERE "jobKey" = ? AND "status" = 'RUNNING' AND "attempt" = ?""",
            [
                [_number(now_ms), _result(result), _string(str(one.key)), _string(one.token)]
                for one, result in done
            ],
        )

    def fail(self, failed: Sequence[tuple[Attempt, JobError]], now_ms: int) -> list[Write]:
        """End jobs for good with an error."""
        return self._update(
            """SET "status" = 'FAILED' SET "endedAt" = ? SET "error" = ?
               WHERE "jobKey" = ? AND "status" = 'RUNNING' AND "attempt" = ?""",
            [[_number(now_ms), _error(error), _string(str(one.key)), _string(one.token)] for one, error in failed],
        )

    def release(self, attempts: Sequence[Attempt]) -> list[Write]:
        """Give jobs back to be tried again."""
        return self._update(
            """SET "status" = 'SUBMITTED' SET "leaseUntil" = 0
               WHERE "jobKey" = ? AND "status" = 'RUNNING' AND "attempt" = ?""",
            [[_string(str(one.key)), _string(one.token)] for one in attempts],
        )

    def get(self, key: JobKey) -> Job | None:
        """Read one job, consistently."""
        answer = self._dynamodb.get_item(
            TableName=self._table, Key={"jobKey": _string(str(key))}, ConsistentRead=True
        )
        return _job(answer["Item"]) if "Item" in answer else None

    def _new_row(self, submission: Submission) -> dict[str, Any]:
        key = submission.key
        shard = zlib.crc32(key.job_id.encode()) % LIST_SHARDS
        return {
            "jobKey": _string(str(key)),
            "listKey": _string(f"{key.owner}#{shard}"),
            "submittedAt": _number(submission.submitted_at),
            "jobType": _string(submission.job_type),
            "status": _string(JobStatus.SUBMITTED),
            "digest": _string(submission.digest),
            "attempts": _number(0),
            "leaseUntil": _number(0),  # free: no lease has lapsed later than this
            "expiresAt": _number(submission.submitted_at // 1000 + self._retention_s),
        }

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
        writes = self._execute(statements)
        return [
            Write(Outcome.REFUSED, self.get(one.key)) if write.outcome is Outcome.REFUSED else write
            for one, write in zip(submissions, writes, strict=True)
        ]

    def _update(self, clauses: str, parameters: Iterable[list[Any]]) -> list[Write]:
        statement = f'UPDATE "{self._table}" {" ".join(clauses.split())}'
        return self._execute(
            [
                {
                    "Statement": statement,
                    "Parameters": values,
                    "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                }
                for values in parameters
            ]
        )

    def _execute(self, statements: Sequence[BatchStatementRequestTypeDef]) -> list[Write]:
        writes: list[Write] = []
        for start in range(0, len(statements), _BATCH_STATEMENTS):
            batch = statements[start : start + _BATCH_STATEMENTS]
            answer = self._dynamodb.batch_execute_statement(Statements=batch)
            writes.extend(_write(response) for response in answer["Responses"])
        return writes


def _write(response: BatchStatementResponseTypeDef) -> Write:
    error = response.get("Error")
    if error is None:
        return Write(Outcome.WRITTEN)
    match error.get("Code"):
        case "DuplicateItem":
            return Write(Outcome.REFUSED)
        case "ConditionalCheckFailed":
            return Write(Outcome.REFUSED, _job(error["Item"]) if error.get("Item") else None)
        case "ValidationError" | "AccessDenied" | "ResourceNotFound" as code:
            # Ours to mend, not to retry: say so at once.
            raise RuntimeError(f"the job table refused a statement: {code}: {error.get('Message')}")
        case _:
            return Write(Outcome.UNAVAILABLE)


def _string(value: str) -> dict[str, str]:
    return {"S": str(value)}


def _number(value: int) -> dict[str, str]:
    return {"N": str(value)}


def _error(error: JobError) -> dict[str, Any]:
    return {"M": {"code": _string(error.code), "message": _string(error.message)}}


def _result(result: StoredResult) -> dict[str, Any]:
    return {
        "M": {
            "objectKey": _string(result.object_key),
            "contentType": _string(result.content_type),
            "size": _number(result.size),
        }
    }


def _job(item: Mapping[str, Any]) -> Job:
    owner, _, job_id = item["jobKey"]["S"].partition("#")
    error = item.get("error", {}).get("M")
    result = item.get("result", {}).get("M")
    return Job(
        key=JobKey(owner, job_id),
        job_type=item["jobType"]["S"],
        status=JobStatus(item["status"]["S"]),
        submitted_at=int(item["submittedAt"]["N"]),
        digest=item["digest"]["S"],
        attempts=int(item["attempts"]["N"]),
        attempt=item.get("attempt", {}).get("S"),
        lease_until=_optional_int(item, "leaseUntil"),
        started_at=_optional_int(item, "startedAt"),
        ended_at=_optional_int(item, "endedAt"),
        result=result
        and StoredResult(result["objectKey"]["S"], result["contentType"]["S"], int(result["size"]["N"])),
        error=error and JobError(error["code"]["S"], error["message"]["S"]),
    )


def _optional_int(item: Mapping[str, Any], name: str) -> int | None:
    return int(item[name]["N"]) if name in item else None
