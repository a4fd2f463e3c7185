"""An owner's jobs, newest first, in pages.

The listing index holds keys only, so that no change of a job rewrites it; the jobs themselves are read from the
table. A cursor says where a page ended in one owner's own list. It authorises nothing: every query is for the
owner whom the caller may see, whatever the cursor holds.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from sluice_core.jobs import JobKey, is_job_id
from sluice_core.rows import LIST_INDEX, LIST_SHARDS, list_key, number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient

    from sluice_core.jobs import Job, JobStatus
    from sluice_core.ledger import JobLedger

MOST = 100
DEFAULT = 20
# One request looks at so many jobs for those of a status, then hands out a cursor to go on from.
_LOOKED_AT = 500
# More jobs of one owner than come in one millisecond.
_SAME_TIME = 100
_END_OF_TIME_MS = 10**15


class InvalidCursor(ValueError):  # noqa: N818 - named for what it is
    """The cursor is not one that was given out for this owner and this filter."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page ended: at a time, with these of that very millisecond already shown.

    Times are not unique, and how an index orders equal ones is DynamoDB's own affair.
    """

    submitted_at: int = _END_OF_TIME_MS
    shown: frozenset[str] = field(default_factory=frozenset)

    def after(self, entry: _Entry) -> Position:
        """Return the position behind one more entry."""
        if entry.submitted_at == self.submitted_at:
            return Position(self.submitted_at, self.shown | {entry.key.job_id})
        return Position(entry.submitted_at, frozenset({entry.key.job_id}))

    def cursor(self, owner: str, status: JobStatus | None) -> str:
        """Return it as opaque text that is good for this list only."""
        document = [self.submitted_at, sorted(self.shown)]
        text = json.dumps([*document, _seal(owner, status, document)], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def from_cursor(cls, text: str, owner: str, status: JobStatus | None) -> Self:
        """Read a cursor back.

        Raises
        ------
        InvalidCursor
            It was altered, or given out for another owner or another filter.

        """
        try:
            padded = text + "=" * (-len(text) % 4)
            submitted_at, shown, seal = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        except (binascii.Error, ValueError, TypeError, RecursionError):
            raise InvalidCursor("not a cursor") from None
        # Whoever can read this can seal what they like, so its content is checked all the same.
        if not _is_position(submitted_at, shown) or seal != _seal(owner, status, [submitted_at, shown]):
            raise InvalidCursor("not a cursor of this list")
        return cls(submitted_at, frozenset(shown))


@dataclass(frozen=True, slots=True)
class Page:
    """One page: jobs, newest first, and where the next one begins, if there may be more."""

    jobs: list[Job]
    next: Position | None


class JobLister:
    """Reads the listing index. Methods raise botocore's ClientError when DynamoDB refuses."""

    def __init__(self, dynamodb: DynamoDBClient, table: str, ledger: JobLedger) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._ledger = ledger

    def page(self, owner: str, status: JobStatus | None, limit: int, start: Position) -> Page:
        """Return up to ``limit`` jobs after a position.

        A page may be shorter than its limit, even empty, and not be the last: what counts is `Page.next`.
        """
        jobs: list[Job] = []
        looked_at = 0
        # Those of one status may be few: look at many at a time, however few are asked for.
        step = limit if status is None else MOST
        position = start
        while looked_at < _LOOKED_AT:
            entries = self._entries(owner, position, step + 1)  # one more, to know whether there are more
            found = self._ledger.get_many(entry.key for entry in entries[:step])
            for number_looked_at, entry in enumerate(entries[:step], start=1):
                position = position.after(entry)
                job = found.get(entry.key)  # None if its row has expired
                if job is not None and status in (None, job.status):
                    jobs.append(job)
                if len(jobs) == limit:
                    return Page(jobs, position if number_looked_at < len(entries) else None)
            if len(entries) <= step:
                return Page(jobs, None)
            looked_at += step
        return Page(jobs, position)

    def _entries(self, owner: str, position: Position, limit: int) -> list[_Entry]:
        """Return the next so many index entries of all shards together; fewer only at the end."""
        merged = sorted(
            (entry for shard in range(LIST_SHARDS) for entry in self._of_shard(owner, shard, position, limit)),
            key=lambda entry: (-entry.submitted_at, entry.key.job_id),
        )
        return merged[:limit]

    def _of_shard(self, owner: str, shard: int, position: Position, limit: int) -> Sequence[_Entry]:
        # Those already shown come again, and take up room.
        answer = self._dynamodb.query(
            TableName=self._table,
            IndexName=LIST_INDEX,
            KeyConditionExpression="listKey = :list AND submittedAt <= :until",
            ExpressionAttributeValues={
                ":list": list_key(owner, shard),
                ":until": number(position.submitted_at),
            },
            ScanIndexForward=False,
            Limit=limit + len(position.shown),
        )
        return [entry for entry in _entries(answer["Items"]) if entry.key.job_id not in position.shown]


@dataclass(frozen=True, slots=True)
class _Entry:
    """What the index knows of a job."""

    key: JobKey
    submitted_at: int


def _entries(items: Sequence[Mapping[str, Any]]) -> Iterator[_Entry]:
    for item in items:
        owner, _, job_id = item["jobKey"]["S"].partition("#")
        yield _Entry(JobKey(owner, job_id), int(item["submittedAt"]["N"]))


def _is_position(submitted_at: object, shown: object) -> bool:
    return (
        type(submitted_at) is int  # not True
        and 0 <= submitted_at <= _END_OF_TIME_MS
        and isinstance(shown, list)
        and len(shown) <= _SAME_TIME
        and all(isinstance(job_id, str) and is_job_id(job_id) for job_id in shown)
    )


def _seal(owner: str, status: JobStatus | None, document: Sequence[object]) -> str:
    """Bind a cursor to its list. No secret: whoever forges one moves about in their own list."""
    text = json.dumps([owner, status, *document])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
