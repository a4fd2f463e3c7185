"""The order in which a standard queue gives out its messages: SQS fair queues.

MiniStack keeps the MessageGroupId of a message on a standard queue and gives messages out by age whatever it says.

SQS gives out the messages of quiet groups first while another group is a *noisy neighbour* (SQS Developer Guide,
"Amazon SQS fair queues" and "How Amazon SQS fair queues work"):

* A group is marked when it has more than 10 % of the queue's messages in flight and at least 30 of its own, or
  when its recent share of all processing time, during which messages are in flight, is more than 10 %.
* Whenever messages of quiet groups are there they come first; otherwise those of the noisy group with the fewest
  messages in flight. Nothing is dropped or held back, and no group's messages wait for each other.
* A group is quiet again once its backlog is consumed, once none of its messages has been in flight for 5 minutes,
  or once both shares have dropped to those of quiet groups.
* A message without MessageGroupId is a tenant of its own.

AWS calls these figures approximate and does not publish over which time a share is recent, what is comparable to
a quiet group, or what a backlog is. Here the figures are exact, judged once a receive; recent are the last two and
a half to five minutes (with five minutes without a message in flight, nothing is recent); a share is comparable
when it is no longer above the figure that marks it; the backlog is what is visible; and a message without group is
never noisy.

Closed by ready messages waiting in a heap for each group, and the heads of the quiet groups in another: a group
that becomes noisy or quiet moves by one row, however long its backlog. At most nine groups have more than a tenth
of either share, so at most eighteen stay noisy from one receive to the next.
"""

from __future__ import annotations

import enum
import heapq
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]

FEWEST_IN_FLIGHT = 30
# More than one in ten, of messages in flight or of processing time.
SHARE = 10
# Processing time is kept for the present and the last half of what is recent.
HALF_S = 150.0
# Less is nothing but rounding.
LEAST_S = 0.001
STALE_ROWS_KEPT = 256


class State(enum.IntEnum):
    """Where a message is between its arrival and its end; counts are lists by it."""

    READY = 0
    IN_FLIGHT = 1
    DELAYED = 2
    GONE = 3


@dataclass(eq=False, slots=True)
class Group:
    """The messages of one MessageGroupId, or all of a queue's, and the time that consumers spent on them.

    Attributes
    ----------
    counts : list of int
        How many messages are in each state.
    ready : list
        A heap of places and entries; those that have left it otherwise than by its head are stale.
    row : int or None
        Its place in the heap of quiet groups, that of its head; None while it has none.
    judged_in : int
        The receive in which it was found to be quiet: once a receive is enough.
    spent_s : float
        When messages came back less when they went out, since the half began: with those in flight counted until
        now it is their processing time.
    spent_before_s : float
        Processing time in the half before.

    """

    counts: list[int] = field(default_factory=lambda: [0] * len(State))
    ready: list[tuple[int, Entry]] = field(default_factory=list)
    row: int | None = None
    is_noisy: bool = False
    judged_in: int = 0
    spent_s: float = 0.0
    spent_before_s: float = 0.0

    def head(self) -> Entry | None:
        """Return its first ready entry."""
        ready = self.ready
        while ready:
            order, entry = ready[0]
            if entry.state is READY and entry.order == order:
                return entry
            heapq.heappop(ready)
        return None

    def recent_s(self, now: float) -> float:
        """Return its recent processing time, in seconds of messages; ``now`` counts from when the half began."""
        return self.spent_before_s + self.spent_s + self.counts[IN_FLIGHT] * now

    def end_half(self) -> None:
        """Begin the next half of what is recent."""
        in_half = self.spent_s + self.counts[IN_FLIGHT] * HALF_S
        self.spent_before_s = in_half if in_half > LEAST_S else 0.0
        self.spent_s = 0.0


@dataclass(eq=False, slots=True)
class Entry:
    """A stored message and what the queue knows about it."""

    message: Message
    number: int  # its key in the queue
    order: int  # its place among the ready ones
    group: Group
    arrived: float = 0.0  # when it came into this queue, however it did
    due: float = 0.0  # when it becomes ready, while it is hidden
    state: State = State.GONE
    receives: int = 0


READY, IN_FLIGHT, GONE = State.READY, State.IN_FLIGHT, State.GONE


