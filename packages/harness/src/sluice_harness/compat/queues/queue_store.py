"""The messages of one standard queue, ordered so that no operation looks at more messages than it touches.

A message is in one of three states: *ready* (a receiver may have it), *delayed* (not yet) or *in flight*
(received, and invisible until its visibility timeout ends). Ready messages wait by arrival and by what their
group already has (`fair_order`), hidden ones in a heap by the time they become ready, and all of them in a heap by
age for retention. An entry that changes state leaves a stale row behind, which the next pop skips; a heap that is
mostly stale is rebuilt.

Receipt handles name the entry and the number of its receive, so a handle is looked up, never searched for,
and one that was valid once is told apart from one that never was.
"""

from __future__ import annotations

import enum
import heapq
import itertools
import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sluice_harness.compat.queues.fair_order import STALE_ROWS_KEPT, Entry, FairOrder, Message, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

BACK_OF_QUEUE_AFTER = 3


class Handle(enum.Enum):
    """What a receipt handle refers to."""

    UNKNOWN = enum.auto()  # this queue never gave it out
    OUTDATED = enum.auto()  # its message is gone, or was received again
    VISIBLE = enum.auto()  # its message's visibility timeout has ended
    CURRENT = enum.auto()


@dataclass(frozen=True)
class Quiet:
    """What a queue holds without its noisy groups, and how many those are.

    Attributes
    ----------
    oldest_arrival : float or None
        When its oldest message came that was received less than three times, in epoch seconds; None without any.

    """

    visible: int
    in_flight: int
    delayed: int
    oldest_arrival: float | None
    noisy_groups: int


@dataclass(frozen=True)
class Redrive:
    """The queue's redrive policy: after this many receives a message goes to ``move``."""

    max_receives: int
    move: Callable[[Message], None]


arrivals: list[Callable[[MessageStore, Message], None]] = []
"""Called with every message that comes into a queue, by whatever way; metrics register themselves here."""


