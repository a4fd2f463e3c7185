"""The X-Ray daemon's port: what instrumented functions send their segments to.

MiniStack has none and sets no `AWS_XRAY_DAEMON_ADDRESS`. In AWS "the Lambda runtime environment runs the X-Ray
daemon" and names its address in that variable (Lambda Developer Guide, "Working with Lambda environment
variables"); the daemon takes UDP datagrams of a header, ``{"format": "json", "version": 1}``, a line break and
one document of at most 64 KB (X-Ray Developer Guide, "Sending segment documents to the X-Ray daemon").

It hands them on with the role of the function, which needs `xray:PutTraceSegments` for that (Lambda Developer
Guide, "Visualize Lambda function invocations using AWS X-Ray", "Execution role permissions").

Closed by a socket on a free port of loopback for each role, which tells who sends, and a thread that reads them. A
datagram that is none of these is dropped with a warning, as the daemon does; so are those of a role that may not.
The daemon's `xray:PutTelemetryRecords` is about itself, and nothing depends on it (aws/aws-xray-daemon,
``pkg/telemetry``): this one sends none.
"""

from __future__ import annotations

import json
import logging
import selectors
import socket
import threading
from typing import Any, Final

from sluice_harness.compat.access import service_roles
from sluice_harness.compat.tracing.store import InvalidSegmentError, TraceStore

STORE: Final = TraceStore()
"""The engine's traces."""

ADDRESS_VARIABLE = "AWS_XRAY_DAEMON_ADDRESS"
_DATAGRAM_BYTES = 1 << 16
_BUFFER_BYTES = 1 << 22  # as much as the kernel grants: a burst of jobs must not lose segments
_HEADER = {"format": "json", "version": 1}

_listeners = selectors.DefaultSelector()
_addresses: dict[str, str] = {}  # by role
_opening = threading.Lock()


def apply() -> None:
    """Read from now on what is sent to the addresses that `address` gives out."""
    threading.Thread(target=_read, name="xray-daemon", daemon=True).start()


def address(config: dict[str, Any]) -> str:
    """Return where a function is to send its segments."""
    role = str(config.get("Role"))
    with _opening:
        if role not in _addresses:
            listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            listener.bind(("127.0.0.1", 0))
            _listeners.register(listener, selectors.EVENT_READ, config)
            _addresses[role] = f"127.0.0.1:{listener.getsockname()[1]}"
        return _addresses[role]


def may_write(config: dict[str, Any]) -> bool:
    """Whether a function's role lets its segments into X-Ray."""
    return service_roles.of_function(config, "xray:PutTraceSegments", "*") is None


def _read() -> None:
    while True:
        for ready, _ in _listeners.select():
            datagram = ready.fileobj.recv(_DATAGRAM_BYTES)  # type: ignore[union-attr]
            try:
                if may_write(ready.data):
                    _take(datagram)
            except (ValueError, InvalidSegmentError) as error:
                logging.getLogger(__name__).warning("a segment was dropped: %s", error)


def _take(datagram: bytes) -> None:
    header, _, document = datagram.partition(b"\n")
    if json.loads(header) != _HEADER:
        raise ValueError("a datagram of another protocol than the daemon's")
    STORE.put(document.decode())
