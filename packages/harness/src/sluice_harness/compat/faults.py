"""Faults of the local stage on demand: refused, slow and unanswered calls of AWS's APIs, and slow functions.

A drill shows that an alarm fires by breaking what the alarm watches: a throttled table, a failing service, slow
work. AWS has the Fault Injection Service for that ("AWS FIS actions reference"); the engine has nothing. Here a
list of rules is put to ``/_sluice/faults`` on the engine's own port, which is served only where the engine was
started with ``--faults-api``. A rule applies to calls as they come in from clients, after they were authorized, so
that an SDK retries them as it does in AWS and the service's metrics count them.

The share of calls that suffer is exact and repeatable: with a share of 0.25 it is every fourth.
"""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    Application = Callable[[Any, Any, Any], Awaitable[None]]
    Handler = Callable[..., Awaitable[tuple[int, dict[str, Any], Any]]]

PATH = "/_sluice/faults"
LONGEST_DELAY_SECONDS = 60.0
_SERVER_ERROR = 500
_DEADLINE = 'float(os.environ.get("_LAMBDA_TIMEOUT", "3"))'
_OWN_DEADLINE = 'float(_ms_ctx["timeout_ms"]) / 1000'


class InvalidRuleError(ValueError):
    """A rule that cannot be read; the message says why."""


@dataclass
class Rule:
    """What happens to some calls of one service, or to the invocations of one function.

    Attributes
    ----------
    error : dict, optional
        What the caller is told, a status and a code.
    is_done : bool
        Whether the call is carried out nevertheless: its answer is lost.

    """

    source: dict[str, Any]
    service: str | None = None
    actions: frozenset[str] | None = None
    error: dict[str, Any] | None = None
    is_done: bool = False
    function: str | None = None
    delay_s: float = 0.0
    share: float = 1.0
    _calls: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def strikes(self) -> bool:
        """Count a call that the rule is about, and say whether it is one of those that suffer."""
        with self._lock:
            before = math.floor(self._calls * self.share)
            self._calls += 1
            return math.floor(self._calls * self.share) > before


_rules: list[Rule] = []


def read_rules(sources: Any) -> list[Rule]:
    """Read the rules of a drill.

    Raises
    ------
    InvalidRuleError
        They are not a list of rules.

    """
    if not isinstance(sources, list):
        raise InvalidRuleError("the rules must be a list")
    return [_read(source) for source in sources]


def _read(source: Any) -> Rule:
    known = {"service", "actions", "error", "done", "function", "delay_s", "share"}
    if not isinstance(source, dict) or source.keys() - known:
        raise InvalidRuleError(f"a rule has {', '.join(sorted(known))}, not {source!r}")
    if bool(source.get("service")) == bool(source.get("function")):
        raise InvalidRuleError(f"a rule is for a service or for a function: {source!r}")
    delay, share, error = source.get("delay_s", 0.0), source.get("share", 1.0), source.get("error")
    if not _within(delay, LONGEST_DELAY_SECONDS) or not _within(share, 1):
        raise InvalidRuleError(f"a delay is up to {LONGEST_DELAY_SECONDS:.0f} s and a share up to 1: {source!r}")
    if error is not None and not (isinstance(error, dict) and error.keys() == {"status", "code"}):
        raise InvalidRuleError(f"an error has a status and a code: {source!r}")
    actions = source.get("actions")
    return Rule(
        source,
        service=source.get("service"),
        actions=None if actions is None else frozenset(actions),
        error=error,
        is_done=source.get("done") is True,
        function=source.get("function"),
        delay_s=delay,
        share=share,
    )


def _within(number: Any, most: float) -> bool:
    return isinstance(number, int | float) and 0 <= number <= most


def hold_up(function: str, timeout: float) -> float:
    """Make an invocation of a function last longer, within its timeout, and return by how many seconds it did."""
    due = [rule.delay_s for rule in list(_rules) if rule.function == function and rule.strikes()]
    delay = min(sum(due), timeout)
    if delay:
        time.sleep(delay)
    return delay


