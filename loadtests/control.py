"""A run's beginning and end, in one process or several: who takes part, when it starts, and who has seen what.

Every process that makes load hands over what it has seen each second, and once more at its end; the master, or the
only process, puts it together and writes it. Locust's own messages between master and workers carry it.
"""

from __future__ import annotations

import logging
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
from collector import Collector
from gevent.event import AsyncResult, Event
from locust.exception import StopTest
from locust.runners import LocalRunner, MasterRunner, WorkerRunner
from pacing import Schedule
from process import Process, enter, process_of, report
from sluice_harness.loadtest.scenarios import Scenario, load_scenarios
from tokens import find_stage, users_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from locust.env import Environment
    from locust.rpc import Message

_logger = logging.getLogger(__name__)
_SCENARIOS = Path(__file__).with_name("scenarios.toml")
_READY, _GO, _SEEN, _CONCLUDE = "load-ready", "load-go", "load-seen", "load-conclude"
_EVERY_S = 1.0
# How long all have to be ready before the first is to send something.
_HEAD_START_S = 0.5
_ALL_READY_S = 120.0
_LAST_WORDS_S = 15.0
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Go:
    """A process's part: which of how many it is, and when the schedule begins, in epoch seconds."""

    index: int
    processes: int
    starts_at: float


class Control:
    """What one process does for the run as a whole."""

    def __init__(self, environment: Environment, runner: LocalRunner | MasterRunner | WorkerRunner) -> None:
        self._environment = environment
        self._runner = runner
        self._collects = not isinstance(runner, WorkerRunner)
        self._makes_load = not isinstance(runner, MasterRunner)
        self._collector = Collector(0)
        self._participants: list[str] = []
        self._ready: set[str] = set()
        self._finished: set[str] = set()
        self._go: AsyncResult[Go] = AsyncResult()
        self._is_active = False
        self._stopping = Event()
        self._began_s = 0.0
        self._beside: list[gevent.Greenlet[..., Any]] = []
        self._listen()

    def _listen(self) -> None:
        events, register = self._environment.events, self._runner.register_message
        if self._collects:
            register(_READY, self._on_ready)
            register(_SEEN, self._on_seen)
        if self._makes_load:
            register(_GO, self._on_go)
            register(_CONCLUDE, self._on_conclude)
        if isinstance(self._runner, MasterRunner):  # the others listen themselves
            events.user_error.add_listener(self._on_master_error)
        events.test_start.add_listener(self._begin)
        events.test_stopping.add_listener(self._conclude)
        events.test_stop.add_listener(self._end)
        # Before a worker that was stopped by itself tells the master that it leaves.
        events.quitting.add_listener(self._conclude)

    # --- what is to be done

    @property
    def _options(self) -> Any:
        """The command line's, and on a worker its master's."""
        return self._environment.parsed_options

    @property
    def scenario(self) -> Scenario | None:
        """The scenario that was asked for, if one was."""
        options = self._options
        if not options.scenario:
            return None
        scenarios = load_scenarios(Path(options.scenarios or _SCENARIOS))
        if options.scenario not in scenarios:
            raise ValueError(f"there is no scenario {options.scenario!r}: choose one of {', '.join(scenarios)}")
        return scenarios[options.scenario]

    def schedule(self, owners: int) -> Schedule:
        """Return the scenario's schedule, for so many owners."""
        scenario, options = self.scenario, self._options
        if scenario is None:
            raise ValueError("a crowd needs a scenario: --scenario NAME")
        return Schedule(scenario, options.jobs, options.rate, owners)

    @property
    def _asked(self) -> int:
        scenario, jobs = self.scenario, self._options.jobs
        if scenario is None:
            return 0
        return scenario.jobs if jobs is None else int(jobs)

    @property
    def _out(self) -> Path | None:
        out = self._options.out
        return Path(out) if out else None

    # --- for the shape

    def processes(self) -> list[str]:
        """Return the processes that make load, which are those that were there when the run began."""
        if not self._participants:
            self._participants = self._nodes()
        return self._participants

    def _nodes(self) -> list[str]:
        if isinstance(self._runner, MasterRunner):
            clients = self._runner.clients
            return [client.id for client in clients.ready + clients.spawning + clients.running]
        return ["local"]

    def is_over(self) -> bool:
        """Whether each process has done its part and handed it over, or is gone."""
        there = [node for node in self._participants if node in self._nodes()]
        return self._is_active and self._collector.is_done(there)

    # --- the beginning

    def _begin(self, **_: Any) -> None:
        scenario = self.scenario
        self._began_s = time.time()
        self._finished.clear()
        self._stopping.clear()
        self._go = AsyncResult()
        if self._collects:
            self._ready.clear()
            self._collector = Collector(self._asked)
            if self._out:
                self._out.mkdir(parents=True, exist_ok=True)
            self._beside.append(gevent.spawn(self._repeat, self._show_progress, _EVERY_S))
        if self._makes_load:
            self._enter(scenario)
            self._beside.append(gevent.spawn(self._repeat, self._hand_over, _EVERY_S))
            sender = process_of(self._environment).metrics
            self._beside.append(gevent.spawn(self._repeat, sender.flush, sender.interval_s))
        self._is_active = True

    def _enter(self, scenario: Scenario | None) -> None:
        options = self._options
        try:
            stage = find_stage(self._environment.host)
            process = Process(
                self._environment,
                stage,
                users_of(stage, options.credentials or None),
                owners=scenario.owners if scenario else None,
                patience_s=options.patience,
                has_noisy_owner=scenario is not None and scenario.noisy_share is not None,
            )
        except ValueError as error:
            self._environment.process_exit_code = 1
            raise StopTest(str(error)) from error
        enter(self._environment, process)

    def wait_for_go(self) -> Go:
        """Say that this process is ready, wait until all are, and return its part.

        Raises
        ------
        RuntimeError
            Another process took part, and never said that it was ready.

        """
        self._runner.send_message(_READY)
        with gevent.Timeout(_ALL_READY_S, False):
            go: Go = self._go.get()
            return go
        raise RuntimeError(f"not every process was ready to begin within {_ALL_READY_S:g} s; is one gone?")

    def _on_ready(self, msg: Message, **_: Any) -> None:
        self._ready.add(msg.node_id)
        if not self._ready >= set(self._participants):
            return
        starts_at = time.time() + _HEAD_START_S
        for index, node in enumerate(self._participants):
            part = {"index": index, "processes": len(self._participants), "starts_at": starts_at}
            self._runner.send_message(_GO, part, client_id=node)

    def _on_go(self, msg: Message, **_: Any) -> None:
        self._go.set(Go(**msg.data))

    # --- meanwhile

    def _repeat(self, action: Callable[[], object], every_s: float) -> None:
        while not self._stopping.wait(every_s):
            self._guarded(action)

    def _guarded(self, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:
            report(self._environment, error)

    def _show_progress(self) -> None:
        if self._out:
            self._collector.write_progress(self._out)

    def _hand_over(self, *, is_last: bool = False) -> None:
        process = process_of(self._environment)
        seen = process.recorder.take()
        seen["standing"]["users"] = process.at_work
        self._runner.send_message(_SEEN, {**seen, "isLast": is_last})

    def _on_seen(self, msg: Message, **_: Any) -> None:
        self._collector.merge(msg.node_id, msg.data)
        if msg.data["isLast"]:
            self._finished.add(msg.node_id)

    # --- the end

    def _on_conclude(self, **_: Any) -> None:
        self._conclude()

    def _conclude(self, **_: Any) -> None:
        """Stop what is under way, and have everything handed over that was seen."""
        if not self._is_active:
            return
        self._is_active = False
        self._stopping.set()
        # Not killed at once: metrics that were taken, but not answered for, would be sent again.
        gevent.joinall(self._beside, timeout=_LAST_WORDS_S)
        gevent.killall(self._beside, block=True, timeout=_LAST_WORDS_S)
        self._beside.clear()
        if self._makes_load:
            process = process_of(self._environment)
            process.close()
            if not process.metrics.flush() and self.scenario:
                report(self._environment, RuntimeError("not all of the clients' metrics could be sent"))
            self._hand_over(is_last=True)
        else:
            self._ask_for_last_words()

    def _ask_for_last_words(self) -> None:
        for node in self._nodes():
            self._runner.send_message(_CONCLUDE, client_id=node)
        deadline = time.monotonic() + _LAST_WORDS_S
        while set(self._nodes()) - self._finished and time.monotonic() < deadline:
            gevent.sleep(_POLL_S)
        if silent := set(self._participants) - self._finished:
            _logger.error("not all was handed over: %s said no last word", ", ".join(sorted(silent)))

    def _end(self, **_: Any) -> None:
        if not self._collects:
            return
        self._guarded(self._write)
        if self._collector.submitted < self._asked:
            _logger.error("%d submissions were accepted, and not %d", self._collector.submitted, self._asked)
            self._environment.process_exit_code = 1
        self._participants = []

    def _write(self) -> None:
        if self._out is None:
            return
        participants = self._participants or self._nodes()
        run = {
            "scenario": self._options.scenario,
            "startedAt": self._began_s,
            "endedAt": time.time(),
            "workers": len(participants),
            "isComplete": self._collector.is_done(participants) and self._finished >= set(participants),
            "exceptions": _exceptions(self._runner.exceptions.values()),
        }
        self._collector.write_all(self._out, run)

    def _on_master_error(self, exception: Exception, tb: Any, **_: Any) -> None:
        self._runner.log_exception("master", str(exception), "".join(traceback.format_tb(tb)))


def _exceptions(rows: Iterable[Any]) -> list[dict[str, Any]]:
    return [{"message": row["msg"], "traceback": row["traceback"], "count": row["count"]} for row in rows]


_controls: dict[int, Control] = {}


def take_control(environment: Environment, runner: Any) -> Control:
    """Set up what this process does for runs."""
    control = _controls[id(environment)] = Control(environment, runner)
    return control


def control_of(environment: Environment) -> Control:
    """Return what this process does for runs."""
    return _controls[id(environment)]
