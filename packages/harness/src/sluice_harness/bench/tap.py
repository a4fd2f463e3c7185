"""A tap on the wire between a stage's functions and AWS's APIs: passes each call on as it is, and notes it."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs, urlsplit

from sluice_harness.live_functions import with_variables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sluice_harness.description import StageDescription

# What concerns one connection only (RFC 9110, 7.6.1), and what the tap answers by itself.
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "content-length"}
_SERVICE = re.compile(r"Credential=[^/]+/\d{8}/[^/]+/([^/]+)/aws4_request")


@dataclass(frozen=True)
class Call:
    """One call as it went over the wire; each try of the SDK's is one."""

    service: str
    operation: str
    body: bytes
    status: int
    answer: bytes

    @property
    def name(self) -> str:
        """Service and operation: ``sqs SendMessageBatch``."""
        return f"{self.service} {self.operation}"

    def document(self) -> dict[str, Any]:
        """Return what was sent, of a service that speaks JSON."""
        sent: dict[str, Any] = json.loads(self.body)
        return sent

    def answered(self) -> dict[str, Any]:
        """Return what came back, of a service that speaks JSON."""
        said: dict[str, Any] = json.loads(self.answer)
        return said


@dataclass
class Tap:
    """What has been noted, and where to call."""

    url: str = ""
    calls: list[Call] = field(default_factory=list)

    def named(self, name: str) -> list[Call]:
        """Return the calls of one service and operation."""
        return [call for call in self.calls if call.name == name]

    def counts(self) -> Counter[str]:
        """Return how many there were of each."""
        return Counter(call.name for call in self.calls)


class Tappable(Protocol):
    """A stage whose functions can be tapped."""

    @property
    def description(self) -> StageDescription:
        """What it says of itself."""
        ...

    def client(self, service: str) -> Any:
        """Return a boto3 client of it."""
        ...


@contextlib.contextmanager
def tapped(stage: Tappable, *functions: str) -> Iterator[Tap]:
    """Let functions, by their physical names, call AWS through a tap, and put their settings back.

    By the AWS SDK's own variable for endpoints: functions start anew, and are slower while it lasts.
    """
    lambda_ = stage.client("lambda")
    with _listening(str(stage.description.endpointUrl)) as tap, contextlib.ExitStack() as put_back:
        for name in functions:
            put_back.enter_context(with_variables(lambda_, name, AWS_ENDPOINT_URL=tap.url))
        yield tap


@contextlib.contextmanager
def _listening(endpoint: str) -> Iterator[Tap]:
    tap = Tap()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(tap, urlsplit(endpoint).netloc))
    server.daemon_threads = True  # a connection that a function keeps open must not keep the test
    tap.url = f"http://127.0.0.1:{server.server_port}"
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield tap
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def _handler(tap: Tap, upstream: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            connection = http.client.HTTPConnection(upstream, timeout=30)
            try:
                # The Host header stays what the caller signed.
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() not in _HOP_BY_HOP:
                        connection.putheader(name, value)
                connection.putheader("Content-Length", str(len(body)))
                connection.endheaders(body)
                response = connection.getresponse()
                answer = response.read()
            finally:
                connection.close()
            service, operation = _operation(self.command, dict(self.headers), body)
            tap.calls.append(Call(service, operation, body, response.status, answer))
            self.send_response_only(response.status)
            for name, value in response.getheaders():
                if name.lower() not in _HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    return Handler


def _operation(method: str, headers: dict[str, str], body: bytes) -> tuple[str, str]:
    found = _SERVICE.search(headers.get("Authorization", ""))
    service = found[1] if found else "unsigned"
    if target := headers.get("X-Amz-Target"):
        return service, target.rpartition(".")[2]
    action = parse_qs(body.decode(errors="replace")).get("Action") if service not in {"s3", "unsigned"} else None
    return service, action[0] if action else method