class FairOrder:
    """A queue's groups and ready messages; called under the queue's lock, with ``now`` in epoch seconds."""

    def __init__(self, now: float) -> None:
        self.all = Group()
        self._ungrouped = Group()
        self._groups: dict[str, Group] = {}
        self._heads: list[tuple[int, Group]] = []
        self._noisy: list[Group] = []
        self._half_began = now
        self._receive = 0

    def group_of(self, message: Message) -> Group:
        """Return a message's group."""
        name = message.get("group_id")
        if not name:
            return self._ungrouped
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = Group()
        return group

    def move(self, entry: Entry, state: State, now: float) -> None:
        """Note that an entry's state changes."""
        left = entry.state
        if left is state:
            return
        group, every = entry.group, self.all
        group.counts[left] -= 1
        group.counts[state] += 1
        every.counts[left] -= 1
        every.counts[state] += 1
        entry.state = state
        if state is IN_FLIGHT:
            now -= self._half_began
            group.spent_s -= now
            every.spent_s -= now
        elif left is IN_FLIGHT:
            now -= self._half_began
            group.spent_s += now
            every.spent_s += now

    def put(self, entry: Entry, order: int, now: float) -> None:
        """Make an entry ready, in its place."""
        entry.order = order
        self.move(entry, READY, now)
        group = entry.group
        heapq.heappush(group.ready, (order, entry))
        if not group.is_noisy and (group.row is None or order < group.row):
            self._offer(group, order)

    def forget(self, entry: Entry, now: float) -> None:
        """Let an entry go, wherever it is."""
        self.move(entry, GONE, now)
        group = entry.group
        if len(group.ready) > STALE_ROWS_KEPT + 2 * group.counts[READY]:
            group.ready = [row for row in group.ready if row[1].state is READY and row[1].order == row[0]]
            heapq.heapify(group.ready)

    def judge(self, now: float) -> None:
        """Let noisy groups be quiet that no longer are noisy; to be called at the beginning of each receive."""
        self._receive += 1
        if now >= self._half_began + HALF_S:
            self._end_halves(now)
        if not self._noisy:
            return
        for group in self._noisy:
            head = group.head()
            group.is_noisy = head is not None and self._has_too_much(group, now)
            if head is not None and not group.is_noisy:
                self._offer(group, head.order)
        self._noisy = [group for group in self._noisy if group.is_noisy]

    def take(self, now: float) -> Entry | None:
        """Return the entry whose turn it is, out of its place, or None without any."""
        heads = self._heads
        while heads:
            order, group = heads[0]
            head = group.head()
            if group.row != order:  # stale
                heapq.heappop(heads)
            elif head is None or head.order != order:
                self._show_next(group)
            elif self._is_quiet(group, now):
                group.judged_in = self._receive
                heapq.heappop(group.ready)
                self._show_next(group)
                return head
            else:
                heapq.heappop(heads)
                group.row, group.is_noisy = None, True
                self._noisy.append(group)
        return self._take_noisy() if self._noisy else None

    def noisy_now(self, now: float) -> list[Group]:
        """Return the groups that are noisy, whether or not anything was received since they became so."""
        if now >= self._half_began + HALF_S:
            self._end_halves(now)
        return [group for group in self._groups.values() if group.head() and self._has_too_much(group, now)]

    def _take_noisy(self) -> Entry | None:
        heads = [(group.counts[IN_FLIGHT], head.order, head) for group in self._noisy if (head := group.head())]
        if not heads:
            return None
        entry = min(heads)[2]
        heapq.heappop(entry.group.ready)
        return entry

    def _is_quiet(self, group: Group, now: float) -> bool:
        if group is self._ungrouped or group.judged_in == self._receive:
            return True
        return not self._has_too_much(group, now)

    def _has_too_much(self, group: Group, now: float) -> bool:
        in_flight, every = group.counts[IN_FLIGHT], self.all
        if in_flight >= FEWEST_IN_FLIGHT and SHARE * in_flight > every.counts[IN_FLIGHT]:
            return True
        now -= self._half_began
        recent_s = group.recent_s(now)
        return recent_s > LEAST_S and SHARE * recent_s > every.recent_s(now)

    def _offer(self, group: Group, order: int) -> None:
        group.row = order
        heapq.heappush(self._heads, (order, group))
        if len(self._heads) > STALE_ROWS_KEPT + 2 * len(self._groups):
            self._heads[:] = {(row, one) for row, one in self._heads if one.row == row}
            heapq.heapify(self._heads)

    def _show_next(self, group: Group) -> None:
        """Put a group's next row, which may be stale, where its last one was first of all."""
        if group.ready:
            group.row = group.ready[0][0]
            heapq.heapreplace(self._heads, (group.row, group))
        else:
            group.row = None
            heapq.heappop(self._heads)

    def _end_halves(self, now: float) -> None:
        """Forget what is no longer recent, and the groups of which nothing is left."""
        while now >= self._half_began + HALF_S:
            self._half_began += HALF_S
            for group in (self.all, self._ungrouped, *self._groups.values()):
                group.end_half()
        self._groups = {name: group for name, group in self._groups.items() if _is_left(group)}


def _is_left(group: Group) -> bool:
    return group.is_noisy or any(group.counts[:GONE]) or group.spent_before_s > 0
