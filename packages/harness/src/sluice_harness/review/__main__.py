"""``uvx nox -s review``: one HTML file on a stage, to be opened offline."""

from __future__ import annotations

import argparse
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from sluice_harness.cdk_cli import CdkError
from sluice_harness.demo import progress_bars
from sluice_harness.description import ROOT
from sluice_harness.local_stage import LocalStage, StageError
from sluice_harness.node_packages import NpmError
from sluice_harness.ops.stage import UsageError, find_stage
from sluice_harness.review import local_run, page
from sluice_harness.review.collect import DRILL_REPORT, Observer, drills
from sluice_harness.review.findings import Severity
from sluice_harness.review.review import Review, review
from sluice_harness.review.window import Window

_FOLDER = ROOT / "build" / "review"
# Of a stage brought up here, so that a run of seconds makes a picture of minutes.
_SPEED = 30.0
_HOUR_MINUTES = 60
# A local stage is young in real time, but a day may be a drill long.
_HOURS, _LOCAL_HOURS = 3, 24
_STYLES = {Severity.CRITICAL: "bold red", Severity.WARNING: "yellow", Severity.NOTICE: "dim"}


def main() -> None:
    """Write the review and print its findings."""
    options = _options()
    console = Console(highlight=False)
    try:
        if options.stage is None:
            made, name = _of_new_stage(options, console), "local"
        else:
            observer, name = Observer(find_stage(options.stage)), options.stage
            made = _review(observer, options, since=observer.stage.startedAt)
        path = options.out or _FOLDER / f"{name}.html"
        page.write(made, path)
    except KeyboardInterrupt:
        raise SystemExit("interrupted") from None
    except (CdkError, NpmError, StageError, UsageError, ClientError, BotoCoreError) as error:
        raise SystemExit(f"error: {error}") from None
    _print(made, path, console)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="nox -s review --", description=__doc__)
    parser.add_argument(
        "--stage", help="a running stage that describes itself in build/stages (default: a new one)"
    )
    parser.add_argument(
        "--jobs", type=int, default=100, help="how many jobs to run through a new stage (default 100)"
    )
    back = parser.add_mutually_exclusive_group()
    back.add_argument(
        "--hours",
        type=_hours,
        dest="minutes",
        help="how far to look back (default 3, or all of a local stage's life)",
    )
    back.add_argument("--minutes", type=int, dest="minutes", help="how far to look back, in minutes")
    parser.add_argument("--out", type=Path, help="the file to write (default build/review/STAGE.html)")
    parser.add_argument(
        "--drill",
        type=Path,
        default=DRILL_REPORT,
        metavar="REPORT",
        help="what the last drill found (default build/drill/report.json, if it is there)",
    )
    options = parser.parse_args()
    if options.jobs < 1 or (options.minutes is not None and options.minutes < 1):
        parser.error("at least one job, and at least one minute")
    return options


def _hours(text: str) -> int:
    return round(float(text) * _HOUR_MINUTES)


def _of_new_stage(options: argparse.Namespace, console: Console) -> Review:
    with progress_bars(console) as progress:
        step = progress.add_task("bringing the stage up", total=None)
        with LocalStage(
            "review", speed=_SPEED, progress=lambda said: progress.update(step, description=said)
        ) as stage:
            observer = Observer(stage.deploy())
            began = observer.stage.clock.now()
            progress.update(step, description="stage is up", total=1, completed=1)
            local_run.run(observer, options.jobs, progress)
            step = progress.add_task("reviewing", total=None)
            made = _review(observer, options, since=began)
            progress.update(step, total=1, completed=1)
    return made


def _review(observer: Observer, options: argparse.Namespace, *, since: float) -> Review:
    minutes = options.minutes
    if minutes is None:
        minutes = _HOUR_MINUTES * (_LOCAL_HOURS if observer.stage.endpointUrl else _HOURS)
    return review(observer, Window.back(minutes, observer.stage.clock, since=since), drills(options.drill))


def _print(made: Review, path: Path, console: Console) -> None:
    for finding in made.findings:
        console.print(f"[{_STYLES[finding.severity]}]{finding.severity:<8}[/]", end=" ")
        console.print(finding.title, markup=False)
    said = made.summary
    console.print(
        f"{said.submitted} submitted, {said.completed} completed, {said.failed} failed, "
        f"{said.cancelled} cancelled; {len(made.findings)} findings; see {path}",
        markup=False,
    )


if __name__ == "__main__":
    main()
