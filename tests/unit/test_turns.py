"""Tasks of state machines take turns on this machine's processors, and none holds the others up for long."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from sluice_harness.compat import timers
from sluice_harness.compat.states.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Iterator

AT_MOST = 5.0


@contextmanager
def another(turns: Turns) -> Iterator[threading.Event]:
    """Somebody else who wants a turn, and says when it comes."""
    has_turn = threading.Event()

    def take() -> None:
        with turns.one():
            has_turn.set()

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    yield has_turn
    thread.join(AT_MOST)
    assert not thread.is_alive()


def test_whoever_comes_when_all_have_theirs_waits_for_the_first_to_end() -> None:
    # given as many as there are turns
    turns = Turns(2)
    with ExitStack() as first, turns.one():
        first.enter_context(turns.one())
        with another(turns) as third:
            # when one more comes
            waited = not third.wait(0.1)
            first.close()

            # then it waits until one of these has ended
            assert waited
            assert third.wait(AT_MOST)


def test_a_turn_that_lasts_long_is_given_away() -> None:
    turns = Turns(1, longest_s=0.05)
    with turns.one(), another(turns) as second:
        assert second.wait(AT_MOST)


def test_a_turn_is_given_back_once() -> None:
    # given a turn that ended in time, and would be given away by now
    turns = Turns(1, longest_s=0.2)
    with turns.one():
        pass
    later = threading.Event()
    timers.after(0.25, later.set)
    assert later.wait(AT_MOST)

    # then there is one turn still
    with ExitStack() as second:
        second.enter_context(turns.one())
        with another(turns) as third:
            waited = not third.wait(0.1)
            second.close()
        assert waited
