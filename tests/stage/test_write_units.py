"""What an ordinary job costs, counted at the wire: its calls of AWS, and four DynamoDB write units at most."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from sluice_core.rows import LIST_INDEX
from sluice_harness.bench.tap import tapped
from stage.running import until

if TYPE_CHECKING:
    from sluice_harness.bench.tap import Tap
    from stage.running import Person, RunningStage

pytestmark = pytest.mark.xdist_group("broken_stage")

JOBS = 50
BATCH = 10
WRITE_UNIT_BYTES = 1024
RECORD, BATCH_CALL = "INSERT", "dynamodb BatchExecuteStatement"
CLAIM, COMPLETE = "UPDATE to RUNNING", "UPDATE to COMPLETED"


@dataclass(frozen=True)
class Run:
    """The calls of 50 ordinary jobs from queue to status, and the rows that they left."""

    tap: Tap
    rows: list[dict[str, Any]]

    @property
    def statements(self) -> Counter[str]:
        return Counter(kind for call in self.tap.named(BATCH_CALL) for kind in kinds(call.document()))

    def table(self) -> str:
        """Show calls and statements per job, for whoever has to find out what has become more."""
        counts = {**self.tap.counts(), **{f"  {kind}": count for kind, count in self.statements.items()}}
        lines = [f"{name:<40} {count:>5} {count / JOBS:>6.2f} a job" for name, count in sorted(counts.items())]
        sizes = [item_size(row) for row in self.rows]
        return "\n".join(["", *lines, f"rows of {min(sizes)} to {max(sizes)} bytes"])


def kinds(document: dict[str, Any]) -> list[str]:
    return [kind(one["Statement"]) for one in document["Statements"]]


def kind(statement: str) -> str:
    """Say what a PartiQL statement does."""
    verb = statement.split(" ", maxsplit=1)[0]
    becomes = re.search(r"SET \"status\" = '(\w+)'", statement)
    return f"{verb} to {becomes[1]}" if becomes else verb


def item_size(row: dict[str, Any]) -> int:
    """Return an item's size (Amazon DynamoDB Developer Guide, "DynamoDB item sizes and formats")."""
    return sum(len(name.encode()) + value_size(value) for name, value in row.items())


def value_size(attribute: dict[str, Any]) -> int:
    ((kind_of, value),) = attribute.items()
    match kind_of:
        case "S":
            return len(value.encode())
        case "N":
            return math.ceil(len(value.strip("-").replace(".", "")) / 2) + 1
        case "SS":
            return sum(len(one.encode()) for one in value)
        case "M":
            return 3 + len(value) + item_size(value)
        case "L":
            return 3 + len(value) + sum(map(value_size, value))
    raise AssertionError(f"a row holds an attribute of type {kind_of}")


@pytest.fixture(scope="module")
def stage(altered_stage: RunningStage) -> RunningStage:
    return altered_stage


@pytest.fixture(scope="module")
def person(stage: RunningStage) -> Person:
    return stage.newcomer("thrifty")


@pytest.fixture(scope="module")
def run(stage: RunningStage, person: Person) -> Run:
    """Queue 50 jobs, then record them all, then run them all, then ask for each: full batches everywhere."""
    functions, work = stage.description.functions, stage.description.queues.work.url
    with tapped(stage, functions.processor, functions.batchSimulator, functions.jobStatus) as tap:
        with stage.unworked():
            with stage.paused():
                job_ids = [person.accepted({"parameters": {"records": 24}}) for _ in range(JOBS)]
            until(lambda: stage.depth(work) == JOBS, "all jobs are in the work queue")
        stage.drained()
        assert {person.status(job_id).json()["status"] for job_id in job_ids} == {"COMPLETED"}
        return Run(tap, [stage.recorded(person.sub, job_id) for job_id in job_ids])


def test_an_ordinary_job_is_written_three_times(run: Run) -> None:
    # Given jobs that nothing happened to
    assert {row["attempts"]["N"] for row in run.rows} == {"1"}

    # Then each was recorded, claimed and completed, and not one write was refused or repeated
    assert run.statements == {RECORD: JOBS, CLAIM: JOBS, COMPLETE: JOBS}, run.table()
    answers = [one for call in run.tap.named(BATCH_CALL) for one in call.answered()["Responses"]]
    assert [answer for answer in answers if "Error" in answer] == []


