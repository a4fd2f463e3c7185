"""What one job makes of AWS, counted at the wire in a backlog: calls, capacity units, bytes logged.

The functions' own calls pass a tap. The other two callers cannot be tapped and are counted by what they do: the
gateway sends one message a submission, and Lambda's pollers receive and delete once a batch. Lambda's empty
receives are left out: a backlog has none, and an idle stage's cost the same whatever is submitted.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from sluice_harness.bench.posting import post_many
from sluice_harness.bench.site import BODY
from sluice_harness.bench.tap import tapped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sluice_harness.bench.site import BenchSite

JOBS = 1_000
_READS = 200
_TAPPED_READS = 20
_ROUNDING_S = 0.1
_TAPPED = ("processor", "batch-simulator", "event-publisher")
_CONSUMERS = ("processor", "batch-simulator")
# Which line of a function says that it has done with a job.
_OUTCOMES = {"processor": '"outcome":"recorded"', "batch-simulator": '"outcome":"completed"'}


@dataclass(frozen=True, slots=True)
class Use:
    """What was used per job, or per read of a job's status.

    Attributes
    ----------
    calls : mapping
        Requests by service and operation, whoever made them.
    log_bytes : mapping
        By function, and ``access log``.
    invocations, duration_ms : mapping
        Of Lambda, by function.

    """

    calls: Mapping[str, float]
    log_bytes: Mapping[str, float]
    write_units: float
    read_units: float
    invocations: Mapping[str, float]
    duration_ms: Mapping[str, float]

    def requests(self, service: str) -> float:
        """Return how many requests a service got."""
        return sum(count for name, count in self.calls.items() if name.split(" ")[0] == service)

    @property
    def functions_log_bytes(self) -> float:
        """What the functions log, without the gateway's access log."""
        return self.all_log_bytes - self.log_bytes.get(ACCESS_LOG, 0.0)

    @property
    def all_log_bytes(self) -> float:
        """What is logged because there was a job or a read, whoever logs it."""
        return sum(count for name, count in self.log_bytes.items() if name not in NOT_PER_JOB)


ACCESS_LOG = "access log"
# Run by the clock, or once for a token in five minutes, whatever is submitted.
NOT_PER_JOB = {"sweeper", "reconciler", "authorizer"}


def measure(
    site: BenchSite, *, jobs: int = JOBS, progress: Callable[[str], object] = lambda _: None
) -> tuple[Use, Use]:
    """Return what a job of a backlog used, and what one read of a completed job's status.

    The stage's queues are empty before and after, and its mappings on.
    """
    physical = [site.functions[name] for name in (*_TAPPED, "job-status")]
    api = httpx.Client(base_url=site.description.apiUrl, headers={"Authorization": site.token}, timeout=30)
    with api, tapped(site, *physical) as tap:
        site.set_mappings(*_CONSUMERS, enabled=False)
        before, since_ms = site.counters(), now_ms()
        progress("posting a backlog")
        posted = post_many(site.description.apiUrl, site.token, BODY.encode(), jobs)
        site.set_mappings(*_CONSUMERS, enabled=True)
        site.settle(jobs, before, left=lambda depth: progress(f"draining, {depth} left"))
        counted, logged = _since(site, before), log_bytes(site, since_ms, jobs)
        calls = tap.counts()
        job = use(counted, calls, logged, jobs)
        for job_id in posted.job_ids[:_TAPPED_READS]:
            api.get(f"/job-status/{job_id}").raise_for_status()
        read_calls = tap.counts() - calls
        # Once for each process of the function and hour, not for each read.
        del read_calls["sts AssumeRole"]
    with httpx.Client(base_url=site.description.apiUrl, headers={"Authorization": site.token}, timeout=30) as api:
        progress("reading")
        for job_id in posted.job_ids[:_TAPPED_READS]:
            api.get(f"/job-status/{job_id}").raise_for_status()
        time.sleep(_ROUNDING_S)
        before, since_ms = site.counters(), now_ms()
        reads = posted.job_ids[:_READS]
        for job_id in reads:
            api.get(f"/job-status/{job_id}").raise_for_status()
        counted, logged = _since(site, before), log_bytes(site, since_ms, len(reads))
    per_read = {name: count * len(reads) / _TAPPED_READS for name, count in read_calls.items()}
    return job, use(counted, per_read, logged, len(reads))


def use(
    counted: Mapping[str, float],
    tap: Mapping[str, float],
    logged: Mapping[str, float],
    number: int,
    consumers: Sequence[str] = _CONSUMERS,
) -> Use:
    """Return what one of so many used, from what all of them did.

    Parameters
    ----------
    counted : mapping
        See `BenchSite.counters`.
    tap : mapping
        The functions' calls by service and operation.
    number : int
        How many there were.
    logged : mapping
        Bytes per job, already.
    consumers : sequence of str, optional
        The functions for which Lambda polls a queue.

    """
    calls: defaultdict[str, float] = defaultdict(float, tap)
    calls["sqs SendMessage, by the gateway"] += counted["sent request"]
    for name in consumers:
        for operation in ("ReceiveMessage", "DeleteMessageBatch"):
            calls[f"sqs {operation}, by Lambda"] += counted[f"invocations {name}"]
    functions = [name.partition(" ")[2] for name in counted if name.startswith("invocations ")]
    return Use(
        calls={name: count / number for name, count in sorted(calls.items()) if count},
        log_bytes=dict(logged),
        write_units=_sum(counted, "write units ") / number,
        read_units=_sum(counted, "read units ") / number,
        invocations={name: counted[f"invocations {name}"] / number for name in functions},
        duration_ms={name: counted[f"duration {name}"] / number for name in functions},
    )


def _sum(counted: Mapping[str, float], kind: str) -> float:
    return sum(value for name, value in counted.items() if name.startswith(kind))


def log_bytes(site: BenchSite, since_ms: int, jobs: int) -> dict[str, float]:
    """Return the bytes of messages logged per job since then, by function and of the access log.

    The engine keeps a process's newest lines only, so what a worker logged is divided by the jobs that its lines
    are about where they say so.
    """
    names = {group: name for name, group in _groups(site).items()}
    found: dict[str, float] = {}
    for page in site.client("logs").get_paginator("describe_log_groups").paginate():
        for group in page["logGroups"]:
            name = names.get(group["logGroupName"], ACCESS_LOG)
            lines = _lines(site, group["logGroupName"], since_ms)
            found[name] = found.get(name, 0.0) + bytes_per_job(lines, _OUTCOMES.get(name), jobs)
    return {name: size for name, size in sorted(found.items()) if size}


def bytes_per_job(lines: Sequence[str], outcome: str | None, jobs: int) -> float:
    """Return what is logged per job: of all jobs, or of those with this in a line, spaces aside."""
    size = sum(len(line.encode()) for line in lines)
    told = sum(outcome in line.replace(" ", "") for line in lines) if outcome else 0
    return size / (told or jobs)


def _groups(site: BenchSite) -> dict[str, str]:
    settings = {
        name: site.client("lambda").get_function_configuration(FunctionName=physical)
        for name, physical in site.functions.items()
    }
    return {name: one["LoggingConfig"]["LogGroup"] for name, one in settings.items()}


def _lines(site: BenchSite, group: str, since_ms: int) -> list[str]:
    pages = site.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group, startTime=since_ms)
    return [event["message"] for page in pages for event in page["events"]]


def _since(site: BenchSite, before: Mapping[str, float]) -> dict[str, float]:
    return {name: value - before[name] for name, value in site.counters().items()}


def now_ms() -> int:
    """Return the time, in epoch milliseconds."""
    return time.time_ns() // 1_000_000
