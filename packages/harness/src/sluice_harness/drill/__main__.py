"""``uvx nox -s drill``: break a local stage once for every alarm, and see each fire, tell somebody, and stop.

With ``--stage longwork`` the stage has every executor, and the alarms are those that only such a stage has.

Time runs faster on the stage under drill (``--speed``), so that a quarter of an hour of age or six hours of a
burning budget take seconds. Beside the drills there is light, healthy load, for which no alarm may fire. An alarm
that no drill is for fails the session, as does one that stays silent, tells nobody, or does not return to OK.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.status import Status
from rich.table import Table

from sluice_harness.cdk_cli import CdkError
from sluice_harness.description import ROOT
from sluice_harness.drill.drills import DRILLS
from sluice_harness.drill.executor_drills import EXECUTOR_DRILLS, NOT_RAISED
from sluice_harness.drill.load import RATES, RATES_OF_EXECUTORS, Load
from sluice_harness.drill.site import Site
from sluice_harness.drill.subscriber import Subscriber
from sluice_harness.drill.watch import DrillError, Watch, is_too_long
from sluice_harness.local_stage import LocalStage, StageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sluice_harness.drill.drills import Drill

_MINUTES, _HEALTHY_S = 15.0, 30.0


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is drilled on a stage.

    Attributes
    ----------
    speed : float
        Stage seconds in a second: work that takes real time must fit into a stage's minutes.
    patience_s : float
        How long an alarm may take, in real seconds.
    drilled_elsewhere : frozenset of str
        Its alarms that need no drill here.

    """

    drills: tuple[Drill, ...]
    rates: Mapping[str, float]
    speed: float
    patience_s: float
    drilled_elsewhere: frozenset[str] = frozenset()


_PLANS = {
    "local": _Plan(DRILLS, RATES, 60.0, 150.0),
    "longwork": _Plan(
        EXECUTOR_DRILLS,
        RATES_OF_EXECUTORS,
        30.0,
        300.0,
        frozenset({*NOT_RAISED, *(alarm for drill in DRILLS for alarm in drill.alarms)}),
    ),
}


