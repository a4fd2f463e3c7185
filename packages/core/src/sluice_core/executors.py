"""The executor port: the only way work begins, and how what does it says that it has ended.

``lambda`` is the default: a work queue whose messages invoke the batch simulator. The others are *external*: what
they start outlives a Lambda, is known by a handle, and says by an event that it has ended. Jobs wait for each of
them in a work queue of its own, from which the starter takes no more than there is room for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sluice_core.jobs import JobError, JobKey, StoredResult, Submission

LAMBDA, STEP_FUNCTIONS, BATCH, ECS = "lambda", "stepfunctions", "batch", "ecs"
EXTERNAL = (STEP_FUNCTIONS, BATCH, ECS)
# A job is started so often before it is given up: as often as a message of `lambda` is received.
MAX_STARTS = 5
# A start is tried for so long: its token is known to make it the same start (Amazon ECS API Reference, "Ensuring
# idempotency": for 24 h).
MAX_START_S = 12 * 3_600
# Why we stop an execution ourselves, in the service's own records.
CANCELLED, TIMED_OUT = "sluice: the job has ended", "sluice: timed out"
# The container's name in the definitions.
CONTAINER = "job"
# What a step of a workflow fails with if its job can never succeed; and if it ran into its function's timeout, as
# Lambda calls that. No page of Step Functions' has it: by the Developer Guide's "Handle Lambda service exceptions"
# such an error is Lambda.Unknown, as a crash is.
WORK_REFUSED, STEP_TIMED_OUT = "WorkRefused", "Sandbox.Timedout"

_FORM = "expected 'job-type=executor', entries separated by commas"
_ENTRY = re.compile(r"\s*([a-z0-9][a-z0-9-]{0,63})\s*=\s*(\w+)\s*")


@dataclass(frozen=True, slots=True)
class Started:
    """A job's work has begun, or waits where it will.

    Attributes
    ----------
    handle : str
        By which the executor knows it: a message's id, an execution's ARN, a job's id, a task's ARN.

    """

    handle: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A job can never be started; the error is for its client."""

    error: JobError


@dataclass(frozen=True, slots=True)
class Retry:
    """A job was not started, or is not known to be; it may be tried again.

    Attributes
    ----------
    reason : str
        The service's error code or the error's class, for a log line; never its text.

    """

    reason: str


StartResult = Started | Refused | Retry


class Executor(Protocol):
    """Starts work for jobs that are on record."""

    def start(self, submissions: Sequence[Submission]) -> list[StartResult]:
        """Start each job and say, in order, what became of it."""
        ...

    def stop(self, handle: str, reason: str) -> None:
        """Stop what was started, if it still runs.

        Raises
        ------
        botocore.exceptions.ClientError
            The service refused; it may run on.

        """
        ...


class ExecutionState(Enum):
    """How an execution stands, in the words of none of the services."""

    OPEN = "open"
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # for good: the error says why
    TIMED_OUT = "timed out"
    STOPPED = "stopped"  # by somebody who had a reason
    LOST = "lost"  # its host, or it crashed, or it never came up: another start may do better


@dataclass(frozen=True, slots=True)
class Execution:
    """What a service says of one execution.

    Attributes
    ----------
    start_token : str
        The start that it came of: of a job that was started again it tells the executions apart.
    error : JobError, optional
        Why it failed, in words for the job's client.
    result : StoredResult, optional
        What a workflow made. A container puts its result on record itself.
    gave_up : bool
        Whether the work itself asked for another try, and nothing was lost.
    began_at : int, optional
        Since when it runs, in epoch milliseconds, as the service says if it is asked. Until then it waits for its
        host, as long as that takes.
    why : str
        How the service tells the end, for an operator: codes and reasons, and no word of the work's.
    is_complete : bool
        Whether this is all that the service knows. An event may leave things out; then `ExternalExecutor.look`
        tells them, and what that returns is complete.

    """

    key: JobKey
    start_token: str
    handle: str
    state: ExecutionState
    error: JobError | None = None
    result: StoredResult | None = None
    gave_up: bool = False
    began_at: int | None = None
    why: str = field(default="", compare=False)
    is_complete: bool = True


class ExternalExecutor(Executor, Protocol):
    """An executor whose work outlives a Lambda."""

    def look(self, handles: Sequence[str]) -> Mapping[str, Execution | None]:
        """Ask how executions stand; None for those that the service does not know (any more).

        Raises
        ------
        botocore.exceptions.ClientError
            The service refused; ask again later.

        """
        ...


def parse_executors(setting: str) -> dict[str, str]:
    """Return which executor runs a job type, of those types that a setting names; ``lambda`` runs the others.

    Parameters
    ----------
    setting : str
        ``job-type=executor`` entries, separated by commas; may be empty.

    Raises
    ------
    ValueError
        An entry has another form, names an executor that there is not, or repeats a job type.

    Examples
    --------
    >>> parse_executors("report=batch, video=ecs")
    {'report': 'batch', 'video': 'ecs'}

    """
    executors: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in setting.split(","))):
        found = _ENTRY.fullmatch(entry)
        if not found:
            raise ValueError(f"executor {entry!r}: {_FORM}")
        job_type, executor = found.groups()
        if executor not in (LAMBDA, *EXTERNAL):
            raise ValueError(f"executor {entry!r}: there are {', '.join((LAMBDA, *EXTERNAL))}")
        if job_type in executors:
            raise ValueError(f"the executor of {job_type!r} is named twice")
        executors[job_type] = executor
    return executors
