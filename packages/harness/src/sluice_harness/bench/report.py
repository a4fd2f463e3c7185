"""bench.json: what was measured, as plain numbers with their units in their names."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sluice_harness.bench import executor_money, money
from sluice_harness.review.costs import prices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sluice_harness.bench.assembly import Settings
    from sluice_harness.bench.cold import ColdStart
    from sluice_harness.bench.throughput import Run
    from sluice_harness.bench.warm import Warm
    from sluice_harness.bench.wire import Use

READS = (0, 1, 3)
_MS_PER_S = 1000


def machine() -> dict[str, Any]:
    """Return what the figures were measured on and when."""
    return {
        "measuredAt": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def cold(starts: Mapping[str, ColdStart]) -> dict[str, Any]:
    """Return the starts by process."""
    return {name: {**one.cpu.shown(), "ratio": round(one.ratio, 4)} for name, one in starts.items()}


def warm(figures: Mapping[str, Warm]) -> dict[str, Any]:
    """Return the figures by function, and of a whole job in both of its functions."""
    shown = {
        name: {
            "handlerMs": round(one.handler_ms, 4),
            "bareMs": round(one.bare_ms, 4),
            "ratio": round(one.ratio, 4),
            "workloadMs": round(one.workload_ms, 4),
            "ratioWithoutWork": round(one.ratio_without_work, 4),
            "engineMs": round(one.engine_ms, 4),
            "pairs": one.pairs,
            "calls": list(one.calls),
        }
        for name, one in figures.items()
    }
    both = [figures[name] for name in ("processor", "batch-simulator")]
    handler, bare, work = (
        sum(each) for each in zip(*((o.handler_ms, o.bare_ms, o.workload_ms) for o in both), strict=True)
    )
    shown["job"] = {
        "handlerMs": round(handler, 4),
        "bareMs": round(bare, 4),
        "ratio": round(handler / bare, 4),
        "workloadMs": round(work, 4),
        "ratioWithoutWork": round((handler - work) / bare, 4),
        "engineMs": round(sum(one.engine_ms for one in both), 4),
    }
    return shown


def wire(job: Use, read: Use, jobs: int) -> dict[str, Any]:
    """Return what a job and a read used."""
    return {"jobs": jobs, "job": _use(job), "read": _use(read)}


def _use(one: Use) -> dict[str, Any]:
    services = dict.fromkeys(name.split(" ")[0] for name in one.calls)
    return {
        "requests": {service: round(one.requests(service), 4) for service in services},
        "calls": _rounded(one.calls),
        "writeUnits": round(one.write_units, 4),
        "readUnits": round(one.read_units, 4),
        "logBytes": round(one.all_log_bytes, 1),
        "functionsLogBytes": round(one.functions_log_bytes, 1),
        "logBytesBy": _rounded(one.log_bytes),
        "invocations": _rounded(one.invocations),
        "durationMs": _rounded(one.duration_ms),
    }


def executors(used: Mapping[str, Use], read: Use, settings: Settings, jobs: int) -> dict[str, Any]:
    """Return what a job on each executor used, and that with one read, as ``executors.json`` has it."""
    per_job = {name: money.usage(job, read, settings, 1, job.duration_ms) for name, job in used.items()}
    return {
        "jobs": jobs,
        "wire": {name: _use(job) for name, job in used.items()},
        "perJob": {name: executor_money.shown(usage) for name, usage in per_job.items()},
    }


def cost(
    job: Use, read: Use, settings: Settings, run: Run | None, authorization_ms: float | None
) -> dict[str, Any]:
    """Return USD per million jobs, by number of reads and line."""
    durations = run.duration_ms if run else None
    shown = {
        "currency": prices()["currency"],
        "pricesAsOf": prices()["asOf"],
        "lambdaTimeOf": f"{run.jobs} jobs on this machine" if run else "functions behind a tap, on this machine",
        "perMillion": {
            str(reads): money.shown(money.per_million(job, read, settings, reads, durations)) for reads in READS
        },
        "free": dict(money.FREE),
    }
    if authorization_ms is not None:
        each = money.authorizations_per_million(authorization_ms, settings.memory_mb["authorizer"])
        shown["authorizationsPerMillion"] = round(each, 4)
    return shown


def throughput(runs: Mapping[int, Run], figures: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the runs by size and, if warm figures are known, what the bare calls alone would allow.

    The limit is that of the cores: the calls' own CPU at the caller and, for they share the cores, the engine's.
    """
    shown: dict[str, Any] = {"sizes": {str(size): _run(run) for size, run in runs.items()}}
    if figures:
        each_ms = figures["job"]["bareMs"] + figures["job"]["engineMs"]
        shown["bareCallsMs"] = round(each_ms, 4)
        shown["limitJobsPerS"] = round(len(os.sched_getaffinity(0)) * _MS_PER_S / each_ms, 1)
    return shown


def _run(run: Run) -> dict[str, Any]:
    return {
        "jobsPerS": round(run.jobs_per_s, 2),
        "submissionsPerS": round(run.submissions_per_s, 1),
        "submissionsAlonePerS": round(run.submissions_alone_per_s, 1),
        "endToEndMs": {str(percent): round(value, 1) for percent, value in run.end_to_end_ms.items()},
        "cpuMs": _rounded(run.cpu_ms),
        # What the same CPU would give if nothing else ran here: comparable on a machine that is shared.
        "totalCpuMs": round(sum(run.cpu_ms.values()), 4),
        "cpuBoundJobsPerS": round(len(os.sched_getaffinity(0)) * _MS_PER_S / sum(run.cpu_ms.values()), 1),
        "sqsRequests": round(run.sqs_requests, 4),
        "writeUnits": round(run.write_units, 4),
        "logBytes": round(run.log_bytes, 1),
        "durationMs": _rounded(run.duration_ms),
    }


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in figures.items()}
