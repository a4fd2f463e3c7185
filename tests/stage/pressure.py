"""A fast client: plain HTTP/1.1 on kept-alive connections, so that the stage is measured and not the client."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONNECTIONS = 16


@dataclass(frozen=True)
class Posted:
    """The ids of the jobs that were accepted, and how long that took."""

    job_ids: list[str]
    seconds: float

    @property
    def rate(self) -> float:
        """Submissions per second."""
        return len(self.job_ids) / self.seconds


def post_many(api_url: str, token: str, body: bytes, count: int) -> Posted:
    """Submit the same body so many times.

    Raises
    ------
    AssertionError
        One was not answered with 202.

    """
    return asyncio.run(_post_many(api_url, token, body, count))


async def _post_many(api_url: str, token: str, body: bytes, count: int) -> Posted:
    place = urlsplit(api_url)
    head = (
        f"POST {place.path}/submit-job HTTP/1.1\r\nHost: {place.netloc}\r\nAuthorization: {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    request = head.encode() + body
    turns = iter(range(count))
    started = time.perf_counter()
    parts = await asyncio.gather(
        *(_post_in_turn(place.hostname or "", place.port or 80, request, turns) for _ in range(_CONNECTIONS))
    )
    return Posted([job_id for part in parts for job_id in part], time.perf_counter() - started)


async def _post_in_turn(host: str, port: int, request: bytes, turns: Iterator[int]) -> list[str]:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        return [await _post(reader, writer, request) for _ in turns]
    finally:
        writer.close()
        await writer.wait_closed()


async def _post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> str:
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    body = await reader.readexactly(length)
    assert head.split(b" ", 2)[1] == b"202", body
    return str(json.loads(body)["jobId"])
