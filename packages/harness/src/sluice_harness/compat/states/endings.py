"""An execution ends once, by its last state, its deadline or StopExecution, and does nothing more after that.

MiniStack goes on with an execution that was stopped: what its running task says afterwards turns ABORTED into
FAILED, a retry or a wait sleeps to its end and then goes on to the next task, and `TimeoutSeconds` of a state
machine means nothing. A failed execution has an output.

A stopped execution is ABORTED and one past its state machine's `TimeoutSeconds` is TIMED_OUT (Amazon States
Language, "States.Timeout"; Step Functions API Reference, "StopExecution"); the output "is set only if the
execution succeeds" (ibid., "DescribeExecution"). What a task's function still does is not undone, its result is
ignored.

Closed by records that end once, by a deadline for each, and by sleeping no longer than its execution lives.
"""

from __future__ import annotations

import contextlib
import json
import threading
from contextvars import ContextVar
from typing import Any

from ministack.core.responses import AccountRegionScopedDict
from ministack.services import stepfunctions

from sluice_harness.compat import timers
from sluice_harness.compat.patching import expect

RUNNING = "RUNNING"

_current: ContextVar[Execution | None] = ContextVar("sluice_execution", default=None)


class EndedError(BaseException):
    """The execution has ended: whoever is at work for it stops. No state's `Catch` is about that."""


class Execution(dict[str, Any]):
    """The engine's record of an execution; whoever would end it once more is told that it has ended."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.has_ended = threading.Event()
        self._lock = threading.Lock()

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "status":
            with self._lock:
                if self.has_ended.is_set():
                    raise EndedError
                self.has_ended.set()
        super().__setitem__(name, value)

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return dict(self)


class _Executions(AccountRegionScopedDict):  # type: ignore[misc]  # the engine has no types
    def __setitem__(self, arn: str, values: dict[str, Any]) -> None:
        super().__setitem__(arn, Execution(values))


def current() -> Execution | None:
    """Return the execution that a task runs for in this context."""
    return _current.get()


def apply() -> None:
    """Keep records that end once, and look after deadlines."""
    run = expect(stepfunctions, "_run_execution", "exec_arn")
    expect(stepfunctions, "_scaled_sleep", "seconds")
    expect(stepfunctions, "_SFN_WAIT_SCALE")
    fail = expect(stepfunctions, "_fail_execution", "execution", "error", "cause")
    add = expect(stepfunctions, "_add_event", "execution", "event_type", "details")
    stop = expect(stepfunctions, "_stop_execution", "data")
    expect(stepfunctions, "_emit_execution_status_event", "execution")
    if type(expect(stepfunctions, "_executions")) is not AccountRegionScopedDict:
        raise RuntimeError("the engine keeps its executions in another way: read its source and adapt this module")

    def run_to_its_end(exec_arn: str) -> None:
        execution = stepfunctions._executions.get(exec_arn)
        if execution is None:  # its state machine was deleted
            return
        _current.set(execution)
        _limit(execution)
        with contextlib.suppress(EndedError):
            run(exec_arn)

    def fail_without_output(execution: Execution, error: str, cause: str) -> None:
        fail(execution, error, cause)
        execution["output"] = None

    def add_while_running(execution: Execution, event_type: str, details: Any = None) -> Any:
        if execution.has_ended.is_set() and not event_type.startswith("Execution"):
            raise EndedError
        return add(execution, event_type, details)

    def stop_or_see_it_end(data: dict[str, Any]) -> Any:
        try:
            return stop(data)
        except EndedError:  # between the engine's look and its write
            return stop(data)

    stepfunctions._executions = _Executions()
    stepfunctions._run_execution = run_to_its_end
    stepfunctions._scaled_sleep = _sleep
    stepfunctions._fail_execution = fail_without_output
    stepfunctions._add_event = add_while_running
    stepfunctions._stop_execution = stop_or_see_it_end


def _limit(execution: Execution) -> None:
    machine = stepfunctions._state_machines.get(execution["stateMachineArn"], {})
    try:
        definition = json.loads(machine.get("definition", "{}"))
    except ValueError:
        return  # the engine fails an execution of what it cannot read
    if "TimeoutSeconds" in definition:
        timers.after(float(definition["TimeoutSeconds"]), lambda: _time_out(execution))


def _time_out(execution: Execution) -> None:
    with contextlib.suppress(EndedError):
        execution["status"] = "TIMED_OUT"
        execution["stopDate"] = stepfunctions.now_iso()
        stepfunctions._add_event(execution, "ExecutionTimedOut", {"executionTimedOutEventDetails": {}})
        stepfunctions._emit_execution_status_event(execution)


def _sleep(seconds: float) -> None:
    execution = _current.get()
    scaled = seconds * stepfunctions._SFN_WAIT_SCALE
    if execution is not None and scaled > 0 and execution.has_ended.wait(scaled):
        raise EndedError
