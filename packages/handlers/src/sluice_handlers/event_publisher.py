"""Consumes the job table's stream: publishes each end state to the event bus.

The stream holds every change that the ledger made, in order for each job, so that no event can be lost between
the write and its publication, whoever made the write and whatever became of them. A batch that fails is read
again: consumers see an event at least once.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from sluice_core import clients, metrics
from sluice_core.events import DETAIL_TYPE, SOURCE, ended_detail
from sluice_core.jobs import JobStatus
from sluice_core.rows import read_row

from sluice_handlers.telemetry import Measurements, logger, report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_events.type_defs import PutEventsRequestEntryTypeDef
    from sluice_core.jobs import Job

_BATCH = 10  # PutEvents, Amazon EventBridge API Reference
_events = clients.events()


def handler(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Publish the jobs of one batch that have ended; from the first that failed on, it is read again."""
    ended = [record for record in event["Records"] if _has_just_ended(record["dynamodb"])]
    with Measurements() as measured:
        for start in range(0, len(ended), _BATCH):
            batch = ended[start : start + _BATCH]
            jobs = [read_row(record["dynamodb"]["NewImage"]) for record in batch]
            answer = _events.put_events(Entries=[_entry(job) for job in jobs])
            refused = [n for n, entry in enumerate(answer["Entries"]) if "ErrorCode" in entry]
            for n, job in enumerate(jobs):
                if n not in refused:
                    report("published", job.key, status=job.status, attempt=job.attempts)
            measured.add(metrics.EVENTS_PUBLISHED, len(batch) - len(refused))
            if refused:
                measured.add(metrics.BATCH_ITEM_FAILURES, len(refused))
                codes = sorted({answer["Entries"][n]["ErrorCode"] for n in refused})
                logger.warning("not published", events=len(refused), codes=codes)
                return _failed_from(batch[refused[0]])
    return {"batchItemFailures": []}


def _has_just_ended(change: Mapping[str, Any]) -> bool:
    """Whether a change made a job end; later changes of an ended row do not count, nor does its expiry."""
    return not _is_open(change.get("NewImage")) and ("OldImage" not in change or _is_open(change["OldImage"]))


def _is_open(image: Mapping[str, Any] | None) -> bool:
    """Look at the status alone; a row that has gone is none of ours any more."""
    return image is None or JobStatus(image["status"]["S"]).is_open


def _entry(job: Job) -> PutEventsRequestEntryTypeDef:
    return {
        "EventBusName": os.environ["EVENT_BUS"],
        "Source": SOURCE,
        "DetailType": DETAIL_TYPE,
        "Detail": json.dumps(ended_detail(job, os.environ["STAGE"])),
    }


def _failed_from(record: Mapping[str, Any]) -> dict[str, Any]:
    """Report where to begin again (AWS Lambda, "Configuring partial batch response with DynamoDB")."""
    return {"batchItemFailures": [{"itemIdentifier": record["dynamodb"]["SequenceNumber"]}]}