def main() -> None:
    """Run the drills; exit non-zero, with the alarms' names, if one is not as it should be."""
    options = _options()
    console = Console(highlight=False)
    try:
        faults = _run(options, console)
    except KeyboardInterrupt:
        raise SystemExit("interrupted: the stage has been taken down") from None
    except (CdkError, StageError) as error:
        raise SystemExit(f"error: {error}") from None
    for fault in faults:
        console.print(f"[red]{fault}[/]", soft_wrap=True)
    raise SystemExit(1 if faults else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="nox -s drill --", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stage", choices=tuple(_PLANS), default="local", help="which one to break (local)")
    names = [drill.name for plan in _PLANS.values() for drill in plan.drills]
    parser.add_argument(
        "--only", action="append", choices=names, metavar="NAME", help=f"one drill, or some: {', '.join(names)}"
    )
    speeds = ", ".join(f"{plan.speed:g} of {stage}" for stage, plan in _PLANS.items())
    parser.add_argument("--speed", type=float, help=f"stage seconds in a second ({speeds})")
    parser.add_argument(
        "--minutes", type=float, default=_MINUTES, help=f"begin no drill after so many ({_MINUTES:g})"
    )
    parser.add_argument(
        "--healthy", type=float, default=_HEALTHY_S, help=f"seconds of healthy load before them ({_HEALTHY_S:g})"
    )
    parser.add_argument("--name", help="of the stage and of its folder below build/ (drill, drill-longwork)")
    options = parser.parse_args()
    options.name = options.name or ("drill" if options.stage == "local" else f"drill-{options.stage}")
    options.speed = options.speed or _PLANS[options.stage].speed
    return options


def _run(options: argparse.Namespace, console: Console) -> list[str]:
    began = time.monotonic()
    folder, planned = ROOT / "build" / options.name, _PLANS[options.stage]
    chosen = [drill for drill in planned.drills if not options.only or drill.name in options.only]
    settings = {"stage": options.stage, "speed": options.speed, "faults_api": True}
    with (
        console.status("bringing the stage up") as status,
        LocalStage(options.name, **settings, progress=_teller(status)) as stage,
        Subscriber() as subscriber,
    ):
        description = stage.deploy()
        watch = Watch(
            stage.client("cloudwatch"),
            stage.client("sns"),
            description.alarmTopic,
            f"sluice-{options.stage}-",
            subscriber,
            planned.patience_s,
            _teller(status),
        )
        with Load(description, planned.rates) as load:
            site = Site(stage, description, load)
            session = _Session(site, watch, console, deadline=began + 60 * options.minutes)
            session.stay_quiet(options.healthy)
            for drill in chosen:
                status.update(drill.what)
                session.run(drill)
            faults = [*session.faults, *_undrilled(watch, planned, complete=not options.only)]
        report = session.report(options.speed, time.monotonic() - began)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        status.update("writing the review")
        faults += _review(options.name)
    console.print(_table(session.results, watch))
    console.print(f"{len(session.results)} alarms in {report['seconds']:.0f} s; see {folder.relative_to(ROOT)}/")
    return faults


def _teller(status: Status) -> Callable[[str], None]:
    return status.update


class _Session:
    """The drills of one run, and what came of them."""

    def __init__(self, site: Site, watch: Watch, console: Console, deadline: float) -> None:
        self._site = site
        self._watch = watch
        self._console = console
        self._deadline = deadline
        self.results: dict[str, dict[str, Any]] = {}
        self.faults: list[str] = []
        site.prepare()

    def stay_quiet(self, seconds: float) -> None:
        """See that neither the first deployment nor healthy load fires anything."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            self._watch.tell(f"healthy load: nothing may fire ({ends - time.monotonic():.0f} s)")
            self._watch.look()
            time.sleep(1)
        if fired := self._watch.fired():
            self.faults.append(f"healthy load fired {', '.join(fired)}")
        said = f"fired {', '.join(fired)}" if fired else "quiet"
        self._console.print(f"healthy load for {seconds:.0f} s: {said}")

    def run(self, drill: Drill) -> None:
        """Break, see the alarms, mend, and see them end."""
        if time.monotonic() > self._deadline:
            self.faults.append(f"{drill.name}: no time was left for it")
            return
        watch, began = self._watch, time.monotonic()
        try:
            # The jobs that the drills before this one had given up lie there, and would keep alarms from calming.
            self._site.empty_dead_letters()
            watch.until_calm(*drill.alarms, *drill.quiet, *drill.untold)
            watch.begin()
            try:
                drill.breaks(self._site, watch)
                # What fires only as it is mended is looked for below.
                watch.until_alarm(*(alarm for alarm in drill.alarms if alarm not in drill.fires_when_mended))
                _check_silence(drill, watch)
            finally:
                drill.mends(self._site, watch)
            watch.until_alarm(*drill.alarms)
            watch.until_ok(*drill.alarms)
        except (DrillError, httpx.HTTPError, ClientError, BotoCoreError) as error:
            self.faults.append(f"{drill.name}: {error}")
        self._note(drill)
        failed = any(fault.startswith(drill.name) for fault in self.faults)
        outcome = "[red]failed[/]" if failed else "as it should be"
        took = f"{time.monotonic() - began:.0f} s"
        self._console.print(f"{drill.name}: {drill.what}: {outcome}, {took}", soft_wrap=True)

    def _note(self, drill: Drill) -> None:
        for alarm in drill.alarms:
            seen = self._watch.sighting(alarm)
            self.results[alarm] = {
                "drill": drill.name,
                "what": drill.what,
                "fired": seen.alarm_s is not None,
                "alarmAfterS": seen.alarm_s,
                "okAfterS": seen.ok_s,
                "okAwaited": not is_too_long(alarm),
                "notified": seen.told_alarm and seen.told_ok,
            }

    def report(self, speed: float, seconds: float) -> dict[str, Any]:
        """Return what the review shows of the drills; times are real seconds."""
        return {"speed": speed, "seconds": round(seconds, 1), "alarms": self.results, "faults": self.faults}


def _check_silence(drill: Drill, watch: Watch) -> None:
    if loud := [alarm for alarm in drill.quiet if alarm in watch.fired()]:
        raise DrillError(f"fired, and must not: {', '.join(loud)}")
    if told := [alarm for alarm in drill.untold if watch.sighting(alarm).told_alarm]:
        raise DrillError(f"told somebody, though suppressed: {', '.join(told)}")


def _undrilled(watch: Watch, plan: _Plan, *, complete: bool) -> list[str]:
    drilled = {alarm for drill in plan.drills for alarm in drill.alarms}
    there = (watch.notifying | watch.silent) - plan.drilled_elsewhere
    if not complete:
        return []
    without = [f"no drill is for {alarm}" for alarm in sorted(there - drilled)]
    return [*without, *(f"a drill is for {alarm}, which is not there" for alarm in sorted(drilled - there))]


def _review(name: str) -> list[str]:
    folder = ROOT / "build" / name
    command = [sys.executable, "-m", "sluice_harness.review", "--stage", name]
    command += ["--out", str(folder / "review.html"), "--drill", str(folder / "report.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [f"the review failed: {done.stderr.strip()}"] if done.returncode else []


def _table(results: dict[str, dict[str, Any]], watch: Watch) -> Table:
    table = Table(title="Alarms under drill (real seconds from the drill's beginning)")
    for column in ("alarm", "drill", "ALARM", "OK", "told"):
        table.add_column(column, justify="right" if column in {"ALARM", "OK"} else "left")
    for alarm, result in sorted(results.items()):
        told = "window only" if alarm in watch.silent else ("yes" if result["notified"] else "[red]no[/]")
        table.add_row(alarm, result["drill"], _seconds(result["alarmAfterS"]), _seconds(result["okAfterS"]), told)
    return table


def _seconds(value: float | None) -> str:
    return "[red]never[/]" if value is None else f"{value:.0f}"


if __name__ == "__main__":
    main()
