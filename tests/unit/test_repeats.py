"""Messages that come back: an earlier attempt may have died, and this one may die of the same job."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from sluice_core.jobs import JobStatus
from sluice_core.ledger import Attempt
from unit.lambda_events import MAX_RECEIVES, Context, failed_ids, handle, job, row
from unit.wire_faults import TRANSIENT, Fault
from unit.workloads_for_tests import Death

if TYPE_CHECKING:
    from types import ModuleType

    from sluice_core.jobs import Submission
    from sluice_core.ledger import JobLedger
    from unit.conftest import Dispatch, Lapse
    from unit.resources import Bucket, WorkQueue
    from unit.wire_faults import Wire

MINE = job("mine")


def statuses(ledger: JobLedger, jobs: list[Submission]) -> list[JobStatus]:
    return [row(ledger, one).status for one in jobs]


def begin(ledger: JobLedger, submission: Submission, times: int) -> None:
    """Have a job begun so often, by workers that died."""
    for n in range(times):
        [write] = ledger.claim([Attempt(submission.key, f"dead-{n}")], 10 * n + 5, 10 * n + 6)
        assert write.is_written


# --- in which order, and how many at a time


def test_what_comes_for_the_first_time_is_claimed_together(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, wire: Wire
) -> None:
    jobs = [job(f"job-{n}") for n in range(3)]
    ledger.record(jobs)

    assert handle(simulator, *dispatch(*jobs)) == []

    assert [len(call.statements) for call in wire.changes("claim")] == [3]
    assert [len(call.statements) for call in wire.changes("complete")] == [3]
    assert wire.made("BatchGetItem") == []


def test_what_comes_back_is_claimed_one_at_a_time_and_settled_before_the_next(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, wire: Wire
) -> None:
    jobs = [job(f"job-{n}") for n in range(3)]
    ledger.record(jobs)

    assert handle(simulator, *dispatch(*jobs, receives=2)) == []

    writes = ["claim" if call.is_change("claim") else "complete" for call in wire.made("BatchExecuteStatement")]
    assert writes == ["claim", "complete"] * 3
    assert {len(call.statements) for call in wire.made("BatchExecuteStatement")} == {1}
    assert statuses(ledger, jobs) == [JobStatus.COMPLETED] * 3


def test_those_begun_least_often_come_first(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, runs: list[str]
) -> None:
    # Given jobs that were begun three times, never, once and twice
    jobs = [job(f"begun-{times}") for times in (3, 0, 1, 2)]
    ledger.record(jobs)
    for one in jobs:
        begin(ledger, one, int(one.key.job_id.strip("-")[-1]))

    assert handle(simulator, *dispatch(*jobs, receives=2)) == []

    assert [run.strip("-") for run in runs] == ["begun-0", "begun-1", "begun-2", "begun-3"]


def test_among_equals_none_is_always_the_last(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, runs: list[str]
) -> None:
    jobs = [job(f"job-{n}") for n in range(4)]
    last = set()
    random.seed(3)
    for n in range(8):
        batch = [job(f"{one.key.job_id.strip('-')}-round-{n}") for one in jobs]
        ledger.record(batch)
        handle(simulator, *dispatch(*batch, receives=2))
        last.add(runs[-1][:5])

    assert len(last) > 1


def test_fresh_jobs_are_on_record_before_any_repetition_begins(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch
) -> None:
    # Given a batch in which the message that kills comes back among fresh ones
    deadly, fresh = job("deadly", do="die"), [job(f"fresh-{n}") for n in range(3)]
    ledger.record([deadly, *fresh])
    ledger.claim([Attempt(deadly.key, "died")], 10, 20)

    with pytest.raises(Death):
        handle(simulator, *dispatch(deadly, receives=2), *dispatch(*fresh))

    assert statuses(ledger, fresh) == [JobStatus.COMPLETED] * 3


@pytest.mark.parametrize("fault", TRANSIENT)
def test_without_knowing_how_often_they_were_begun_all_are_run(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, wire: Wire, fault: Fault
) -> None:
    jobs = [job("one"), job("two")]
    ledger.record(jobs)
    wire.strike(fault, "BatchGetItem", times=1)

    assert handle(simulator, *dispatch(*jobs, receives=3)) == []
    assert statuses(ledger, jobs) == [JobStatus.COMPLETED] * 2


def test_without_the_grant_to_know_it_the_invocation_fails(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, wire: Wire
) -> None:
    ledger.record([MINE])
    wire.strike(Fault.DENIED, "BatchGetItem")

    with pytest.raises(ClientError, match="AccessDenied"):
        handle(simulator, *dispatch(MINE, receives=2))


# --- a workload that kills its process


class Poller:
    """Does what Lambda's does with the work queue, and lives on when the function's process dies."""

    def __init__(self, simulator: ModuleType, queue: WorkQueue, ledger: JobLedger, lapse: Lapse) -> None:
        self._simulator = simulator
        self._queue = queue
        self._ledger = ledger
        self._lapse = lapse

    def poll(self, jobs: list[Submission]) -> bool:
        """Deliver all there is once, and say whether the process lived; then let the time pass."""
        records = self._queue.deliver()
        assert records
        try:
            answer = self._simulator.handler({"Records": records}, Context())
        except Death:
            self._come_back(records)
            self._lapse(*(one for one in jobs if row(self._ledger, one).status is JobStatus.RUNNING))
            return False
        self._queue.delete(*(one for one in records if one["messageId"] not in failed_ids(answer)))
        return True

    def _come_back(self, records: list[dict[str, Any]]) -> None:
        """Show what is still there."""
        self._queue.sqs.change_message_visibility_batch(
            QueueUrl=self._queue.url,
            Entries=[
                {"Id": str(n), "ReceiptHandle": record["receiptHandle"], "VisibilityTimeout": 0}
                for n, record in enumerate(records)
            ],
        )


@pytest.fixture
def poller(simulator: ModuleType, work_queue: WorkQueue, ledger: JobLedger, lapse: Lapse) -> Poller:
    return Poller(simulator, work_queue, ledger, lapse)


@pytest.mark.parametrize("place", [0, 4, 9])
@pytest.mark.parametrize("seed", range(2))
def test_neighbours_of_a_job_that_kills_its_worker_complete_by_their_third_receive(
    poller: Poller,
    ledger: JobLedger,
    dispatch: Dispatch,
    *,
    work_queue: WorkQueue,
    sweeper: ModuleType,
    bucket: Bucket,
    place: int,
    seed: int,
) -> None:
    # Given a batch of ten, one of which ends the process whenever it is run
    random.seed(seed)
    neighbours = [job(f"neighbour-{n}") for n in range(9)]
    culprit = job("culprit", do="die")
    jobs = [*neighbours[:place], culprit, *neighbours[place:]]
    ledger.record(jobs)
    work_queue.show(*dispatch(*jobs))  # received once, by a worker that vanished before it began

    # When it is delivered twice more, then the process dies each time
    assert not poller.poll(jobs)
    assert not poller.poll(jobs)

    # Then all the neighbours have completed, and only the culprit is left
    assert statuses(ledger, neighbours) == [JobStatus.COMPLETED] * 9
    assert row(ledger, culprit).status is JobStatus.RUNNING

    # When it has been delivered as often as it may be, then someone else ends the culprit
    for _ in range(MAX_RECEIVES - 3):
        assert not poller.poll(jobs)
    assert work_queue.deliver() == []
    assert sweeper.handler({}, Context())["ended"] == 1

    # Then it alone has failed, and of what was stored the nine results are left
    found = row(ledger, culprit)
    assert (found.status, found.error and found.error.code) == (JobStatus.FAILED, "WORKER_LOST")
    results = [row(ledger, one).result for one in neighbours]
    assert bucket.keys() == sorted(result.object_key for result in results if result is not None)
    assert len(bucket.keys()) == 9


def test_of_a_batch_that_dies_only_the_culprit_becomes_a_dead_letter(
    poller: Poller, ledger: JobLedger, dispatch: Dispatch, *, work_queue: WorkQueue, work_dlq: WorkQueue
) -> None:
    # Given a batch that comes back together, for its process died together
    jobs = [*(job(f"neighbour-{n}") for n in range(3)), job("culprit", do="die")]
    ledger.record(jobs)
    work_queue.show(*dispatch(*jobs))

    # When it has been delivered as often as it may be
    for _ in range(MAX_RECEIVES - 1):
        poller.poll(jobs)
    assert work_queue.deliver() == []

    # Then the messages of jobs that have completed are not among those an operator has to judge
    assert work_dlq.job_ids() == ["culprit---------"]