def test_that_is_four_write_units_at_most(stage: RunningStage, run: Run) -> None:
    # Given the largest that each row has been, which is what it is at its end
    sizes = [item_size(row) for row in run.rows]

    # And the one index, whose entries hold keys only, which no statement but the first one sets
    (index,) = stage.client("dynamodb").describe_table(TableName=stage.description.jobTable)["Table"][
        "GlobalSecondaryIndexes"
    ]
    assert (index["IndexName"], index["Projection"]) == (LIST_INDEX, {"ProjectionType": "KEYS_ONLY"})
    keys = {key["AttributeName"] for key in index["KeySchema"]}
    updates = {
        one["Statement"]
        for call in run.tap.named(BATCH_CALL)
        for one in call.document()["Statements"]
        if not one["Statement"].startswith(RECORD)
    }
    assert [name for name in keys for text in updates if f'"{name}"' in text] == []

    # Then a record is one unit and one for its index entry, and each change is one
    per_write = math.ceil(max(sizes) / WRITE_UNIT_BYTES)
    units = per_write * sum(run.statements.values()) + run.statements[RECORD]
    assert units <= 4 * JOBS, run.table()


def test_the_table_agrees(stage: RunningStage, run: Run) -> None:
    # Given one of the rows, written anew with the question what that consumes
    row = max(run.rows, key=item_size)
    answer = stage.client("dynamodb").put_item(
        TableName=stage.description.jobTable, Item=row, ReturnConsumedCapacity="INDEXES"
    )

    # Then DynamoDB, too, counts one unit for the row
    assert answer["ConsumedCapacity"]["Table"]["CapacityUnits"] == 1.0, run.table()


def test_what_comes_in_batches_is_written_in_batches(run: Run) -> None:
    # Given the statements of each call
    carried = [kinds(call.document()) for call in run.tap.named(BATCH_CALL)]

    # Then each carries those of one batch of messages, all of one kind
    assert all(len(set(call)) == 1 for call in carried), run.table()
    sizes = {name: sorted(len(call) for call in carried if call[0] == name) for name in (RECORD, CLAIM, COMPLETE)}
    assert sizes[RECORD] == sizes[CLAIM] == [BATCH] * (JOBS // BATCH), run.table()
    # End states are written together but for those that would wait too long.
    assert len(sizes[COMPLETE]) <= JOBS / 3, run.table()


def test_nothing_else_is_called_for_an_ordinary_job(run: Run) -> None:
    # Then a job is one object, a tenth of a call that hands it to the work queue, and a read when it is asked for
    counts = run.tap.counts()
    del counts[BATCH_CALL]
    sessions = counts.pop("sts AssumeRole")
    assert sessions <= 2, run.table()  # one for each worker of the status function
    assert counts == {
        "s3 PUT": JOBS,
        "sqs SendMessageBatch": JOBS // BATCH,
        "dynamodb GetItem": JOBS,
    }, run.table()
    assert {call.status for call in run.tap.calls} == {200}


def test_no_request_scans_and_none_needs_a_transaction(stage: RunningStage, person: Person) -> None:
    # Given one request of each kind
    functions = stage.description.functions
    with tapped(stage, functions.cancelJob, functions.jobStatus) as tap:
        with stage.unworked():
            job_id = person.accepted({})
            stage.recorded(person.sub, job_id)
            assert person.cancel(job_id).status_code == 200
        assert person.status(job_id).json()["status"] == "CANCELLED"
        assert len(person.list(limit="10").json()["jobs"]) == 10

    # Then a cancellation is a read and a write, a status is a read, and a list is a query of each of its shards
    assert tap.counts() == {
        "dynamodb GetItem": 2,
        BATCH_CALL: 1,
        "dynamodb Query": 4,
        "dynamodb BatchGetItem": 1,
    }
    assert all(call.document()["IndexName"] == LIST_INDEX for call in tap.named("dynamodb Query"))
    assert [kinds(call.document()) for call in tap.named(BATCH_CALL)] == [["UPDATE to CANCELLED"]]
