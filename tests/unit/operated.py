"""A stage as an operator finds it: queues, a table, a bucket, a file that describes it, jobs in every state."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sluice_core.jobs import JobError
from sluice_core.ledger import Attempt
from sluice_core.results import ResultWriter
from sluice_core.work_queue import WorkQueueExecutor
from sluice_core.workloads import WorkResult
from sluice_harness.description import Functions, Queue, Queues, StageDescription
from sluice_harness.ops.__main__ import main
from unit.lambda_events import job

if TYPE_CHECKING:
    from collections.abc import Callable

    import boto3
    from sluice_core.jobs import StoredResult, Submission
    from sluice_core.ledger import JobLedger
    from unit.resources import Bucket, WorkQueue

STAGE = "operated"
EXHAUSTED = JobError("ATTEMPTS_EXHAUSTED", "The work failed too often.")
TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"


@dataclass(frozen=True)
class Sources:
    """The four queues."""

    requests: WorkQueue
    request_dlq: WorkQueue
    work: WorkQueue
    work_dlq: WorkQueue


@dataclass(frozen=True)
class Operated:
    """The stage, and what a test does to it."""

    endpoint_url: str
    table: str
    ledger: JobLedger
    bucket: Bucket
    queues: Sources

    @property
    def description(self) -> StageDescription:
        functions = dict.fromkeys(Functions.__dataclass_fields__, "unused")
        return StageDescription(
            stage="local",
            region="us-east-1",
            account="000000000000",
            endpointUrl=self.endpoint_url,
            apiUrl="unused",
            userPoolId="unused",
            userPoolClientId="unused",
            jobTable=self.table,
            resultBucket=self.bucket.name,
            queues=Queues(
                request=Queue(self.queues.requests.url, self.queues.request_dlq.url),
                work=Queue(self.queues.work.url, self.queues.work_dlq.url),
            ),
            functions=Functions(**functions),
            eventBus="unused",
            alarmTopic="unused",
            dashboards=[],
            loadLogGroup="load",
        )

    def run(self, *command: str) -> int:
        """Run a command of the operator tools on this stage."""
        return main([*command, "--stage", STAGE])

    # Jobs

    def submitted(self, name: str, **more: Any) -> Submission:
        one = job(name, at=now_ms(), **more)
        [write] = self.ledger.record([one])
        assert write.is_written
        return one

    def running(self, name: str, lease_ms: int = 35_000, **more: Any) -> Submission:
        one = self.submitted(name, **more)
        [write] = self.ledger.claim([attempt(one)], now_ms(), now_ms() + lease_ms)
        assert write.is_written
        return one

    def completed(self, name: str) -> tuple[Submission, StoredResult]:
        one = self.running(name)
        stored = self.stored(one)
        [write] = self.ledger.complete([(attempt(one), stored)], now_ms())
        assert write.is_written
        return one, stored

    def failed(self, name: str, **more: Any) -> Submission:
        one = self.running(name, **more)
        [write] = self.ledger.fail([(attempt(one), EXHAUSTED)], now_ms())
        assert write.is_written
        return one

    def cancelled(self, name: str) -> Submission:
        one = self.submitted(name)
        assert self.ledger.cancel(one.key, now_ms()).is_written
        return one

    def stored(self, one: Submission, token: str | None = None) -> StoredResult:
        """Store what an attempt at a job has made."""
        result = WorkResult(b"42\n", "text/plain", "txt")
        return ResultWriter(self.bucket.s3, self.bucket.name).put(one.key, token or attempt(one).token, result)

    # Messages

    def queued(self, one: Submission) -> None:
        WorkQueueExecutor(self.queues.work.sqs, self.queues.work.url).start([one])

    def work_letter(self, one: Submission) -> None:
        """Put a job's message among the work queue's dead letters, with the trace that it came with."""
        message = {
            "owner": one.key.owner,
            "jobId": one.key.job_id,
            "jobType": one.job_type,
            "parameters": one.parameters,
            "submittedAt": one.submitted_at,
        }
        self.queues.work_dlq.sqs.send_message(
            QueueUrl=self.queues.work_dlq.url,
            MessageBody=json.dumps(message),
            MessageGroupId=one.key.owner,
            MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": TRACE}},
        )

    def request_letter(self, one: Submission) -> None:
        """Put a job's request among the request queue's dead letters."""
        body = {"jobType": one.job_type, "parameters": one.parameters}
        self.queues.request_dlq.send_request(
            one.key.job_id, body, owner=one.key.owner, at=one.submitted_at, request_id="request-7"
        )

    def malformed_letter(self, body: str = "{}") -> None:
        self.queues.work_dlq.sqs.send_message(QueueUrl=self.queues.work_dlq.url, MessageBody=body)


def attempt(one: Submission) -> Attempt:
    return Attempt(one.key, f"attempt-at-{one.key.job_id}")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class MoveTasks:
    """SQS's move tasks, which the engine does not know: each look at a task finds one more message moved.

    Stands behind botocore's own checks of the calls' parameters.
    """

    def __init__(self, operated: Operated, session: boto3.Session) -> None:
        self._source, self._target = operated.queues.work_dlq, operated.queues.work
        self.started: list[dict[str, Any]] = []
        self.task: dict[str, Any] = {}
        self.on_look: Callable[[], None] = lambda: None
        for call in ("StartMessageMoveTask", "ListMessageMoveTasks", "CancelMessageMoveTask"):
            session.events.register(f"before-call.sqs.{call}", getattr(self, call))

    def StartMessageMoveTask(self, params: dict[str, Any], **_: Any) -> tuple[Any, dict[str, Any]]:  # noqa: N802
        self.started.append(json.loads(params["body"]))
        self.task = {"Status": "RUNNING", "ApproximateNumberOfMessagesToMove": self._source.depth()[0]}
        return _answer({"TaskHandle": "task-1"})

    def ListMessageMoveTasks(self, **_: Any) -> tuple[Any, dict[str, Any]]:  # noqa: N802
        if self.task.get("Status") == "RUNNING":
            self.on_look()
        if self.task.get("Status") == "RUNNING":
            self._move_one()
        return _answer({"Results": [self.task] if self.task else []})

    def CancelMessageMoveTask(self, **_: Any) -> tuple[Any, dict[str, Any]]:  # noqa: N802
        self.task["Status"] = "CANCELLED"
        return _answer({"ApproximateNumberOfMessagesMoved": self.task["ApproximateNumberOfMessagesMoved"]})

    def _move_one(self) -> None:
        [message] = self._source.sqs.receive_message(QueueUrl=self._source.url)["Messages"]
        self._target.sqs.send_message(QueueUrl=self._target.url, MessageBody=message["Body"])
        self._source.sqs.delete_message(QueueUrl=self._source.url, ReceiptHandle=message["ReceiptHandle"])
        self.task["ApproximateNumberOfMessagesMoved"] = 1 + self.task.get("ApproximateNumberOfMessagesMoved", 0)
        if not sum(self._source.depth()):
            self.task["Status"] = "COMPLETED"


def _answer(parsed: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    class _Http:
        status_code = 200

    return _Http(), {**parsed, "ResponseMetadata": {"HTTPStatusCode": 200}}
