"""The ``batch`` executor: one AWS Batch job a job, of the stage's job definition and in its job queue.

Facts are from the AWS Batch API Reference ("SubmitJob", "TerminateJob", "ListJobs", "DescribeJobs", "JobDetail")
and the User Guide ("Job state change events", "Job states", "Job timeouts").
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from sluice_core.executors import Execution, ExecutionState, Started
from sluice_core.external import (
    TRY_AGAIN,
    as_told,
    error_code,
    failed_start,
    in_hundreds,
    job_environment,
    read_environment,
    stopped_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mypy_boto3_batch import BatchClient

    from sluice_core.executors import StartResult
    from sluice_core.jobs import Submission

# All of Batch's refusals have one code, that of a job which there is not among them.
_REFUSED = "ClientException"
# Batch's words for a timeout. No page of AWS's lists them; whoever shows such a job shows these.
_OVERDUE = "Job attempt duration exceeded timeout"


class BatchExecutor:
    """Starts, stops and looks at jobs of one job queue.

    A Batch job's name is its start token. SubmitJob has no token of its own, so a start that is repeated first
    looks for a job of that name. The container reads the job's parameters from S3, and so none is too large.

    Parameters
    ----------
    client : Callable
        Makes the client, on first use: it costs a cold start. It must not repeat a SubmitJob by itself.
    job_queue, job_definition : str
        The ARNs, or the names.

    """

    def __init__(self, client: Callable[[], BatchClient], job_queue: str, job_definition: str) -> None:
        self._client = client
        self._job_queue = job_queue
        self._job_definition = job_definition

    @cached_property
    def _batch(self) -> BatchClient:
        return self._client()

    def start(self, submissions: Sequence[Submission]) -> list[StartResult]:
        """Submit a Batch job for each job."""
        return [self._start(one) for one in submissions]

    def _start(self, submission: Submission) -> StartResult:
        try:
            found = self._find(submission.start_token) if submission.is_again else None
            return Started(found or self._submit(submission))
        except (ClientError, BotoCoreError) as error:
            return failed_start(error)

    def _find(self, name: str) -> str | None:
        """Return the id of the job of this name, of whatever status; of several, the first that was created."""
        pages = self._batch.get_paginator("list_jobs").paginate(
            jobQueue=self._job_queue, filters=[{"name": "JOB_NAME", "values": [name]}]
        )
        newest_first = [one["jobId"] for page in pages for one in page["jobSummaryList"]]
        return newest_first[-1] if newest_first else None

    def _submit(self, submission: Submission) -> str:
        answer = self._batch.submit_job(
            jobName=submission.start_token,
            jobQueue=self._job_queue,
            jobDefinition=self._job_definition,
            containerOverrides={"environment": job_environment(submission)},
        )
        return answer["jobId"]

    def stop(self, handle: str, reason: str) -> None:
        """Terminate a Batch job; one that has ended, or that there is not, is as it should be.

        Raises
        ------
        botocore.exceptions.ClientError
            Batch refused; it may run on.

        """
        try:
            self._batch.terminate_job(jobId=handle, reason=reason)
        except ClientError as error:
            if error_code(error) != _REFUSED:
                raise

    def look(self, handles: Sequence[str]) -> dict[str, Execution | None]:
        """Ask how Batch jobs stand, 100 in a call; None for those that Batch has forgotten, a week after the end.

        Raises
        ------
        botocore.exceptions.ClientError
            Batch refused; ask again later.

        """
        found: dict[str, Execution | None] = dict.fromkeys(handles)
        for some in in_hundreds(handles):
            for job in self._batch.describe_jobs(jobs=some)["jobs"]:
                found[job["jobId"]] = _read(job)
        return found


def read_event(detail: Mapping[str, Any]) -> Execution | None:
    """Return what a state change says; None if it is no end, or of a Batch job that we did not submit.

    What seems lost is not complete without ``isTerminated``, which DescribeJobs tells, and which is not in the
    documented example of an event.

    Raises
    ------
    KeyError
        It has not the members that each state change has.

    """
    execution = _read(detail)
    if execution is None or execution.state is ExecutionState.OPEN:
        return None
    return replace(execution, is_complete=execution.state is not ExecutionState.LOST or "isTerminated" in detail)


def _read(detail: Mapping[str, Any]) -> Execution | None:
    """Read one of DescribeJobs's jobs, or an event's detail, which resembles it."""
    container = detail.get("container") or {}
    job = read_environment(container.get("environment") or [])
    if job is None:
        return None
    key, start_token = job
    state = _state(detail)
    gave_up = state is ExecutionState.LOST and container.get("exitCode") == TRY_AGAIN
    began_at = detail["startedAt"] if detail["status"] == "RUNNING" else None
    why = as_told(container.get("exitCode"), container.get("reason"), detail.get("statusReason"))
    return Execution(key, start_token, detail["jobId"], state, gave_up=gave_up, began_at=began_at, why=why)


def _state(detail: Mapping[str, Any]) -> ExecutionState:
    """Tell why a Batch job ended; stopped or overdue, a container gives up by itself, if there is time."""
    reason = detail.get("statusReason") or ""
    match detail["status"]:
        case "SUCCEEDED":
            return ExecutionState.SUCCEEDED
        case "FAILED" if reason.startswith(_OVERDUE):
            return ExecutionState.TIMED_OUT
        case "FAILED" if detail.get("isTerminated") or detail.get("isCancelled"):
            return stopped_for(reason)
        case "FAILED":
            return ExecutionState.LOST
        case _:
            return ExecutionState.OPEN
