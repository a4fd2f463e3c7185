"""What stands between the executors' functions and the world: services, queues and a bucket, all in memory.

Each call passes the `Line`, where trouble waits for it: its caller dies before or after it, its answer is lost,
nobody answers, or somebody else acts first.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from io import BytesIO
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from sluice_core.executors import Execution, ExecutionState, Started
from sluice_core.external import failed_start, stopped_for
from unit.ledger_wire import Fault, Wire
from unit.wire_faults import Death

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sluice_core.executors import StartResult
    from sluice_core.jobs import Submission
    from sluice_core.ledger import Attempt
    from unit.ledger_wire import Statements


# How long a service that is asked may not know what it was told (Amazon ECS API Reference, "RunTask": eventually
# consistent).
_CONSISTENT_MS = 60_000


class Trouble(Enum):
    """What befalls a call."""

    NONE = "none"
    DEATH_BEFORE = "its caller dies before it"
    DEATH_AFTER = "its caller dies after it"
    UNSENT = "it is not answered, and was not acted upon"
    LOST = "it is not answered, and was acted upon"
    RETRIED = "its answer is lost, and the SDK tries it again"
    LATE = "it is not answered, and acted upon a while later"
    MEANWHILE = "somebody else acts before it"


_OF_THE_LEDGER = {
    Trouble.UNSENT: Fault.UNSENT,
    Trouble.LOST: Fault.LOST,
    Trouble.RETRIED: Fault.RETRIED,
    Trouble.LATE: Fault.LATE,
}


class Line:
    """Counts an actor's calls, and lets trouble befall one of them."""

    def __init__(self) -> None:
        self.has_struck = False
        self._left = 0
        self._trouble = Trouble.NONE
        self._meanwhile: Callable[[], object] = lambda: None

    def expect(self, trouble: Trouble, at: int, meanwhile: Callable[[], object]) -> None:
        """Let the trouble befall the call of this number from now on; the first is 0."""
        self._trouble, self._left, self._meanwhile = trouble, at, meanwhile
        self.has_struck = False

    def clear(self) -> None:
        """Let all go well."""
        self._trouble = Trouble.NONE
        self.has_struck = False

    def trouble(self) -> Trouble:
        """Return what befalls the next call after it was decided that it is made."""
        self._left -= 1
        if self._left != -1:
            return Trouble.NONE
        trouble, self._trouble = self._trouble, Trouble.NONE
        self.has_struck = trouble is not Trouble.NONE
        if trouble is Trouble.DEATH_BEFORE:
            raise Death
        if trouble is Trouble.MEANWHILE:
            self._meanwhile()
            return Trouble.NONE
        return trouble

    @contextmanager
    def call(self) -> Iterator[None]:
        """Make a call that may be repeated."""
        trouble = self.trouble()
        if trouble in (Trouble.UNSENT, Trouble.LATE):
            raise unanswered()
        yield
        if trouble is Trouble.DEATH_AFTER:
            raise Death
        if trouble is Trouble.LOST:
            raise unanswered()


def unanswered() -> ClientError:
    """Return the error of a service that does not answer."""
    error = {"Error": {"Code": "ServiceUnavailable"}, "ResponseMetadata": {"HTTPStatusCode": 503}}
    return ClientError(error, "Call")  # type: ignore[arg-type]


class LineWire(Wire):
    """The line between the ledger, the slots and their tables."""

    def __init__(self, dynamodb: Any, line: Line) -> None:
        super().__init__(dynamodb)
        self._line = line

    def batch_execute_statement(self, *, Statements: Statements) -> Any:  # noqa: N803 - boto3's name
        self.done, self.on_its_way = [False] * len(Statements), None
        trouble = self._line.trouble()
        self.done = [False] * len(Statements)  # somebody else may have written meanwhile
        self.fault = _OF_THE_LEDGER.get(trouble, Fault.NONE)
        answer = super().batch_execute_statement(Statements=Statements)
        if trouble is Trouble.DEATH_AFTER:
            raise Death
        return answer

    def update_item(self, **call: Any) -> Any:
        with self._aside():
            return self._dynamodb.update_item(**call)

    def get_item(self, **call: Any) -> Any:
        with self._aside():
            return self._dynamodb.get_item(**call)

    def batch_get_item(self, **call: Any) -> Any:
        with self._aside():
            return self._dynamodb.batch_get_item(**call)

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Make a call that says nothing of the last write, whatever somebody else writes meanwhile."""
        of_the_last = self.done, self.on_its_way
        with self._line.call():
            self.done, self.on_its_way = of_the_last
            yield


@dataclass(eq=False)
class Message:
    """A message; one that was deleted may come again all the same."""

    body: str
    number: int
    receives: int = 0
    is_deleted: bool = False


class Queues:
    """SQS as far as the functions use it. What is there may be received, whatever delay was asked for."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.messages: dict[str, list[Message]] = {}
        self.choose: Callable[[list[Message], int], list[Message]] = lambda messages, most: messages[:most]

    def put(self, url: str, body: str) -> None:
        """Put a message into a queue."""
        queue = self.messages.setdefault(url, [])
        queue.append(Message(body, len(queue)))

    def waiting(self, url: str) -> list[Message]:
        """Return the messages that are not deleted."""
        return [one for one in self.messages.setdefault(url, []) if not one.is_deleted]

    def receive_message(self, *, QueueUrl: str, MaxNumberOfMessages: int, **_: Any) -> Any:  # noqa: N803
        with self._line.call():
            received = self.choose(self.messages.setdefault(QueueUrl, []), MaxNumberOfMessages)
            for one in received:
                one.receives += 1
            return {"Messages": [self._received(QueueUrl, one) for one in received]}

    def _received(self, url: str, one: Message) -> dict[str, Any]:
        attributes = {"SentTimestamp": "0", "ApproximateReceiveCount": str(min(one.receives, 5))}
        handle = f"{url} {one.number}"
        return {"MessageId": handle, "ReceiptHandle": handle, "Body": one.body, "Attributes": attributes}

    def send_message_batch(self, *, QueueUrl: str, Entries: Sequence[Mapping[str, Any]]) -> Any:  # noqa: N803
        with self._line.call():
            for one in Entries:
                self.put(QueueUrl, one["MessageBody"])
            return {"Successful": [{"Id": one["Id"], "MessageId": one["Id"]} for one in Entries]}

    def delete_message_batch(self, *, QueueUrl: str, Entries: Sequence[Mapping[str, Any]]) -> None:  # noqa: N803
        with self._line.call():
            for one in Entries:
                self.messages[QueueUrl][int(one["ReceiptHandle"].split()[1])].is_deleted = True

    def change_message_visibility_batch(self, **_: Any) -> None:
        with self._line.call():
            pass


