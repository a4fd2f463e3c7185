"""Whatever befalls the executors' functions, each job ends, once, and no more run at once than may."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from sluice_core import slots
from sluice_handlers import settling, telemetry
from unit.conftest import REQUEST_RETENTION_S
from unit.ledger_actors import Functions
from unit.ledger_executions import ExecutionMachine
from unit.ledger_table import EngineInProcess, table_like

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mypy_boto3_dynamodb import DynamoDBClient
    from unit.conftest import ClientMaker, Load
    from unit.external_stage import ExternalStage

_SETTINGS = settings(
    max_examples=10,
    stateful_step_count=40,
    database=None,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
_ROUNDS = 6


@pytest.fixture
def functions(external: ExternalStage, load: Load, monkeypatch: pytest.MonkeyPatch) -> Functions:
    """Return the functions' modules; what the machine changes in them is as it was afterwards."""
    starter, reconciler = external.function("starter"), external.function("reconciler")
    cancel_job = load("cancel_job", **external.settings(), REQUEST_RETENTION_SECONDS=str(REQUEST_RETENTION_S))
    for module in (starter, settling, reconciler):
        monkeypatch.setattr(module, "_now_ms", module._now_ms)
    monkeypatch.setattr(slots, "new_token", slots.new_token)
    monkeypatch.setattr(telemetry.logger, "_logger", logging.getLogger("nobody"))
    return Functions(starter, settling, reconciler, cancel_job, slots)


def run(engine: ClientMaker, tables: tuple[str, str], functions: Functions, seeds: Iterable[int]) -> Counter[str]:
    """Run the machine and return what it met."""
    client = engine.client("dynamodb")
    dynamodb = EngineInProcess(client)
    for table in tables:
        table_like(dynamodb, client, table)
    tally: Counter[str] = Counter()

    class Machine(ExecutionMachine):
        def __init__(self) -> None:
            super().__init__(cast("DynamoDBClient", dynamodb), tables, functions, tally)

    for one in seeds:
        run_state_machine_as_test(seed(one)(Machine), settings=_SETTINGS)
    return tally


def test_each_job_ends_once_whatever_befalls_its_executors(
    engine: ClientMaker, table: str, external: ExternalStage, functions: Functions
) -> None:
    tally = run(engine, (table, external.slots._table), functions, range(_ROUNDS))
    print(tally)
