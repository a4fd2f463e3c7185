"""A stage with external executors as its functions see it: real queues, tables, bucket, and services of ours."""

from __future__ import annotations

import functools
import json
import uuid
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from sluice_core import configured
from sluice_core.executors import Execution, ExecutionState, Started
from sluice_core.external import failed_start, stopped_for
from sluice_core.inputs import InputStore
from sluice_core.jobs import now_ms
from sluice_core.ledger import Attempt, Start
from sluice_core.results import ResultWriter
from sluice_core.slots import Slots
from sluice_core.work_queue import WorkQueueExecutor, read_work_message
from sluice_core.workloads import WorkResult
from sluice_handlers import batches, pools
from sluice_handlers.staging import Staging
from unit import workloads_for_tests
from unit.lambda_events import MAX_RECEIVES, Context, failed_ids, row, sqs_record
from unit.state_changes import state_change

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sluice_core.executors import StartResult
    from sluice_core.jobs import Job, StoredResult, Submission
    from sluice_core.ledger import JobLedger
    from unit.conftest import ClientMaker, Load, MakeQueue
    from unit.resources import Bucket
    from unit.wire_faults import Wire

EXECUTORS = ("stepfunctions", "ecs")
CAP = 3
TIMEOUT_S = 3_600
MADE = WorkResult(b"made", "text/plain", "txt")


@dataclass
class Service:
    """What an external executor's service does: it runs each start token once, and tells if it is asked.

    Attributes
    ----------
    executions : dict
        By start token, as the service knows them.
    answers : deque
        What the next starts are answered, instead of being made.
    stopped : list
        What was to be stopped, and why.

    """

    wire: Wire
    executions: dict[str, Execution] = field(default_factory=dict)
    answers: deque[StartResult] = field(default_factory=deque)
    stopped: list[tuple[str, str]] = field(default_factory=list)

    def start(self, submissions: Sequence[Submission]) -> list[StartResult]:
        return [self._start(one) for one in submissions]

    def _start(self, one: Submission) -> StartResult:
        try:
            return self._make(one)
        except (ClientError, BotoCoreError) as error:
            return failed_start(error)

    def _make(self, one: Submission) -> StartResult:
        assert one.start_token
        with self.wire.passing("Start", job=one):
            if self.answers:
                return self.answers.popleft()
            handle = f"handle-{one.start_token}"
            new = Execution(one.key, one.start_token, handle, ExecutionState.OPEN, began_at=now_ms())
            return Started(self.executions.setdefault(one.start_token, new).handle)

    def stop(self, handle: str, reason: str) -> None:
        with self.wire.passing("Stop", handle=handle):
            self.stopped.append((handle, reason))
            for token, one in self.executions.items():
                if one.handle == handle and one.state is ExecutionState.OPEN:
                    self.executions[token] = replace(one, state=stopped_for(reason))

    def look(self, handles: Sequence[str]) -> dict[str, Execution | None]:
        assert all(handles)
        with self.wire.passing("Look", handles=list(handles)):
            known = {one.handle: one for one in self.executions.values()}
            return {handle: known.get(handle) for handle in handles}

    def begin(self, job: Job, at: int | None) -> None:
        """Let a job's execution have begun then, in epoch milliseconds, or wait for its host."""
        self.executions[job.start_token] = replace(self.executions[job.start_token], began_at=at)

    def end(self, job: Job, state: ExecutionState, **members: Any) -> None:
        """Let a job's execution end."""
        self.executions[job.start_token] = replace(self.executions[job.start_token], state=state, **members)

    def of(self, job: Submission) -> list[Execution]:
        """Return the executions that were ever started of a job."""
        return [one for one in self.executions.values() if one.key == job.key]


