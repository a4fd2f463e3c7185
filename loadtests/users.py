"""Who uses the API, and what they expect of it. Each does one thing, whenever its time has come.

In a scenario, the schedule says when. Without one, each comes once a second, whatever became of the last time.
"""

from __future__ import annotations

import functools
import json
import random
import secrets
import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import gevent
from answers import OK, Answer, not_accepted, unanswered, unexpected, wrong_page
from locust import FastHttpUser, constant, task
from pacing import Arrival
from process import process_of
from records import new_record, now_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from answers import Complaint
    from locust.env import Environment
    from records import JobRecord
    from tokens import Owner

SUBMIT = "POST /submit-job"
LIST = "GET /job-status"
REREAD = "GET /job-status/{job-id} again"
_EVERY_S = 1.0
_PAGES = 3
_FORMATS = ("json", "csv", "ndjson")


class JobUser(FastHttpUser):
    """One who calls the API; what they do is `act`."""

    abstract = True
    wait_time = constant(0)
    kind: ClassVar[str]
    insecure = False
    connection_timeout = 10.0
    network_timeout = 35.0  # API Gateway itself answers within 29 s
    concurrency = 200

    def __init__(self, environment: Environment) -> None:
        self.host = environment.host  # Locust sets it for those that it starts itself, and a crowd starts its own
        super().__init__(environment)
        self.process = process_of(environment)
        self._due_s = time.time() + random.random() * _EVERY_S  # noqa: S311 - load, not secrets
        self._turn = random.randrange(1_000)  # noqa: S311

    @task
    def come(self) -> None:
        """Act when it is time to, without waiting for what became of it."""
        gevent.sleep(max(0.0, self._due_s - time.time()))
        arrival = Arrival(self._turn, 0.0, self.kind, self.process.an_owner().ordinal)
        self.process.begin(self.act, arrival, self._due_s * 1000)
        self._turn += 1
        self._due_s += _EVERY_S

    @abstractmethod
    def act(self, arrival: Arrival, intended_at: float) -> None:
        """Do it, as had been intended for this moment, in epoch ms; jobs are followed beside it."""

    def owner_of(self, arrival: Arrival) -> Owner:
        """Return who does it."""
        owners = self.process.tokens.owners
        return owners[arrival.owner % len(owners)]

    def call(
        self,
        method: str,
        path: str,
        name: str,
        judge: Callable[[Answer], Complaint | None],
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> tuple[Answer, Complaint | None]:
        """Call the API; Locust counts a failure if there was no answer, or if it is complained of."""
        sent: Any = body  # bytes will do, whatever the annotation says
        with self.client.request(
            method, path, name=name, data=sent, headers=dict(headers or {}), catch_response=True
        ) as response:
            answer = Answer(response.status_code, response.headers or {}, response.content or b"")
            complaint = judge(answer) if answer.status else unanswered(response.error)
            if complaint is None:
                response.success()
            else:
                response.failure(complaint)
        return answer, complaint

    def get(
        self, owner: Owner, path: str, name: str, judge: Callable[[Answer], Complaint | None]
    ) -> tuple[Answer, Complaint | None]:
        """GET as an owner."""
        return self.call("GET", path, name, judge, headers={"Authorization": self.process.tokens.token(owner)})


class Forgetter(JobUser):
    """Submits without a clientToken, and never looks again."""

    abstract = False
    weight = 3
    kind = "forgetter"

    def act(self, arrival: Arrival, intended_at: float) -> None:
        """Submit one job."""
        record = self.submit(arrival, intended_at, {"parameters": parameters(arrival)})
        if record is not None:
            # An id made at the gateway is known from its 202 on.
            self.process.visible.append((self.owner_of(arrival), record["jobId"]))

    def submit(self, arrival: Arrival, intended_at: float, body: dict[str, Any]) -> JobRecord | None:
        """Submit, and return the job's record, if it was accepted."""
        owner, sent = self.owner_of(arrival), json.dumps(body).encode()
        headers = {"Authorization": self.process.tokens.token(owner), "Content-Type": "application/json"}
        sent_at = now_ms()
        answer, complaint = self.call("POST", "/submit-job", SUBMIT, not_accepted, headers=headers, body=sent)
        if complaint is not None:
            self.process.recorder.refused(complaint.kind)
            return None
        record = new_record(
            arrival,
            owner,
            answer.document["jobId"],
            intended_at=intended_at,
            sent_at=sent_at,
            is_quiet=self.process.is_quiet(arrival.owner),
        )
        self.process.saw_acceptance(record)
        return record


def parameters(arrival: Arrival) -> dict[str, Any]:
    """Return a small job's parameters; each of the formats in turn."""
    return {"records": 24, "format": _FORMATS[arrival.ordinal % len(_FORMATS)]}


def new_token() -> str:
    """Return a clientToken that nobody has used."""
    return f"load-{secrets.token_hex(12)}"


class Poller(JobUser):
    """Reads again what others have submitted."""

    abstract = False
    kind = "poller"

    def act(self, arrival: Arrival, intended_at: float) -> None:  # noqa: ARG002 - nobody waits for it
        """Read one job, which has to be there."""
        visible = self.process.visible
        if visible:
            owner, job_id = random.choice(visible)  # noqa: S311 - load, not secrets
            self.get(owner, f"/job-status/{job_id}", REREAD, lambda answer: unexpected(answer, OK))


class Lister(JobUser):
    """Reads its own list, newest first, page by page."""

    abstract = False
    kind = "lister"

    def act(self, arrival: Arrival, intended_at: float) -> None:  # noqa: ARG002
        """Read the first pages."""
        owner, path, listed = self.owner_of(arrival), "/job-status?limit=20", set[str]()
        for _ in range(_PAGES):
            answer, complaint = self.get(
                owner, path, LIST, functools.partial(wrong_page, listed=frozenset(listed))
            )
            cursor = answer.document.get("nextCursor")
            if complaint is not None or not cursor:
                return
            listed |= {job["jobId"] for job in answer.document["jobs"]}
            path = f"/job-status?limit=20&cursor={cursor}"
