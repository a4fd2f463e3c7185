"""Jobs per second end to end, and where the CPU goes, on a fresh local stage for each number of jobs.

A stage of its own for each size: a size then says what an empty stage does with so many, and not what the sizes
before it have left in its table and memory. The client is a light one in a process of its own on the same cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sluice_harness.bench import processes, wire
from sluice_harness.bench.figures import percentile
from sluice_harness.bench.posting import Poster
from sluice_harness.bench.site import BODY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sluice_harness.bench.posting import Posted
    from sluice_harness.bench.site import BenchSite

JOBS = 5_000
SIZES = (1_000, 5_000, 20_000)
_WARM_UP_JOBS = 200
_MOST_SUBMISSIONS = 2_000
_HALF_RATE_S = 15.0
_FEWEST_TIMED = 50
_PERCENTS = (50, 95, 99)
_CONSUMERS = ("processor", "batch-simulator")


@dataclass(frozen=True, slots=True)
class Run:
    """One size.

    Attributes
    ----------
    jobs_per_s : float
        From the first request to the last job's ``endedAt``, posting included.
    submissions_per_s : float
        While the stage works on them; ``submissions_alone_per_s`` with both mappings off.
    end_to_end_ms : mapping
        By percent, at half that rate, from when the schedule wanted the request sent to ``endedAt``.
    cpu_ms : mapping
        User and system time per job, by process.
    sqs_requests : float
        Per job, reckoned from batches: the processor sends once a batch.
    duration_ms : mapping
        Lambda's own, per job, by function.

    """

    jobs: int
    jobs_per_s: float
    submissions_per_s: float
    submissions_alone_per_s: float
    end_to_end_ms: Mapping[int, float]
    cpu_ms: Mapping[str, float]
    sqs_requests: float
    write_units: float
    log_bytes: float
    duration_ms: Mapping[str, float]


def measure(site: BenchSite, jobs: int, *, progress: Callable[[str], object] = lambda _: None) -> Run:
    """Return what a fresh stage does with so many jobs.

    Raises
    ------
    RuntimeError
        A job did not complete, or was not recorded.

    """
    with Poster() as poster:
        progress("warming up")
        _settled(site, _post(site, poster, _WARM_UP_JOBS), progress)
        progress("submitting, mappings off")
        alone = _submissions_alone(site, poster, min(jobs, _MOST_SUBMISSIONS))
        before, cpu, since_ms = site.counters(), site.cpu_ms(), wire.now_ms()
        progress(f"{jobs} jobs")
        posted = _post(site, poster, jobs)
        site.settle(jobs, before, left=lambda depth: progress(f"{jobs} jobs, {depth} messages left"))
        used = processes.spent(cpu, site.cpu_ms()) | {processes.CLIENT: posted.cpu_ms}
        counted = {name: value - before[name] for name, value in site.counters().items()}
        logged = wire.log_bytes(site, since_ms, jobs)
        ended = _ended(site, posted.job_ids)
        rate = jobs / (max(ended) - posted.began)
        progress("at half the rate")
        times = _half_rate(site, poster, rate, jobs)
    job = wire.use(counted, {"sqs SendMessageBatch": counted["invocations processor"]}, logged, jobs)
    return Run(
        jobs=jobs,
        jobs_per_s=rate,
        submissions_per_s=posted.rate,
        submissions_alone_per_s=alone.rate,
        end_to_end_ms={percent: percentile(times, percent) for percent in _PERCENTS},
        cpu_ms={name: spent / jobs for name, spent in sorted(used.items()) if spent},
        sqs_requests=job.requests("sqs"),
        write_units=job.write_units,
        log_bytes=job.all_log_bytes,
        duration_ms=job.duration_ms,
    )


def _post(site: BenchSite, poster: Poster, count: int, rate: float = 0.0) -> Posted:
    arguments: dict[str, Any] = {"api_url": site.description.apiUrl, "token": site.token, "body": BODY}
    poster.post(**arguments, count=count, rate=rate)
    return poster.result()


def _settled(site: BenchSite, posted: Posted, progress: Callable[[str], object]) -> None:
    since = site.counters()
    site.settle(len(posted.job_ids), since, events=False, left=lambda depth: progress(f"{depth} messages left"))


def _submissions_alone(site: BenchSite, poster: Poster, count: int) -> Posted:
    """Submit with nobody to work, then throw the submissions away."""
    site.set_mappings(*_CONSUMERS, enabled=False)
    posted = _post(site, poster, count)
    site.client("sqs").purge_queue(QueueUrl=site.description.queues.request.url)
    site.set_mappings(*_CONSUMERS, enabled=True)
    return posted


def _half_rate(site: BenchSite, poster: Poster, rate: float, jobs: int) -> list[float]:
    """Return each job's time from its place in the schedule to its end, in ms."""
    count = min(jobs, max(_FEWEST_TIMED, int(rate / 2 * _HALF_RATE_S)))
    posted = _post(site, poster, count, rate / 2)
    site.settle(count, site.counters(), events=False)
    intended = posted.intended or {}
    ended = _ended(site, list(intended))
    return [(end - begun) * 1000 for end, begun in zip(ended, intended.values(), strict=True)]


def _ended(site: BenchSite, job_ids: Sequence[str]) -> list[float]:
    """Return when each job ended, in epoch seconds."""
    rows = site.rows()
    open_ = [job_id for job_id in job_ids if rows.get(job_id, {}).get("status", {}).get("S") != "COMPLETED"]
    if open_:
        raise RuntimeError(f"{len(open_)} of {len(job_ids)} jobs did not complete, {open_[0]} among them")
    return [int(rows[job_id]["endedAt"]["N"]) / 1000 for job_id in job_ids]
