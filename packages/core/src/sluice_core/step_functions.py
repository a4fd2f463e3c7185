"""The ``stepfunctions`` executor: one execution of the stage's state machine a job.

Facts are from the AWS Step Functions API Reference ("StartExecution", "StopExecution", "DescribeExecution") and
the Developer Guide ("EventBridge for Step Functions execution status changes").
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from sluice_core.executors import (
    STEP_TIMED_OUT,
    WORK_REFUSED,
    Execution,
    ExecutionState,
    Refused,
    Started,
)
from sluice_core.external import epoch_ms, error_code, failed_start, stopped_for
from sluice_core.jobs import NOT_STARTED, JobError, JobKey, StoredResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mypy_boto3_stepfunctions import SFNClient

    from sluice_core.executors import StartResult
    from sluice_core.jobs import Submission

# What a state fails with that takes too long (Amazon States Language, "Error names"); an execution has a status.
_TIMED_OUT = {"States.Timeout", STEP_TIMED_OUT}
_STATES = {
    "SUCCEEDED": ExecutionState.SUCCEEDED,
    "FAILED": ExecutionState.FAILED,
    "TIMED_OUT": ExecutionState.TIMED_OUT,
}


class StepFunctionsExecutor:
    """Starts, stops and looks at executions of one STANDARD state machine.

    An execution's name is its start token, so that a start that is repeated starts nothing. Its input says which
    job it is; the job's parameters are read from S3, and so none is too large.

    Parameters
    ----------
    client : Callable
        Makes the client, on first use: it costs a cold start.
    state_machine_arn : str
        The state machine's ARN, or that of one of its versions or aliases.

    """

    def __init__(self, client: Callable[[], SFNClient], state_machine_arn: str) -> None:
        self._client = client
        self._state_machine_arn = state_machine_arn

    @cached_property
    def _stepfunctions(self) -> SFNClient:
        return self._client()

    def start(self, submissions: Sequence[Submission]) -> list[StartResult]:
        """Start an execution for each job; a repeated start finds the one that is there, ended or not."""
        return [self._start(one) for one in submissions]

    def _start(self, submission: Submission) -> StartResult:
        token, header = submission.start_token, submission.trace_header
        key = submission.key
        job = {"owner": key.owner, "jobId": key.job_id, "startToken": token}
        try:
            answer = self._stepfunctions.start_execution(
                stateMachineArn=self._state_machine_arn,
                name=token,
                input=json.dumps(job),
                **({"traceHeader": header} if header else {}),
            )
        except (ClientError, BotoCoreError) as error:
            match error_code(error):
                case "ExecutionAlreadyExists":
                    return Started(self._execution_arn(token))
                case "InvalidExecutionInput" | "InvalidName":  # of what the job brings, and of nothing else
                    return Refused(NOT_STARTED)
            return failed_start(error)
        return Started(answer["executionArn"])

    def _execution_arn(self, name: str) -> str:
        """Return an execution's ARN, in which a version or an alias of the state machine does not show."""
        arn, partition, service, region, account, _, state_machine, *_ = self._state_machine_arn.split(":")
        return f"{arn}:{partition}:{service}:{region}:{account}:execution:{state_machine}:{name}"

    def stop(self, handle: str, reason: str) -> None:
        """Stop an execution; one that has ended, or that there is not, is as it should be.

        Raises
        ------
        botocore.exceptions.ClientError
            Step Functions refused; it may run on.

        """
        try:
            self._stepfunctions.stop_execution(executionArn=handle, cause=reason)
        except ClientError as error:
            if error_code(error) != "ExecutionDoesNotExist":
                raise

    def look(self, handles: Sequence[str]) -> dict[str, Execution | None]:
        """Ask how executions stand, one call each; None for what there is not, or is no longer.

        Raises
        ------
        botocore.exceptions.ClientError
            Step Functions refused; ask again later.

        """
        return {handle: self._look(handle) for handle in handles}

    def _look(self, handle: str) -> Execution | None:
        try:
            return _read(self._stepfunctions.describe_execution(executionArn=handle))
        except ClientError as error:
            if error_code(error) != "ExecutionDoesNotExist":
                raise
            return None


def read_event(detail: Mapping[str, Any]) -> Execution | None:
    """Return what a status change says; None if it is no end, or of an execution that we did not start.

    It is not complete without what the event leaves out and DescribeExecution tells: an output of more than
    248 KB, and the error and cause, which none of the documented examples has.

    Raises
    ------
    KeyError
        It has not the members that each status change has.

    """
    execution = _read(detail)
    if execution is None or execution.state is ExecutionState.OPEN:
        return None
    return replace(execution, is_complete=_is_complete(detail))


def _is_complete(detail: Mapping[str, Any]) -> bool:
    match detail["status"]:
        case "SUCCEEDED":
            return bool((detail.get("outputDetails") or {}).get("included", True))
        case "FAILED" | "ABORTED":
            return bool(detail.get("error") or detail.get("cause"))
        case _:
            return True


def _read(detail: Mapping[str, Any]) -> Execution | None:
    """Read DescribeExecution's answer, or an event's detail, which has the same members."""
    job = _read_input(detail.get("input"))
    # Somebody may have started another by hand, with the same input.
    if job is None or detail["name"] != job[1]:
        return None
    error, cause = detail.get("error") or "", detail.get("cause") or ""
    state = _STATES.get(detail["status"], ExecutionState.OPEN)
    if detail["status"] == "ABORTED":
        state = stopped_for(cause)
    if error in _TIMED_OUT:
        state = ExecutionState.TIMED_OUT
    return Execution(
        key=job[0],
        start_token=job[1],
        handle=detail["executionArn"],
        state=state,
        error=_read_refusal(cause) if error == WORK_REFUSED else None,
        result=_read_output(detail.get("output")),
        began_at=epoch_ms(detail["startDate"]) if state is ExecutionState.OPEN else None,
        # Not the cause, which has what the work has raised.
        why=error,
    )


def _read_input(text: str | None) -> tuple[JobKey, str] | None:
    match _read_json(text):
        case {"owner": str(owner), "jobId": str(job_id), "startToken": str(token)}:
            return JobKey(owner, job_id), token
    return None


def _read_output(text: str | None) -> StoredResult | None:
    match _read_json(text):
        case {"objectKey": str(object_key), "contentType": str(content_type), "size": int(size)}:
            return StoredResult(object_key, content_type, size)
    return None


def _read_refusal(cause: str) -> JobError | None:
    """Return the workload's own error, which is the message in what Lambda says of the step's."""
    match _read_json(cause):
        case {"errorMessage": str(message)}:
            match _read_json(message):
                case {"code": str(code), "message": str(text)}:
                    return JobError(code, text)
    return None


def _read_json(text: str | None) -> Any:
    """Return a document; None for what is none, such as a cause that was cut off."""
    try:
        return json.loads(text or "null")
    except ValueError:
        return None
