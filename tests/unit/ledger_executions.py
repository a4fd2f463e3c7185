"""The executors' own functions, in a world where everything goes wrong, as a hypothesis state machine.

The starter, the settler, the reconciler and the cancellation are the real ones, as are the ledger, the slots and
the stores; services, queues and the bucket are of `ledger_world`. In each step somebody acts, and trouble may befall
one of their calls. Messages come again, in any order; so do events, or never. In the end all goes well for a while,
though no event comes: then each job has to end, once, and nothing may be left.
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from sluice_core.executors import BATCH, LAMBDA, STEP_FUNCTIONS, Execution, ExecutionState, Refused, Retry, Started
from sluice_core.inputs import InputStore
from sluice_core.jobs import JobError, JobKey, JobStatus, StoredResult, Submission
from sluice_core.ledger import Attempt, Outcome
from sluice_core.results import ResultWriter
from sluice_core.slots import Slots
from sluice_core.work_queue import WorkQueueExecutor, read_work_message
from sluice_core.workloads import WorkResult
from sluice_handlers.lanes import Lane, Stage
from sluice_handlers.settling import Settler
from sluice_handlers.staging import Staging
from sluice_handlers.tracing import Tracer
from unit.ledger_judged import JudgedLedger
from unit.ledger_model import ALLOWANCE_MS, Broken, Deed, JobModel
from unit.ledger_world import Counts, Line, LineWire, Message, Objects, Queues, Running, Service, Trouble
from unit.wire_faults import Death

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from mypy_boto3_dynamodb import DynamoDBClient

_T = TypeVar("_T")

START = 1_790_000_000_000
LEASE_MS = 30_000 + ALLOWANCE_MS
TIMEOUT_S = 3_600
EXECUTORS = (BATCH, STEP_FUNCTIONS)
_NOT_STARTED = JobError("NOT_STARTED", "Nobody would start it.")
_SCRIPTED = JobError("SCRIPTED", "It was to fail.")
_ABORTED = JobError("ABORTED", "An operator ended this job.")
_MADE = WorkResult(b"made", "text/plain", "txt")
_OPEN_JOBS = 3
_ROUNDS = 40
# What is on its way arrives before anybody takes its actor for dead.
_LATE_MS = 20_000

_owners = itertools.count(1)

DOINGS = {
    "things_take_their_course": 12,
    "a_client_submits": 4,
    "a_request_comes_again": 1,
    "a_client_cancels": 2,
    "an_operator_aborts": 1,
    "an_operator_brings_a_job_back": 3,
    "the_type_gets_another_executor": 3,
    "a_starter_pulls": 6,
    "a_starter_resumes": 3,
    "a_service_is_short": 2,
    "an_execution_goes_on": 8,
    "an_execution_ends_badly": 4,
    "an_event_comes": 6,
    "the_reconciler_looks": 3,
    "a_worker_claims": 2,
    "a_worker_ends": 2,
    "a_late_write_arrives": 1,
}
_MEANWHILE = [name for name in DOINGS if name not in ("a_late_write_arrives", "a_service_is_short")]


@dataclass(frozen=True)
class Move:
    """What somebody does after a while, and what befalls one of their calls.

    Attributes
    ----------
    picks : list of int
        Which of those there are it takes; 0 is the latest.
    at : int
        Which of its calls the trouble befalls.
    meanwhile : str
        What somebody else does before that call, if that is the trouble.

    """

    does: str
    after: int
    picks: list[int]
    trouble: Trouble
    at: int
    meanwhile: str


moves = st.builds(
    Move,
    does=st.sampled_from([name for name, weight in DOINGS.items() for _ in range(weight)]),
    after=st.sampled_from([0, 0, 0, 0, 5_000, 20_000, 70_000, 200_000]),
    picks=st.lists(st.integers(0, 7), min_size=1, max_size=3),
    trouble=st.sampled_from([Trouble.NONE] * 4 + list(Trouble) + [Trouble.MEANWHILE] * 3),
    at=st.sampled_from([0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 9, 11]),
    meanwhile=st.sampled_from(_MEANWHILE),
)


@dataclass(frozen=True)
class Functions:
    """The modules of the functions, which look at the clock, and that of the slots, which makes tokens."""

    starter: ModuleType
    settling: ModuleType
    reconciler: ModuleType
    cancel_job: ModuleType
    slots: ModuleType


class ExecutionMachine(RuleBasedStateMachine):
    """A stage with two external executors and `lambda`; `Broken` is raised by whatever breaks a promise.

    Parameters
    ----------
    tally : Counter
        Counts what the run has met.

    """

    def __init__(
        self, dynamodb: DynamoDBClient, tables: tuple[str, str], functions: Functions, tally: Counter[str]
    ) -> None:
        super().__init__()
        self._dynamodb = dynamodb
        self._table, slots_table = tables
        self._functions = functions
        self._tally = tally
        self._line = Line()
        wire = LineWire(dynamodb, self._line)
        self._ledger = JudgedLedger(wire, self._table, 7 * 86_400, self._judge)
        self._queues, objects = Queues(self._line), Objects(self._line)
        self._services = {
            name: Service(self._line, name == STEP_FUNCTIONS, lambda one, name=name: self._ended(name, one))  # type: ignore[misc]
            for name in EXECUTORS
        }
        self._stage = Stage(
            ledger=self._ledger,
            slots=Slots(wire, slots_table),  # type: ignore[arg-type]
            inputs=InputStore(objects, "bucket"),  # type: ignore[arg-type]
            results=ResultWriter(objects, "bucket"),  # type: ignore[arg-type]
            staging=Staging(objects, "bucket"),  # type: ignore[arg-type]
            sqs=self._queues,  # type: ignore[arg-type]
            max_receives=5,
            lanes={},
        )
        self._owner = f"owner-{next(_owners)}"
        self._numbers = itertools.count(1)
        self._now = START
        self._executor = BATCH
        self._models: dict[JobKey, JobModel] = {}
        self._requests: dict[JobKey, Submission] = {}
        self._undelivered: list[JobKey] = []
        self._worked_on: list[tuple[Attempt, Message]] = []
        self._events: list[tuple[str, Execution]] = []
        self._counts = Counts()

    @initialize(cap=st.sampled_from([1, 2]))
    def a_stage_stands(self, cap: int) -> None:
        for name in EXECUTORS:
            self._stage.slots.free(name, self._stage.slots.held(name))
        lanes = {
            name: Lane(
                self._services[name],
                WorkQueueExecutor(self._queues, name),
                name,
                cap,
                TIMEOUT_S,  # type: ignore[arg-type]
            )
            for name in EXECUTORS
        }
        self._stage = replace(self._stage, lanes=lanes)
        self._cap = cap
        for name in ("starter", "settling", "reconciler"):
            getattr(self._functions, name)._now_ms = lambda: self._now
        self._functions.slots.new_token = lambda now_ms: f"{now_ms:011x}{next(self._numbers):010x}"  # type: ignore[attr-defined]
        self._functions.cancel_job._ledger = self._ledger  # type: ignore[attr-defined]
        self._functions.cancel_job._executors = self._services  # type: ignore[attr-defined]

    @rule(move=moves)
    def somebody_acts(self, move: Move) -> None:
        self._now += move.after + 1
        if move.after >= _LATE_MS:
            self._ledger.late.clear()
        meanwhile = replace(move, does=move.meanwhile, picks=move.picks[1:] or [0])
        self._line.expect(move.trouble, move.at, lambda: self._do(meanwhile))
        self._do(move)
        self._line.clear()
        self._judge_slots()

    def teardown(self) -> None:
        if self._models:
            self._settle_down()

    def _do(self, move: Move) -> None:
        act: Callable[[list[int]], object] = getattr(self, move.does)
        try:
            act(move.picks)
        except Death:
            self._tally[f"died {move.does}"] += 1
        except ClientError:
            self._tally["raised"] += 1

    def _ended(self, executor: str, execution: Execution) -> None:
        self._events.append((executor, execution))

    # Judging

    def _judge(self, deeds: list[Deed]) -> None:
        for deed in deeds:
            row = self._dynamodb.get_item(
                TableName=self._table, Key={"jobKey": {"S": str(deed.key)}}, ConsistentRead=True
            ).get("Item")
            self._models[deed.key].judge([deed], row, self._now)
            self._tally[f"{deed.change} {deed.outcome.value if deed.outcome else 'unheard'}"] += 1

    def _judge_slots(self) -> None:
        for name in EXECUTORS:
            rows = [row for model in self._models.values() if (row := model.job) and row.executing == name]
            held = self._stage.slots.held(name)
            if len(held) > self._cap:
                raise Broken("no more slots are held than there are", name, held)
            if not held.issuperset(row.start_token for row in rows):
                raise Broken("each execution that is not closed holds a slot", rows, held)

    # Clients, the processor and operators

    def a_client_submits(self, picks: list[int]) -> None:
        if sum(model.job is None or model.job.status.is_open for model in self._models.values()) < _OPEN_JOBS:
            key = JobKey(self._owner, f"job-{len(self._models)}")
            self._models[key] = JobModel()
            self._requests[key] = Submission(key, key.job_id, {"n": picks[0]}, self._now)
            self._undelivered.append(key)
            self._process(key)

    def a_request_comes_again(self, picks: list[int]) -> None:
        for key in _picked(list(self._requests), picks[0]):
            self._process(key)

    def _process(self, key: JobKey) -> None:
        """Record and dispatch a job as the processor does."""
        request = replace(self._requests[key], executor=self._executor)
        [write] = self._ledger.record([request])
        if write.outcome is Outcome.UNAVAILABLE:
            return
        row = write.job
        if row is None or (row.status is JobStatus.SUBMITTED and not row.start_token):
            executor = row.executor if row else request.executor
            [queued] = WorkQueueExecutor(self._queues, executor).start([request])  # type: ignore[arg-type]
            if not isinstance(queued, Started):
                return
        if key in self._undelivered:
            self._undelivered.remove(key)

    def a_client_cancels(self, picks: list[int]) -> None:
        cancel_job: Any = self._functions.cancel_job
        for key in _picked(list(self._models), picks[0]):
            with suppress(cancel_job._NotCancelled):
                cancel_job._cancel(key, self._now)

    def an_operator_aborts(self, picks: list[int]) -> None:
        for key in _picked(list(self._models), picks[0]):
            self._ledger.abort(key, _ABORTED, self._now)

    def an_operator_brings_a_job_back(self, picks: list[int]) -> None:
        """With its request, or with a work message that it once had."""
        failed = [job for model in self._models.values() if (job := model.job) and job.status is JobStatus.FAILED]
        for job in _picked(failed, picks[0]):
            queue = self._queues.messages.get(job.executor, [])
            old = [one for one in queue if read_work_message(one.body).key == job.key]
            self._undelivered.append(job.key)
            self._ledger.reopen(job, self._now, self._now + 60_000 + ALLOWANCE_MS)
            for letter in _picked(old, picks[-1])[: picks[-1] % 2]:
                self._queues.put(job.executor, letter.body)
                self._undelivered.remove(job.key)

    def the_type_gets_another_executor(self, picks: list[int]) -> None:
        self._executor = (*EXECUTORS, LAMBDA)[picks[0] % 3]

    # The starter, the settler and the reconciler

    def a_starter_pulls(self, picks: list[int]) -> None:
        """What there is, in some order, and perhaps what was deleted."""
        self._queues.choose = lambda messages, most: [
            one for one in _rotated(messages, picks[0]) if not one.is_deleted or picks[-1] == 7
        ][:most]
        self._starter(EXECUTORS[picks[0] % 2]).pull(60)

    def a_starter_resumes(self, picks: list[int]) -> None:
        self._starter(EXECUTORS[picks[0] % 2]).resume(lambda: True)

    def _starter(self, executor: str) -> Any:
        starter: Any = self._functions.starter
        return starter.Starter(self._stage, executor, self._counts, Tracer("starter", "queue"))

    def an_event_comes(self, picks: list[int]) -> None:
        """The first time, or again, however late; it may lack what the service knows."""
        for executor, execution in _picked(self._events, picks[0]):
            is_complete = picks[-1] < 6 or execution.state is not ExecutionState.SUCCEEDED
            self._settle(
                executor, execution if is_complete else replace(execution, is_complete=False, result=None)
            )

    def _settle(self, executor: str, execution: Execution) -> None:
        settler = Settler(self._stage, self._counts)  # type: ignore[arg-type]
        self._tally[f"settled {settler.settle(executor, execution).value}"] += 1
        settler.free_slots()

    def the_reconciler_looks(self, picks: list[int]) -> None:
        reconciler: Any = self._functions.reconciler
        round_ = reconciler.Round(self._stage, _Waker(), self._counts, lambda: True)
        round_.look_after(EXECUTORS[picks[0] % 2])
        self._tally["reconciled"] += round_.settled

    # Services and what they run

    def a_service_is_short(self, picks: list[int]) -> None:
        service = self._services[EXECUTORS[picks[0] % 2]]
        service.answers.append(Refused(_NOT_STARTED) if picks[0] > 5 else Retry("no room"))

    def an_execution_goes_on(self, picks: list[int]) -> None:
        for service, one in _picked(self._running(), picks[0]):
            self._go_on(service, one, picks[-1])

    def an_execution_ends_badly(self, picks: list[int]) -> None:
        """Its host is lost, it takes too long, or an operator stops it; it may have a moment to give its job back."""
        states = (ExecutionState.LOST, ExecutionState.LOST, ExecutionState.TIMED_OUT, ExecutionState.STOPPED)
        for service, one in _picked(self._running(), picks[0]):
            if one.attempt and not service.names_are_unique and picks[-1] % 2:
                self._ledger.release([one.attempt])
            service.end(one, states[picks[-1] % 4])

    def _running(self) -> list[tuple[Service, Running]]:
        return [(service, one) for service in self._services.values() for one in service.running if one.is_open]

    def _go_on(self, service: Service, one: Running, pick: int) -> None:
        try:
            if one.attempt is None:
                self._come_up(service, one, pick)
            elif service.names_are_unique:
                self._go_on_as_workflow(service, one, one.attempt, pick)
            else:
                self._go_on_as_container(service, one, one.attempt, pick)
        except (Death, ClientError):
            if not service.names_are_unique:  # a workflow's steps are tried again
                service.end(one, ExecutionState.LOST)
            raise

    def _come_up(self, service: Service, one: Running, pick: int) -> None:
        key, token = one.execution.key, one.execution.start_token
        is_workflow = service.names_are_unique
        attempt = Attempt(key, token if is_workflow else f"attempt-{next(self._numbers)}")
        lease_ms = TIMEOUT_S * 1000 + ALLOWANCE_MS if is_workflow else LEASE_MS
        write = self._ledger.claim_started(attempt, token, self._now, self._now + lease_ms)
        if write.is_written:
            one.attempt = attempt
        elif write.outcome is Outcome.UNAVAILABLE:
            if not is_workflow:
                service.end(one, ExecutionState.LOST, gave_up=True)
        elif write.job is None or write.has_ended or write.job.start_token != token:
            service.end(one, ExecutionState.SUCCEEDED)
        elif pick % 2:  # it waits for another's lease no longer
            service.end(one, ExecutionState.FAILED if is_workflow else ExecutionState.SUCCEEDED)

    def _go_on_as_workflow(self, service: Service, one: Running, attempt: Attempt, pick: int) -> None:
        if pick == 5:
            self._ledger.fail([(attempt, _SCRIPTED)], self._now)
            service.end(one, ExecutionState.FAILED, error=_SCRIPTED)
        elif pick > 5:
            service.end(one, ExecutionState.FAILED if pick == 6 else ExecutionState.TIMED_OUT)
        else:
            service.end(
                one, ExecutionState.SUCCEEDED, result=self._stage.results.put(attempt.key, attempt.token, _MADE)
            )

    def _go_on_as_container(self, service: Service, one: Running, attempt: Attempt, pick: int) -> None:
        if pick == 4:
            [write] = self._ledger.fail([(attempt, _SCRIPTED)], self._now)
        elif pick == 5:
            [write] = self._ledger.release([attempt])
        elif pick > 5:
            [write] = self._ledger.renew([attempt], self._now + LEASE_MS)
        else:
            result = self._stage.results.put(attempt.key, attempt.token, _MADE)
            [write] = self._ledger.complete([(attempt, result)], self._now)
        if write.outcome is Outcome.REFUSED:
            service.end(one, ExecutionState.SUCCEEDED)
        elif pick < 6:
            gave_up = pick == 5 or not write.is_written
            service.end(one, ExecutionState.LOST if gave_up else ExecutionState.SUCCEEDED, gave_up=gave_up)

    # `lambda`

    def a_worker_claims(self, picks: list[int]) -> None:
        for message in _picked(self._queues.messages.get(LAMBDA, []), picks[0]):
            attempt = Attempt(read_work_message(message.body).key, f"attempt-{next(self._numbers)}")
            [write] = self._ledger.claim([attempt], self._now, self._now + LEASE_MS, "request-id")
            if write.is_written:
                self._worked_on.append((attempt, message))
            elif write.job is not None and (write.has_ended or write.job.executing):
                message.is_deleted = True

    def a_worker_ends(self, picks: list[int]) -> None:
        """Or dies, and leaves its message."""
        for one in _picked(self._worked_on, picks[0]):
            self._worked_on.remove(one)
            attempt, message = one
            match picks[-1]:
                case 0 | 1 | 2 | 3:
                    result = StoredResult(f"results/{attempt.token}", "text/plain", 1)
                    [write] = self._ledger.complete([(attempt, result)], self._now)
                case 4 | 5:
                    [write] = self._ledger.fail([(attempt, _SCRIPTED)], self._now)
                case 6:
                    self._ledger.release([attempt])
                    return
                case _:
                    return
            message.is_deleted = write.is_written or write.has_ended

    # The world

    def a_late_write_arrives(self, picks: list[int]) -> None:
        if self._ledger.late:
            self._ledger.arrive(picks[0])

    def things_take_their_course(self, picks: list[int]) -> None:
        """What is to come next of a job does."""
        [key] = _picked(list(self._models), picks[0]) or [None]
        model = self._models.get(key) if key else None
        if model is None or model.job is None or not (model.job.status.is_open or model.is_executing):
            self.a_client_submits(picks)
            return
        job, name = model.job, model.job.executing or model.job.executor
        running = [(service, one) for service, one in self._running() if one.execution.key == key]
        if running:
            for service, one in running[-1:]:
                self._go_on(service, one, picks[-1])
        elif job.executing and self._events:
            self.an_event_comes([0])
        elif name == LAMBDA:
            (self.a_worker_ends if self._worked_on else self.a_worker_claims)([0])
        else:
            self.a_starter_pulls([EXECUTORS.index(name)])

    # In the end

    def _settle_down(self) -> None:
        """Let all go well for a day, though no event comes; then each job has ended, and nothing is left."""
        self._line.clear()
        self._ledger.late.clear()
        for service in self._services.values():
            service.answers.clear()
        for n in range(_ROUNDS):
            if self._is_quiet():
                break
            self._now += 65_000 if n < _ROUNDS // 2 else 2 * 3_600_000
            self._go_well()
        else:
            raise Broken("in the end each job has ended, and nothing is left", *self._left())
        self._tally["rounds"] += n
        rows = {key: model.row for key, model in self._models.items()}
        for event in list(self._events):
            self._settle(*event)
        if not self._is_quiet() or rows != {key: model.row for key, model in self._models.items()}:
            raise Broken("events that come late change nothing", *self._left())
        for key, model in self._models.items():
            counted = sum(self._counts.of.get((name, key.job_id), 0) for name in ("JobsCompleted", "JobsFailed"))
            if counted > 1 + len(model.job.history if model.job else ()):
                raise Broken("an end is counted once", model.job, counted)

    def _go_well(self) -> None:
        self._queues.choose = lambda messages, most: [one for one in messages if not one.is_deleted][:most]
        for key in list(self._undelivered):
            self._process(key)
        for name in EXECUTORS:
            starter = self._starter(name)
            starter.resume(lambda: True)
            while starter.pull(60):
                pass
        for _ in range(2):
            for service, one in self._running():
                self._go_on(service, one, 0)
        for message in self._queues.waiting(LAMBDA):
            number = self._queues.messages[LAMBDA][::-1].index(message)
            self.a_worker_claims([number])
        while self._worked_on:
            self.a_worker_ends([0])
        for n in range(len(EXECUTORS)):
            self.the_reconciler_looks([n])

    def _is_quiet(self) -> bool:
        return not any(self._left())

    def _left(self) -> tuple[list[Any], ...]:
        """Return the jobs that are open or executing, the slots that are held, messages and what is in the index."""
        jobs = [model.job for model in self._models.values()]
        return (
            self._undelivered,
            [job for job in jobs if job is None or job.status.is_open or job.executing],
            [token for name in EXECUTORS for token in self._stage.slots.held(name)],
            [one.body for name in (*EXECUTORS, LAMBDA) for one in self._queues.waiting(name)],
            [key for name in EXECUTORS for key in self._ledger.executing(name) if key in self._models],
        )


class _Waker:
    def wake(self, executors: set[str]) -> None:
        """Wake nobody: who is woken may not hear it."""


def _picked(those: Sequence[_T], pick: int) -> list[_T]:
    """Return one of those there are, the latest for 0, or none."""
    return [those[-1 - pick % len(those)]] if those else []


def _rotated(those: Sequence[_T], by: int) -> list[_T]:
    by = by % len(those) if those else 0
    return [*those[by:], *those[:by]]
