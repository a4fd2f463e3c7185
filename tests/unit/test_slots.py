"""Slots: an executor's cap holds whoever takes and frees, however often, and whatever answer is lost."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError
from sluice_core import clients
from sluice_core.slots import Slots, new_token, token_time
from unit.wire_faults import Fault

if TYPE_CHECKING:
    from unit.conftest import ClientMaker
    from unit.wire_faults import Wire

CAP = 10
NOW = 1_790_000_000_000


@pytest.fixture
def slots_table(engine: ClientMaker) -> str:
    """Return a table of slots as `sluice_infra.external_executors` declares it."""
    name = f"slots-{uuid.uuid4().hex}"
    engine.client("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "executor", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "executor", "KeyType": "HASH"}],
    )
    return name


@pytest.fixture
def batch(engine: ClientMaker, slots_table: str) -> Slots:
    return Slots(engine.client("dynamodb"), slots_table)


def take(slots: Slots, wanted: int, cap: int = CAP) -> list[str]:
    return slots.take("batch", cap, wanted, NOW)


# Taking


def test_as_many_are_taken_as_are_wanted(batch: Slots) -> None:
    taken = take(batch, 3)

    assert len(set(taken)) == 3
    assert batch.held("batch") == set(taken)


def test_no_more_are_taken_than_there_are(batch: Slots) -> None:
    first = take(batch, 7)

    assert len(take(batch, 7)) == 3
    assert take(batch, 1) == []
    assert len(batch.held("batch")) == CAP
    # and the others are still whose they were
    assert batch.held("batch") >= set(first)


@pytest.mark.parametrize(("cap", "wanted"), [(CAP, 100), (0, 1), (CAP, 0)])
def test_what_is_wanted_may_be_more_than_the_cap_or_nothing(batch: Slots, cap: int, wanted: int) -> None:
    assert len(take(batch, wanted, cap)) == min(cap, wanted)


def test_each_executor_has_slots_of_its_own(batch: Slots) -> None:
    take(batch, CAP)

    assert len(batch.take("ecs", 2, 5, NOW)) == 2
    assert len(batch.held("ecs")) == 2


def test_under_contention_the_cap_holds_and_no_slot_is_lost(batch: Slots) -> None:
    # Given more takers than slots, who begin together and want more than one each
    at_once = Barrier(6)

    def taker(_: int) -> list[str]:
        at_once.wait()
        return take(batch, 3)

    # When all take
    with ThreadPoolExecutor(6) as pool:
        taken = [token for tokens in pool.map(taker, range(6)) for token in tokens]

    # Then each slot is one taker's
    assert len(taken) == len(set(taken)) == CAP
    assert batch.held("batch") == set(taken)


def test_whoever_is_overtaken_takes_what_is_left(batch: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given somebody who takes eight, and two more, while another is about to take five
    refuse = batch._add
    overtaking = [8, 2]

    def add_late(executor: str, tokens: list[str], cap: int) -> set[str] | None:
        if overtaking:
            refuse(executor, [new_token(NOW) for _ in range(overtaking.pop(0))], cap)
        return refuse(executor, tokens, cap)

    monkeypatch.setattr(batch, "_add", add_late)

    # Then that one finds two left, and then none
    assert take(batch, 5) == []
    assert len(batch.held("batch")) == CAP


def test_a_cap_that_is_lowered_below_what_is_held_lets_nobody_in(batch: Slots) -> None:
    # Given a deployment that lowers the cap while all slots are held
    held = take(batch, CAP)

    # Then nobody gets one until fewer are held than that
    assert take(batch, 2, cap=4) == []
    batch.free("batch", held[:6])
    assert take(batch, 2, cap=4) == []
    batch.free("batch", held[6:7])
    assert len(take(batch, 2, cap=4)) == 1


# Freeing


def test_a_slot_that_is_freed_may_be_taken(batch: Slots) -> None:
    held = take(batch, CAP)

    batch.free("batch", held[:2])

    assert batch.held("batch") == set(held[2:])
    assert len(take(batch, 5)) == 2


def test_freeing_again_frees_nobody_else_s(batch: Slots) -> None:
    held = take(batch, CAP)
    for _ in range(2):
        batch.free("batch", held[:2])
    others = take(batch, 2)

    batch.free("batch", held[:2])

    assert batch.held("batch") == {*held[2:], *others}


def test_all_may_be_freed_and_taken_again(batch: Slots) -> None:
    batch.free("batch", take(batch, CAP))

    assert batch.held("batch") == set()
    assert len(take(batch, CAP)) == CAP


@pytest.mark.parametrize("tokens", [["nobody-s"], ["nobody-s", "nobody-s"]])
def test_there_may_be_nothing_to_free(batch: Slots, tokens: list[str]) -> None:
    batch.free("batch", tokens)

    assert batch.held("batch") == set()


# What goes wrong on the way


@pytest.fixture
def faulty(
    lambda_environment: pytest.MonkeyPatch,  # noqa: ARG001 - it must be there
    wire: Wire,
    slots_table: str,
) -> Slots:
    """Return the slots over a line that loses what it is told to."""
    assert wire.calls == []
    return Slots(clients.dynamodb(), slots_table)


def test_a_lost_answer_takes_no_slots_twice(faulty: Slots, wire: Wire) -> None:
    # Given a table whose first answer is lost, so that the SDK asks again and is refused: there is no more room
    wire.strike(Fault.REPEATED, "UpdateItem", times=1)

    taken = take(faulty, CAP)

    assert len(taken) == CAP
    assert faulty.held("batch") == set(taken)


@pytest.mark.parametrize("fault", [Fault.THROTTLED, Fault.DENIED])
def test_a_table_that_does_not_answer_gives_no_slots(faulty: Slots, wire: Wire, fault: Fault) -> None:
    wire.strike(fault, "UpdateItem")

    with pytest.raises(ClientError):
        take(faulty, 1)
    with pytest.raises(ClientError):
        faulty.free("batch", ["some"])


def test_nothing_to_free_is_no_call(faulty: Slots, wire: Wire) -> None:
    """DynamoDB knows no empty sets, and refuses one."""
    faulty.free("batch", [])

    assert wire.calls == []


# Tokens


def test_a_token_says_when_it_was_made() -> None:
    assert token_time(new_token(NOW)) == NOW


def test_tokens_are_in_the_order_of_time_and_none_is_like_another() -> None:
    times = [1, 10**12, NOW, NOW + 1, 16**11 - 1]
    tokens = [new_token(time) for time in times]

    assert tokens == sorted(tokens)
    assert [token_time(token) for token in tokens] == times
    assert len({new_token(NOW) for _ in range(1000)}) == 1000


def test_a_token_is_a_name_that_each_service_takes() -> None:
    """An execution's, a Batch job's, a task's client token, which is the shortest (ECS, "RunTask": 64)."""
    token = new_token(NOW)

    assert token.isalnum()
    assert len(token) <= 64
