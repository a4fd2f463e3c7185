"""``uvx nox -s chaos``: jobs through the local stage while everything fails, and proof that nothing is lost.

The stage is the real template, unchanged but for the queues' visibility timeouts, which are lowered so that what
a killed worker held comes back within the run. Workers are killed (SIGKILL) inside AWS calls and between them,
their AWS calls are throttled, refused, stalled and cut off; some jobs are poison, some are cancelled, some are
submitted twice, and the processor is stopped for a while. At the end everything must have drained and the audit
must find nothing.

A seed replays the same faults: which jobs are poison, cancelled or repeated, and which call or invocation of
which worker process suffers what. How jobs and calls fall to workers is up to the scheduling of two cores, so
that the same fault may hit another job the next time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import shutil
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from sluice_harness.cdk_cli import CdkError
from sluice_harness.chaos.drive import VISIBILITY_S, Drive, Progress, Schedule
from sluice_harness.chaos.faults import Faults
from sluice_harness.chaos.plan import make_plan
from sluice_harness.chaos.summary import show, summarize
from sluice_harness.chaos.verdict import judge
from sluice_harness.chaos.worker_faults import CALL_FAULTS, KILLS, Settings
from sluice_harness.description import ROOT
from sluice_harness.local_stage import LocalStage, StageError
from sluice_harness.ops.audit import audit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sluice_harness.description import StageDescription
    from sluice_harness.ops.audit import AuditReport

_JOBS, _MINUTES, _RATE, _SETTLE_S = 5_000, 10.0, 40.0, 60.0
# Of the time there is; what remains is for the audit.
_CALM_SHARE, _AUDIT_S = 0.7, 45.0
_AUDITS = 3


def main() -> None:
    """Run it; exit non-zero, with the names of the jobs, if anything is wrong."""
    options = _options()
    console = Console(highlight=False)
    try:
        kept = _run(options, console)
    except KeyboardInterrupt:
        raise SystemExit("interrupted: the stage has been taken down") from None
    except (CdkError, StageError) as error:
        raise SystemExit(f"error: {error}") from None
    raise SystemExit(0 if kept else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="nox -s chaos --", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=_positive(int), default=_JOBS, help=f"how many ({_JOBS:,})")
    parser.add_argument("--seed", type=int, help="what decides on every fault (a new one each time)")
    parser.add_argument(
        "--minutes",
        type=_positive(float),
        default=_MINUTES,
        help=f"the bound, bringing up included ({_MINUTES:g})",
    )
    parser.add_argument("--rate", type=_positive(float), default=_RATE, help=f"submissions a second ({_RATE:g})")
    parser.add_argument(
        "--intensity", type=float, default=1.0, help="multiplies the rates of faults and kills (1)"
    )
    parser.add_argument(
        "--settle",
        type=float,
        default=_SETTLE_S,
        help=f"seconds between drain and audit, if there are as many ({_SETTLE_S:g}); an orphan object counts "
        "once it is a minute old",
    )
    parser.add_argument(
        "--faults-until",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="faults end when this share of the jobs has ended, or 70 %% of the time is over (1)",
    )
    parser.add_argument("--name", default="chaos", help="of the stage and of its folder below build/ (chaos)")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(10**6)
    return options


def _run(options: argparse.Namespace, console: Console) -> bool:
    began = time.monotonic()
    folder = ROOT / "build" / options.name
    shutil.rmtree(folder, ignore_errors=True)
    faults = Faults(_settings(options, folder / "faults"))
    replay = f"uvx nox -s chaos -- {_arguments(options)}"
    console.print(f"seed {options.seed}; to replay its faults: {replay}", soft_wrap=True)
    console.print(f"The queues' visibility timeout is {VISIBILITY_S} s here, not the template's 180 and 360.")
    with _bars(console) as bars:
        rising = bars.add_task("bringing the stage up", total=None)
        with (
            LocalStage(
                options.name, progress=lambda step: bars.update(rising, description=step), faults=faults.file
            ) as stage,
            _saying_goodbye(console),
        ):
            description = stage.deploy()
            bars.update(rising, description="stage is up", total=1, completed=1)
            plan, schedule = make_plan(options.seed, options.jobs), _schedule(options, began)
            driven = Drive(stage, description, plan, faults, schedule, tell=_shower(bars, options, faults))
            asyncio.run(driven.run())
            report = _audited(description, driven, bars)
            jobs = driven.jobs()
    offences = judge(driven.traffic.traces, jobs, report, drained=driven.drained_after_s is not None)
    summary = summarize(driven, faults, jobs, offences)
    summary["seconds"] = round(time.monotonic() - began, 1)
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    show(console, summary, folder)
    return not offences


@contextlib.contextmanager
def _saying_goodbye(console: Console) -> Iterator[None]:
    """Say at once that Ctrl-C was heard; taking the stage down may wait for its workers."""
    try:
        yield
    except KeyboardInterrupt:
        console.print("interrupted: taking the stage down")
        raise


def _audited(stage: StageDescription, driven: Drive, bars: Bars) -> AuditReport:
    auditing = bars.add_task("auditing", total=None)
    accepted = {trace.key for trace in driven.traffic.traces if trace.accepted}
    for _ in range(_AUDITS):
        report = audit(stage, accepted, progress=lambda step: bars.update(auditing, description=step))
        # Notes of a run that has drained say that the sweeper was reading the dead letters at the same time.
        if not report.notes or driven.drained_after_s is None:
            break
    bars.update(auditing, description="audited", total=1, completed=1)
    return report


def _arguments(options: argparse.Namespace) -> str:
    """Return the arguments on which the faults depend."""
    return f"--jobs {options.jobs} --seed {options.seed} --intensity {options.intensity:g}"


def _settings(options: argparse.Namespace, folder: Path) -> Settings:
    usual = Settings(options.seed, str(folder))
    rates = ("throttle", "server_error", "timeout", "lost_response", "outage", "kill")
    scaled = {name: options.intensity * getattr(usual, name) for name in rates}
    return Settings(**{**asdict(usual), **scaled})


def _schedule(options: argparse.Namespace, began: float) -> Schedule:
    whole_s = 60 * options.minutes - _AUDIT_S
    return Schedule(
        rate=options.rate,
        faults_until=options.faults_until * options.jobs,
        calm_at=began + _CALM_SHARE * whole_s,
        ends_at=began + whole_s,
        settle_s=options.settle,
    )


def _bars(console: Console) -> Bars:
    return Bars(
        SpinnerColumn(),
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def _shower(bars: Bars, options: argparse.Namespace, faults: Faults) -> Callable[[Progress], None]:
    """Return what shows a run's progress as bars."""
    accepted = bars.add_task("accepted with 202", total=options.jobs)
    ended = bars.add_task("ended", total=options.jobs)
    failing = bars.add_task("AWS calls that failed", total=None)
    killed = bars.add_task("workers killed", total=None)

    def tell(now: Progress) -> None:
        bars.update(accepted, completed=now.accepted)
        bars.update(ended, completed=now.ended, description=f"ended ({now.queued} messages left)")
        for bar, kinds in ((failing, CALL_FAULTS), (killed, (*KILLS, "poison-kill"))):
            happened = sum(faults.counts(kinds).values())
            bars.update(bar, completed=happened, total=happened)

    return tell


def _positive(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        number = kind(text)
        if number <= 0:
            raise argparse.ArgumentTypeError("more than nothing")
        return number

    return parse


if __name__ == "__main__":
    main()
