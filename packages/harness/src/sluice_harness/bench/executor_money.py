"""USD for a million jobs on each executor: what a job uses besides its work, and its work for so long as it takes.

What it uses is in ``executors.json``, as ``uvx nox -s bench -- --only executors`` measures it, with one read of
the job's status; the prices are in ``prices.json``. That is with a stage's usual sizes and its usual cap, with
which it was not measured, and without free tiers.
"""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sluice_core.executors import BATCH, ECS, LAMBDA, STEP_FUNCTIONS
from sluice_core.leases import BEAT_EVERY_S
from sluice_core.slots import new_token

from sluice_harness.review.costs import Usage, estimate, prices

if TYPE_CHECKING:
    from collections.abc import Mapping

EXECUTORS = (LAMBDA, STEP_FUNCTIONS, BATCH, ECS)
ARCHITECTURE = "arm64"
# As a stage has them unless it says otherwise: memory of the function that works, a container's size, and how many
# jobs run at once.
WORK_GB, VCPU, CONTAINER_GB, CAP = 1.0, 1.0, 2.0, 50
# Of the item of slots, by a job that comes while all are taken: for all that is wanted, which is refused, for what
# is free, for more, which is refused, and when its slot is given back.
SLOTS_WRITES = 4
# No invocation lasts longer than 15 minutes (AWS Lambda, "Lambda quotas"); a minute of it is left for its end.
LONGEST_INVOCATION_S = 14 * 60
# How often starter and reconciler read the row of what runs, half a unit each.
LOOK_EVERY_S = 60
# From the download of the image on, up to the work; reckoned for an image of 60 MB, and not measured.
CONTAINER_START_S = 10
# Of a container at least so much is billed (AWS Fargate pricing).
LEAST_CONTAINER_S = 60
# From where on a queue's batches are to be of one job, and not of ten.
ALONE_FROM_S = 5
_QUANTITIES = Path(__file__).with_name("executors.json")
_NOT_PER_JOB = dict.fromkeys(("seconds", "custom_metrics", "alarm_metrics", "composite_alarms", "dashboards"), 0)
_OF_ONE: Mapping[str, Any] = {**_NOT_PER_JOB, "jobs": 1}


@cache
def measured() -> Mapping[str, Usage]:
    """Return what a job uses besides its work, by executor."""
    per_job: dict[str, dict[str, Any]] = json.loads(_QUANTITIES.read_text())["perJob"]
    return {name: Usage(**{**_OF_ONE, **quantities}) for name, quantities in per_job.items()}


@cache
def usual() -> Mapping[str, Usage]:
    """Return what a job uses besides its work, by executor, where as many run at once as usual."""
    larger = SLOTS_WRITES * (slots_units(CAP) - 1)  # measured was a unit each, with few slots
    return {
        name: usage if name == LAMBDA else replace(usage, write_units=usage.write_units + larger)
        for name, usage in measured().items()
    }


def slots_units(cap: int) -> int:
    """Return the write units of a change of an executor's slots that are all taken.

    A set counts three bytes, its members theirs and one each (Amazon DynamoDB, "Item sizes and formats").
    """
    token = len(new_token(0)) + 1
    rest = len("executor") + len(STEP_FUNCTIONS) + len("held") + 3
    return math.ceil((rest + cap * token) / 1_024)


def shown(usage: Usage) -> dict[str, Any]:
    """Return a usage as ``executors.json`` has it."""
    found = {one.name: getattr(usage, one.name) for one in fields(usage) if one.name not in _OF_ONE}
    return {name: _rounded(value) for name, value in found.items() if value not in (None, {})}


def per_million(executor: str, work_s: float) -> dict[str, float] | None:
    """Return USD for a million jobs by line, with their total; None if the executor cannot run such a job.

    Parameters
    ----------
    executor : str
        One of `EXECUTORS`.
    work_s : float
        How long a job's work takes, in seconds.

    """
    if executor == LAMBDA and work_s > LONGEST_INVOCATION_S:
        return None
    usage = _WITH_WORK[executor](usual()[executor], work_s)
    lines = {line.what: line.per_million or 0.0 for line in estimate(usage, prices()) if line.per_month is None}
    return {**lines, "total": sum(lines.values())}


def _in_a_function(usage: Usage, work_s: float) -> Usage:
    """Add work; at each beat its lease and its message are renewed."""
    beats = int(work_s / BEAT_EVERY_S)
    # What a batch of ten shares: an invocation, and the receipt and the deletion of its messages.
    alone = 0.9 if work_s > ALONE_FROM_S else 0.0
    return replace(
        usage,
        gb_seconds=_more(usage.gb_seconds, WORK_GB * work_s),
        lambda_requests=usage.lambda_requests + alone,
        sqs_requests=usage.sqs_requests + 2 * alone + beats,
        write_units=usage.write_units + beats,
    )


def _in_a_workflow(usage: Usage, work_s: float) -> Usage:
    """Add work in as many steps as it takes, each of which leaves in S3 what the next one reads."""
    further = max(0, math.ceil(work_s / LONGEST_INVOCATION_S) - 1)
    return replace(
        usage,
        gb_seconds=_more(usage.gb_seconds, WORK_GB * work_s),
        lambda_requests=usage.lambda_requests + further,
        transitions=(usage.transitions or 0) + further,
        s3_puts=usage.s3_puts + further,
        s3_gets=(usage.s3_gets or 0) + further,
        read_units=usage.read_units + int(work_s / LOOK_EVERY_S),
    )


def _in_a_container(usage: Usage, work_s: float) -> Usage:
    """Add the container's time, and the renewals of its lease."""
    billed_s = max(LEAST_CONTAINER_S, CONTAINER_START_S + work_s)
    return replace(
        usage,
        vcpu_seconds={ARCHITECTURE: VCPU * billed_s},
        container_gb_seconds={ARCHITECTURE: CONTAINER_GB * billed_s},
        write_units=usage.write_units + int(work_s / BEAT_EVERY_S),
        read_units=usage.read_units + int(work_s / LOOK_EVERY_S),
    )


_WITH_WORK = {
    LAMBDA: _in_a_function,
    STEP_FUNCTIONS: _in_a_workflow,
    BATCH: _in_a_container,
    ECS: _in_a_container,
}


def _more(gb_seconds: Mapping[str, float], spent: float) -> dict[str, float]:
    return {**gb_seconds, ARCHITECTURE: gb_seconds.get(ARCHITECTURE, 0.0) + spent}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: round(one, 4) for name, one in value.items()}
    return round(value, 4)
