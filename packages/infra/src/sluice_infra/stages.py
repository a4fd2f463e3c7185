"""The stages: every setting in which they differ, in one place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """From where on a stage's alarms fire; in the unit that each name ends in.

    Attributes
    ----------
    request_age_s, work_age_s : int
        How long a message may wait in its queue: 1.5 times what is expected (CloudWatch, "Recommended alarms").
    drain_s : int
        How long the backlog of work may take to drain at its present rate.
    iterator_age_s : int
        How late job events may be.
    timeout_share : float
        How much of its timeout a function's invocations may take, at the 90th percentile.
    api_latency_ms : int
        How long a request may take, at the 90th percentile.
    api_4xx_share : float
        How many of the requests may be refused.
    batch_item_failures : int
        How many messages may fail in a minute.
    account_concurrency : int
        The account's quota of concurrent executions in this region.
    availability_objective, latency_objective : float
        The shares of submissions and of jobs that are to be good in 30 days.
    latency_ms : int
        From submission to COMPLETED, what counts as good.

    """

    request_age_s: int = 60
    work_age_s: int = 900
    drain_s: int = 3_600
    iterator_age_s: int = 300
    timeout_share: float = 0.8
    api_latency_ms: int = 2_500
    api_4xx_share: float = 0.05
    batch_item_failures: int = 10
    account_concurrency: int = 1_000
    availability_objective: float = 0.999
    latency_objective: float = 0.99
    latency_ms: int = 60_000


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
    trace_rate : float
        The share of requests (0 to 1) that X-Ray records beyond the first of each second.
    result_days : int
        How long rows and results are kept.
    workloads : str
        Job types and the classes that do them: replace the weather simulation here.
    thresholds : Thresholds
        From where on the alarms fire.
    alarm_emails : tuple of str
        Who is told of alarms by mail; each address has to confirm. Others subscribe to the topic as they like.
    runbooks : str
        Where the runbooks are, for the links in alarms: a folder of the repository, or where it is published.

    """

    name: str
    protected: bool = True
    bundle_target: Literal["lambda", "host"] = "lambda"
    throttle_rate: int = 1_000
    throttle_burst: int = 2_000
    processor_concurrency: int = 20
    work_concurrency: int = 50
    trace_rate: float = 0.01
    result_days: int = 30
    workloads: str = "weather-report=sluice_core.weather:WeatherReport"
    thresholds: Thresholds = Thresholds()
    alarm_emails: tuple[str, ...] = ()
    runbooks: str = "docs/runbooks"

    def __post_init__(self) -> None:
        for setting in ("processor_concurrency", "work_concurrency"):
            value = getattr(self, setting)
            if not 2 <= value <= 1_000:  # noqa: PLR2004 - the limits of MaximumConcurrency
                raise ValueError(f"stage {self.name}: {setting} must be 2-1,000, not {value}")
        if not 0 <= self.trace_rate <= 1:
            raise ValueError(f"stage {self.name}: trace_rate must be 0-1, not {self.trace_rate}")


_PROD = StageConfig(name="prod")
_STAGES = {
    "prod": _PROD,
    "dev": replace(_PROD, name="dev", protected=False),
    # Three workers with work and two processors fill two cores; more would only wait for each other.
    "local": replace(
        _PROD,
        name="local",
        protected=False,
        bundle_target="host",
        throttle_rate=10_000,
        throttle_burst=10_000,
        processor_concurrency=2,
        work_concurrency=3,
        # Messages and invocations take real time where a stage's minutes may be a second each (`--speed`).
        thresholds=Thresholds(
            request_age_s=10,
            work_age_s=20,
            iterator_age_s=10,
            timeout_share=0.1,
            account_concurrency=12,
            latency_ms=20_000,
        ),
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
