"""The time under review, in the stage's time and in ours."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from sluice_harness.stage_clock import StageClock

MINUTE = 60
# More points than this are more than a chart has pixels; periods grow instead.
_MOST_POINTS = 1_440


@dataclass(frozen=True, slots=True)
class Window:
    """A range of stage time; `start` and `end` are epoch seconds, multiples of 60, the end not included."""

    start: int
    end: int
    clock: StageClock

    @classmethod
    def back(cls, minutes: int, clock: StageClock, *, since: float = 0.0, now: float | None = None) -> Self:
        """Return the last so many minutes of a stage's time, the running one included.

        Not those before a stage came up, if ``since`` says when that was. ``now`` is real, all in epoch seconds.
        """
        end = (int(clock.at(time.time() if now is None else now)) // MINUTE + 1) * MINUTE
        return cls(max(end - minutes * MINUTE, int(since) // MINUTE * MINUTE), end, clock)

    @property
    def seconds(self) -> int:
        """How long it is, in seconds of the stage's time."""
        return self.end - self.start

    @property
    def real_start(self) -> float:
        """When it began, in real time."""
        return self.real(self.start)

    @property
    def real_end(self) -> float:
        """When it ended, in real time."""
        return self.real(self.end)

    def period(self, wanted: int) -> int:
        """Return a period that does not make too many points of this range: a multiple of the one wanted."""
        return wanted * max(1, -(-self.seconds // (wanted * _MOST_POINTS)))

    def starts(self, period: int) -> range:
        """Return when each period of this length starts."""
        return range(self.start, self.end, period)

    def real(self, stage: float) -> float:
        """Return when a moment of the stage's time is, in real time; both in epoch seconds."""
        return self.clock.origin + self.clock.real_seconds(stage - self.clock.origin)


def moment(seconds: float) -> datetime:
    """Return an epoch second as a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def utc(seconds: float, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return an epoch second as text, in UTC."""
    return moment(seconds).strftime(form)


def spoken(seconds: float) -> str:
    """Return a duration in the largest units that tell it: ``1 h 30 min``."""
    whole = round(seconds)
    parts = [(whole // 86_400, "d"), (whole // 3_600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    said = [f"{count} {unit}" for count, unit in parts if count]
    return " ".join(said[:2]) or "0 s"
