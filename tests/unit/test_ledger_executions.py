"""Whatever befalls the executors' functions, each job ends, once, and no more run at once than may.

The examples are the same each time. For others, and more of them:

    SLUICE_LEDGER_EXAMPLES=2000 .venv/bin/pytest tests/unit/test_ledger_executions.py -k ends_once

A failure prints the steps that lead to it, as few as were found.
"""

from __future__ import annotations

import logging
import os
import random
from collections import Counter
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from sluice_core import slots
from sluice_handlers import settling, telemetry
from sluice_handlers.settling import Settlement
from unit.conftest import REQUEST_RETENTION_S
from unit.ledger_actors import Functions
from unit.ledger_executions import ExecutionMachine
from unit.ledger_model import Broken
from unit.ledger_table import EngineInProcess, table_like
from unit.ledger_world import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mypy_boto3_dynamodb import DynamoDBClient
    from unit.conftest import ClientMaker, Load
    from unit.external_stage import ExternalStage

    Run = Callable[[Iterable[int], settings], Counter[str]]

_FRESH = 10  # as in `test_ledger_machine`
_SETTINGS = settings(
    max_examples=_FRESH,
    stateful_step_count=40,
    database=None,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
# What a mutant breaks is found in so many rounds, and need not be made short.
_HUNT = settings(_SETTINGS, phases=[Phase.generate])
_HUNT_ROUNDS = 12
_ROUNDS = 6
_MORE = int(os.environ.get("SLUICE_LEDGER_EXAMPLES", "0")) // _FRESH
_SEEDS = range(_ROUNDS) if not _MORE else random.sample(range(_ROUNDS, 10**9), _MORE)


@pytest.fixture
def functions(external: ExternalStage, load: Load, monkeypatch: pytest.MonkeyPatch) -> Functions:
    """Return the functions' modules; what the machine changes in them is as it was afterwards."""
    starter, reconciler = external.function("starter"), external.function("reconciler")
    cancel_job = load("cancel_job", **external.settings(), REQUEST_RETENTION_SECONDS=str(REQUEST_RETENTION_S))
    for module in (starter, settling, reconciler):
        monkeypatch.setattr(module, "now_ms", module.now_ms)
    monkeypatch.setattr(slots, "new_token", slots.new_token)
    nobody = logging.getLogger("nobody")
    nobody.disabled = True
    monkeypatch.setattr(telemetry.logger, "_logger", nobody)
    return Functions(starter, settling, reconciler, cancel_job, slots)


@pytest.fixture
def run(engine: ClientMaker, table: str, external: ExternalStage, functions: Functions) -> Run:
    """Run the machine and return what it met."""
    tables = (table, external.slots._table)
    client = engine.client("dynamodb")
    dynamodb = EngineInProcess(client)
    for name in tables:
        table_like(dynamodb, client, name)

    def run_seeds(seeds: Iterable[int], settings: settings) -> Counter[str]:
        tally: Counter[str] = Counter()

        class Machine(ExecutionMachine):
            def __init__(self) -> None:
                super().__init__(cast("DynamoDBClient", dynamodb), tables, functions, tally)

        for one in seeds:
            run_state_machine_as_test(seed(one)(Machine), settings=settings)
        return tally

    return run_seeds


def test_each_job_ends_once_whatever_befalls_its_executors(run: Run) -> None:
    # When all goes wrong for a while, and then well, then no promise is broken
    tally = run(_SEEDS, _SETTINGS)

    # and that says something, as much happened, and each trouble struck
    changes = ("begin", "note", "claim_started", "complete", "fail_started", "close", "claim", "cancel", "reopen")
    met = {f"{change} written" for change in changes} | {"begin refused", "close unheard"}
    assert not met - tally.keys()
    assert all(tally[trouble.name] for trouble in Trouble if trouble is not Trouble.NONE)


# Mutants


def forget_slots(functions: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody free the slots of those who died."""
    monkeypatch.setattr(functions.reconciler.Reconciliation, "_free_forgotten", lambda *_: set())


def free_too_much(functions: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Free the slot of an execution that may run on."""
    monkeypatch.setattr(functions.settling, "_OVER", tuple(Settlement))


def resume_nothing(functions: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody make the starts that were put off."""
    monkeypatch.setattr(functions.starter.Starter, "resume", lambda *_: None)


def ask_nobody(functions: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rely on events."""
    monkeypatch.setattr(functions.reconciler.Reconciliation, "_ask", lambda *_: None)


def ask_too_soon(functions: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask about executions that their service does not know yet."""
    monkeypatch.setattr(functions.reconciler, "_EVENT_MS", -1)


def give_up_at_once(functions: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a job with the first execution that is lost."""
    monkeypatch.setattr(functions.settling, "MAX_STARTS", 0)


def set_nothing_aside(functions: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave nothing of a job that was given up for an operator to bring back."""
    monkeypatch.setattr(functions.settling, "_GIVEN_UP", ())


@pytest.mark.parametrize(
    "break_it",
    [forget_slots, free_too_much, resume_nothing, ask_nobody, ask_too_soon, give_up_at_once, set_nothing_aside],
)
def test_a_function_that_does_less_is_found_out(
    run: Run,
    functions: Functions,
    monkeypatch: pytest.MonkeyPatch,
    break_it: Callable[[Functions, pytest.MonkeyPatch], None],
) -> None:
    break_it(functions, monkeypatch)

    with pytest.raises(Broken):
        run(range(_HUNT_ROUNDS), _HUNT)