def apply() -> None:
    """Let the rules apply to the calls of every service, and let a held-up function know what time it has left."""
    from ministack import app  # noqa: PLC0415 - it reads the engine's environment as it loads
    from ministack.core import lambda_runtime  # noqa: PLC0415

    from sluice_harness.compat.patching import replace_once  # noqa: PLC0415

    replace_once(lambda_runtime, "_PYTHON_WORKER_SCRIPT", _DEADLINE, _OWN_DEADLINE)

    for service in list(app.SERVICE_HANDLERS):
        app.SERVICE_HANDLERS[service] = _suffering(service, app.SERVICE_HANDLERS[service])


def _suffering(service: str, original: Handler) -> Handler:
    async def handle(method: str, path: str, headers: Mapping[str, str], body: bytes, query: Any) -> Any:
        for rule in [one for one in list(_rules) if one.service == service]:
            if _is_about(rule, service, method, path, headers, body, query) and rule.strikes():
                await asyncio.sleep(rule.delay_s)
                if rule.error is not None:
                    if rule.is_done:
                        await original(method, path, headers, body, query)
                    return _refusal(rule.error, headers)
        return await original(method, path, headers, body, query)

    return handle


def _is_about(rule: Rule, service: str, *request: Any) -> bool:
    method, path, headers, body, query = request
    if not headers.get("authorization", "").startswith("AWS4-") and "X-Amz-Signature" not in query:
        return False
    return rule.actions is None or _action(service, method, path, headers, body, query) in rule.actions


def _action(service: str, *request: Any) -> str | None:
    """Return the action's name in the API; S3 and Lambda have none in the request, there it is that of IAM."""
    method, path, headers, body, query = request
    if target := headers.get("x-amz-target"):
        return str(target).rpartition(".")[2]
    if "x-www-form-urlencoded" in headers.get("content-type", ""):
        return next(iter(parse_qs(body.decode("utf-8", errors="replace")).get("Action", ())), None)
    from ministack.core import iam_actions  # noqa: PLC0415 - see `apply`

    found = iam_actions.extract_iam_action(service, method, path, headers, body, query)
    return str(found).partition(":")[2] if found else None


def _refusal(error: dict[str, Any], headers: Mapping[str, str]) -> tuple[int, dict[str, str], bytes]:
    status, code, text = int(error["status"]), str(error["code"]), "injected by a drill"
    kind = headers.get("content-type", "")
    if "json" in kind:
        body = json.dumps({"__type": code, "message": text}).encode()
        return status, {"Content-Type": kind, "x-amzn-errortype": code}, body
    fault = "Receiver" if status >= _SERVER_ERROR else "Sender"
    inner = f"<Code>{code}</Code><Message>{text}</Message>"
    if "x-www-form-urlencoded" in kind:
        inner = f"<Error><Type>{fault}</Type>{inner}</Error>"
        return status, {"Content-Type": "text/xml"}, f"<ErrorResponse>{inner}</ErrorResponse>".encode()
    return status, {"Content-Type": "application/xml"}, f"<Error>{inner}</Error>".encode()


def serve(application: Application) -> Application:
    """Add ``/_sluice/faults`` to an ASGI application."""

    async def served(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == PATH:
            await _answer(scope["method"], await _body(receive), send)
        else:
            await application(scope, receive, send)

    return served


async def _body(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def _answer(method: str, body: bytes, send: Any) -> None:
    status, answer = HTTPStatus.OK, None
    if method == "PUT":
        try:
            _rules[:] = read_rules(json.loads(body or b"[]"))
        except ValueError as error:
            status, answer = HTTPStatus.BAD_REQUEST, {"message": str(error)}
    elif method != "GET":
        status, answer = HTTPStatus.METHOD_NOT_ALLOWED, {"message": "GET or PUT"}
    content = json.dumps([rule.source for rule in _rules] if answer is None else answer).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": content})