class ExternalStage:
    """The stage, and what a test does with it; what it does not name is the ``ecs`` executor's."""

    def __init__(
        self,
        engine: ClientMaker,
        table: str,
        *,
        ledger: JobLedger,
        bucket: Bucket,
        make_queue: MakeQueue,
        load: Load,
        wire: Wire,
    ) -> None:
        self._dynamodb = engine.client("dynamodb")
        self._table = table
        self.ledger = ledger
        self.bucket = bucket
        self.wire = wire
        self.slots = Slots(self._dynamodb, _make_slots(self._dynamodb))
        self.inputs = InputStore(bucket.s3, bucket.name)
        self.staging = Staging(bucket.s3, bucket.name)
        self.services = {name: Service(wire) for name in EXECUTORS}
        self.dead_letters = {name: make_queue(f"{name}-dlq") for name in EXECUTORS}
        self.queues = {name: make_queue(name, self.dead_letters[name]) for name in EXECUTORS}
        self.completions = make_queue("completions")
        self.function = functools.cache(lambda module: load(module, **self.settings()))

    def settings(self) -> dict[str, str]:
        """Return the environment of such a stage's functions."""
        return {
            "JOB_TABLE": self._table,
            "RETENTION_SECONDS": str(7 * 86_400),
            "SLOTS_TABLE": self.slots._table,
            "RESULT_BUCKET": self.bucket.name,
            "MAX_RECEIVES": str(MAX_RECEIVES),
            "STARTER": "arn:aws:lambda:us-east-1:000000000000:function:starter:live",
            "QUEUE_URL": self.completions.url,
            "WORKLOADS": workloads_for_tests.SETTING,
            "WORKFLOW_TIMEOUT_SECONDS": str(TIMEOUT_S),
            **{f"{name.upper()}_QUEUE_URL": queue.url for name, queue in self.queues.items()},
            **{f"{name.upper()}_DLQ_URL": queue.url for name, queue in self.dead_letters.items()},
            **{f"{name.upper()}_MAX_RUNNING": str(CAP) for name in EXECUTORS},
            **{f"{name.upper()}_TIMEOUT_SECONDS": str(TIMEOUT_S) for name in EXECUTORS},
        }

    # Jobs

    def queue(self, *jobs: Submission, executor: str = "ecs") -> None:
        """Have jobs wait for an executor, recorded and queued as by the processor."""
        routed = [replace(one, executor=executor) for one in jobs]
        self.ledger.record(routed)
        self.send(*routed, executor=executor)

    def send(self, *jobs: Submission, executor: str = "ecs") -> None:
        """Send the work messages of jobs."""
        queue = self.queues[executor]
        results = WorkQueueExecutor(queue.sqs, queue.url).start(jobs)
        assert all(isinstance(one, Started) for one in results)

    def started(self, *jobs: Submission, executor: str = "ecs") -> list[Job]:
        """Have jobs started, and return their rows."""
        self.queue(*jobs, executor=executor)
        self.start(executor)
        rows = [row(self.ledger, one) for one in jobs]
        assert all(one.handle and one.executing == executor for one in rows)
        return rows

    def lose(self, job: Job) -> None:
        """Close a start as the settler does with one that is lost."""
        self.ledger.close([Start(job.key, job.start_token, job.executing)])
        self.slots.free(job.executing, [job.start_token])

    def age(self, *jobs: Submission | Job, seconds: int = 61) -> None:
        """Let the starts of jobs have begun and been noted so long ago, as far as they have."""
        for one in jobs:
            row = self.row(one)
            times = {"executingSince": row.executing_since, "notedAt": row.noted_at}
            if past := {name: time - seconds * 1000 for name, time in times.items() if time}:
                self.set_numbers(one, **past)

    def row(self, job: Submission | Job) -> Job:
        """Return a job as it is on record."""
        found = self.ledger.get(job.key)
        assert found is not None
        return found

    def claim(self, job: Job, now_ms: int, lease_ms: int = 35_000, token: str = "container") -> Attempt:
        """Claim a job as its container does, or as its workflow if the token is the start's."""
        attempt = Attempt(job.key, token)
        assert self.ledger.claim_started(attempt, job.start_token, now_ms, now_ms + lease_ms).is_written
        return attempt

    def workflow(self, job: Submission, now_ms: int) -> tuple[Job, StoredResult]:
        """Have a job's workflow run to where its result is stored; only its end is still to be told."""
        [row] = self.started(job, executor="stepfunctions")
        attempt = self.claim(row, now_ms, 3_600_000, token=row.start_token)
        self.staging.put(attempt, MADE)
        return row, self.store(attempt)

    def container(self, job: Submission, now_ms: int) -> tuple[Job, Attempt]:
        """Have a job's container run it."""
        [row] = self.started(job)
        return row, self.claim(row, now_ms)

    def is_over(self, job: Submission, executor: str = "ecs") -> bool:
        """Whether nothing is left of a job but its row and its result."""
        found = self.row(job)
        left = [found.result.object_key] if found.result else []
        queued = sum(self.queues[executor].depth())
        return (found.executing, self.held(executor), self.bucket.keys(), queued) == ("", set(), left, 0)

    def set_aside(self, executor: str = "ecs") -> list[Submission]:
        """Take the jobs that lie on an executor's dead-letter queue."""
        return [read_work_message(one["Body"]) for one in self.dead_letters[executor].receive()]

    def store(self, attempt: Attempt) -> StoredResult:
        """Store a result as a worker does."""
        return ResultWriter(self.bucket.s3, self.bucket.name).put(attempt.key, attempt.token, MADE)

    def set_numbers(self, job: Submission | Job, **numbers: int) -> None:
        """Set numbers of a job's row, as if time had passed."""
        self._dynamodb.update_item(
            TableName=self._table,
            Key={"jobKey": {"S": str(job.key)}},
            UpdateExpression="SET " + ", ".join(f"{name} = :{name}" for name in numbers),
            ConditionExpression="attribute_exists(jobKey)",
            ExpressionAttributeValues={f":{name}": {"N": str(value)} for name, value in numbers.items()},
        )

    def forget(self, job: Submission | Job) -> None:
        """Let a job's row expire."""
        self._dynamodb.delete_item(TableName=self._table, Key={"jobKey": {"S": str(job.key)}})

    # Functions

    def start(self, executor: str | None = "ecs", *remaining_ms: int) -> None:
        """Wake the starter, for one executor or by its schedule."""
        starter = self.function("starter")
        starter._WAIT_S = 0  # type: ignore[attr-defined]  # the engine has one server
        event = {"executor": executor} if executor else {"detail-type": "Scheduled Event"}
        starter.handler(event, Context(*remaining_ms))

    def event(self, job: Job, change: str, executor: str = "ecs", **members: Any) -> dict[str, Any]:
        """Return the record of a state change of a job's execution."""
        event = state_change(
            executor, change, key=job.key, start_token=job.start_token, handle=job.handle, **members
        )
        return sqs_record(json.dumps(event))

    def complete(self, *records: dict[str, Any]) -> list[str]:
        """Let the completion function have events; return the ids that it reports back."""
        return failed_ids(self.function("completion").handler({"Records": list(records)}, Context()))

    def reconcile(self, remaining_ms: int = 60_000) -> tuple[int, int]:
        """Let the reconciler run; return how many executions it asked about, and how many it settled."""
        answer = self.function("reconciler").handler({}, Context(remaining_ms))
        assert set(answer) == {"asked", "settled"}
        return answer["asked"], answer["settled"]

    def woken(self) -> list[str]:
        """Return for which executors the starter was woken, in order."""
        return [json.loads(call.parameters["Payload"])["executor"] for call in self.wire.made("Invoke")]

    def show(self, executor: str = "ecs") -> None:
        """Let time pass until all messages of an executor's queue are visible."""
        queue = self.queues[executor]
        for message in self.wire.messages:
            with suppress(ClientError):  # deleted, or another queue's
                queue.sqs.change_message_visibility(
                    QueueUrl=queue.url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
                )

    def held(self, executor: str = "ecs") -> set[str]:
        """Return the tokens that hold a slot."""
        return self.slots.held(executor)


def _make_slots(dynamodb: Any) -> str:
    """Make a table of slots as `sluice_infra.external_executors` declares it."""
    name = f"slots-{uuid.uuid4().hex}"
    dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "executor", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "executor", "KeyType": "HASH"}],
    )
    return name


@pytest.fixture
def external(
    *,
    engine: ClientMaker,
    table: str,
    ledger: JobLedger,
    bucket: Bucket,
    make_queue: MakeQueue,
    wire: Wire,
    load: Load,
    monkeypatch: pytest.MonkeyPatch,
) -> ExternalStage:
    """Return a stage with two external executors; nobody waits, and what is put back is there at once."""
    stage = ExternalStage(engine, table, ledger=ledger, bucket=bucket, make_queue=make_queue, load=load, wire=wire)
    for module in (configured, pools):
        monkeypatch.setattr(module, "configured_executors", lambda _: stage.services)
    monkeypatch.setattr(batches, "_FIRST_DELAY_S", 0)

    wire.stand_ins["Invoke"] = {"StatusCode": 202}
    return stage
