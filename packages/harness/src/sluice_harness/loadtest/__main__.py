"""``uvx nox -s loadtest``: a scenario of ``loadtests/scenarios.toml`` on a stage, and what came of it.

The exit code is 0 only if every check held. ``verdict.json`` and ``report.html`` say the rest.
"""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.text import Text

from sluice_harness import description
from sluice_harness.cdk_cli import CdkError
from sluice_harness.deploy.target import TargetError
from sluice_harness.description import ROOT
from sluice_harness.loadtest.load import LOADTESTS, last_lines
from sluice_harness.loadtest.progress import Display, verdict_table
from sluice_harness.loadtest.scenarios import load_scenarios
from sluice_harness.loadtest.session import REPORT, VERDICT, Plan, Session
from sluice_harness.local_stage import StageError
from sluice_harness.node_packages import NpmError
from sluice_harness.ops.stage import UsageError, find_stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from sluice_harness.description import StageDescription
    from sluice_harness.loadtest.verdict import Verdict

_OUT = ROOT / "build" / "loadtest"
_WRITTEN = ("verdict.json", "report.html", "run.json", "progress.json", "*.jsonl", "locust.log", "worker-*.log")
# With messages that say what is wrong.
_ERRORS = (
    *(CdkError, NpmError, StageError, TargetError, UsageError),
    *(OSError, BotoCoreError, ClientError, httpx.HTTPError),
)
_SPEED, _PATIENCE_S = 10.0, 120.0


def main() -> None:
    """Run it; exit non-zero, with what did not hold, unless everything did."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background has it ignored
    # As good as Ctrl-C: the stage and Locust are ended in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(highlight=False)
    try:
        plan = _plan(_options())
        with Display(console) as display:
            verdict = Session(plan, display).run()
    except KeyboardInterrupt:
        raise SystemExit("interrupted: Locust and the stage have been taken down") from None
    except _ERRORS as error:
        raise SystemExit(f"error: {error}") from None
    _print(plan, verdict, console)
    raise SystemExit(0 if verdict.held else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="nox -s loadtest --", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenario", required=True, help="which one, by its name in the file")
    parser.add_argument("--jobs", type=_at_least(int, 1), help="submissions to be accepted (the scenario's)")
    parser.add_argument(
        "--rate", type=_at_least(float, 0), help="submissions a second at the base level (the scenario's)"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--stage", help="a running stage, by its name in build/stages (default: a new one)")
    where.add_argument("--host", metavar="URL", help="the same, by the address of its API")
    parser.add_argument(
        "--workers",
        type=_at_least(int, 0),
        default=0,
        help="processes that make load, beside a master (0: one process does it all)",
    )
    parser.add_argument(
        "--speed", type=_at_least(float, 1), default=_SPEED, help=f"of a new stage's time ({_SPEED:g})"
    )
    parser.add_argument(
        "--patience",
        type=_at_least(float, 1),
        default=_PATIENCE_S,
        help=f"seconds without any change after which a job or a queue is given up ({_PATIENCE_S:g})",
    )
    parser.add_argument("--scenarios", type=Path, metavar="FILE", help="scenarios (loadtests/scenarios.toml)")
    parser.add_argument("--locustfile", type=Path, metavar="FILE", help="users (loadtests/locustfile.py)")
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--credentials", type=Path, metavar="FILE", help="users to sign in as: a JSON list")
    who.add_argument(
        "--temporary-users", type=_at_least(int, 1), default=0, metavar="N", help="make users for this run only"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (build/loadtest/SCENARIO)")
    return parser.parse_args()


def _plan(options: argparse.Namespace) -> Plan:
    file = options.scenarios or LOADTESTS / "scenarios.toml"
    try:
        scenarios = load_scenarios(file)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if options.scenario not in scenarios:
        raise UsageError(f"there is no scenario {options.scenario} in {file}; choose of {', '.join(scenarios)}")
    stage, out = _stage(options), options.out or _OUT / options.scenario
    if stage is None and options.temporary_users:
        raise UsageError("a new stage has users of its own: --temporary-users goes with --stage or --host")
    _clear(out)
    return Plan(
        scenario=scenarios[options.scenario],
        scenarios=file,
        locustfile=options.locustfile or LOADTESTS / "locustfile.py",
        out=out,
        stage=stage,
        jobs=options.jobs,
        rate=options.rate,
        workers=options.workers,
        speed=options.speed,
        patience_s=options.patience,
        credentials=options.credentials,
        temporary_users=options.temporary_users,
    )


def _clear(out: Path) -> None:
    """Remove what an earlier run has left, lest it be taken for this one's, and nothing else."""
    out.mkdir(parents=True, exist_ok=True)
    for pattern in _WRITTEN:
        for left in out.glob(pattern):
            left.unlink()


def _stage(options: argparse.Namespace) -> StageDescription | None:
    if options.stage is not None:
        return find_stage(options.stage)
    if options.host is None:
        return None
    try:
        return description.at(options.host)
    except FileNotFoundError as error:
        raise UsageError(
            f"{error}; give the apiUrl that one has there, or `uvx nox -s local` brings a local one up"
        ) from error


def _print(plan: Plan, verdict: Verdict, console: Console) -> None:
    console.print(verdict_table(verdict))
    for check in verdict.failed:
        console.print(
            Text.assemble((f"{check.group}: {check.name}: {check.measured}", "bold red")), soft_wrap=True
        )
        for said in (check.detail, f"jobs: {', '.join(check.jobs)}" if check.jobs else ""):
            if said:
                console.print(Text(f"  {said}"), soft_wrap=True)
    if any(check.group == "harness" for check in verdict.failed):
        console.print(Text(last_lines(plan.out)), soft_wrap=True)
    for note in verdict.notes:
        console.print(Text(note), soft_wrap=True)
    said = (
        "held" if verdict.held else f"did not hold: {len(verdict.failed)} of {len(verdict.checks)} checks failed"
    )
    console.print(Text(f"{plan.scenario.name} {said}; see {plan.out / REPORT} and {VERDICT}"), soft_wrap=True)


def _at_least(kind: Callable[[str], Any], least: float) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        number = kind(text)
        if number < least:
            raise argparse.ArgumentTypeError(f"at least {least:g}")
        return number

    return parse


if __name__ == "__main__":
    main()
