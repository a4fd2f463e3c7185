"""The executors' own functions, in a world where everything goes wrong, as a hypothesis state machine.

In each step somebody acts, and trouble may befall one of their calls: they die, an answer is lost, or somebody
else acts in between. Messages come again, in any order; so do events, or never. In the end all goes well for a
while, though no event comes: then each job has to end, once, and nothing may be left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from sluice_core.executors import BATCH, LAMBDA, MAX_STARTS
from sluice_core.jobs import NOT_STARTED, RETRIES_EXHAUSTED, WORKER_LOST
from sluice_core.work_queue import read_work_message
from unit.ledger_actors import EXECUTORS, Actors, dead_letters, picked
from unit.ledger_model import Broken, Deed
from unit.ledger_world import Trouble
from unit.wire_faults import Death

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from mypy_boto3_dynamodb import DynamoDBClient
    from sluice_core.jobs import Job
    from unit.ledger_actors import Functions

# What is on its way arrives before anybody takes its actor for dead.
_LATE_MS = 20_000
# In the end: the first half a minute each, the others an hour, for the lease of a workflow that is no more.
_ROUNDS = 30

DOINGS = {
    "things_take_their_course": 10,
    "a_client_submits": 3,
    "a_request_comes_again": 1,
    "a_client_cancels": 2,
    "an_operator_aborts": 1,
    "an_operator_brings_a_job_back": 3,
    "the_type_gets_another_executor": 2,
    "a_starter_pulls": 6,
    "a_starter_resumes": 3,
    "a_service_is_short": 2,
    "an_execution_goes_on": 6,
    "an_execution_ends_badly": 6,
    "an_event_comes": 7,
    "the_reconciler_looks": 3,
    "a_worker_claims": 2,
    "a_worker_ends": 2,
    "a_late_write_arrives": 1,
}
MEANWHILE = {
    "a_starter_pulls": 5,
    "a_starter_resumes": 2,
    "an_event_comes": 4,
    "the_reconciler_looks": 4,
    "an_execution_goes_on": 3,
    "an_execution_ends_badly": 2,
    "a_client_cancels": 2,
    "an_operator_aborts": 1,
    "a_worker_claims": 1,
}


def _weighted(names: dict[str, int]) -> st.SearchStrategy[str]:
    return st.sampled_from([name for name, weight in names.items() for _ in range(weight)])


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
    does=_weighted(DOINGS),
    after=st.sampled_from([0, 0, 0, 0, 5_000, 15_000, 70_000, 200_000]),
    picks=st.lists(st.integers(0, 7), min_size=1, max_size=3),
    trouble=st.sampled_from([Trouble.NONE] * 4 + [*Trouble] + [Trouble.MEANWHILE] * 3),
    at=st.sampled_from([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 11]),
    meanwhile=_weighted(MEANWHILE),
)


class ExecutionMachine(Actors, RuleBasedStateMachine):
    """The actors, one after the other; `Broken` is raised by whatever breaks a promise.

    Parameters
    ----------
    tally : Counter
        Counts what the run has met.

    """

    def __init__(
        self, dynamodb: DynamoDBClient, tables: tuple[str, str], functions: Functions, tally: Counter[str]
    ) -> None:
        RuleBasedStateMachine.__init__(self)
        Actors.__init__(self, dynamodb, tables, functions, self._judge)
        self._dynamodb = dynamodb
        self._table = tables[0]
        self._tally = tally
        self._is_crowded = False

    @initialize(cap=st.sampled_from([1, 2]))
    def a_stage_stands(self, cap: int) -> None:
        self._cap = cap
        self.open_for_business(cap)

    @rule(move=moves)
    def somebody_acts(self, move: Move) -> None:
        self.now += move.after + 1
        if move.after >= _LATE_MS:
            self.ledger.late.clear()
        meanwhile = replace(move, does=move.meanwhile, picks=move.picks[1:] or [0])
        self.line.expect(move.trouble, move.at, lambda: self._do(meanwhile))
        self._do(move)
        self._is_crowded |= self.line.has_struck and move.trouble in (Trouble.MEANWHILE, Trouble.LOST)
        self._tally[move.trouble.name] += self.line.has_struck
        self.line.clear()
        self._judge_slots()

    def teardown(self) -> None:
        if self.models:
            self._settle_down()

    def _do(self, move: Move) -> None:
        act: Callable[[list[int]], object] = getattr(self, move.does)
        try:
            act(move.picks)
        except (Death, ClientError) as error:
            if not self.line.has_struck:
                raise
            self._tally[f"{move.does}: {type(error).__name__}"] += 1

    # What happens by itself

    def a_late_write_arrives(self, picks: list[int]) -> None:
        if self.ledger.late:
            self.ledger.arrive(picks[0])
            self._tally["late"] += 1

    def things_take_their_course(self, picks: list[int]) -> None:
        """What is to come next of a job does."""
        key = next(iter(picked(list(self.models), picks[0])), None)
        job = self.models[key].job if key else None
        running = [(service, one) for service, one in self.running() if one.execution.key == key]
        if job is None or not (job.status.is_open or job.executing):
            self.a_client_submits(picks)
        elif running:
            self.go_on(*running[-1], picks[-1])
        elif job.executing:
            self.an_event_comes([0])
        elif job.executor == LAMBDA:
            (self.a_worker_ends if self.worked_on else self.a_worker_claims)([0])
        else:
            self.a_starter_pulls([picks[0], 0])

    # Judging

    def _judge(self, deeds: list[Deed]) -> None:
        for deed in deeds:
            key = {"jobKey": {"S": str(deed.key)}}
            row = self._dynamodb.get_item(TableName=self._table, Key=key, ConsistentRead=True).get("Item")
            before = self.models[deed.key].job
            self.models[deed.key].judge([deed], row, self.now)
            if deed.change == "close" and deed.done and before is not None:
                self._judge_close(before)
            self._tally[f"{deed.change} {deed.outcome.value if deed.outcome else 'unheard'}"] += 1

    def _judge_close(self, row: Job) -> None:
        """Hold that it was over, unless it was made long after its start had begun.

        The service may then not know it yet when it is asked. It is closed too soon, and can claim nothing.
        """
        for one in self.services[row.executing].running:
            is_late = row.executing_since is None or one.started_at > row.executing_since + 60_000
            if row.handle == one.execution.handle and one.is_open and not is_late:
                raise Broken("an execution that is on record is closed when it is over", row)

    def _judge_slots(self) -> None:
        for name in EXECUTORS:
            rows = [row for model in self.models.values() if (row := model.job) and row.executing == name]
            held = self.slots.held(name)
            if len(held) > self._cap:
                raise Broken("no more slots are held than there are", name, held)
            if not held.issuperset(row.start_token for row in rows):
                raise Broken("each execution that is not closed holds a slot", rows, held)

    def _judge_job(self, job: Job) -> None:
        counted = sum(self.counts.of.get((name, job.key.job_id), 0) for name in ("JobsCompleted", "JobsFailed"))
        if counted > 1 + len(job.history):
            raise Broken("an end is counted once", job, counted)
        is_given_up = job.error is not None and job.error in (WORKER_LOST, RETRIES_EXHAUSTED)
        if is_given_up and job.executor == BATCH and job.starts < MAX_STARTS:
            raise Broken("a job is given up once it was started so often", job)
        may_come_back = is_given_up or job.error == NOT_STARTED
        if may_come_back and job.executor in EXECUTORS and not self._is_set_aside(job):
            raise Broken("what was given up can be brought back", job)
        executions = [one.execution for service in self.services.values() for one in service.running]
        succeeded = [one for one in executions if one.result and one.start_token == job.start_token]
        if is_given_up and succeeded:
            raise Broken("what succeeded is not given up", job, succeeded)
        made = [one.start_token for one in executions]
        if not self._is_crowded and len(made) > len(set(made)):
            raise Broken(
                "of a start there is one execution, unless two make it at once or an answer is lost", made
            )

    def _is_set_aside(self, job: Job) -> bool:
        letters = self.queues.messages.get(dead_letters(job.executor), [])
        return any(read_work_message(one.body).key == job.key for one in letters)

    # In the end

    def _settle_down(self) -> None:
        """Let all go well for a while, though no event comes; then each job has ended, and nothing is left."""
        self.line.clear()
        self.ledger.late.clear()
        for service in self.services.values():
            service.answers.clear()
        for n in range(_ROUNDS):
            if not any(self._left()):
                break
            self.now += 65_000 if n < _ROUNDS * 2 // 3 else 3_600_000
            self._go_well()
        else:
            raise Broken("in the end each job has ended, and nothing is left", *self._left())
        rows = {key: model.row for key, model in self.models.items()}
        for event in list(self.events):
            self.settle(*event)
        if any(self._left()) or rows != {key: model.row for key, model in self.models.items()}:
            raise Broken("events that come late change nothing", *self._left())
        for model in self.models.values():
            assert model.job is not None
            self._judge_job(model.job)

    def _go_well(self) -> None:
        self.queues.choose = lambda messages, most: [one for one in messages if not one.is_deleted][:most]
        for key in list(self.undelivered):
            self.process(key)
        for name in EXECUTORS:
            starter = self.starter(name)
            starter.resume(lambda: True)
            while starter.pull(60):
                pass
        for service, one in self.running() * 2:
            if one.is_open:
                self.go_on(service, one, 0)
        for message in self.queues.waiting(LAMBDA):
            self.a_worker_claims([self.queues.messages[LAMBDA][::-1].index(message)])
        while self.worked_on:
            self.a_worker_ends([0])
        for name in EXECUTORS:
            self.reconcile(name)

    def _left(self) -> tuple[list[Any], ...]:
        """Return jobs that are open or executing, slots that are held, messages, and what is in the index."""
        jobs = [model.job for model in self.models.values()]
        return (
            self.undelivered,
            [job for job in jobs if job is None or job.status.is_open or job.executing],
            [token for name in EXECUTORS for token in self.slots.held(name)],
            [one.body for name in (*EXECUTORS, LAMBDA) for one in self.queues.waiting(name)],
            [key for name in EXECUTORS for key in self.ledger.executing(name) if key in self.models],
        )
