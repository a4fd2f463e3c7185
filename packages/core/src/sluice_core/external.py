"""What the external executors share: how a container is told its job, and what a service's answer means for it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from sluice_core.executors import TIMED_OUT, ExecutionState, Retry
from sluice_core.jobs import JobKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mypy_boto3_batch.type_defs import KeyValuePairTypeDef

    from sluice_core.jobs import Submission

# The exit code by which `run_job` asks for another try: EX_TEMPFAIL of sysexits.h.
TRY_AGAIN = 75

_OWNER, _JOB_ID, _START_TOKEN = "SLUICE_OWNER", "SLUICE_JOB_ID", "SLUICE_START_TOKEN"
_AT_ONCE = 100


def job_environment(submission: Submission) -> list[KeyValuePairTypeDef]:
    """Return the environment variables that tell a container which job it runs, and as which start."""
    values = {
        _OWNER: submission.key.owner,
        _JOB_ID: submission.key.job_id,
        _START_TOKEN: submission.start_token,
    }
    return [{"name": name, "value": value} for name, value in values.items()]


def read_environment(pairs: Iterable[Mapping[str, Any]]) -> tuple[JobKey, str] | None:
    """Return the job and the start token of a container; None for one that is not ours."""
    values = {pair["name"]: pair.get("value") for pair in pairs}
    owner, job_id, token = values.get(_OWNER), values.get(_JOB_ID), values.get(_START_TOKEN)
    return (JobKey(owner, job_id), token) if owner and job_id and token else None


def failed_start(error: ClientError | BotoCoreError) -> Retry:
    """Say what a start that failed means for its job: whatever it was, it is to be tried again.

    A service is told ids and nothing of the work, so that what it refuses is never the job's fault. Its queue is
    switched off, a role cannot be assumed yet, a grant is missing: the next deployment mends that, or an operator.
    """
    return Retry(error_code(error))


def error_code(error: ClientError | BotoCoreError) -> str:
    """Return the service's code of an error, or the error's class where no service answered."""
    if isinstance(error, ClientError):
        return error.response.get("Error", {}).get("Code", "")
    return type(error).__name__


def stopped_for(reason: str) -> ExecutionState:
    """Tell our own stop of what took too long from all other stops, by the reason that the service kept."""
    return ExecutionState.TIMED_OUT if TIMED_OUT in reason else ExecutionState.STOPPED


def as_told(exit_code: int | None, *reasons: str | None) -> str:
    """Return in a line what a service says of a container's end."""
    code = "" if exit_code is None else f"exit code {exit_code}"
    return "; ".join(filter(None, (code, *reasons)))


def epoch_ms(time: object) -> int | None:
    """Return a time of an answer in epoch milliseconds; None if it is none. Events have texts or numbers."""
    return round(time.timestamp() * 1000) if isinstance(time, datetime) else None


def in_hundreds(handles: Sequence[str]) -> Iterator[list[str]]:
    """Cut into lists that DescribeJobs and DescribeTasks take, none of which names a handle twice."""
    once = list(dict.fromkeys(handles))
    for start in range(0, len(once), _AT_ONCE):
        yield once[start : start + _AT_ONCE]