class MessageStore:
    """A standard queue's messages; stands in for the engine's list, and is safe between threads."""

    def __init__(self, messages: Iterable[Message] = (), name: str = "") -> None:
        self.name = name
        self._lock = threading.RLock()
        self._token = uuid.uuid4().hex
        self._numbers = itertools.count(1)
        self._live: dict[int, Entry] = {}
        self._order = FairOrder(time.time())
        self._hidden: list[tuple[float, int, Entry]] = []
        self._ages: list[tuple[float, int, Entry]] = []
        for message in messages:
            self.append(message)

    # What the engine does with its list.

    def append(self, message: Message) -> None:
        """Take a message that becomes ready at its ``visible_at``."""
        now = time.time()
        with self._lock:
            number = next(self._numbers)
            group = self._order.group_of(message)
            entry = self._live[number] = Entry(message, number, number, group, now)
            enqueued: float = message.get("enqueued_at") or message.get("sent_at") or now
            heapq.heappush(self._ages, (enqueued, number, entry))
            due = message.get("visible_at", now)
            if due <= now:
                self._order.put(entry, number, now)
            else:
                self._hide(entry, State.DELAYED, due, now)
        for observer in arrivals:
            observer(self, message)

    def remove(self, message: Message) -> None:
        """Drop a received message, given as it was received."""
        if not self.delete(message.get("receipt_handle") or ""):
            raise ValueError("the message is not in the queue")

    def clear(self) -> None:
        """Drop every message."""
        with self._lock:
            self._live.clear()
            self._hidden.clear()
            self._ages.clear()
            self._order = FairOrder(time.time())

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Message]:
        with self._lock:
            return iter([entry.message for entry in self._live.values()])

    def __getitem__(self, index: int) -> Message:
        with self._lock:
            if index == -1 and self._live:
                return next(reversed(self._live.values())).message
            return list(self)[index]

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Message]:
        return [dict(message) for message in self]

    # What a queue does.

    def receive(
        self, count: int, visibility: float, redrive: Redrive | None, prepare: Callable[[Message], None]
    ) -> list[Message]:
        """Hand out up to ``count`` ready messages as copies and hide them for ``visibility`` seconds."""
        now = time.time()
        received: list[Message] = []
        spent: list[Message] = []
        with self._lock:
            self._promote(now, redrive)
            self._order.judge(now)
            while len(received) < count and (entry := self._order.take(now)):
                if redrive and entry.receives >= redrive.max_receives:
                    spent.append(entry.message)
                    self._forget(entry, now)
                    continue
                prepare(entry.message)
                received.append(self._hand_out(entry, now, visibility))
        for message in spent:  # outside the lock: the other queue has its own
            redrive.move(message)  # type: ignore[union-attr]
        return received

    def find(self, handle: str) -> Handle:
        """Say what a receipt handle refers to."""
        with self._lock:
            self._promote(time.time(), None)
            entry = self._entry(handle)
            if entry is not None and entry.message["receipt_handle"] == handle:
                return Handle.CURRENT if entry.state is State.IN_FLIGHT else Handle.VISIBLE
            return Handle.OUTDATED if handle.startswith(self._token) else Handle.UNKNOWN

    def delete(self, handle: str) -> bool:
        """Delete the message whose latest receive gave this handle; False if there is none."""
        with self._lock:
            entry = self._entry(handle)
            if entry is None or entry.message["receipt_handle"] != handle:
                return False
            self._forget(entry, time.time())
            return True

    def change_visibility(self, handle: str, visibility: float) -> Handle:
        """Make an in-flight message visible after ``visibility`` seconds, and say what the handle was."""
        with self._lock:
            found = self.find(handle)
            entry = self._entry(handle)
            if found is Handle.CURRENT and entry is not None:
                now = time.time()
                self._hide(entry, State.IN_FLIGHT, now + visibility, now)
            return found

    def expire(self, cutoff: float) -> None:
        """Drop messages enqueued at or before ``cutoff``."""
        with self._lock:
            while self._ages and (self._ages[0][0] <= cutoff or self._ages[0][2].state is State.GONE):
                entry = heapq.heappop(self._ages)[2]
                if entry.state is not State.GONE:
                    self._forget(entry, time.time())

    def counts(self) -> tuple[int, int, int]:
        """Return how many messages are visible, not visible and delayed."""
        with self._lock:
            self._promote(time.time(), None)
            visible, in_flight, delayed, _ = self._order.all.counts
            return visible, in_flight, delayed

    def oldest_arrival(self) -> float | None:
        """Return when the oldest message came that was received less than three times, or None without any."""
        with self._lock:
            fresh = (entry.arrived for entry in self._live.values() if entry.receives < BACK_OF_QUEUE_AFTER)
            return next(fresh, None)

    def quiet(self) -> Quiet:
        """Return what is in the queue apart from its noisy groups."""
        now = time.time()
        with self._lock:
            self._promote(now, None)
            noisy = self._order.noisy_now(now)
            visible, in_flight, delayed, _ = self._order.all.counts
            fresh = (
                entry.arrived
                for entry in self._live.values()
                if entry.receives < BACK_OF_QUEUE_AFTER and entry.group not in noisy
            )
            return Quiet(
                visible - sum(group.counts[State.READY] for group in noisy),
                in_flight - sum(group.counts[State.IN_FLIGHT] for group in noisy),
                delayed - sum(group.counts[State.DELAYED] for group in noisy),
                next(fresh, None),
                len(noisy),
            )

    def next_due(self) -> float | None:
        """Return when the next hidden message becomes ready, or None if no message is hidden."""
        with self._lock:
            while self._hidden and self._is_stale(self._hidden[0]):
                heapq.heappop(self._hidden)
            return self._hidden[0][0] if self._hidden else None

    # The entries and their heaps; all of it under the lock.

    def _entry(self, handle: str) -> Entry | None:
        token, _, rest = handle.partition("-")
        number = rest.partition("-")[0]
        return self._live.get(int(number)) if token == self._token and number.isdigit() else None

    def _hand_out(self, entry: Entry, now: float, visibility: float) -> Message:
        message = entry.message
        entry.receives += 1
        message["receipt_handle"] = f"{self._token}-{entry.number}-{entry.receives}"
        message["visible_at"] = now + visibility
        message["receive_count"] += 1
        if message.get("first_receive_at") is None:
            message["first_receive_at"] = now
        self._hide(entry, State.IN_FLIGHT, now + visibility, now)
        return dict(message)

    def _promote(self, now: float, redrive: Redrive | None) -> None:
        while self._hidden and self._hidden[0][0] <= now:
            row = heapq.heappop(self._hidden)
            if self._is_stale(row):
                continue
            entry = row[2]
            spent = redrive is not None and entry.receives >= redrive.max_receives
            # After three receives a message goes to the back, unless it is due for the dead-letter queue.
            to_back = entry.receives >= BACK_OF_QUEUE_AFTER and not spent
            self._order.put(entry, next(self._numbers) if to_back else entry.order, now)

    def _hide(self, entry: Entry, state: State, due: float, now: float) -> None:
        entry.due = due
        entry.message["visible_at"] = due
        self._order.move(entry, state, now)
        heapq.heappush(self._hidden, (due, next(self._numbers), entry))
        if len(self._hidden) > STALE_ROWS_KEPT + 2 * len(self._live):
            self._hidden = [row for row in self._hidden if not self._is_stale(row)]
            heapq.heapify(self._hidden)

    def _forget(self, entry: Entry, now: float) -> None:
        del self._live[entry.number]
        self._order.forget(entry, now)
        if len(self._ages) > STALE_ROWS_KEPT + 2 * len(self._live):
            self._ages = [row for row in self._ages if row[2].state is not State.GONE]
            heapq.heapify(self._ages)
            self._hidden = [row for row in self._hidden if not self._is_stale(row)]
            heapq.heapify(self._hidden)

    def _is_stale(self, row: tuple[float, int, Entry]) -> bool:
        due, _, entry = row
        return entry.due != due or entry.state not in (State.DELAYED, State.IN_FLIGHT)
