"""Light, healthy load on a stage, as long as a drill lasts: without traffic there is nothing to fail.

It goes on whatever the stage answers, and leaves out what a healthy client would not send: wrong tokens, unknown
ids, cancellations of jobs that have ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import threading
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import httpx

from sluice_harness.client import sign_in

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from sluice_harness.description import StageDescription

# How often each kind of call is made, a second. Each function has to be called about once a second, for a stage's
# minute may be no longer.
RATES: Mapping[str, float] = {"submit": 4.0, "status": 4.0, "list": 1.0, "cancel": 1.5}
# Where jobs of external executors are what it is about: a container takes a second of a core to come up.
RATES_OF_EXECUTORS: Mapping[str, float] = {
    "submit": 0.5,
    "status": 0.5,
    "list": 0.2,
    "cancel": 0.2,
    "submit-weather-workflow": 0.3,
    "submit-weather-batch": 0.1,
    "submit-weather-task": 0.1,
}
_NEW_TOKEN_EVERY_S = 0.7
_RECENT_JOBS = 50
_UNANSWERED = 2
_TIMEOUT_S = 35
_OTHER_JOB_TYPES = ("weather-workflow", "weather-batch", "weather-task")
_JOIN_S = 10


class Load:
    """Calls the API in a thread of its own until the block ends.

    Attributes
    ----------
    extra : dict of str to float
        Calls a second beyond the usual: ``submit``, ``status``, ``wrong-token``, or ``submit-other``, which is
        another owner's and otherwise never made; ``submit-JOB_TYPE`` is a job of a type that is not the default.

    """

    def __init__(self, stage: StageDescription, rates: Mapping[str, float] = RATES) -> None:
        self._stage = stage
        self._rates = rates
        self._tokens = [sign_in(stage, user)["IdToken"] for user in stage.users[:2]]
        self._jobs: deque[str] = deque(maxlen=_RECENT_JOBS)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="drill-load")
        self._warm = threading.Event()
        self.extra: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        self._warm.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(_JOIN_S + _TIMEOUT_S)

    async def _run(self) -> None:
        calls: dict[str, Callable[[httpx.AsyncClient], Awaitable[object]]] = {
            "submit": self._submit,
            "status": self._read,
            "list": self._list,
            "cancel": self._cancel,
            "wrong-token": self._be_refused,
            "submit-other": self._submit_other,
            **{f"submit-{one}": partial(self._submit, job_type=one) for one in _OTHER_JOB_TYPES},
        }
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=self._stage.apiUrl, timeout=_TIMEOUT_S, limits=limits) as http:
            # One by one at first: many cold starts at once would take each other's time.
            for kind in ("submit", "status", "list", "cancel"):
                await _survive(calls[kind](http))
            self._warm.set()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._renew_token())
                for kind, call in calls.items():
                    tasks.create_task(self._repeat(kind, call, http))

    async def _repeat(
        self, kind: str, call: Callable[[httpx.AsyncClient], Awaitable[object]], http: httpx.AsyncClient
    ) -> None:
        """Call at the kind's rate; at the usual one, only while few calls are unanswered."""
        running: set[asyncio.Task[None]] = set()
        while not self._ended.is_set():
            rate = self._rates.get(kind, 0.0) + self.extra.get(kind, 0.0)
            if rate and (len(running) < _UNANSWERED or kind in self.extra):
                task = asyncio.create_task(_survive(call(http)))
                running.add(task)
                task.add_done_callback(running.discard)
            await asyncio.sleep(1 / rate if rate else 0.2)
        await asyncio.wait(running or {asyncio.create_task(asyncio.sleep(0))}, timeout=_JOIN_S)

    async def _renew_token(self) -> None:
        """Sign in anew, for the authorizer is asked only about tokens that the gateway has not seen."""
        users, turns = self._stage.users[:2], itertools.count()
        while not self._ended.is_set():
            n = next(turns) % len(users)
            with contextlib.suppress(Exception):
                tokens = await asyncio.to_thread(sign_in, self._stage, users[n])
                self._tokens[n] = tokens["IdToken"]
            await asyncio.sleep(_NEW_TOKEN_EVERY_S)

    async def _submit_other(self, http: httpx.AsyncClient) -> None:
        await http.post("/submit-job", json=_job(), headers=self._headers(1))

    def submit(self, job_type: str, count: int, work_s: float = 0) -> None:
        """Submit so many jobs of a type at once, whose work takes so long."""
        with httpx.Client(base_url=self._stage.apiUrl, timeout=_TIMEOUT_S) as http:
            for _ in range(count):
                http.post("/submit-job", json=_job(job_type, work_s), headers=self._headers(0)).raise_for_status()

    async def _submit(self, http: httpx.AsyncClient, work_s: float = 0, job_type: str = "") -> str | None:
        answer = await http.post("/submit-job", json=_job(job_type, work_s), headers=self._headers(0))
        if answer.status_code != httpx.codes.ACCEPTED:
            return None
        job_id: str = answer.json()["jobId"]
        if not work_s:
            self._jobs.append(job_id)
        return job_id

    async def _read(self, http: httpx.AsyncClient) -> None:
        if self._jobs:
            await http.get(f"/job-status/{self._jobs[0]}", headers=self._headers(0))

    async def _list(self, http: httpx.AsyncClient) -> None:
        await http.get("/job-status", params={"limit": 5}, headers=self._headers(1))

    async def _cancel(self, http: httpx.AsyncClient) -> None:
        """Cancel a job that cannot have ended yet."""
        job_id = await self._submit(http, work_s=2)
        if job_id:
            await http.post(f"/cancel-job/{job_id}", headers=self._headers(0))

    async def _be_refused(self, http: httpx.AsyncClient) -> None:
        token = f"aaaa.{secrets.token_hex(8)}.cccc"
        await http.get("/job-status", headers={"Authorization": token})

    def _headers(self, user: int) -> dict[str, str]:
        return {"Authorization": self._tokens[user]}


def _job(job_type: str = "", work_s: float = 0) -> dict[str, Any]:
    parameters = {"records": 5, **({"workSeconds": work_s} if work_s else {})}
    return {"parameters": parameters, **({"jobType": job_type} if job_type else {})}


async def _survive(call: Awaitable[object]) -> None:
    with contextlib.suppress(httpx.HTTPError, ValueError):
        await call
