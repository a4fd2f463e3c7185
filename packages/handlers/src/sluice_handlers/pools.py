"""The pools of a stage: one for each of its external executors, as a function's environment says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sluice_core import clients
from sluice_core.configured import configured_executors
from sluice_core.inputs import InputStore
from sluice_core.ledger import JobLedger
from sluice_core.results import ResultWriter
from sluice_core.slots import Slots
from sluice_core.work_queue import WorkQueueExecutor

from sluice_handlers.staging import Staging

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_sqs import SQSClient
    from sluice_core.executors import ExternalExecutor


@dataclass(frozen=True, slots=True)
class Pool:
    """One external executor, how much it may run, and the queue in which jobs wait for it.

    Attributes
    ----------
    service : ExternalExecutor
        What runs the jobs.
    queue : WorkQueueExecutor
        By which a job is queued anew.
    dead_letters : WorkQueueExecutor
        By which a job that was given up is set aside, for an operator to bring back.
    cap : int
        How many executions run at once.
    timeout_s : int
        How long one may take, in seconds.

    """

    service: ExternalExecutor
    queue: WorkQueueExecutor
    dead_letters: WorkQueueExecutor
    queue_url: str
    cap: int
    timeout_s: int


@dataclass(frozen=True, slots=True)
class Pools:
    """The pools by their executors' names, and the stores that they share."""

    ledger: JobLedger
    slots: Slots
    inputs: InputStore
    results: ResultWriter
    staging: Staging
    sqs: SQSClient
    max_receives: int
    by_executor: Mapping[str, Pool]

    @classmethod
    def connect(cls, environment: Mapping[str, str]) -> Pools:
        """Make the clients, and what works by them.

        Raises
        ------
        KeyError
            A variable is missing.

        """
        dynamodb, s3, sqs = clients.dynamodb(), clients.s3(), clients.sqs()
        table, bucket = environment["JOB_TABLE"], environment["RESULT_BUCKET"]
        return cls(
            ledger=JobLedger(dynamodb, table, retention_s=int(environment["RETENTION_SECONDS"])),
            slots=Slots(dynamodb, environment["SLOTS_TABLE"]),
            inputs=InputStore(s3, bucket),
            results=ResultWriter(s3, bucket),
            staging=Staging(s3, bucket),
            sqs=sqs,
            max_receives=int(environment["MAX_RECEIVES"]),
            by_executor={
                name: _pool(environment, name, service, sqs)
                for name, service in configured_executors(environment).items()
            },
        )


def _pool(environment: Mapping[str, str], name: str, service: ExternalExecutor, sqs: SQSClient) -> Pool:
    queue_url = environment[f"{name.upper()}_QUEUE_URL"]
    return Pool(
        service=service,
        queue=WorkQueueExecutor(sqs, queue_url),
        dead_letters=WorkQueueExecutor(sqs, environment[f"{name.upper()}_DLQ_URL"]),
        queue_url=queue_url,
        cap=int(environment[f"{name.upper()}_MAX_RUNNING"]),
        timeout_s=int(environment[f"{name.upper()}_TIMEOUT_SECONDS"]),
    )
