"""Load on a stage: ``locust -f loadtests/locustfile.py --host <apiUrl>``, in the web UI, headless or distributed.

Users sign in as those that the running stage's description (``build/stages/*.json``) lists for that host, or as
those of ``--credentials FILE``. Without a scenario, users and their number are Locust's own (``-u -r -t``); with
``--scenario NAME`` of ``scenarios.toml``, the schedule is the scenario's, and the run ends by itself once every
job that is followed has ended.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any, cast

import crowd
from control import take_control
from followers import Poison, Submitter
from hostile import Hostile
from locust import events
from locust.runners import LocalRunner, WorkerRunner
from tokens import find_stage
from users import Forgetter, Lister, Poller

if TYPE_CHECKING:
    from locust.argument_parser import LocustArgumentParser
    from locust.env import Environment

__all__ = ["Forgetter", "Hostile", "Lister", "Poison", "Poller", "Submitter"]


def add_options(parser: LocustArgumentParser, **_: Any) -> None:
    """Add what only this locustfile knows; workers are told by their master."""
    group = parser.add_argument_group("Sluice", "Scenarios and what is written of them")
    group.add_argument("--scenario", default="", help="what to run, a table of the file of scenarios")
    group.add_argument("--scenarios", metavar="FILE", default="", help="the file (default: scenarios.toml beside)")
    group.add_argument("--jobs", type=int, help="submissions to be accepted (default: the scenario's)")
    group.add_argument("--rate", type=float, help="submissions a second at the base level; 0: as fast as it goes")
    group.add_argument("--out", metavar="DIR", default="", help="where to write jobs, requests, progress and run")
    group.add_argument("--credentials", metavar="FILE", default="", help="users to sign in as: a JSON list")
    group.add_argument(
        "--patience", type=float, default=120.0, help="seconds to wait for a job while no job ends (default 120)"
    )


def set_up(environment: Environment, runner: Any, **_: Any) -> None:
    """Take control of runs, and put the crowd in the place of single users where there is a scenario."""
    control, options = take_control(environment, runner), cast("Any", environment.parsed_options)
    if isinstance(runner, WorkerRunner):
        environment.user_classes.append(crowd.Crowd)  # whether there is a scenario, its master will say
        return
    try:
        scenario = control.scenario
        if isinstance(runner, LocalRunner) and options.headless:
            find_stage(environment.host)  # in the web UI, the host is yet to be given
    except ValueError as error:
        raise SystemExit(str(error)) from None
    if scenario is None:
        return
    # Locust listens to SIGTERM only once a shape has come to its end: until then it is as good as Ctrl-C.
    # And Ctrl-C is to end a run even if whoever started it, such as a shell in the background, ignores it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    environment.user_classes[:] = [crowd.Crowd]
    environment.shape_class = crowd.ScenarioShape(control)
    environment.shape_class.runner = runner


events.init_command_line_parser.add_listener(add_options)
events.init.add_listener(set_up)
