"""A real subscriber of the alarms' topic: an HTTP endpoint that confirms, and remembers what it was told."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.request import urlopen

if TYPE_CHECKING:
    from types import TracebackType


@dataclass(frozen=True, slots=True)
class Notice:
    """What one notification said, and when it came (epoch seconds, real time)."""

    alarm: str
    state: str
    at: float


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # many alarms change in the same minute


class Subscriber:
    """Listens on a free loopback port while the block lasts.

    Parameters
    ----------
    fails : bool
        Confirm the subscription, and then answer every notification with a 500.

    """

    def __init__(self, *, fails: bool = False) -> None:
        self._fails = fails
        self._notices: list[Notice] = []
        self._lock = threading.Lock()
        subscriber = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(subscriber._take(json.loads(body)))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing: the drill shows what came."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="subscriber", daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def notices(self) -> list[Notice]:
        """Return all that came so far, in order."""
        with self._lock:
            return list(self._notices)

    def _take(self, message: dict[str, Any]) -> HTTPStatus:
        if message["Type"] == "SubscriptionConfirmation":
            urlopen(message["SubscribeURL"], timeout=10).close()  # noqa: S310 - the stage's own
            return HTTPStatus.OK
        if self._fails:
            return HTTPStatus.INTERNAL_SERVER_ERROR
        said = json.loads(message["Message"])
        with self._lock:
            self._notices.append(Notice(said["AlarmName"], said["NewStateValue"], time.time()))
        return HTTPStatus.OK
