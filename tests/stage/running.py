"""A deployed local stage and the people who use it: HTTP and boto3 only, as any client would."""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
from sluice_harness import live_functions
from sluice_harness.client import add_user, sign_in
from sluice_harness.description import ROOT
from sluice_harness.local_stage import LocalStage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from sluice_harness.description import StageDescription, User

Found = TypeVar("Found")

PATIENCE_S = 60.0
_POLL_S = 0.05
_COUNTS = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")


def until(probe: Callable[[], Found | None], what: str, within: float = PATIENCE_S) -> Found:
    """Ask again and again until the answer is truthy, and return it.

    Raises
    ------
    TimeoutError
        It never was; the message says what was waited for.

    """
    deadline = time.monotonic() + within
    while not (found := probe()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within:.0f} s: {what}")
        time.sleep(_POLL_S)
    return found


@dataclass(frozen=True)
class Person:
    """A signed-in user with connections of their own."""

    api_url: str
    id_token: str
    access_token: str
    http: httpx.Client

    @property
    def sub(self) -> str:
        return str(claims(self.id_token)["sub"])

    def post(
        self, content: bytes, *, content_type: str = "application/json", token: str | None = None, **headers: str
    ) -> httpx.Response:
        """POST these very bytes as a submission."""
        sent = {"Authorization": token or self.id_token, "Content-Type": content_type, **headers}
        return self.http.post(f"{self.api_url}/submit-job", content=content, headers=sent)

    def submit(self, body: Mapping[str, Any]) -> httpx.Response:
        """POST a submission."""
        return self.post(json.dumps(body).encode())

    def accepted(self, body: Mapping[str, Any]) -> str:
        """Submit, and return the id of the job."""
        answer = self.submit(body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["jobId"])

    def get(self, url: str, **query: str) -> httpx.Response:
        """GET with this person's token."""
        return self.http.get(url, params=query or None, headers={"Authorization": self.id_token})

    def status(self, job_id: str, **query: str) -> httpx.Response:
        """GET one job."""
        return self.get(f"{self.api_url}/job-status/{job_id}", **query)

    def list(self, **query: str) -> httpx.Response:
        """GET a page of jobs."""
        return self.get(f"{self.api_url}/job-status", **query)

    def cancel(self, job_id: str, **query: str) -> httpx.Response:
        """POST a cancellation."""
        url = f"{self.api_url}/cancel-job/{job_id}"
        return self.http.post(url, params=query or None, headers={"Authorization": self.id_token})

    def ended(self, job_id: str, within: float = PATIENCE_S) -> dict[str, Any]:
        """Follow a job to its end state."""

        def look() -> dict[str, Any] | None:
            answer = self.status(job_id)
            assert answer.status_code == 200, answer.text
            return None if "Retry-After" in answer.headers else answer.json()

        return until(look, f"job {job_id} ends", within)

    def reached(self, job_id: str, status: str) -> dict[str, Any]:
        """Follow a job until it stands at a status."""

        def look() -> dict[str, Any] | None:
            shown: dict[str, Any] = self.status(job_id).json()
            return shown if shown["status"] == status else None

        return until(look, f"job {job_id} is {status}")


@contextlib.contextmanager
def signed_in(description: StageDescription, user: User) -> Iterator[Person]:
    """Sign a user in."""
    tokens = sign_in(description, user)
    with httpx.Client(timeout=30) as http:
        yield Person(description.apiUrl, tokens["IdToken"], tokens["AccessToken"], http)


