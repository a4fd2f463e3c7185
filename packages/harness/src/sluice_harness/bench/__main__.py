"""``uvx nox -s bench``: what a job costs, each figure beside its target, in build/bench/bench.json and a table."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from sluice_core.executors import LAMBDA

from sluice_harness import cdk_cli
from sluice_harness.bench import assembly, cold, executors, report, targets, throughput, warm, wire
from sluice_harness.bench.site import BenchSite
from sluice_harness.bench.table import tables
from sluice_harness.cdk_cli import CdkError
from sluice_harness.description import ROOT
from sluice_harness.local_stage import LocalStage, StageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sluice_harness.bench.assembly import DeployedFunction
    from sluice_harness.bench.throughput import Run

PARTS = ("cold", "warm", "wire", "throughput")
# Not without being asked: it needs a stage with every executor.
EXTRA_PARTS = ("executors",)
_KNOWN = (*PARTS, *EXTRA_PARTS)
_FOLDER = ROOT / "build" / "bench"


def main() -> None:
    """Measure, write bench.json and print it; exit non-zero if two runs that are compared disagree."""
    options = _options()
    console = Console(highlight=False)
    earlier = json.loads(options.against.read_text()) if options.against else None
    try:
        with _progress(console) as progress:
            found = _Bench(options, progress).run()
    except KeyboardInterrupt:
        raise SystemExit("interrupted: the stage has been taken down") from None
    except (CdkError, StageError, RuntimeError) as error:
        raise SystemExit(f"error: {error}") from None
    judged = targets.judge(found)
    found["targets"] = [one.shown() for one in judged]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    for table in tables(found, judged):
        console.print(table)
    missed = sum(not one.is_met for one in judged)
    console.print(f"{len(judged) - missed} of {len(judged)} targets met; see {options.out}", markup=False)
    if earlier is not None and (differ := targets.disagreements(found, earlier)):
        said = ", ".join(f"{name} by {difference:.0%}" for name, difference in differ.items())
        raise SystemExit(f"error: ratios differ from those in {options.against} by more than 15 %: {said}")


class _Bench:
    """One run: what was asked for, part by part."""

    def __init__(self, options: argparse.Namespace, progress: Progress) -> None:
        self._options = options
        self._progress = progress
        self._assembly = cdk_cli.synthesize("local", ROOT / "build" / "cdk.out" / "bench")
        self._functions: Sequence[DeployedFunction] = assembly.functions(self._assembly)

    def run(self) -> dict[str, Any]:
        """Return what bench.json is to have, but for the targets."""
        options = self._options
        found: dict[str, Any] = {"machine": report.machine(), "parts": list(options.only)}
        began = time.monotonic()
        if "cold" in options.only:
            found["cold"] = report.cold(self._cold())
        used = self._of_calls(found) if {"warm", "wire"} & set(options.only) else None
        runs = {size: self._throughput(size) for size in options.sizes} if "throughput" in options.only else {}
        if runs:
            found["throughput"] = report.throughput(runs, found.get("warm"))
        if "executors" in options.only:
            found["executors"] = self._executors()
        if used is not None:
            run = runs.get(options.jobs) or next(iter(runs.values()), None)
            authorization = found.get("warm", {}).get("authorizer", {}).get("handlerMs")
            found["cost"] = report.cost(*used, assembly.settings(self._assembly), run, authorization)
        found["seconds"] = round(time.monotonic() - began, 1)
        return found

    def _cold(self) -> dict[str, cold.ColdStart]:
        chosen = [one for one in self._functions if one.name in (self._options.functions or [one.name])]
        task = self._progress.add_task("cold starts", total=self._options.rounds + 1)
        return cold.measure(chosen, rounds=self._options.rounds, progress=lambda: self._progress.advance(task))

    def _of_calls(self, found: dict[str, Any]) -> tuple[wire.Use, wire.Use] | None:
        """Measure what needs a stage but not a fresh one for each size: the wire first, while queues are empty."""
        used = None
        with self._site("calls") as (site, tell):
            if "wire" in self._options.only:
                jobs = min(wire.JOBS, self._options.jobs)
                used = wire.measure(site, jobs=jobs, progress=tell)
                found["wire"] = report.wire(*used, jobs)
            if "warm" in self._options.only:
                batches = self._options.batches
                found["warm"] = report.warm(warm.measure(site, self._functions, batches=batches, progress=tell))
        return used

    def _executors(self) -> dict[str, Any]:
        """Measure a job on each executor, one after the other."""
        every = cdk_cli.synthesize("longwork", ROOT / "build" / "cdk.out" / "bench-longwork")
        jobs = min(executors.JOBS, self._options.jobs)
        with self._site("executors", stage="longwork", of=every) as (site, tell):
            job, read = wire.measure(site, jobs=jobs, progress=tell)
            used = {LAMBDA: job, **dict(executors.measure(site, jobs=jobs, progress=tell))}
        return report.executors(used, read, assembly.settings(every), jobs)

    def _throughput(self, jobs: int) -> Run:
        with self._site(f"{jobs} jobs") as (site, tell):
            return throughput.measure(site, jobs, progress=tell)

    @contextlib.contextmanager
    def _site(self, name: str, *, stage: str = "local", of: Path | None = None) -> Iterator[tuple[BenchSite, Any]]:
        task = self._progress.add_task(name, total=None)

        def tell(said: str) -> None:
            self._progress.update(task, description=f"{name}: {said}")

        with LocalStage("bench", stage=stage, progress=tell) as running:
            yield BenchSite(running, running.deploy(of or self._assembly)), tell
        self._progress.update(task, description=f"{name}: done", total=1, completed=1)


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<52}"),
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="nox -s bench --", description=__doc__)
    jobs = throughput.JOBS
    parser.add_argument("--jobs", type=_positive, default=jobs, help=f"of the main run (default {jobs})")
    parser.add_argument(
        "--sizes",
        type=lambda text: [_positive(part) for part in text.split(",")],
        help="numbers of jobs to compare (default 1000, the main run's and 20000; with --jobs that one only)",
    )
    parser.add_argument(
        "--only",
        type=_parts,
        default=PARTS,
        help=f"parts to measure, of {','.join(_KNOWN)} (default: all but the last)",
    )
    parser.add_argument("--rounds", type=_positive, default=cold.ROUNDS, help="of cold starts")
    parser.add_argument("--functions", type=lambda text: text.split(","), help="whose cold starts to measure")
    parser.add_argument("--batches", type=_positive, default=warm.BATCHES, help="of ten messages, for warm CPU")
    parser.add_argument("--out", type=Path, default=_FOLDER / "bench.json", help="the file to write")
    parser.add_argument("--against", type=Path, help="an earlier bench.json, whose ratios must agree within 15 %%")
    options = parser.parse_args()
    if options.sizes is None:
        options.sizes = list(throughput.SIZES) if options.jobs == jobs else [options.jobs]
    return options


def _parts(text: str) -> tuple[str, ...]:
    chosen = text.split(",")
    if unknown := [part for part in chosen if part not in _KNOWN]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: the parts are {', '.join(_KNOWN)}")
    return tuple(part for part in _KNOWN if part in chosen)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least one")
    return number


if __name__ == "__main__":
    main()
