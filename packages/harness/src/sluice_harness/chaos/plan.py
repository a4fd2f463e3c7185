"""What a chaos run asks of the stage: every job, and what its client does with it, from the seed alone."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from sluice_harness.chaos.worker_faults import CRASH, POISON


class Role(StrEnum):
    """What is special about a job; a job has one role, so that its end state can be foretold."""

    ORDINARY = "ordinary"
    POISON = "poison"  # its workload raises each time
    CRASH = "crash"  # its workload kills its worker each time; poison, too
    CANCELLED = "cancelled"
    DUPLICATE = "duplicate"  # posted twice
    CONFLICT = "conflict"  # posted twice, with other parameters the second time


class When(StrEnum):
    """When a client cancels its job."""

    AFTER = "after"  # so many seconds after the 202
    RUNNING = "running"  # as soon as the status says RUNNING


# Shares of all jobs: 2 % are poison, 5 % are cancelled, 5 % are submitted twice.
SHARES = {
    Role.POISON: 0.018,
    Role.CRASH: 0.002,
    Role.CANCELLED: 0.05,
    Role.DUPLICATE: 0.04,
    Role.CONFLICT: 0.01,
}
# Some of the cancelled jobs take their time, so that they can be met RUNNING; a few ordinary ones outlast a
# heartbeat. Few of either: three workers do all the work.
_CANCEL_RUNNING = 0.12
_CANCEL_WORK_S = 2
_LONG = 0.001
_LONG_WORK_S = 12
_FORMATS = ("json", "csv", "ndjson")
_USERS = 2


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """One job and what its client does with it.

    Attributes
    ----------
    user : int
        Which of the stage's ordinary users submits it.
    token : str
        Its clientToken, and so its id: it says which run's and which job it is.
    again_after_s : float
        How long after the 202 it is submitted again, if it is.
    again_parameters : dict
        What for, the second time.
    cancel : When or None
        When it is cancelled, if it is, and for `When.AFTER` how long after the 202.

    """

    ordinal: int
    role: Role
    user: int
    token: str
    parameters: dict[str, Any]
    again_after_s: float | None = None
    again_parameters: dict[str, Any] = field(default_factory=dict)
    cancel: When | None = None
    cancel_after_s: float = 0.0

    @property
    def is_poison(self) -> bool:
        """Whether no attempt can ever finish it."""
        return self.role in (Role.POISON, Role.CRASH)


def make_plan(seed: int, jobs: int) -> list[PlannedJob]:
    """Return the jobs of a run; each depends on the seed and its ordinal only, so a longer plan begins alike."""
    return [_job(seed, ordinal) for ordinal in range(jobs)]


def _job(seed: int, ordinal: int) -> PlannedJob:
    draw = random.Random(f"{seed}|job|{ordinal}")  # noqa: S311 - chaos, not secrets
    role = _role(draw.random())
    parameters: dict[str, Any] = {
        "records": draw.randint(1, 48),
        "format": draw.choice(_FORMATS),
        "seed": ordinal,
    }
    job = PlannedJob(
        ordinal=ordinal,
        role=role,
        user=draw.randrange(_USERS),
        token=f"chaos-{seed}-{ordinal:06d}-{draw.getrandbits(32):08x}",
        parameters=parameters,
    )
    match role:
        case Role.POISON:
            parameters["station"] = POISON
        case Role.CRASH:
            parameters["station"] = CRASH
        case Role.DUPLICATE:
            return replace(job, again_after_s=_mostly_early(draw, 30), again_parameters=parameters)
        case Role.CONFLICT:
            other = {**parameters, "records": parameters["records"] + 1}
            return replace(job, again_after_s=_mostly_early(draw, 30), again_parameters=other)
        case Role.CANCELLED if draw.random() < _CANCEL_RUNNING:
            parameters["workSeconds"] = _CANCEL_WORK_S
            return replace(job, cancel=When.RUNNING)
        case Role.CANCELLED:
            return replace(job, cancel=When.AFTER, cancel_after_s=_mostly_early(draw, 20))
        case Role.ORDINARY if draw.random() < _LONG:
            parameters["workSeconds"] = _LONG_WORK_S
    return job


def _role(chance: float) -> Role:
    for role, share in SHARES.items():
        if chance < share:
            return role
        chance -= share
    return Role.ORDINARY


def _mostly_early(draw: random.Random, most_s: float) -> float:
    """Return a delay: most often while the job waits or starts, sometimes when it has long ended."""
    return draw.random() ** 3 * most_s