@dataclass
class RunningStage:
    """A deployed stage, its boto3 clients and what its tests ask of it."""

    name: str
    description: StageDescription
    local: LocalStage
    open_until_end: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def person(self, username: str) -> Person:
        """Sign a user in."""
        return self._signed_in(next(user for user in self.description.users if user.username == username))

    def newcomer(self, username: str) -> Person:
        """Add a user of the stage's, who has no jobs yet, and sign them in."""
        return self._signed_in(add_user(self.client("cognito-idp"), self.description.userPoolId, username))

    def _signed_in(self, user: User) -> Person:
        return self.open_until_end.enter_context(signed_in(self.description, user))

    @functools.cache  # noqa: B019 - a client takes longer to make than most tests; stages are few
    def client(self, service: str) -> Any:
        """Return a boto3 client with the stage's root credentials."""
        made = self.local.client(service)
        self.open_until_end.callback(made.close)
        return made

    def __hash__(self) -> int:
        return id(self)

    # The table and the bucket

    def rows(self) -> list[dict[str, Any]]:
        """Return every row of the job table."""
        pages = self.client("dynamodb").get_paginator("scan").paginate(TableName=self.description.jobTable)
        return [item for page in pages for item in page["Items"]]

    def row(self, owner: str, job_id: str) -> dict[str, Any] | None:
        """Return one job's row."""
        answer = self.client("dynamodb").get_item(
            TableName=self.description.jobTable, Key={"jobKey": {"S": f"{owner}#{job_id}"}}
        )
        found: dict[str, Any] | None = answer.get("Item")
        return found

    def recorded(self, owner: str, job_id: str) -> dict[str, Any]:
        """Wait for a job's row; until then an id that its client chose is unknown."""
        return until(lambda: self.row(owner, job_id), f"job {job_id} is recorded")

    def objects(self, prefix: str = "results/") -> list[str]:
        """Return the keys of all results below a prefix."""
        pages = self.client("s3").get_paginator("list_objects_v2")
        listed = pages.paginate(Bucket=self.description.resultBucket, Prefix=prefix)
        return [item["Key"] for page in listed for item in page.get("Contents", [])]

    # The queues

    def depth(self, url: str) -> int:
        """Return how many messages a queue holds, those in flight included."""
        answer = self.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=list(_COUNTS))
        return sum(int(answer["Attributes"][name]) for name in _COUNTS)

    @property
    def queue_urls(self) -> list[str]:
        """The two queues and their dead-letter queues."""
        queues = self.description.queues
        return [queues.request.url, queues.request.dlqUrl, queues.work.url, queues.work.dlqUrl]

    def drained(self, within: float = PATIENCE_S) -> None:
        """Wait until no queue holds anything, so that no further delivery can come."""
        until(lambda: not any(map(self.depth, self.queue_urls)), "the queues are empty", within)

    @contextlib.contextmanager
    def quick_redelivery(self, seconds: int = 5, *urls: str) -> Iterator[None]:
        """Deliver messages whose consumer died or failed again soon, instead of after several minutes."""
        sqs, queues = self.client("sqs"), self.description.queues
        name = "VisibilityTimeout"
        urls = urls or (queues.request.url, queues.work.url)
        before = {
            url: sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name] for url in urls
        }
        for url in urls:
            sqs.set_queue_attributes(QueueUrl=url, Attributes={name: str(seconds)})
        try:
            yield
        finally:
            for url, usual in before.items():
                sqs.set_queue_attributes(QueueUrl=url, Attributes={name: usual})

    def take_request(self) -> dict[str, Any]:
        """Receive the one message of the request queue with all it carries, and delete it."""
        url = self.description.queues.request.url

        def receive() -> dict[str, Any] | None:
            answer = self.client("sqs").receive_message(
                QueueUrl=url, MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"]
            )
            messages = answer.get("Messages", [])
            return messages[0] if messages else None

        message = until(receive, "a message in the request queue", 10)
        self.client("sqs").delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return message

    # The functions

    def set_mapping(self, function: str, *, enabled: bool) -> None:
        """Start or stop a function's event source mapping."""
        lambda_ = self.client("lambda")
        (mapping,) = live_functions.mappings(lambda_, function)
        lambda_.update_event_source_mapping(UUID=mapping, Enabled=enabled)
        wanted = "Enabled" if enabled else "Disabled"
        until(
            lambda: lambda_.get_event_source_mapping(UUID=mapping)["State"] == wanted,
            f"the mapping is {wanted}",
        )

    @contextlib.contextmanager
    def stopped(self, function: str) -> Iterator[None]:
        """Keep a function from taking messages off its queue; what it has begun it ends."""
        self.set_mapping(function, enabled=False)
        try:
            yield
        finally:
            self.set_mapping(function, enabled=True)

    def paused(self) -> contextlib.AbstractContextManager[None]:
        """Keep the processor from taking requests off their queue."""
        return self.stopped(self.description.functions.processor)

    def unworked(self) -> contextlib.AbstractContextManager[None]:
        """Keep the batch simulator from taking work off its queue."""
        return self.stopped(self.description.functions.batchSimulator)

    def sweep(self) -> dict[str, int]:
        """Run the sweeper now, not within the minute, and return what it says that it did."""
        sweeper = live_functions.live(self.description.functions.sweeper)
        answer = self.client("lambda").invoke(FunctionName=sweeper, Payload=b"{}")
        said = json.load(answer["Payload"])
        assert "FunctionError" not in answer, said
        done: dict[str, int] = said
        return done

    def log_lines(self, function: str, since_ms: int = 0) -> list[str]:
        """Return what a function has logged since then."""
        settings = self.client("lambda").get_function_configuration(FunctionName=function)
        group = settings["LoggingConfig"]["LogGroup"]
        pages = self.client("logs").get_paginator("filter_log_events")
        found = pages.paginate(logGroupName=group, startTime=since_ms)
        return [event["message"] for page in found for event in page["events"]]


@contextlib.contextmanager
def deployed(name: str, assembly: Path, **settings: Any) -> Iterator[RunningStage]:
    """Bring up a stage of its own, under a name that is no other process's; settings as `LocalStage`'s."""
    unique = f"test-{name}-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}-{os.getpid()}"
    with LocalStage(unique, **settings) as local, contextlib.ExitStack() as stack:
        yield RunningStage(unique, local.deploy(assembly), local, stack)
    log = ROOT / "build" / "logs" / f"{unique}.log"
    if not log.stat().st_size:  # what the engine had to say is kept
        log.unlink()


def claims(token: str) -> dict[str, Any]:
    """Return a token's claims, unverified."""
    payload = token.split(".")[1]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return decoded
