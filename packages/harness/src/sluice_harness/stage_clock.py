"""Stage time: what time it is on a stage whose time runs faster than ours.

An alarm that needs fifteen minutes to fire, or an error budget that burns for six hours, can be seen to fire
within a test only if a local stage counts an hour as a minute. Metrics, alarms and schedules go by stage time;
messages, leases, logs, traces and jobs stay in real time. In AWS the two are the same.
"""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StageClock:
    """Maps real time to stage time.

    Attributes
    ----------
    speed : float
        Stage seconds in a real second.
    origin : float
        The epoch second at which the two were the same.

    """

    speed: float = 1.0
    origin: float = 0.0

    def now(self) -> float:
        """Return the stage's time in epoch seconds."""
        return self.at(time.time())

    def at(self, real: float) -> float:
        """Return the stage's time at a real time, both in epoch seconds."""
        return self.origin + (real - self.origin) * self.speed

    def real_seconds(self, stage_seconds: float) -> float:
        """Return how long so many seconds of the stage take."""
        return stage_seconds / self.speed
