"""The job table as an operator may read it: whole. No request path does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sluice_core.rows import read_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_dynamodb import DynamoDBClient
    from sluice_core.jobs import Job

_GATEWAY_TIME = re.compile(r"([0-9]{13})-")


def scan(dynamodb: DynamoDBClient, table: str) -> Iterator[Job]:
    """Yield every job, as it is at the time."""
    for page in dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True):
        yield from map(read_row, page["Items"])


def changed_at(job: Job) -> int:
    """Return the latest time that a row knows of, but for a lease that has yet to end."""
    known = (job.submitted_at, job.started_at or 0, job.ended_at or 0)
    return max(*known, *(end.ended_at for end in job.history))


def gateway_time(job_id: str) -> int | None:
    """Return when the gateway made an id, in epoch milliseconds, if it did."""
    found = _GATEWAY_TIME.match(job_id)
    return int(found[1]) if found else None