class Objects:
    """S3 as far as the functions use it."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.objects: dict[str, bytes] = {}

    def put_object(self, *, Key: str, Body: bytes, **_: Any) -> None:  # noqa: N803
        with self._line.call():
            self.objects[Key] = Body

    def get_object(self, *, Key: str, **_: Any) -> Any:  # noqa: N803
        with self._line.call():
            if Key not in self.objects:
                raise ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject")
            return {"Body": BytesIO(self.objects[Key])}

    def delete_object(self, *, Key: str, **_: Any) -> None:  # noqa: N803
        with self._line.call():
            self.objects.pop(Key, None)

    def list_objects_v2(self, *, Prefix: str, **_: Any) -> Any:  # noqa: N803
        with self._line.call():
            return {"Contents": [{"Key": key} for key in self.objects if key.startswith(Prefix)]}


@dataclass(eq=False)
class Running:
    """One execution as its service runs it.

    Attributes
    ----------
    is_hidden : bool
        Whether who looks for it by its name does not find it: nobody was told of it, and the list lags behind.

    """

    execution: Execution
    started_at: int
    attempt: Attempt | None = None
    is_hidden: bool = False

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.execution.state is ExecutionState.OPEN


@dataclass
class Service:
    """A service that runs executions.

    Attributes
    ----------
    is_workflow : bool
        Whether it makes one execution of a start by itself. Else it does so only if it is told to look first.
    ended : Callable
        Told of each execution that ends.
    answers : deque
        What the next starts are answered instead.

    """

    line: Line
    clock: Callable[[], int]
    is_workflow: bool
    ended: Callable[[Execution], object]
    running: list[Running] = field(default_factory=list)
    answers: deque[StartResult] = field(default_factory=deque)

    def start(self, submissions: Sequence[Submission]) -> list[StartResult]:
        return [self._start(one) for one in submissions]

    def _start(self, one: Submission) -> StartResult:
        is_made = False
        try:
            with self.line.call():
                if self.answers:
                    return self.answers.popleft()
                if self.is_workflow or one.is_again:
                    for there in self.running:
                        if there.execution.start_token == one.start_token and not there.is_hidden:
                            return Started(there.execution.handle)
                handle = f"execution-{len(self.running)}"
                now = self.clock()
                execution = Execution(one.key, one.start_token, handle, ExecutionState.OPEN, began_at=now)
                self.running.append(Running(execution, now))
                is_made = True
                return Started(handle)
        except ClientError as error:
            if is_made:
                self.running[-1].is_hidden = not self.is_workflow
            return failed_start(error)

    def stop(self, handle: str, reason: str) -> None:
        with self.line.call():
            for one in self.running:
                if one.execution.handle == handle:
                    self.end(one, stopped_for(reason))

    def look(self, handles: Sequence[str]) -> dict[str, Execution | None]:
        """Tell how executions stand; what was started a moment ago is not known to all servers yet."""
        with self.line.call():
            long_ago = self.clock() - _CONSISTENT_MS
            known = {one.execution.handle: one.execution for one in self.running if one.started_at < long_ago}
            return {handle: known.get(handle) for handle in handles}

    def end(self, one: Running, state: ExecutionState, **members: Any) -> None:
        """Let an execution end."""
        if one.is_open:
            one.execution = replace(one.execution, state=state, **members)
            self.ended(one.execution)


class Counts:
    """Stands for a function's `Measurements`: what was counted, by the job's type; each job has one of its own."""

    def __init__(self) -> None:
        self.of: dict[tuple[str, str | None], int] = {}

    def add(self, metric: Any, value: float = 1, *, job_type: str | None = None, **_: Any) -> None:  # noqa: ARG002
        self.of[metric.name, job_type] = self.of.get((metric.name, job_type), 0) + 1
