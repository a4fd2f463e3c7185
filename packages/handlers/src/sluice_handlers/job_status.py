"""Answers ``GET /job-status/{job-id}``, where one job stands, and ``GET /job-status``, a list of jobs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sluice_core import clients, metrics, problems
from sluice_core.callers import is_owner
from sluice_core.jobs import JobStatus, may_be_queued, now_ms
from sluice_core.ledger import JobLedger
from sluice_core.listing import DEFAULT, MOST, InvalidCursor, JobLister, Position
from sluice_core.results import DownloadSigner

from sluice_handlers import answers
from sluice_handlers.telemetry import Measurements, logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sluice_core.jobs import Job

_dynamodb = clients.dynamodb()
_ledger = JobLedger(_dynamodb, os.environ["JOB_TABLE"], retention_s=int(os.environ["RETENTION_SECONDS"]))
_lister = JobLister(_dynamodb, os.environ["JOB_TABLE"], _ledger)
_signer = DownloadSigner(os.environ["DOWNLOAD_ROLE_ARN"], os.environ["RESULT_BUCKET"])
_queue_retention_s = int(os.environ["REQUEST_RETENTION_SECONDS"])


def handler(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Answer one request of API Gateway's proxy integration."""
    with Measurements() as measured:
        answer = _one(event) if event.get("pathParameters") else _list(event)
        if answer["statusCode"] == 200:  # noqa: PLR2004 - OK
            measured.add(metrics.STATUS_READS)
        else:
            logger.info("refused", status=answer["statusCode"])
        return answer


def _one(event: Mapping[str, Any]) -> dict[str, Any]:
    key = answers.requested_job(event)
    if key is None:
        return answers.problem(problems.NOT_FOUND, event)
    job = _ledger.get(key)
    if job is not None:
        retry_after_s = answers.RETRY_AFTER_S if job.status.is_open else None
        return answers.ok(_with_download(job), retry_after_s=retry_after_s)
    if may_be_queued(key, now_ms(), _queue_retention_s):
        return answers.ok(answers.queued_view(key), retry_after_s=answers.RETRY_AFTER_S)
    return answers.problem(problems.NOT_FOUND, event)


def _with_download(job: Job) -> dict[str, Any]:
    shown = answers.view(job)
    if job.result is not None:
        download = _signer.sign(job.result)
        shown["result"] |= {"url": download.url, "expiresAt": answers.rfc3339(download.expires_at * 1000)}
    return shown


def _list(event: Mapping[str, Any]) -> dict[str, Any]:
    owner, query = answers.requested_owner(event), answers.query(event)
    if not is_owner(owner):
        return answers.problem(problems.NOT_FOUND, event)
    try:
        status = JobStatus(query["status"]) if "status" in query else None
        limit = _limit(query.get("limit", str(DEFAULT)))
    except ValueError:
        return answers.problem(problems.INVALID_QUERY, event)
    try:
        start = Position.from_cursor(query["cursor"], owner, status) if "cursor" in query else Position()
    except InvalidCursor:
        return answers.problem(problems.INVALID_CURSOR, event)
    page = _lister.page(owner, status, limit, start)
    document: dict[str, Any] = {"jobs": [answers.view(job) for job in page.jobs]}
    if page.next is not None:
        document["nextCursor"] = page.next.cursor(owner, status)
    return answers.ok(document)


def _limit(text: str) -> int:
    """Read a limit; one above the maximum is as good as the maximum.

    Raises
    ------
    ValueError
        It is no whole number of at least 1.

    """
    if not (text.isascii() and text.isdigit() and text.strip("0")):
        raise ValueError(text)
    return MOST if len(text.lstrip("0")) > len(str(MOST)) else min(int(text), MOST)
