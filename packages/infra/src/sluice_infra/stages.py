"""The stages: every setting in which they differ, in one place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class StageConfig:
    """One stage's settings. Durations are in the unit that each name ends in.

    Attributes
    ----------
    protected : bool
        Keep user pool, table and bucket when the stack is deleted or a change would replace them.
    bundle_target : "lambda" or "host"
        Whose wheels the functions ship: arm64 Linux for AWS, this machine's for the local stage, whose
        functions run on this machine's Python.
    throttle_rate, throttle_burst : int
        Requests per second and burst of the whole API.
    processor_concurrency, work_concurrency : int
        Event-source MaximumConcurrency of the two queues (2-1,000). Never reserved concurrency, which
        throttles healthy messages into the dead-letter queue.
    result_days : int
        How long rows and results are kept.
    workloads : str
        Job types and the classes that do them: replace the weather simulation here.

    """

    name: str
    protected: bool = True
    bundle_target: Literal["lambda", "host"] = "lambda"
    throttle_rate: int = 1_000
    throttle_burst: int = 2_000
    processor_concurrency: int = 20
    work_concurrency: int = 50
    result_days: int = 30
    workloads: str = "weather-report=sluice_core.weather:WeatherReport"

    def __post_init__(self) -> None:
        for setting in ("processor_concurrency", "work_concurrency"):
            value = getattr(self, setting)
            if not 2 <= value <= 1_000:  # noqa: PLR2004 - the limits of MaximumConcurrency
                raise ValueError(f"stage {self.name}: {setting} must be 2-1,000, not {value}")


_PROD = StageConfig(name="prod")
_STAGES = {
    "prod": _PROD,
    "dev": replace(_PROD, name="dev", protected=False),
    # Two workers a queue fill two cores; more would only wait for each other.
    "local": replace(
        _PROD,
        name="local",
        protected=False,
        bundle_target="host",
        throttle_rate=10_000,
        throttle_burst=10_000,
        processor_concurrency=2,
        work_concurrency=2,
    ),
}


def stage_config(name: str) -> StageConfig:
    """Return a stage's settings.

    Raises
    ------
    ValueError
        There is no such stage; the message lists those there are.

    """
    if name not in _STAGES:
        raise ValueError(f"there is no stage {name!r}: choose one of {', '.join(sorted(_STAGES))}")
    return _STAGES[name]
