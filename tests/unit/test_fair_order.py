"""The order of a fair queue under a clock that stands still; `tests/stage/conformance` has it over HTTP."""

from __future__ import annotations

import heapq
import time
from typing import Any

import pytest
from sluice_harness.compat.queues import fair_order, queue_store
from sluice_harness.compat.queues.queue_store import MessageStore

MINUTES_5 = 300.0


class Clock:
    """Stands in for the store's clock."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(queue_store, "time", clock)
    return clock


def put(store: MessageStore, group: str | None, number: int = 1) -> None:
    for _ in range(number):
        store.append({"group_id": group, "receive_count": 0})


def take(store: MessageStore, number: int = 1, visibility: float = 3_600) -> list[dict[str, Any]]:
    return store.receive(number, visibility, None, prepare=lambda _: None)


def taken(store: MessageStore, number: int = 1) -> list[str | None]:
    return [one["group_id"] for one in take(store, number)]


def work(store: MessageStore, clock: Clock, seconds: float) -> str | None:
    (message,) = take(store)
    clock.now += seconds
    store.delete(message["receipt_handle"])
    group: str | None = message["group_id"]
    return group


def test_of_two_noisy_groups_the_one_with_fewer_in_flight_comes_first(clock: Clock) -> None:
    # given two groups that are both noisy, one of them with ten more in flight
    store = MessageStore()
    put(store, "more", 45)
    assert taken(store, 45) == ["more"] * 45
    put(store, "less", 35)
    assert taken(store, 35) == ["less"] * 35
    clock.now += 1

    # when both have more
    put(store, "more", 5)
    put(store, "less", 15)

    # then it is first the turn of the one with less, and then they take turns
    assert taken(store, 10) == ["less"] * 10
    assert sorted(map(str, taken(store, 4))) == ["less", "less", "more", "more"]


def test_a_share_of_time_is_no_longer_recent_after_five_minutes(clock: Clock) -> None:
    # given a group that took much time
    store = MessageStore()
    put(store, "busy", 4)
    assert work(store, clock, 20) == "busy"

    # when others send, at once and when none of it has been in flight for five minutes
    put(store, "quiet")
    at_once = work(store, clock, 1)
    clock.now += MINUTES_5
    put(store, "quiet")
    later = work(store, clock, 1)

    # then it is by age again whose turn it is
    assert (at_once, later) == ("quiet", "busy")


def test_a_long_message_counts_while_it_is_still_in_flight(clock: Clock) -> None:
    # given one message of a group in flight for as long as fifty others' took
    store = MessageStore()
    put(store, "slow", 3)
    take(store)
    put(store, "other", 1)
    clock.now += 50

    # then the group is noisy although it has ended nothing yet
    assert taken(store) == ["other"]


def test_a_group_is_quiet_again_when_its_share_has_dropped(clock: Clock) -> None:
    # given a group that had all of a second
    store = MessageStore()
    put(store, "once", 2)
    assert work(store, clock, 1) == "once"

    # when others have had more than nine since, while it waits
    others = [f"other-{n}" for n in range(20)]
    for name in others:
        put(store, name)
    served = [work(store, clock, 1) for _ in range(12)]

    # then it comes before those that were sent later
    assert served.index("once") == 9


@pytest.mark.usefixtures("clock")
def test_a_message_that_comes_back_takes_its_place_in_its_group() -> None:
    # given two groups without a noisy one
    store = MessageStore()
    for group in ("a", "b", "c"):
        put(store, group, 2)
    first = take(store)[0]

    # when the first message comes back
    store.change_visibility(first["receipt_handle"], 0)

    # then it is the first again
    assert take(store)[0] | {"receipt_handle": ""} == first | {"receipt_handle": "", "receive_count": 2}


@pytest.mark.usefixtures("clock")
def test_the_order_is_that_of_a_search_through_everything() -> None:
    # given the rules, told by looking at every message
    store = MessageStore()
    ready: dict[str, list[int]] = {}
    flying: dict[str, list[dict[str, Any]]] = {}

    def too_much(group: str) -> bool:
        mine = len(flying.get(group, []))
        return mine >= 30 and 10 * mine > sum(map(len, flying.values()))

    # when messages of many groups come and go, all at one moment, so that only the numbers in flight count
    for step in range(3_000):
        group = f"g{(step * step) % 7}" if step % 3 else "flood"
        store.append({"group_id": group, "receive_count": 0, "n": step})
        heapq.heappush(ready.setdefault(group, []), step)
        if step % 2:
            waiting = [name for name, rows in ready.items() if rows]
            quiet = [name for name in waiting if not too_much(name)]
            key = (lambda name: ready[name][0]) if quiet else (lambda name: (len(flying[name]), ready[name][0]))
            expected = min(quiet or waiting, key=key)
            (message,) = take(store)
            # then each is the one that the rules say
            assert (message["group_id"], message["n"]) == (expected, heapq.heappop(ready[expected]))
            flying.setdefault(expected, []).append(message)
        if step % 5 == 4:
            name = max(flying, key=lambda one: (len(flying[one]), one))
            gone = flying[name].pop(0)
            assert store.delete(gone["receipt_handle"])


def test_groups_leave_nothing_behind(clock: Clock) -> None:
    # given a queue through which many groups have passed
    store = MessageStore()
    for n in range(2_000):
        put(store, f"group-{n}")
        work(store, clock, 0.01)

    # when it has been quiet for as long as anything is recent
    clock.now += 2 * MINUTES_5
    put(store, "new")
    taken(store)

    # then they are forgotten
    order = store._order
    assert list(order._groups) == ["new"]
    assert len(order._heads) <= fair_order.STALE_ROWS_KEPT + 2


@pytest.mark.parametrize("number", [1, 40, 1_000])
def test_a_receive_takes_as_long_behind_forty_thousand_as_behind_few(number: int) -> None:
    # given a short and a deep queue of as many groups
    def microseconds(depth: int) -> float:
        store = MessageStore()
        for n in range(depth):
            put(store, f"group-{n % number}")
        began = time.process_time()
        for _ in range(100):
            for message in take(store, 10):
                store.delete(message["receipt_handle"])
        return (time.process_time() - began) * 1_000

    # when / then
    assert min(microseconds(40_000) for _ in range(2)) < 5 * min(microseconds(2_000) for _ in range(3))
