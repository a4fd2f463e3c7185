"""The ledger keeps its promises whatever happens, and could not do without any of its conditions.

The examples are the same each time. For others, and more of them:

    SLUICE_LEDGER_EXAMPLES=5000 .venv/bin/pytest tests/unit/test_ledger_machine.py -k promises

A failure prints the steps that lead to it, as few as were found.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from sluice_core import ledger
from sluice_core.changes import CHANGES, Change
from sluice_core.ledger import JobLedger
from sluice_core.rows import number
from unit.ledger_machine import LedgerMachine
from unit.ledger_model import OF_STARTS, RECORDS, Broken
from unit.ledger_starts import StartsMachine
from unit.ledger_table import EngineInProcess, table_like
from unit.ledger_wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient
    from sluice_core.ledger import Write
    from unit.conftest import ClientMaker
    from unit.ledger_wire import Statements

# Hypothesis varies what it has from the tenth example on, and then five in six begin alike. Steps that lead far
# are found sooner by fresh starts.
_FRESH = 10
_SETTINGS = settings(
    max_examples=_FRESH,
    stateful_step_count=50,
    database=None,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
# What a mutant breaks is found in so many rounds, and need not be made short.
_HUNT = settings(_SETTINGS, phases=[Phase.generate])
_HUNT_ROUNDS = 40
_ROUNDS = 6
_MORE = int(os.environ.get("SLUICE_LEDGER_EXAMPLES", "0")) // _FRESH
_SEEDS = range(_ROUNDS) if not _MORE else random.sample(range(_ROUNDS, 10**9), _MORE)


@pytest.fixture
def table(engine: ClientMaker, table: str) -> str:
    """Return the job table's name, of one in this process."""
    client = engine.client("dynamodb")
    table_like(EngineInProcess(client), client, table)
    return table


def run(
    machine: type[LedgerMachine],
    engine: ClientMaker,
    table: str,
    seeds: Sequence[int],
    *,
    settings: settings = _SETTINGS,
    wire: type[Wire] = Wire,
) -> Counter[tuple[str, str]]:
    """Run a machine and return what it met: changes, and what their actors were told."""
    dynamodb = cast("DynamoDBClient", EngineInProcess(engine.client("dynamodb")))
    tally: Counter[tuple[str, str]] = Counter()

    class Machine(machine):  # type: ignore[misc,valid-type]
        def __init__(self) -> None:
            super().__init__(dynamodb, wire(dynamodb), table, tally)

    for one in seeds:
        run_state_machine_as_test(seed(one)(Machine), settings=settings)
    return tally


@pytest.mark.parametrize("machine", [LedgerMachine, StartsMachine])
def test_the_ledger_keeps_its_promises(engine: ClientMaker, table: str, machine: type[LedgerMachine]) -> None:
    # When many actors do as they like, then no promise is broken
    tally = run(machine, engine, table, _SEEDS)

    # and that says something, as every change was met with every answer, and writes came late
    changes = {*CHANGES, *RECORDS} - (set() if machine is StartsMachine else {*OF_STARTS})
    answers = {(change, told) for change in changes for told in ("written", "refused", "unavailable")}
    answers -= {("note", "refused")}
    assert not (answers | {("late", "done"), ("late", "in vain")}) - tally.keys()


# Mutants


@dataclass(frozen=True)
class Mutant:
    """The ledger with one condition missing, or too wide."""

    name: str
    changes: dict[str, Change] = field(default_factory=dict)
    wire: type[Wire] = Wire
    is_of_starts: bool = False

    def __str__(self) -> str:
        return self.name


def with_condition(name: str, condition: str, wider: str | None) -> Mutant:
    change = CHANGES[name]
    mutated = [wider if one == condition else one for one in change.conditions]
    mutant = replace(change, conditions=tuple(one for one in mutated if one is not None))
    text = f"{name} without {condition}" if wider is None else f"{name} with {wider}"
    return Mutant(text, {name: mutant}, is_of_starts=name in OF_STARTS or "executing" in condition)


def mutants_of_changes() -> Iterator[Mutant]:
    """Return each change without each of its conditions, and with those on states and leases too wide."""
    for name, change in CHANGES.items():
        for condition in change.conditions:
            yield with_condition(name, condition, None)
            wider = condition.replace("'RUNNING']", "'RUNNING', 'FAILED']").replace(" < :now", " < :later")
            if wider != condition:
                yield with_condition(name, condition, wider)


class PuttingWire(Wire):
    """As if a job were recorded by a plain put."""

    def send(self, statements: Statements) -> list[Any]:
        for one in statements:
            if one["Statement"].startswith("INSERT"):
                table = one["Statement"].split('"')[1]
                self._dynamodb.delete_item(TableName=table, Key={"jobKey": one["Parameters"][0]})
        return super().send(statements)


def noting_wire(condition: str) -> type[Wire]:
    """Return a wire on which conflicts are noted on another condition."""

    class NotingWire(Wire):
        def update_item(self, **call: Any) -> Any:
            call["ConditionExpression"] = condition
            if ":most" not in condition:
                del call["ExpressionAttributeValues"][":most"]
            return super().update_item(**call)

    return NotingWire


MUTANTS = [
    *mutants_of_changes(),
    Mutant("record as a put", wire=PuttingWire),
    Mutant(
        "note_conflict without a job",
        wire=noting_wire("attribute_not_exists(conflicts) OR size(conflicts) < :most"),
    ),
    Mutant("note_conflict without end", wire=noting_wire("attribute_exists(jobKey)")),
    Mutant(
        "note_conflict without a first",
        wire=noting_wire("attribute_exists(jobKey) AND size(conflicts) < :most"),
    ),
]


@pytest.fixture
def late_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a condition on time say `:later`, which is 20 s too late."""
    change = JobLedger._change

    def with_later(self: JobLedger, name: str, writes: Sequence[Mapping[str, Any]]) -> list[Write]:
        laters = [int(one["now"]["N"]) + 20_000 if "now" in one else 0 for one in writes]
        return change(
            self, name, [{**one, "later": number(later)} for one, later in zip(writes, laters, strict=True)]
        )

    monkeypatch.setattr(JobLedger, "_change", with_later)


@pytest.mark.usefixtures("late_clocks")
@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_no_condition_could_be_missed(
    engine: ClientMaker, table: str, monkeypatch: pytest.MonkeyPatch, mutant: Mutant
) -> None:
    # Given a ledger that lacks it
    monkeypatch.setattr(ledger, "CHANGES", CHANGES | mutant.changes)

    # Then a promise is broken, and the machine finds out
    machine = StartsMachine if mutant.is_of_starts else LedgerMachine
    with pytest.raises(Broken):
        run(machine, engine, table, range(_HUNT_ROUNDS), settings=_HUNT, wire=mutant.wire)
