"""``uvx nox -s demo``: real submissions through the whole path, and a table of where the time went."""

from __future__ import annotations

import argparse
import csv
import io
import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import httpx
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from sluice_harness.cdk_cli import CdkError
from sluice_harness.client import JobClient
from sluice_harness.description import ROOT
from sluice_harness.local_stage import LocalStage, StageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sluice_harness.description import StageDescription

_FORMATS = ("json", "csv", "ndjson")
_RECORDS = 24
_THREADS = 4
_SUMMARY = ROOT / "build" / "demo" / "summary.json"
# A job that has not ended by then is counted as lost.
_PATIENCE_S = 60
_SECONDS_PER_JOB = 0.1


@dataclass(slots=True)
class DemoJob:
    """One submission and what became of it. Times in ms."""

    client: JobClient
    format: str
    job_id: str
    submit_ms: float
    final: dict[str, Any] | None = None

    @property
    def status(self) -> str:
        """The end state, or LOST when none was seen in time."""
        return self.final["status"] if self.final else "LOST"


def main() -> None:
    """Run the demo; exit non-zero unless every job is COMPLETED and the results are right."""
    parser = argparse.ArgumentParser(prog="nox -s demo --", description=__doc__)
    parser.add_argument("--jobs", type=_positive, default=25, help="how many jobs to submit (default 25)")
    options = parser.parse_args()
    console = Console(highlight=False)
    try:
        complete = _run(options.jobs, console)
    except KeyboardInterrupt:
        raise SystemExit("interrupted: the stage has been taken down") from None
    except (CdkError, StageError) as error:
        raise SystemExit(f"error: {error}") from None
    raise SystemExit(0 if complete else 1)


def _run(count: int, console: Console) -> bool:
    began = time.monotonic()
    with progress_bars(console) as progress:
        bringing_up = progress.add_task("bringing the stage up", total=None)
        with LocalStage("demo", progress=lambda step: progress.update(bringing_up, description=step)) as stage:
            description = stage.deploy()
            progress.update(bringing_up, description="stage is up", total=1, completed=1)
            up_s = time.monotonic() - began
            jobs, seconds = drive(description, count, progress)
            checks = _check_downloads(jobs)
    console.print(_table(jobs))
    for line in checks:
        console.print(line)
    summary = _summary(jobs, seconds)
    _SUMMARY.parent.mkdir(parents=True, exist_ok=True)
    _SUMMARY.write_text(json.dumps(summary, indent=2) + "\n")
    console.print(
        f"{summary['completed']} of {summary['submitted']} jobs COMPLETED, {summary['failed']} failed, "
        f"{summary['lost']} lost, in {seconds:.1f} s ({summary['submitted'] / seconds:.0f} jobs/s), "
        f"after {up_s:.0f} s to bring the stage up; see {_SUMMARY.relative_to(ROOT)}"
    )
    return summary["completed"] == count and all("wrong" not in line for line in checks)


