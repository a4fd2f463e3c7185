"""Inside a Lambda worker: fails its AWS calls and kills it, at the points that the seed has chosen.

The engine loads this file by path into each Python worker, before the handler: standard library and botocore
only, and no part of the functions' bundle. AWS calls are caught below botocore's retries, at the wire.

Every choice comes from the seed, the function's name, the ordinal of its worker process and the ordinal of the
call or invocation; never from the clock. How calls fall to workers is the scheduler's.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Jobs with these as their "station" fail or kill their worker each time.
POISON, CRASH = "Poison", "Crash"
CALL_FAULTS = ("throttle", "server-error", "timeout", "lost-response")
KILLS = ("kill-before-send", "kill-before-answer", "kill-in-work", "kill-by-timer")
# Made by poison jobs, not by the seed.
POISON_FAULTS = ("poison-error", "poison-kill")
# While this file is there, faults happen; poison jobs fail anyway.
MARKER = "on"
RECORD = "faults.jsonl"

# As many as botocore tries here, so that an outage reaches the handler.
_OUTAGE_CALLS = 4
# An invocation's kill comes at a call or a job's run up to this, or after so many seconds, rather early than late.
_CALLS, _RUNS = 12, 3
_TIMER_S = 0.4


@dataclass(frozen=True, slots=True)
class Settings:
    """The seed, and how often things go wrong.

    Attributes
    ----------
    folder : str
        Where the marker, the record and the workers' counters lie.
    throttle, server_error, timeout, lost_response : float
        The share of AWS calls, each retry counted, that suffer this.
    outage : float
        The share of AWS calls with which an outage begins: it and the next three on the same lane, which is as
        many as botocore tries, are throttled or get a 500.
    kill : float
        The share of invocations that are meant to be killed; some end before their moment comes.
    stall_s : float
        How long a call hangs before it times out.

    """

    seed: int
    folder: str
    throttle: float = 0.008
    server_error: float = 0.008
    timeout: float = 0.002
    lost_response: float = 0.006
    outage: float = 0.0015
    kill: float = 0.03
    stall_s: float = 3.0


def call_fault(settings: Settings, function: str, worker: int, lane: str, call: int) -> str | None:
    """Return what a call suffers; a lane is the main thread's calls or those of all others."""
    for before in range(min(_OUTAGE_CALLS, call + 1)):
        draw = _draw(settings.seed, function, worker, lane, call - before)
        if draw.random() < settings.outage:
            return CALL_FAULTS[draw.randrange(2)]
    # The rest of this call's own draw: what it had left after the question about an outage.
    draw = _draw(settings.seed, function, worker, lane, call)
    draw.random()
    rates = (settings.throttle, settings.server_error, settings.timeout, settings.lost_response)
    return _pick(draw.random(), dict(zip(CALL_FAULTS, rates, strict=True)))


@dataclass(frozen=True, slots=True)
class Kill:
    """When an invocation's worker dies: at which call or run of a workload, or after how long."""

    kind: str
    ordinal: int
    seconds: float


def invocation_kill(settings: Settings, function: str, worker: int, invocation: int) -> Kill | None:
    """Return when an invocation's worker dies, or None if it lives."""
    draw = _draw(settings.seed, function, worker, "invocation", invocation)
    if draw.random() >= settings.kill:
        return None
    early = draw.random() ** 3
    kind = KILLS[draw.randrange(len(KILLS))]
    return Kill(kind, int(early * (_RUNS if kind == "kill-in-work" else _CALLS)), early * _TIMER_S)


def _draw(seed: int, *place: object) -> random.Random:
    return random.Random("|".join(map(str, (seed, *place))))  # noqa: S311 - chaos, not secrets


def _pick(chance: float, rates: Mapping[str, float]) -> str | None:
    for kind, upto in zip(rates, itertools.accumulate(rates.values()), strict=True):
        if chance < upto:
            return kind
    return None


