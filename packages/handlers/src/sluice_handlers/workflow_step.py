"""The steps of the workflow that Step Functions runs for a job: fetch, transform, store.

Each step is one invocation with ``{"step", "owner", "jobId", "startToken"}``, and may be repeated: Step Functions
tries it again when it fails. The execution is the job's attempt, whose token is the start token, and its lease
lasts for as long as an execution may.

=========  ===========================================  =======================================================
step       does                                         returns
=========  ===========================================  =======================================================
fetch      claims the job                               ``{"wanted": false}`` if the job has ended or is not
                                                        this execution's any more
transform  runs the workload, stages what it made       nothing
store      stores that as the job's result              ``{"objectKey", "contentType", "size"}``: the
                                                        execution's output, by which the job is completed
=========  ===========================================  =======================================================
"""

from __future__ import annotations

import json
import os
from threading import Event
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from sluice_core import clients
from sluice_core.inputs import InputStore
from sluice_core.jobs import JobError, JobKey, JobStatus, now_ms
from sluice_core.ledger import Attempt, JobLedger, Outcome
from sluice_core.results import ResultWriter
from sluice_core.workloads import PermanentError, load_workloads

from sluice_handlers.staging import Staging
from sluice_handlers.telemetry import Measurements, report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_NO_ANSWER = "the ledger does not answer"
_NOT_WANTED = "NOT_WANTED"
# A lease lasts this much longer than its execution, so that nobody takes the job while that is being ended.
_AFTER_MS = 60_000

_workloads = load_workloads(os.environ["WORKLOADS"])
_ledger = JobLedger(clients.dynamodb(), os.environ["JOB_TABLE"], retention_s=int(os.environ["RETENTION_SECONDS"]))
_s3 = clients.s3()
_inputs = InputStore(_s3, os.environ["RESULT_BUCKET"])
_staging = Staging(_s3, os.environ["RESULT_BUCKET"])
_results = ResultWriter(_s3, os.environ["RESULT_BUCKET"])
_lease_ms = int(os.environ["WORKFLOW_TIMEOUT_SECONDS"]) * 1000 + _AFTER_MS


class WorkRefused(Exception):  # noqa: N818 - the error's name in the state machine
    """The job is not to be tried again. Its row says why, and this only by a code: Lambda logs what is raised."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(json.dumps({"code": code, "message": "The job's row says why."}))


class StepFailed(Exception):  # noqa: N818 - likewise
    """A step is to be tried again. It says the kind of error, and never its text, which may carry the payload."""


def handler(event: Mapping[str, str], _context: object) -> dict[str, Any]:
    """Do one step of a job's workflow."""
    attempt = Attempt(JobKey(event["owner"], event["jobId"]), event["startToken"])
    step = event["step"]
    with Measurements():
        try:
            return _STEPS[step](attempt)
        except WorkRefused as error:
            report("refused", attempt.key, is_bad=True, step=step, code=error.code)
            raise
        except Exception as error:
            kind = str(error) if isinstance(error, StepFailed) else type(error).__name__
            report("step failed", attempt.key, is_bad=True, step=step, error=kind)
            raise StepFailed(kind) from None


def _fetch(attempt: Attempt) -> dict[str, Any]:
    """Take the job, unless it has ended or is another start's by now."""
    now = now_ms()
    write = _ledger.claim_started(attempt, attempt.token, now, now + _lease_ms)
    if write.outcome is Outcome.UNAVAILABLE:
        raise StepFailed(_NO_ANSWER)
    return {"wanted": write.is_written}


def _transform(attempt: Attempt) -> dict[str, Any]:
    """Do the job's work."""
    try:
        job = _inputs.get(attempt.key)
    except ClientError:
        if _is_ours(attempt):
            raise
        raise WorkRefused(_NOT_WANTED) from None  # whoever ended the job has cleaned up
    try:
        # Nobody sets the event: Step Functions stops an execution between its steps, not the work within one.
        made = _workloads[job.job_type].run(job.key.job_id, job.parameters, Event())
    except PermanentError as error:
        [write] = _ledger.fail([(attempt, JobError(error.code, error.message))], now_ms())
        if write.outcome is Outcome.UNAVAILABLE:
            raise StepFailed(_NO_ANSWER) from None
        raise WorkRefused(error.code) from None
    _staging.put(attempt, made)
    if not _is_ours(attempt):
        _staging.delete(attempt)
        raise WorkRefused(_NOT_WANTED)
    return {}


def _store(attempt: Attempt) -> dict[str, Any]:
    """Make what the work has made the job's result; it is completed by the execution's end."""
    stored = _results.put(attempt.key, attempt.token, _staging.get(attempt))
    if not _is_ours(attempt):
        _results.delete(stored)
        raise WorkRefused(_NOT_WANTED)
    report("stored", attempt.key, bytes=stored.size)
    return {"objectKey": stored.object_key, "contentType": stored.content_type, "size": stored.size}


_STEPS: Mapping[str, Callable[[Attempt], dict[str, Any]]] = {
    "fetch": _fetch,
    "transform": _transform,
    "store": _store,
}


def _is_ours(attempt: Attempt) -> bool:
    """Whether the job is this execution's still; if not, whoever ended it may have cleaned up already."""
    job = _ledger.get(attempt.key)
    return job is not None and (job.status, job.attempt) == (JobStatus.RUNNING, attempt.token)