def progress_bars(console: Console) -> Progress:
    """Return what shows how far a run of jobs has come."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def drive(stage: StageDescription, count: int, progress: Progress) -> tuple[list[DemoJob], float]:
    """Submit as two users, follow every job to its end, and return the jobs and the seconds it took."""
    clients = [JobClient(stage, user) for user in stage.users[:2]]
    began = time.monotonic()
    submitting = progress.add_task("submitting over HTTP", total=count)
    following = progress.add_task("following to the end", total=count)
    with ThreadPoolExecutor(_THREADS) as pool:
        # Each user's first request alone: then one cold start serves all, where four at once would start four.
        jobs = [_submit(clients[n], n) for n in range(min(2, count))]
        progress.advance(submitting, len(jobs))
        for job in pool.map(lambda n: _submit(clients[n % 2], n), range(len(jobs), count)):
            jobs.append(job)
            progress.advance(submitting)
        deadline = time.monotonic() + _PATIENCE_S + _SECONDS_PER_JOB * count
        for _ in pool.map(lambda job: _follow(job, deadline), jobs):
            progress.advance(following)
    seconds = time.monotonic() - began
    for client in clients:
        client.close()
    return jobs, seconds


def _submit(client: JobClient, number: int) -> DemoJob:
    chosen = _FORMATS[number % len(_FORMATS)]
    started = time.perf_counter()
    answer = client.submit({"parameters": {"records": _RECORDS, "format": chosen}})
    elapsed_ms = (time.perf_counter() - started) * 1000
    if answer.status_code != httpx.codes.ACCEPTED:
        raise StageError(f"a submission was answered with {answer.status_code}: {answer.text}")
    return DemoJob(client, chosen, answer.json()["jobId"], elapsed_ms)


def _follow(job: DemoJob, deadline: float) -> None:
    """Ask as the API says to: again after Retry-After, for as long as there is one."""
    while time.monotonic() < deadline:
        answer = job.client.status(job.job_id)
        if answer.is_success and "retry-after" not in answer.headers:
            job.final = answer.json()
            return
        time.sleep(float(answer.headers.get("retry-after", 1)))


def _check_downloads(jobs: Sequence[DemoJob]) -> list[str]:
    """Download one result of each format and say whether it is what was asked for."""
    lines = []
    for chosen in _FORMATS:
        job = next((job for job in jobs if job.format == chosen and job.status == "COMPLETED"), None)
        if job is None or job.final is None:
            continue
        result = job.final["result"]
        answer = httpx.get(result["url"], timeout=30)
        right = answer.status_code == httpx.codes.OK and len(answer.content) == result["bytes"]
        records = _count_records(chosen, answer.text) if right else 0
        verdict = "right" if records == _RECORDS else "wrong"
        lines.append(f"{chosen:<7} result is {verdict}: {records} records, {len(answer.content)} bytes")
    return lines


def _count_records(chosen: str, text: str) -> int:
    if chosen == "json":
        return len(json.loads(text)["observations"])
    if chosen == "csv":
        return len(list(csv.DictReader(io.StringIO(text))))
    return len([json.loads(line) for line in text.splitlines()])


def _durations(jobs: Sequence[DemoJob]) -> Iterator[tuple[str, list[float]]]:
    """Where the time went, in ms, by the times the service itself reports."""
    ended = [job.final for job in jobs if job.final and "startedAt" in job.final]
    yield "submit (POST to 202)", [job.submit_ms for job in jobs]
    yield "queue wait", [_between(final, "submittedAt", "startedAt") for final in ended]
    yield "run", [_between(final, "startedAt", "endedAt") for final in ended]
    yield "end to end", [_between(final, "submittedAt", "endedAt") for final in ended]


def _between(final: dict[str, Any], first: str, last: str) -> float:
    begin, end = (datetime.fromisoformat(final[name]) for name in (first, last))
    return (end - begin).total_seconds() * 1000


def _percentile(values: Sequence[float], percent: int) -> float:
    if len(values) < 2:  # noqa: PLR2004 - quantiles need two points
        return values[0] if values else 0.0
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def _table(jobs: Sequence[DemoJob]) -> Table:
    table = Table(title="Where the time went (ms)")
    table.add_column("step")
    for column in ("count", "p50", "p95", "max"):
        table.add_column(column, justify="right")
    for name, values in _durations(jobs):
        figures = (_percentile(values, 50), _percentile(values, 95), max(values, default=0.0))
        table.add_row(name, str(len(values)), *(f"{figure:,.0f}" for figure in figures))
    return table


def _summary(jobs: Sequence[DemoJob], seconds: float) -> dict[str, Any]:
    end_to_end = dict(_durations(jobs))["end to end"]
    statuses = [job.status for job in jobs]
    return {
        "submitted": len(jobs),
        "completed": statuses.count("COMPLETED"),
        "failed": statuses.count("FAILED"),
        "lost": statuses.count("LOST"),
        "seconds": round(seconds, 3),
        "p50_ms": round(_percentile(end_to_end, 50), 1),
        "p95_ms": round(_percentile(end_to_end, 95), 1),
    }


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least one job")
    return number


if __name__ == "__main__":
    main()