class FaultyWorker:
    """One worker process: counts its calls and invocations and does to them what the seed says."""

    def __init__(self, settings: Settings, function: str) -> None:
        self._settings = settings
        self._function = function
        self._folder = Path(settings.folder)
        self._worker = _next_ordinal(self._folder / f"workers-{function}")
        self._lock = threading.Lock()
        self._calls = {"main": 0, "other": 0}
        self._invocations = 0
        self._kill: Kill | None = None
        self._kill_counts: dict[str, int] = {}

    def wrap_handler(self, handler: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """Return the handler with this worker's kills; the handler's modules are imported by now."""
        weather = sys.modules.get("sluice_core.weather")
        if weather is not None:
            weather.WeatherReport.run = self._wrap_run(weather.WeatherReport.run)

        def invoke(event: Any, context: Any) -> Any:
            timer = self._begin_invocation()
            try:
                return handler(event, context)
            finally:
                timer.cancel()

        return invoke

    def _begin_invocation(self) -> threading.Timer:
        number, self._invocations = self._invocations, self._invocations + 1
        self._kill = invocation_kill(self._settings, self._function, self._worker, number)
        self._kill_counts = dict.fromkeys(KILLS, 0)
        timer = threading.Timer(self._kill.seconds if self._kill else 0, self._die_if, ["kill-by-timer"])
        timer.daemon = True
        if self._kill is not None and self._kill.kind == "kill-by-timer":
            timer.start()
        return timer

    def _wrap_run(self, run: Callable[..., Any]) -> Callable[..., Any]:
        def run_or_not(workload: Any, job_id: str, parameters: Mapping[str, Any], *more: Any) -> Any:
            station = parameters.get("station")
            if station == CRASH:
                self._die("poison-kill", job_id)
            if station == POISON:
                self._record("poison-error", job_id)
                raise RuntimeError("poison")
            result = run(workload, job_id, parameters, *more)
            self._die_at("kill-in-work", job_id)
            return result

        return run_or_not

    def send(self, send: Callable[[Any, Any], Any], session: Any, request: Any) -> Any:
        """Send a request of botocore's, or let it fail."""
        fault, is_main = self._next_fault()
        what = f"{request.method} {_target(request) or urlsplit(request.url).path}"
        if is_main:
            self._die_at("kill-before-send", what)
        if fault is not None:
            self._record(fault, what)
        if fault == "timeout":
            time.sleep(self._settings.stall_s)
            raise _error("ReadTimeoutError", request)
        if fault in ("throttle", "server-error"):
            return refusal(request, fault)
        answer = send(session, request)
        if is_main:
            self._die_at("kill-before-answer", what)
        if fault == "lost-response":
            raise _error("ConnectionClosedError", request)
        return answer

    def _next_fault(self) -> tuple[str | None, bool]:
        is_main = threading.current_thread() is threading.main_thread()
        lane = "main" if is_main else "other"
        with self._lock:
            call, self._calls[lane] = self._calls[lane], self._calls[lane] + 1
        fault = call_fault(self._settings, self._function, self._worker, lane, call)
        return (fault if self._is_on() else None), is_main

    def _die_at(self, kind: str, what: str) -> None:
        """Die if this is the call or the run at which this invocation's worker is to."""
        count = self._kill_counts.get(kind, 0)
        self._kill_counts[kind] = count + 1
        if self._kill is not None and count == self._kill.ordinal:
            self._die_if(kind, what)

    def _die_if(self, kind: str, what: str = "") -> None:
        if self._kill is not None and self._kill.kind == kind and self._is_on():
            self._die(kind, what)

    def _die(self, kind: str, what: str) -> None:
        self._record(kind, what)
        os.kill(os.getpid(), signal.SIGKILL)

    def _is_on(self) -> bool:
        return (self._folder / MARKER).exists()

    def _record(self, kind: str, what: str) -> None:
        """Write a line at once and whole: the process may die next, and others write to the same file."""
        line = {
            "at": round(time.time(), 3),
            "kind": kind,
            "function": self._function,
            "worker": self._worker,
            "invocation": self._invocations - 1,
            "what": what,
        }
        descriptor = os.open(self._folder / RECORD, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, json.dumps(line).encode() + b"\n")
        finally:
            os.close(descriptor)


def install(settings_file: str, module: str) -> FaultyWorker:
    """Catch this process's AWS calls; the handler's module names its function."""
    from botocore.httpsession import URLLib3Session  # noqa: PLC0415 - the function's own, found by now

    settings = Settings(**json.loads(Path(settings_file).read_text()))
    worker = FaultyWorker(settings, module.rpartition(".")[2])
    send = URLLib3Session.send
    faulty = lambda session, request: worker.send(send, session, request)  # noqa: E731
    setattr(URLLib3Session, "send", faulty)  # noqa: B010 - which mypy would not have assigned
    return worker


def _next_ordinal(counter: Path) -> int:
    """Count the function's workers, of which several may start at once; the first is 0."""
    with counter.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        ordinal = len(file.read())
        file.write(".")
    return ordinal


def _error(name: str, request: Any) -> Exception:
    from botocore import exceptions  # noqa: PLC0415

    error: Exception = getattr(exceptions, name)(endpoint_url=request.url)
    return error


# What services say when they throttle, and when they fail (the errors common to each service's actions).
_CODES = {
    "DynamoDB": ("ProvisionedThroughputExceededException", "InternalServerError"),
    "AmazonSQS": ("RequestThrottled", "InternalError"),
    "AWSEvents": ("ThrottlingException", "InternalException"),
    "S3": ("SlowDown", "InternalError"),
    "query": ("Throttling", "InternalFailure"),
}


def refusal(request: Any, fault: str) -> Any:
    """Return the answer of a service that throttles or fails, in the form of the service that was called."""
    from botocore.awsrequest import AWSResponse  # noqa: PLC0415

    target = _target(request)
    service = next((name for name in _CODES if target.startswith(name)), None)
    if service is None:
        service = "query" if b"Action=" in _body(request) else "S3"
    throttled, failed = _CODES[service]
    code = throttled if fault == "throttle" else failed
    if target:
        status = 400 if fault == "throttle" else 500
        media, body = "application/x-amz-json-1.0", json.dumps({"__type": code, "message": "chaos"})
    else:
        status = 503 if fault == "throttle" else 500
        media, body = "text/xml", f"<Error><Code>{code}</Code><Message>chaos</Message></Error>"
    if service == "query":
        body = f"<ErrorResponse>{body}<RequestId>chaos</RequestId></ErrorResponse>"
    headers: Any = {"content-type": media}
    return AWSResponse(request.url, status, headers, _Raw(body.encode()))


def _target(request: Any) -> str:
    """Return the action that a service with a JSON protocol is asked for."""
    target = request.headers.get("X-Amz-Target") or ""
    return target.decode() if isinstance(target, bytes) else str(target)


def _body(request: Any) -> bytes:
    body = request.body or b""
    return body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else b""


class _Raw:
    """What botocore reads an answer's body from."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, **_: Any) -> list[bytes]:
        """Return it in one piece."""
        return [self._body]
