"""CloudWatch's three protocols, read and written by the service's own model.

MiniStack reads and writes each action once per protocol by hand; its query protocol leaves out most of an alarm
and all of a history item's data. CloudWatch speaks Smithy RPC v2 CBOR, AWS JSON 1.0 and the query protocol, and an
action is the same in each (botocore's service model of CloudWatch, "protocols"; Smithy's specifications of "AWS
JSON 1.0", "AWS query" and "RPC v2 CBOR"). Here a request becomes one dictionary of Python values, timestamps in
epoch seconds, and an answer is written back by the shape that the model gives it.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.utils import parse_timestamp
from botocore.validate import ParamValidator

from sluice_harness.compat.monitoring import cbor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from botocore.model import OperationModel, Shape

Parameters = dict[str, Any]
Response = tuple[int, dict[str, str], bytes]

model = ServiceModel(Loader().load_service_model("cloudwatch", "service-2"))
_NAMESPACE = model.metadata["xmlNamespace"]
_OPERATION = re.compile(r"/operation/(\w+)")
_TRUE = {"true", "True", True}
SERVER_FAULT = 500


class Protocol(StrEnum):
    """How a client and the engine talk."""

    CBOR = "smithy-rpc-v2-cbor"
    JSON = "json"
    QUERY = "query"


class ApiError(Exception):
    """An error that the client is to see: its code, its text and its HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


@dataclass(frozen=True)
class Request:
    """One call: how it came, which action it wants, and the undecoded parameters."""

    protocol: Protocol
    action: str
    raw: Any


def read(path: str, headers: Mapping[str, str], body: bytes, query: Mapping[str, list[str]]) -> Request:
    """Say what a request wants, as far as this can be told without its model."""
    kind = headers.get("content-type", "")
    if "cbor" in kind or headers.get("smithy-protocol") == "rpc-v2-cbor":
        found = _OPERATION.search(path)
        return Request(Protocol.CBOR, found[1] if found else "", body)
    if target := headers.get("x-amz-target"):
        return Request(Protocol.JSON, target.rpartition(".")[2], body)
    form = {name: values[0] for name, values in query.items()}
    form |= dict(parse_qsl(body.decode("utf-8", errors="replace"), keep_blank_values=True))
    return Request(Protocol.QUERY, form.get("Action", ""), form)


