"""A light client: HTTP/1.1 on kept-alive connections, so that the stage is measured and not the client.

As a program, ``python -m sluice_harness.bench.posting``, it is a process of its own, whose CPU can be told from
the benchmark's; it reads what to do from standard input and writes what happened to standard output, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CONNECTIONS = 16
_PATIENCE_S = 900


@dataclass(frozen=True, slots=True)
class Posted:
    """Accepted submissions.

    Attributes
    ----------
    began, seconds : float
        When the first was sent, in epoch seconds, and until when the last was answered.
    intended : dict
        By job id, when the schedule wanted it sent, in epoch seconds; without a schedule, when it was sent.
    cpu_ms : float
        User and system time of the process meanwhile.

    """

    job_ids: list[str]
    seconds: float
    began: float = 0.0
    intended: dict[str, float] | None = None
    cpu_ms: float = 0.0

    @property
    def rate(self) -> float:
        """Submissions per second."""
        return len(self.job_ids) / self.seconds


def post_many(
    api_url: str, token: str, body: bytes, count: int, *, rate: float = 0, connections: int = _CONNECTIONS
) -> Posted:
    """Submit the same body so many times: as fast as it goes, or so many a second whatever the answers take.

    Raises
    ------
    AssertionError
        One was not answered with 202.

    """
    return asyncio.run(_post_many(api_url, token, body, count, rate=rate, connections=connections))


class Poster:
    """The same in a process of its own, as a context manager: begun by `post`, awaited by `result`."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def post(self, **arguments: Any) -> None:
        """Begin; arguments as of `post_many`, the body as text."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self._process.stdin is not None  # noqa: S101 - for mypy
        self._process.stdin.write(json.dumps(arguments).encode())
        self._process.stdin.close()
        self._process.stdin = None  # communicate() would flush it again

    def result(self) -> Posted:
        """Wait for the end.

        Raises
        ------
        RuntimeError
            It failed; the message carries what it said.

        """
        assert self._process is not None  # noqa: S101 - for mypy
        said, complaint = self._process.communicate(timeout=_PATIENCE_S)
        if self._process.returncode:
            raise RuntimeError(f"the client failed:\n{complaint.decode(errors='replace')[-2_000:]}")
        return Posted(**json.loads(said))


async def _post_many(
    api_url: str, token: str, body: bytes, count: int, *, rate: float, connections: int
) -> Posted:
    place = urlsplit(api_url)
    head = (
        f"POST {place.path}/submit-job HTTP/1.1\r\nHost: {place.netloc}\r\nAuthorization: {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    request = head.encode() + body
    began, cpu = time.time(), time.process_time()
    turns = iter(began + number / rate if rate else 0.0 for number in range(count))
    parts = await asyncio.gather(
        *(_post_in_turn(place.hostname or "", place.port or 80, request, turns) for _ in range(connections))
    )
    seconds = time.time() - began
    intended = {job_id: moment for part in parts for job_id, moment in part}
    job_ids = [job_id for part in parts for job_id, _ in part]
    return Posted(job_ids, seconds, began, intended, (time.process_time() - cpu) * 1000)


async def _post_in_turn(host: str, port: int, request: bytes, turns: Iterator[float]) -> list[tuple[str, float]]:
    reader, writer = await asyncio.open_connection(host, port)
    posted = []
    try:
        for moment in turns:
            if moment:
                await asyncio.sleep(max(0.0, moment - time.time()))
            sent = moment or time.time()
            posted.append((await _post(reader, writer, request), sent))
    finally:
        writer.close()
        await writer.wait_closed()
    return posted


async def _post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> str:
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    body = await reader.readexactly(length)
    if head.split(b" ", 2)[1] != b"202":
        raise AssertionError(f"a submission was not accepted: {body!r}")
    return str(json.loads(body)["jobId"])


def _main(lines: Iterable[str]) -> None:
    asked = json.loads("".join(lines))
    json.dump(asdict(post_many(**{**asked, "body": asked["body"].encode()})), sys.stdout)


if __name__ == "__main__":
    _main(sys.stdin)
