"""Everyone who has to do with an external executor's jobs, for the machine in `ledger_executions`.

The starter, the settler, the reconciler and the cancellation are the functions' own, as are the ledger, the slots
and the stores; services, queues and the bucket are of `ledger_world`. The others do here what theirs do: the
processor, containers, workflows, and the workers of `lambda`.
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError
from sluice_core.executors import BATCH, LAMBDA, STEP_FUNCTIONS, Execution, ExecutionState, Refused, Retry, Started
from sluice_core.inputs import InputStore
from sluice_core.jobs import NOT_STARTED, JobError, JobKey, JobStatus, StoredResult, Submission
from sluice_core.ledger import Attempt, Outcome
from sluice_core.results import ResultWriter
from sluice_core.slots import Slots
from sluice_core.work_queue import WorkQueueExecutor, read_work_message
from sluice_core.workloads import WorkResult
from sluice_handlers.pools import Pool, Pools
from sluice_handlers.settling import Settlement, Settler
from sluice_handlers.staging import Staging
from sluice_handlers.tracing import Tracer
from unit.ledger_judged import JudgedLedger
from unit.ledger_model import ALLOWANCE_MS, Broken, JobModel
from unit.ledger_world import Counts, Line, LineWire, Message, Objects, Queues, Running, Service
from unit.wire_faults import Death

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from mypy_boto3_dynamodb import DynamoDBClient
    from unit.ledger_judged import Judge

_T = TypeVar("_T")

LEASE_MS = 30_000 + ALLOWANCE_MS
TIMEOUT_S = 3_600
EXECUTORS = (BATCH, STEP_FUNCTIONS)
_OPEN_JOBS = 3
_SCRIPTED = JobError("SCRIPTED", "It was to fail.")
_ABORTED = JobError("ABORTED", "An operator ended this job.")
_MADE = WorkResult(b"made", "text/plain", "txt")

_owners = itertools.count(1)


@dataclass(frozen=True)
class Functions:
    """The modules of the functions, and that of the slots, which makes tokens."""

    starter: ModuleType
    settling: ModuleType
    reconciler: ModuleType
    cancel_job: ModuleType
    slots: ModuleType


class Actors:
    """A stage with two external executors and `lambda`, and all that may be done to it.

    Of what there is an actor takes one: the latest for 0, and so on.
    """

    def __init__(
        self, dynamodb: DynamoDBClient, tables: tuple[str, str], functions: Functions, judge: Judge
    ) -> None:
        self.line = Line()
        self.now = 1_790_000_000_000
        self.models: dict[JobKey, JobModel] = {}
        self.counts = Counts()
        self.undelivered: list[JobKey] = []
        self.worked_on: list[tuple[Attempt, Message]] = []
        self.events: list[tuple[str, Execution]] = []
        self.queues = Queues(self.line)
        wire = LineWire(dynamodb, self.line)
        self.ledger = JudgedLedger(wire, tables[0], 7 * 86_400, judge)
        self.slots = Slots(wire, tables[1])  # type: ignore[arg-type]
        self.services = {
            name: Service(
                self.line,
                clock=lambda: self.now,
                is_workflow=name == STEP_FUNCTIONS,
                ended=lambda one, name=name: self.events.append((name, one)),  # type: ignore[misc]
            )
            for name in EXECUTORS
        }
        self._functions = functions
        self._owner = f"owner-{next(_owners)}"
        self._numbers = itertools.count(1)
        self._executor = BATCH
        self._requests: dict[JobKey, Submission] = {}

    def open_for_business(self, cap: int) -> None:
        """Have so many run at once; the slots of the last example are free."""
        for name in EXECUTORS:
            self.slots.free(name, self.slots.held(name))
        objects: Any = Objects(self.line)
        queues: Any = self.queues
        services: Any = self.services
        self._pools = Pools(
            ledger=self.ledger,
            slots=self.slots,
            inputs=InputStore(objects, "bucket"),
            results=ResultWriter(objects, "bucket"),
            staging=Staging(objects, "bucket"),
            sqs=queues,
            max_receives=5,
            by_executor={
                name: Pool(
                    service,
                    WorkQueueExecutor(queues, name),
                    WorkQueueExecutor(queues, dead_letters(name)),
                    name,
                    cap,
                    TIMEOUT_S,
                )
                for name, service in services.items()
            },
        )
        functions: Any = self._functions
        for module in (functions.starter, functions.settling, functions.reconciler):
            module.now_ms = lambda: self.now
        functions.slots.new_token = lambda now_ms: f"{now_ms:011x}{next(self._numbers):010x}"
        functions.cancel_job._ledger, functions.cancel_job._executors = self.ledger, self.services

    # Clients, the processor and operators

    def a_client_submits(self, picks: list[int]) -> None:
        if sum(model.job is None or model.job.status.is_open for model in self.models.values()) < _OPEN_JOBS:
            key = JobKey(self._owner, f"job-{len(self.models)}")
            self.models[key] = JobModel()
            # A type of its own, by which it is counted.
            self._requests[key] = Submission(key, key.job_id, {"n": picks[0]}, self.now)
            self.undelivered.append(key)
            self.process(key)

    def a_request_comes_again(self, picks: list[int]) -> None:
        for key in picked(list(self._requests), picks[0]):
            self.process(key)

    def process(self, key: JobKey) -> None:
        """Record and dispatch a job as the processor does."""
        request = replace(self._requests[key], executor=self._executor)
        [write] = self.ledger.record([request])
        if write.outcome is Outcome.UNAVAILABLE:
            return
        row = write.job
        if row is None or (row.status is JobStatus.SUBMITTED and not row.start_token):
            executor = row.executor if row else request.executor
            [queued] = WorkQueueExecutor(self.queues, executor).start([request])  # type: ignore[arg-type]
            if not isinstance(queued, Started):
                return
        if key in self.undelivered:
            self.undelivered.remove(key)

    def a_client_cancels(self, picks: list[int]) -> None:
        cancel_job: Any = self._functions.cancel_job
        for key in picked(list(self.models), picks[0]):
            with suppress(cancel_job._NotCancelled):
                cancel_job._cancel(key, self.now)

    def an_operator_aborts(self, picks: list[int]) -> None:
        for key in picked(list(self.models), picks[0]):
            self.ledger.abort(key, _ABORTED, self.now)

    def an_operator_brings_a_job_back(self, picks: list[int]) -> None:
        """With its request, or with its dead letter, or with the last work message that it had."""
        failed = [job for model in self.models.values() if (job := model.job) and job.status is JobStatus.FAILED]
        for job in picked(failed, picks[0]):
            queues = (job.executor, dead_letters(job.executor))
            all_letters = [one for name in queues for one in self.queues.messages.get(name, [])]
            letters = [one for one in all_letters if read_work_message(one.body).key == job.key]
            self.undelivered.append(job.key)
            self.ledger.reopen(job, self.now, self.now + 60_000 + ALLOWANCE_MS)
            if letters and picks[-1] % 2:
                self.queues.put(job.executor, letters[-1].body)
                self.undelivered.remove(job.key)

    def the_type_gets_another_executor(self, picks: list[int]) -> None:
        self._executor = (LAMBDA, *EXECUTORS)[picks[0] % 3]

    # The starter, the settler and the reconciler

    def a_starter_pulls(self, picks: list[int]) -> None:
        """What there is, in some order, and perhaps what was deleted."""
        self.queues.choose = lambda messages, most: [
            one for one in _rotated(messages, picks[-1]) if not one.is_deleted or picks[-1] == 7
        ][:most]
        with_messages = [name for name in EXECUTORS if self.queues.waiting(name)]
        for name in picked(with_messages or EXECUTORS, picks[0]):
            self.starter(name).pull(60)

    def a_starter_resumes(self, picks: list[int]) -> None:
        for name in picked(self._busy(), picks[0]):
            self.starter(name).resume(lambda: True)

    def starter(self, executor: str) -> Any:
        """Return the starter of an executor."""
        starter: Any = self._functions.starter
        return starter.Starter(self._pools, executor, self.counts, Tracer("starter", "queue"))

    def an_event_comes(self, picks: list[int]) -> None:
        """The first time, or again, however late; it may lack what the service knows."""
        for executor, execution in picked(self.events, picks[0]):
            if picks[-1] > 5 and execution.state is ExecutionState.SUCCEEDED:
                self.settle(executor, replace(execution, is_complete=False, result=None))
            else:
                self.settle(executor, execution)

    def settle(self, executor: str, execution: Execution) -> None:
        """Settle an execution as the completion function does."""
        settler = Settler(self._pools, self.counts)  # type: ignore[arg-type]
        settlement = settler.settle(executor, execution)
        settler.free_slots()
        if self.line.has_struck:
            return
        if settlement is Settlement.AGAIN and execution.is_complete:
            raise Broken("what befalls nobody needs no second look", execution, self.models[execution.key].job)
        is_over = settlement in (Settlement.CLOSED, Settlement.KNOWN, Settlement.DROPPED)
        if is_over and execution.start_token in self.slots.held(executor):
            raise Broken("what is settled holds no slot", execution, settlement)

    def the_reconciler_looks(self, picks: list[int]) -> None:
        for name in picked(self._busy(), picks[0]):
            self.reconcile(name)

    def reconcile(self, executor: str) -> None:
        """Look after an executor as the reconciler does."""
        reconciler: Any = self._functions.reconciler
        reconciler.Reconciliation(self._pools, _Waker(), self.counts, lambda: True).look_after(executor)

    def _busy(self) -> Sequence[str]:
        """Return the executors that have something to do, or all."""
        executing = {model.job.executing for model in self.models.values() if model.job}
        return [name for name in EXECUTORS if name in executing] or EXECUTORS

    # Services and what they run

    def a_service_is_short(self, picks: list[int]) -> None:
        service = self.services[EXECUTORS[picks[0] % 2]]
        service.answers.append(Refused(NOT_STARTED) if picks[0] > 5 else Retry("no room"))

    def an_execution_goes_on(self, picks: list[int]) -> None:
        for service, one in picked(self.running(), picks[0]):
            self.go_on(service, one, picks[-1])

    def an_execution_ends_badly(self, picks: list[int]) -> None:
        """Its host is lost, it takes too long, an operator stops it; it may have time to give its job back."""
        states = (ExecutionState.LOST, ExecutionState.TIMED_OUT, ExecutionState.STOPPED)
        for service, one in picked(self.running(), picks[0]):
            if one.attempt and not service.is_workflow and picks[0] % 2:
                self.ledger.release([one.attempt])
            service.end(one, states[(picks[-1] + 1) // 2 % 3])

    def running(self) -> list[tuple[Service, Running]]:
        """Return what runs, and where."""
        return [(service, one) for service in self.services.values() for one in service.running if one.is_open]

    def go_on(self, service: Service, one: Running, pick: int) -> None:
        """Let an execution take its next step, which is to its end if the pick is 0."""
        try:
            if one.attempt is None:
                self._come_up(service, one, pick)
            elif service.is_workflow:
                self._go_on_as_workflow(service, one, one.attempt, pick)
            else:
                self._go_on_as_container(service, one, one.attempt, pick)
        except (Death, ClientError):
            if not service.is_workflow:  # whose steps are tried again
                service.end(one, ExecutionState.LOST)
            raise

    def _come_up(self, service: Service, one: Running, pick: int) -> None:
        key, token = one.execution.key, one.execution.start_token
        attempt = Attempt(key, token if service.is_workflow else f"attempt-{next(self._numbers)}")
        lease_ms = TIMEOUT_S * 1000 + ALLOWANCE_MS if service.is_workflow else LEASE_MS
        write = self.ledger.claim_started(attempt, token, self.now, self.now + lease_ms)
        if write.is_written:
            one.attempt = attempt
        elif write.outcome is Outcome.UNAVAILABLE:
            if not service.is_workflow:
                service.end(one, ExecutionState.LOST, gave_up=True)
        elif write.job is None or write.has_ended or write.job.start_token != token:
            service.end(one, ExecutionState.SUCCEEDED)
        elif pick % 2:  # it waits for another's lease no longer
            service.end(one, ExecutionState.FAILED if service.is_workflow else ExecutionState.SUCCEEDED)

    def _go_on_as_workflow(self, service: Service, one: Running, attempt: Attempt, pick: int) -> None:
        if pick == 5:
            self.ledger.fail([(attempt, _SCRIPTED)], self.now)
            service.end(one, ExecutionState.FAILED, error=_SCRIPTED)
        elif pick > 5:
            service.end(one, ExecutionState.FAILED if pick == 6 else ExecutionState.TIMED_OUT)
        else:
            stored = self._pools.results.put(attempt.key, attempt.token, _MADE)
            service.end(one, ExecutionState.SUCCEEDED, result=stored)

    def _go_on_as_container(self, service: Service, one: Running, attempt: Attempt, pick: int) -> None:
        if pick == 4:
            [write] = self.ledger.fail([(attempt, _SCRIPTED)], self.now)
        elif pick == 5:
            [write] = self.ledger.release([attempt])
        elif pick > 5:
            [write] = self.ledger.renew([attempt], self.now + LEASE_MS)
        else:
            stored = self._pools.results.put(attempt.key, attempt.token, _MADE)
            [write] = self.ledger.complete([(attempt, stored)], self.now)
        if write.outcome is Outcome.REFUSED:
            service.end(one, ExecutionState.SUCCEEDED)
        elif pick < 6:
            gave_up = pick == 5 or not write.is_written
            service.end(one, ExecutionState.LOST if gave_up else ExecutionState.SUCCEEDED, gave_up=gave_up)

    # `lambda`

    def a_worker_claims(self, picks: list[int]) -> None:
        for message in picked(self.queues.messages.get(LAMBDA, []), picks[0]):
            attempt = Attempt(read_work_message(message.body).key, f"attempt-{next(self._numbers)}")
            [write] = self.ledger.claim([attempt], self.now, self.now + LEASE_MS, "request-id")
            if write.is_written:
                self.worked_on.append((attempt, message))
            elif write.job is not None and (write.has_ended or write.job.executing):
                message.is_deleted = True

    def a_worker_ends(self, picks: list[int]) -> None:
        """Or dies, and leaves its message."""
        for one in picked(self.worked_on, picks[0]):
            self.worked_on.remove(one)
            attempt, message = one
            match picks[-1]:
                case 0 | 1 | 2 | 3:
                    result = StoredResult(f"results/{attempt.token}", "text/plain", 1)
                    [write] = self.ledger.complete([(attempt, result)], self.now)
                    message.is_deleted = write.is_written or write.has_ended
                case 4 | 5:
                    [write] = self.ledger.fail([(attempt, _SCRIPTED)], self.now)
                    message.is_deleted = write.is_written or write.has_ended
                case 6:
                    self.ledger.release([attempt])


class _Waker:
    def wake(self, executors: set[str]) -> None:
        """Wake nobody: who is woken may not hear it."""


def dead_letters(executor: str) -> str:
    """Return the name of an executor's dead-letter queue."""
    return f"{executor}-dlq"


def picked(those: Sequence[_T], pick: int) -> list[_T]:
    """Return one of those there are, the latest for 0, or none."""
    return [those[-1 - pick % len(those)]] if those else []


def _rotated(those: Sequence[_T], by: int) -> list[_T]:
    by = by % len(those) if those else 0
    return [*those[by:], *those[:by]]
