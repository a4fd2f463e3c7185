"""What happens to the functions' calls to AWS on their way: a record of them, and faults on demand.

A fault strikes inside the SDK, where the network's own would: below the code under test, and above the engine.
"""

from __future__ import annotations

import enum
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ClientError, ReadTimeoutError
from sluice_core.changes import CHANGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_BATCH = "BatchExecuteStatement"
_HANDLERS = {
    "before-parameter-build": "_note",
    "before-call": "_refuse",
    "after-call": "_lose",
    "needs-retry": "_repeat",
}


class Death(BaseException):
    """The end of a function's process in the middle of a call: nothing handles this."""


class Fault(enum.Enum):
    """What becomes of a call. The first four are transient: they may pass."""

    THROTTLED = enum.auto()
    SERVER_ERROR = enum.auto()
    NO_ANSWER = enum.auto()  # nor was it acted upon
    LOST_ANSWER = enum.auto()  # though it was acted upon
    DENIED = enum.auto()
    REPEATED = enum.auto()  # the first answer was lost, and the SDK has sent it again


TRANSIENT = [Fault.THROTTLED, Fault.SERVER_ERROR, Fault.NO_ANSWER, Fault.LOST_ANSWER]
_ERRORS = {
    Fault.THROTTLED: (400, "ThrottlingException"),
    Fault.SERVER_ERROR: (500, "InternalServerError"),
    Fault.DENIED: (403, "AccessDeniedException"),
}


@dataclass(frozen=True)
class Call:
    """One call as the code under test made it."""

    operation: str
    parameters: Mapping[str, Any]

    @property
    def statements(self) -> list[str]:
        """The PartiQL statements of a batch."""
        return [one["Statement"] for one in self.parameters.get("Statements", [])]

    def is_change(self, change: str) -> bool:
        """Whether this is the ledger's batch of such a change."""
        return bool(self.statements) and _set_clause(change) in self.statements[0]


@dataclass
class _Order:
    fault: Fault | Mapping[str, Any] | type[Death]
    operation: str
    strikes: Callable[[Call], bool]
    times: int


@dataclass
class Wire:
    """All calls of the clients that functions make, in order, and the faults that are to strike them.

    Attributes
    ----------
    messages : list
        All that functions have received from queues themselves.
    stand_ins : dict
        What operations are answered that the engine is not to see, by name.

    """

    calls: list[Call] = field(default_factory=list)
    messages: list[Mapping[str, Any]] = field(default_factory=list)
    stand_ins: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _orders: list[_Order] = field(default_factory=list)

    def strike(self, fault: Fault, operation: str, *, times: int = 1000) -> None:
        """Let a fault strike the next calls of an operation."""
        self._orders.append(_Order(fault, operation, lambda _: True, times))

    def strike_change(self, fault: Fault, change: str, *, times: int = 1000) -> None:
        """Let a fault strike the ledger's next batches of a change."""
        self._orders.append(_Order(fault, _BATCH, lambda call: call.is_change(change), times))

    def die_in_call(self, number: int) -> None:
        """Let the process die before the call of this number from now on, whichever it is; the first is 0."""
        that = len(self.calls) + number
        self._orders.insert(0, _Order(Death, "", lambda _: len(self.calls) == that + 1, 1))

    def relent(self) -> None:
        """Let no fault strike any more."""
        self._orders.clear()

    def answer(self, operation: str, answer: Mapping[str, Any], *, times: int = 1) -> None:
        """Answer the next calls of an operation so, in the service's stead."""
        self._orders.append(_Order(answer, operation, lambda _: True, times))

    def made(self, operation: str) -> list[Call]:
        """Return the calls of one operation."""
        return [call for call in list(self.calls) if call.operation == operation]

    def changes(self, change: str) -> list[Call]:
        """Return the ledger's batches of one change."""
        return [call for call in self.made(_BATCH) if call.is_change(change)]

    @contextmanager
    def passing(self, operation: str, **parameters: Any) -> Iterator[None]:
        """Have what stands in for a service's client pass by here: it may die, or its answer be lost."""
        context: dict[str, Any] = {}
        call = Call(operation, parameters)
        self._strike(call, context)
        refused = self._refuse(context)
        if refused is not None:
            raise ClientError(refused[1], operation)
        yield
        self._lose(context)

    def tap(self, client: Any) -> Any:
        """Listen to a client."""
        for event, name in _HANDLERS.items():
            client.meta.events.register_first(event, getattr(self, name))
        return client

    def _note(self, params: Mapping[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        self._strike(Call(model.name, params), context)

    def _strike(self, call: Call, context: dict[str, Any]) -> None:
        self.calls.append(call)
        context["fault"] = self.stand_ins.get(call.operation)
        for order in self._orders:
            if order.operation in {call.operation, ""} and order.times and order.strikes(call):
                order.times -= 1
                context["fault"] = order.fault
                return

    def _refuse(self, context: Mapping[str, Any], **_: Any) -> Any:
        fault = context.get("fault")
        if fault is Death:
            raise Death
        if fault is Fault.NO_ANSWER:
            raise ReadTimeoutError(endpoint_url="http://nowhere")
        if isinstance(fault, Fault):
            if fault not in _ERRORS:
                return None
            status, code = _ERRORS[fault]
            return _response(status), {
                "Error": {"Code": code, "Message": "made by a test"},
                "ResponseMetadata": {"HTTPStatusCode": status},
            }
        return None if fault is None else (_response(200), dict(fault))

    def _lose(self, context: Mapping[str, Any], parsed: Mapping[str, Any] | None = None, **_: Any) -> None:
        self.messages += (parsed or {}).get("Messages", [])
        if context.get("fault") is Fault.LOST_ANSWER:
            raise ReadTimeoutError(endpoint_url="http://nowhere")

    def _repeat(self, request_dict: Mapping[str, Any], attempts: int, **_: Any) -> int | None:
        return 0 if attempts == 1 and request_dict["context"].get("fault") is Fault.REPEATED else None


def _set_clause(change: str) -> str:
    """Return what tells a change's statements from others'."""
    if change == "record":
        return "INSERT INTO"
    text, where, _ = CHANGES[change].statement("")[0].partition(' WHERE "jobKey"')
    return text.removeprefix('UPDATE "" ') + where


def _response(status: int) -> AWSResponse:
    return AWSResponse("http://nowhere", status, HTTPHeaders(), None)
