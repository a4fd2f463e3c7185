"""The X-Ray daemon's port: what instrumented functions send their segments to.

MiniStack has none and sets no `AWS_XRAY_DAEMON_ADDRESS`. In AWS "the Lambda runtime environment runs the X-Ray
daemon" and names its address in that variable (Lambda Developer Guide, "Working with Lambda environment
variables"); the daemon takes UDP datagrams of a header, ``{"format": "json", "version": 1}``, a line break and
one document of at most 64 KB (X-Ray Developer Guide, "Sending segment documents to the X-Ray daemon").

Closed by a socket on a free port of loopback, bound before any worker starts, and a thread that reads it. A
datagram that is none of these is dropped with a warning, as the daemon does.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from typing import Final

from sluice_harness.compat.tracing.store import InvalidSegmentError, TraceStore

STORE: Final = TraceStore()
"""The engine's traces."""

ADDRESS_VARIABLE = "AWS_XRAY_DAEMON_ADDRESS"
_DATAGRAM_BYTES = 1 << 16
_BUFFER_BYTES = 1 << 22  # as much as the kernel grants: a burst of jobs must not lose segments
_HEADER = {"format": "json", "version": 1}


def apply() -> None:
    """Bind the port, tell workers of it through the environment, and read it from now on."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    listener.bind(("127.0.0.1", 0))
    os.environ[ADDRESS_VARIABLE] = f"127.0.0.1:{listener.getsockname()[1]}"
    threading.Thread(target=_read, args=(listener,), name="xray-daemon", daemon=True).start()


def _read(listener: socket.socket) -> None:
    while True:
        datagram = listener.recv(_DATAGRAM_BYTES)
        try:
            _take(datagram)
        except (ValueError, InvalidSegmentError) as error:
            logging.getLogger(__name__).warning("a segment was dropped: %s", error)


def _take(datagram: bytes) -> None:
    header, _, document = datagram.partition(b"\n")
    if json.loads(header) != _HEADER:
        raise ValueError("a datagram of another protocol than the daemon's")
    STORE.put(document.decode())
