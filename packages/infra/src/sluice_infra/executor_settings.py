"""How a stage's external executors are set: how much runs at once, for how long, and in what."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sluice_core.executors import EXTERNAL, parse_executors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sluice_infra.stages import StageConfig

# Private and in the stage's own region, for the network has no way elsewhere; by digest, so that it never changes.
_IMAGE = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?/"
    r"(?P<repository>[a-z0-9]+([._/-][a-z0-9]+)*)@sha256:[0-9a-f]{64}"
)
# Memory in MiB by virtual CPUs (Amazon ECS, "Task CPU and memory"; the same in AWS Batch, "ResourceRequirement").
# A quarter of a CPU has 512 besides.
_FARGATE: Mapping[float, range] = {
    0.25: range(1_024, 2_048 + 1, 1_024),
    0.5: range(1_024, 4_096 + 1, 1_024),
    1: range(2_048, 8_192 + 1, 1_024),
    2: range(4_096, 16_384 + 1, 1_024),
    4: range(8_192, 30_720 + 1, 1_024),
    8: range(16_384, 61_440 + 1, 4_096),
    16: range(32_768, 122_880 + 1, 8_192),
}
_LEAST_FARGATE = (0.25, 512)
_DAY_S = 86_400
# A day less than SQS keeps anything: a message that moves to the dead-letter queue keeps its age, and the sweeper,
# which comes each minute, ends its job from there.
_LONGEST_RETENTION_S = 13 * _DAY_S
# AWS Batch times out no job sooner than that, and ends those on Fargate after 14 days ("Job timeouts").
_TIMEOUT_S = range(60, 14 * _DAY_S + 1)
# An executor's slots are one item of a table, which holds 400 KB and is written at each start.
_MAX_RUNNING = range(1, 1_001)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflows:
    """Jobs in Step Functions.

    Attributes
    ----------
    max_running : int
        How many executions run at once (1-1,000).
    timeout_s : int
        How long a job's execution may take, in seconds.

    """

    max_running: int = 50
    timeout_s: int = 3_600


@dataclass(frozen=True, slots=True, kw_only=True)
class Containers:
    """Jobs in containers on Fargate, by AWS Batch or by ECS.

    Attributes
    ----------
    image : str
        What runs, in a private repository of ECR in the stage's own region, by digest:
        ``ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME@sha256:...``.
    max_running : int
        How many run at once (1-1,000).
    timeout_s : int
        How long a job's work may take, in seconds.
    vcpu : float
        Virtual CPUs of each, as Fargate has them.
    memory_mib : int
        Memory of each, as Fargate has it for these CPUs.

    """

    image: str = ""
    max_running: int = 50
    timeout_s: int = 3_600
    vcpu: float = 1
    memory_mib: int = 2_048

    @property
    def repository(self) -> tuple[str, str, str]:
        """The account, region and name of the image's repository."""
        found = _IMAGE.fullmatch(self.image)
        assert found is not None, "checked with the stage's settings"  # noqa: S101
        return found["account"], found["region"], found["repository"]


def external_executors(executors: str, draining: tuple[str, ...]) -> tuple[str, ...]:
    """Return the external executors that a stage has: those that a job type uses, and those that drain."""
    there = {*parse_executors(executors).values(), *draining}
    return tuple(one for one in EXTERNAL if one in there)


def retention_s(config: StageConfig, executor: str) -> int:
    """Return for how many seconds an executor's queue keeps a job that waits.

    A row outlasts such a wait, a day in which the job waits for its host, and the run that follows; not always
    those of a job that is started again.
    """
    settings: Workflows | Containers = getattr(config, executor)
    return min(_LONGEST_RETENTION_S, (config.result_days - 1) * _DAY_S - settings.timeout_s)


def demands(config: StageConfig) -> Iterator[tuple[str, bool, str]]:
    """Yield each setting of executors that can be wrong, whether it is right, and what it may be."""
    try:
        executors = parse_executors(config.executors)
    except ValueError as error:
        yield "executors", False, f"'job-type=executor' entries ({error})"
        return
    job_types = [entry.partition("=")[0].strip() for entry in config.workloads.split(",")]
    yield "executors", {*executors} <= {*job_types}, f"of job types that are in workloads: {', '.join(job_types)}"
    unused = sorted({*EXTERNAL} - {*executors.values()})
    drains = f"executors that no job type uses: {', '.join(unused) or 'there is none'}"
    yield "draining", {*config.draining} <= {*unused}, drains
    for executor in external_executors(config.executors, config.draining):
        yield from _of_executor(config, executor)


def _of_executor(config: StageConfig, executor: str) -> Iterator[tuple[str, bool, str]]:
    settings: Workflows | Containers = getattr(config, executor)
    running = settings.max_running in _MAX_RUNNING
    yield f"{executor}.max_running", running, f"{_MAX_RUNNING[0]:,}-{_MAX_RUNNING[-1]:,}"
    lasts = f"{_TIMEOUT_S[0]}-{_TIMEOUT_S[-1]:,} seconds (AWS Batch takes no less, Fargate runs nothing longer)"
    yield f"{executor}.timeout_s", settings.timeout_s in _TIMEOUT_S, lasts
    # A row that expires under its job ends it for nobody.
    least = math.ceil(settings.timeout_s / _DAY_S) + 2
    is_kept = config.result_days >= least
    yield (
        "result_days",
        is_kept,
        f"{least} or more: rows are kept for {executor}.timeout_s and for two days' wait",
    )
    if isinstance(settings, Containers):
        image = bool(_IMAGE.fullmatch(settings.image))
        yield f"{executor}.image", image, "ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME@sha256:..., with its digest"
        sizes = _FARGATE.get(settings.vcpu, range(0))
        yield f"{executor}.vcpu", bool(sizes), f"one of {', '.join(map(str, _FARGATE))}"
        fits = settings.memory_mib in sizes or (settings.vcpu, settings.memory_mib) == _LEAST_FARGATE
        wanted = f"{sizes[0]:,}-{sizes[-1]:,} in steps of {sizes.step:,} with {settings.vcpu} vcpu"
        yield f"{executor}.memory_mib", fits, wanted
