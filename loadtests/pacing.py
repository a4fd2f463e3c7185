"""When what is sent, and by whom: the schedule of a scenario, fixed before its first request.

The load is open: a submission is wanted at its moment, whether or not the ones before it were answered, and its
latency counts from that moment. A client that waits for answers before it sends the next would send less when the
service is slow, and so not see how slow it is ("coordinated omission").
"""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sluice_harness.loadtest.scenarios import Scenario

SUBMITTING = ("submitter", "forgetter", "poison")
BASELINE, LOAD = "baseline", "load"


@dataclass(frozen=True, slots=True)
class Arrival:
    """One thing that somebody does.

    Attributes
    ----------
    ordinal : int
        Its number among those that submit, or among those of its kind that do not.
    at_s : float
        When, in seconds from the start of the run; 0 if as soon as possible.
    kind : str
        What: a key of the scenario's ``users``.
    owner : int
        As which of the run's owners.
    phase : str
        ``baseline`` or ``load``.

    """

    ordinal: int
    at_s: float
    kind: str
    owner: int
    phase: str = LOAD

    @property
    def submits(self) -> bool:
        """Whether it is a submission."""
        return self.kind in SUBMITTING


class Timeline:
    """Which submission is due when: the rate over time, added up.

    Parameters
    ----------
    stages : sequence of (float, float)
        Seconds, and submissions a second meanwhile.
    stretch : float
        By how much each stage lasts longer.

    """

    def __init__(self, stages: Sequence[tuple[float, float]], stretch: float = 1.0) -> None:
        self._stages = [(seconds * stretch, rate) for seconds, rate in stages]

    @property
    def submissions(self) -> float:
        """How many there are in all."""
        return sum(seconds * rate for seconds, rate in self._stages)

    def when(self, number: float) -> float:
        """Return the second at which so many submissions are due; after the last stage it goes on at its rate."""
        began_s = 0.0
        for seconds, rate in self._stages[:-1]:
            if number < seconds * rate:
                return began_s + number / rate
            number -= seconds * rate
            began_s += seconds
        return began_s + number / self._stages[-1][1]


class Schedule:
    """A scenario's arrivals.

    Parameters
    ----------
    scenario : Scenario
        What to do.
    jobs : int or None
        How many submissions; None for the scenario's own, of which there may be more.
    rate : float or None
        Submissions a second at the base level; None for the scenario's own.
    owners : int
        Among how many owners; at least 2 if one is to be noisy.

    Raises
    ------
    ValueError
        There is nobody who submits, or nobody beside the noisy owner.

    """

    def __init__(self, scenario: Scenario, jobs: int | None, rate: float | None, owners: int) -> None:
        self._scenario = scenario
        self.rate = scenario.rate if rate is None else rate
        self.asked = scenario.jobs if jobs is None else jobs
        self._shares = {kind: share for kind, share in scenario.users.items() if share > 0}
        self._submitting = {kind: share for kind, share in self._shares.items() if kind in SUBMITTING}
        if not self._submitting:
            raise ValueError(f"scenario {scenario.name}: give a share of users to one of {', '.join(SUBMITTING)}")
        if scenario.noisy_share is not None and owners < 2:  # noqa: PLR2004 - the noisy one and a quiet one
            raise ValueError(f"scenario {scenario.name}: a noisy owner needs another beside it")
        self._owners = range(owners)
        self._weights = owner_weights(owners, scenario.skew or 0.0)
        self._timeline, self._baseline_s = self._made_timeline(has_number=jobs is not None)
        self.submissions = self.asked
        if self._timeline:
            self.submissions = max(self.asked, round(self._timeline.submissions))

    def _made_timeline(self, *, has_number: bool) -> tuple[Timeline | None, float]:
        if not self.rate:
            return None, 0.0
        stages = [(stage.seconds, stage.rate * self.rate) for stage in self._scenario.stages]
        holds = Timeline(stages).submissions
        stretch = self.asked / holds if has_number or holds < self.asked else 1.0
        has_baseline = self._scenario.noisy_share is not None
        return Timeline(stages, stretch), stages[0][0] * stretch if has_baseline else 0.0

    def __iter__(self) -> Iterator[Arrival]:
        """Every arrival in the order of time; each time the same, in whichever process."""
        draw = random.Random(self._scenario.name)  # noqa: S311 - load, not secrets
        others = [kind for kind in self._shares if kind not in SUBMITTING]
        merged = heapq.merge(self._submissions(), *map(self._beside, others))
        for position, kind, ordinal in merged:
            at_s = self._timeline.when(position) if self._timeline else 0.0
            phase = BASELINE if at_s < self._baseline_s else LOAD
            owner = self._owner(draw, phase)
            yield Arrival(ordinal, at_s, kind or self._kind(draw, owner), owner, phase)

    def further(self) -> Iterator[Arrival]:
        """Submissions beyond the schedule, without end, in place of some that were refused."""
        draw = random.Random()  # noqa: S311 - load, not secrets
        for ordinal in itertools.count(self.submissions):
            owner = self._owner(draw, LOAD)
            yield Arrival(ordinal, 0.0, self._kind(draw, owner), owner)

    def _kind(self, draw: random.Random, owner: int) -> str:
        """Draw what kind of submission it is; who makes the noise looks at none of it, and so slows no reader."""
        if self._scenario.noisy_share is not None and owner == 0 and "forgetter" in self._submitting:
            return "forgetter"
        return draw.choices(list(self._submitting), list(self._submitting.values()))[0]

    def _submissions(self) -> Iterator[tuple[float, str, int]]:
        """Positions of those that submit, of a kind to be drawn."""
        return ((float(n), "", n) for n in range(self.submissions))

    def _beside(self, kind: str) -> Iterator[tuple[float, str, int]]:
        """Positions, among the submissions, of those of a kind that does not submit."""
        gap = sum(self._submitting.values()) / self._shares[kind]
        positions = (gap * (n + 0.5) for n in itertools.count())
        within = itertools.takewhile(lambda position: position < self.submissions, positions)
        return ((position, kind, n) for n, position in enumerate(within))

    def _owner(self, draw: random.Random, phase: str) -> int:
        noisy_share = self._scenario.noisy_share
        if noisy_share is None:
            return draw.choices(self._owners, self._weights)[0]
        if phase == LOAD and draw.random() < noisy_share:
            return 0
        return draw.choice(self._owners[1:])


def owner_weights(owners: int, skew: float) -> list[float]:
    """Return how much each owner sends, by Zipf's law: the n-th in proportion to 1 / n ** skew."""
    return [1 / number**skew for number in range(1, owners + 1)]
