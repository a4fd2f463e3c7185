"""The clients of a chaos run: each job's own coroutine submits it, perhaps twice, and perhaps cancels it.

They do what a real client does when it does not know: a broken connection or a 5xx is answered by asking again,
under the same clientToken, until there is an answer.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from sluice_harness.chaos.plan import When
from sluice_harness.client import sign_in

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sluice_harness.chaos.plan import PlannedJob
    from sluice_harness.description import StageDescription, User

# Apart, so that calls that hang do not keep jobs from being submitted. Few, for each call of the latter kind that
# runs beside another takes a worker more to start.
_SUBMITTING, _ASKING = 4, 3
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 3.0
_POLL_S = 0.5


@dataclass(slots=True)
class Trace:
    """One job as its client has seen it.

    Attributes
    ----------
    accepted : bool
        Whether there was a 202.
    cancel_answer : int or None
        The status of the answer to its cancellation.
    cancel_repeated : bool
        Whether an earlier call had no answer, so that it may have been the one that cancelled.
    complaint : str
        What no client should see, if it was seen.

    """

    job: PlannedJob
    owner: str
    accepted: bool = False
    cancel_answer: int | None = None
    cancel_repeated: bool = False
    complaint: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """The owner and the job's id."""
        return self.owner, self.job.token


class Traffic:
    """All clients of a run.

    Parameters
    ----------
    rate : float
        How many jobs are submitted per second; each job's moment depends on its ordinal only.

    """

    def __init__(self, stage: StageDescription, plan: Sequence[PlannedJob], rate: float) -> None:
        ordinary = [user for user in stage.users if not user.groups]
        self._callers = [_Caller(stage, user) for user in ordinary]
        self._gap_s = 1 / rate
        self._submitting = asyncio.Semaphore(_SUBMITTING)
        self._asking = asyncio.Semaphore(_ASKING)
        self.retries: Counter[str] = Counter()
        self.accepted = 0
        self.traces = [Trace(job, self._callers[job.user].owner) for job in plan]

    async def run(self) -> None:
        """Submit and cancel everything; each job in its own time."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for trace in self.traces:
                    tasks.create_task(self._live(trace))
        finally:
            for caller in self._callers:
                await caller.http.aclose()

    async def _live(self, trace: Trace) -> None:
        job = trace.job
        await asyncio.sleep(job.ordinal * self._gap_s)
        await self._submit(trace, job.parameters)
        if job.again_after_s is not None:
            await asyncio.sleep(job.again_after_s)
            await self._submit(trace, job.again_parameters)
        if job.cancel is not None:
            await self._cancel(trace)

    async def _submit(self, trace: Trace, parameters: dict[str, Any]) -> None:
        body = {"clientToken": trace.job.token, "parameters": parameters}
        http = self._callers[trace.job.user].http
        answer, _ = await self._until_answered(self._submitting, lambda: http.post("/submit-job", json=body))
        if answer.status_code != httpx.codes.ACCEPTED or answer.json()["jobId"] != trace.job.token:
            trace.complaint = f"a submission was answered with {answer.status_code}: {answer.text}"
        elif not trace.accepted:
            trace.accepted = True
            self.accepted += 1

    async def _cancel(self, trace: Trace) -> None:
        if trace.job.cancel is When.AFTER:
            await asyncio.sleep(trace.job.cancel_after_s)
        else:
            await self._until_running(trace)
        http = self._callers[trace.job.user].http
        while True:
            answer, repeated = await self._until_answered(
                self._asking, lambda: http.post(f"/cancel-job/{trace.job.token}")
            )
            trace.cancel_repeated |= repeated
            # A job under a token of its client's is unknown until it is recorded.
            if answer.status_code != httpx.codes.NOT_FOUND:
                break
            await asyncio.sleep(_POLL_S)
        trace.cancel_answer = answer.status_code
        if answer.status_code not in (httpx.codes.OK, httpx.codes.CONFLICT):
            trace.complaint = f"a cancellation was answered with {answer.status_code}: {answer.text}"

    async def _until_running(self, trace: Trace) -> None:
        http = self._callers[trace.job.user].http
        while True:
            answer, _ = await self._until_answered(
                self._asking, lambda: http.get(f"/job-status/{trace.job.token}")
            )
            if answer.is_success and answer.json()["status"] != "SUBMITTED":
                return
            await asyncio.sleep(_POLL_S)

    async def _until_answered(
        self, turns: asyncio.Semaphore, call: Callable[[], Awaitable[httpx.Response]]
    ) -> tuple[httpx.Response, bool]:
        """Call until somebody answers who knows, and say whether that took more than one call."""
        pause_s = _FIRST_PAUSE_S
        repeated = False
        while True:
            try:
                async with turns:
                    answer = await call()
            except httpx.TransportError as error:
                self.retries[type(error).__name__] += 1
            else:
                if answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                    return answer, repeated
                self.retries[f"HTTP {answer.status_code}"] += 1
            repeated = True
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


class _Caller:
    """One user's connections, and who that user is to the stage."""

    def __init__(self, stage: StageDescription, user: User) -> None:
        token = sign_in(stage, user)["IdToken"]
        payload = token.split(".")[1]
        self.owner = str(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sub"])
        self.http = httpx.AsyncClient(
            base_url=stage.apiUrl,
            headers={"Authorization": token},
            timeout=35,
            limits=httpx.Limits(max_connections=_SUBMITTING + _ASKING),
        )