def parameters(request: Request) -> Parameters:
    """Return the parameters of a call, checked against the model.

    Raises
    ------
    ApiError
        They cannot be read, or one is missing or of another type.

    """
    shape = model.operation_model(request.action).input_shape
    if shape is None:
        return {}
    try:
        found: Parameters = (
            _from_form(shape, request.raw, "") or {}
            if request.protocol is Protocol.QUERY
            else coerce(shape, _decoded(request))
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise ApiError("MalformedInput", f"The request cannot be read: {error}") from error
    report = ParamValidator().validate(found, shape)
    if report.has_errors():
        raise ApiError("ValidationError", report.generate_report())
    return found


def _decoded(request: Request) -> Any:
    if not request.raw:
        return {}
    return cbor.loads(request.raw) if request.protocol is Protocol.CBOR else json.loads(request.raw)


def coerce(shape: Shape, value: Any) -> Any:
    """Return a value with the types that its shape has; CloudFormation writes numbers and booleans as text."""
    kind = shape.type_name
    if kind == "structure":
        members = shape.members  # type: ignore[attr-defined]
        return {
            name: coerce(members[name], one) for name, one in value.items() if name in members and one is not None
        }
    if kind == "list":
        return [coerce(shape.member, one) for one in value]  # type: ignore[attr-defined]
    if kind in _SCALARS:
        return _SCALARS[kind](value)
    return value


def _epoch(value: Any) -> float:
    moment = value if isinstance(value, datetime) else parse_timestamp(value)
    return float(moment.timestamp())


_SCALARS: dict[str, Any] = {
    "integer": int,
    "long": int,
    "double": float,
    "float": float,
    "boolean": lambda value: value in _TRUE,
    "timestamp": _epoch,
}


def _from_form(shape: Shape, form: Mapping[str, str], prefix: str) -> Any:
    """Read a value whose parameters begin with ``prefix``; None where there are none."""
    if shape.type_name == "structure":
        members = shape.members  # type: ignore[attr-defined]
        read = {
            name: _from_form(member, form, f"{prefix}.{name}" if prefix else name)
            for name, member in members.items()
        }
        found = {name: value for name, value in read.items() if value is not None}
        return found or (None if prefix else {})
    if shape.type_name == "list":
        return _list_from_form(shape.member, form, prefix)  # type: ignore[attr-defined]
    value = form.get(prefix)
    return None if value is None else coerce(shape, value)


def _list_from_form(member: Shape, form: Mapping[str, str], prefix: str) -> list[Any] | None:
    found: list[Any] = []
    while (value := _from_form(member, form, f"{prefix}.member.{len(found) + 1}")) is not None:
        found.append(value)
    return found or None


# Answers


def answer(request: Request, result: Parameters) -> Response:
    """Write an action's result as its client expects it."""
    operation = model.operation_model(request.action)
    shape = operation.output_shape
    if request.protocol is Protocol.CBOR:
        encoded = _plain(shape, result, lambda epoch: cbor.CBORTag(1, float(epoch)))
        return _cbor(200, encoded)
    if request.protocol is Protocol.JSON:
        return _json(200, _plain(shape, result, float))
    return 200, {"Content-Type": "text/xml"}, _xml(operation, result)


def failure(protocol: Protocol, error: ApiError) -> Response:
    """Write an error as its client expects it."""
    fault = "Receiver" if error.status >= SERVER_FAULT else "Sender"
    body = {"__type": error.code, "message": error.message}
    if protocol is Protocol.QUERY:
        text = (
            f'<ErrorResponse xmlns="{_NAMESPACE}"><Error><Type>{fault}</Type><Code>{error.code}</Code>'
            f"<Message>{escape(error.message)}</Message></Error><RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>"
        )
        return error.status, {"Content-Type": "text/xml"}, text.encode()
    status, headers, encoded = (_cbor if protocol is Protocol.CBOR else _json)(error.status, body)
    return status, {**headers, "x-amzn-query-error": f"{error.code};{fault}"}, encoded


def _cbor(status: int, body: Any) -> Response:
    return status, {"Content-Type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}, cbor.dumps(body)


def _json(status: int, body: Any) -> Response:
    return status, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(body).encode()


def _plain(shape: Shape | None, value: Any, timestamp: Any) -> Any:
    """Return what a typed encoding holds: only the shape's own members, none of them null."""
    if shape is None:
        return {}
    if shape.type_name == "structure":
        members = shape.members  # type: ignore[attr-defined]
        return {
            name: _plain(members[name], one, timestamp)
            for name, one in value.items()
            if name in members and one is not None
        }
    if shape.type_name == "list":
        return [_plain(shape.member, one, timestamp) for one in value]  # type: ignore[attr-defined]
    if shape.type_name == "timestamp":
        return timestamp(value)
    return value


def _xml(operation: OperationModel, result: Parameters) -> bytes:
    inner = ""
    if operation.output_shape is not None:
        wrapper = operation.output_shape.serialization.get("resultWrapper", f"{operation.name}Result")
        inner = f"<{wrapper}>{_members(operation.output_shape, result)}</{wrapper}>"
    metadata = f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata>"
    name = f"{operation.name}Response"
    return f'<{name} xmlns="{_NAMESPACE}">{inner}{metadata}</{name}>'.encode()


def _members(shape: Any, value: Parameters) -> str:
    return "".join(
        f"<{name}>{_text(shape.members[name], one)}</{name}>"
        for name, one in value.items()
        if name in shape.members and one is not None
    )


def _text(shape: Any, value: Any) -> str:
    if shape.type_name == "structure":
        return _members(shape, value)
    if shape.type_name == "list":
        return "".join(f"<member>{_text(shape.member, one)}</member>" for one in value)
    if shape.type_name == "map":
        return "".join(
            f"<entry><key>{escape(key)}</key><value>{_text(shape.value, one)}</value></entry>"
            for key, one in value.items()
        )
    if shape.type_name == "timestamp":
        return datetime.fromtimestamp(value, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if shape.type_name == "boolean":
        return "true" if value else "false"
    return escape(str(value))
