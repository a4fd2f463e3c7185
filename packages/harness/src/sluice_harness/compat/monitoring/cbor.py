"""CBOR, the encoding that boto3 talks to CloudWatch in.

MiniStack decodes and encodes it with the package ``cbor2``, which it does not require; without it boto3's own
protocol for CloudWatch fails on every call. CloudWatch speaks Smithy RPC v2 CBOR ("Smithy RPC v2 CBOR protocol",
RFC 8949). Closed by reading with botocore's parser, writing what an answer can hold, and standing in for
``cbor2``.
"""

from __future__ import annotations

import importlib.util
import struct
import sys
from dataclasses import dataclass
from typing import Any

from botocore.parsers import RpcV2CBORParser

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG = range(7)
_FALSE, _TRUE, _NULL, _DOUBLE = 0xF4, 0xF5, 0xF6, 0xFB
_DIRECT = 24  # numbers below it fit the initial byte
_SIZES = ((24, 1), (25, 2), (26, 4), (27, 8))


@dataclass(frozen=True)
class CBORTag:
    """A value with a tag; 1 makes a number a timestamp."""

    tag: int
    value: Any


def apply() -> None:
    """Stand in for the package that the engine imports."""
    if importlib.util.find_spec("cbor2") is None:
        sys.modules["cbor2"] = sys.modules[__name__]


def loads(data: bytes) -> Any:
    """Decode a value; a timestamp becomes a `datetime.datetime`."""
    parser = RpcV2CBORParser()
    return parser.parse_data_item(parser.get_peekable_stream_from_bytes(data))


def dumps(value: Any) -> bytes:  # noqa: PLR0911 - a type each
    """Encode a value.

    Raises
    ------
    TypeError
        It holds something that has no encoding here.

    """
    if value is None or isinstance(value, bool):
        return bytes([_NULL if value is None else _TRUE if value else _FALSE])
    if isinstance(value, int):
        return _head(_UNSIGNED, value) if value >= 0 else _head(_NEGATIVE, -1 - value)
    if isinstance(value, float):
        return bytes([_DOUBLE]) + struct.pack(">d", value)
    if isinstance(value, str):
        return _head(_TEXT, len(text := value.encode())) + text
    if isinstance(value, bytes):
        return _head(_BYTES, len(value)) + value
    if isinstance(value, list | tuple):
        return _head(_ARRAY, len(value)) + b"".join(map(dumps, value))
    if isinstance(value, dict):
        return _head(_MAP, len(value)) + b"".join(dumps(key) + dumps(one) for key, one in value.items())
    if isinstance(value, CBORTag):
        return _head(_TAG, value.tag) + dumps(value.value)
    raise TypeError(f"no CBOR for {type(value).__name__}")


def _head(major: int, number: int) -> bytes:
    if number < _DIRECT:
        return bytes([major << 5 | number])
    code, size = next(one for one in _SIZES if number < 1 << 8 * one[1])
    return bytes([major << 5 | code]) + number.to_bytes(size)
