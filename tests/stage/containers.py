"""The containers of a stage, which are processes here, and somebody who kills them."""

from __future__ import annotations

import contextlib
import os
import random
import re
import select
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from stage.executions import slots
from stage.processes import PROC, children_of, command, engine_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from types import TracebackType

    from stage.running import RunningStage

_LOOK_EVERY_S = 0.05
# A host that is lost says nothing; one that is taken away in order says so with SIGTERM.
_SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)


@dataclass(frozen=True)
class Container:
    """One container that runs: a process, and which start of which job it is."""

    pid: int
    job_id: str
    start_token: str


def containers_of(engine: int) -> list[Container]:
    """Find the containers that an engine runs, by what its children are told."""
    found = []
    for pid in children_of(engine):
        if "sluice_core.run_job" in command(pid):
            with contextlib.suppress(OSError, KeyError):  # it has ended meanwhile
                told = (PROC / str(pid) / "environ").read_text(errors="replace")
                settings = dict(re.findall(r"(SLUICE_\w+)=([^\0]*)", told))
                found.append(Container(pid, settings["SLUICE_JOB_ID"], settings["SLUICE_START_TOKEN"]))
    return found


@dataclass(frozen=True)
class Blow:
    """What is to befall a container: which signal, so long after it was seen first."""

    number: signal.Signals
    after_s: float


@dataclass
class Killer:
    """Kills containers inside a ``with`` block, at points of their lives that a seed says.

    Attributes
    ----------
    share : float
        How many of the starts that may be struck are.
    most : int
        Which start of a job is the last that is struck; a job is given up after its fifth.
    within_s : float
        How long after it was seen a container is struck at the latest.
    when_dead : callable
        Told of each container that is gone without a word, once it is.
    signals : sequence
        One of which each blow is.
    seen : list
        Every container so far.
    struck : list
        The containers that were struck, and how.

    """

    stage: RunningStage
    seed: int
    share: float
    most: int
    within_s: float
    when_dead: Callable[[Container], object] = lambda _: None
    signals: Sequence[signal.Signals] = _SIGNALS
    seen: list[Container] = field(default_factory=list)
    struck: list[tuple[Container, Blow]] = field(default_factory=list)
    most_at_once: int = 0
    _due: list[tuple[float, Container, Blow, int]] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._engine = engine_of(self.stage)
        self._thread = threading.Thread(target=self._kill, name="killer")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def blow(self, job_id: str, start: int) -> Blow | None:
        """Return what befalls a job's start (1 is its first): the same for the same seed."""
        draw = random.Random(f"{self.seed} {job_id} {start}")
        if start > self.most or draw.random() > self.share:
            return None
        return Blow(draw.choice(self.signals), draw.uniform(0, self.within_s))

    def _kill(self) -> None:
        while not self._ended.wait(_LOOK_EVERY_S):
            running = containers_of(self._engine)
            self.most_at_once = max(self.most_at_once, len(running))
            for container in running:
                if container not in self.seen:
                    self._plan(container)
            for due in [one for one in self._due if one[0] <= time.monotonic()]:
                self._due.remove(due)
                self._strike(*due[1:])

    def _plan(self, container: Container) -> None:
        self.seen.append(container)
        start = sum(one.job_id == container.job_id for one in self.seen)
        blow = self.blow(container.job_id, start)
        if blow:
            with contextlib.suppress(ProcessLookupError):
                # It names this very process, however long its number has been another's.
                descriptor = os.pidfd_open(container.pid)
                self._due.append((time.monotonic() + blow.after_s, container, blow, descriptor))

    def _strike(self, container: Container, blow: Blow, descriptor: int) -> None:
        with contextlib.suppress(ProcessLookupError), os.fdopen(descriptor):
            signal.pidfd_send_signal(descriptor, blow.number)
            self.struck.append((container, blow))
            if blow.number is signal.SIGKILL:
                select.select([descriptor], [], [])  # readable once it is dead (pidfd_open(2))
                self.when_dead(container)

    def report(self) -> str:
        """Say in a line what was seen and done."""
        signals = Counter(blow.number.name for _, blow in self.struck)
        struck = ", ".join(f"{number} {name}" for name, number in signals.items())
        return f"{len(self.seen)} containers, {self.most_at_once} at once; struck: {struck}"


def lapse(stage: RunningStage, owner: str, dead: Container) -> None:
    """Let a dead container's lease lapse, as it would half a minute later."""
    dynamodb = stage.client("dynamodb")
    # Refused if it was killed before its claim, or after its end.
    with contextlib.suppress(dynamodb.exceptions.ConditionalCheckFailedException):
        dynamodb.update_item(
            TableName=stage.description.jobTable,
            Key={"jobKey": {"S": f"{owner}#{dead.job_id}"}},
            UpdateExpression="SET leaseUntil = :past",
            ConditionExpression="startToken = :its AND #status = :running",
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues={
                ":past": {"N": "1"},
                ":its": {"S": dead.start_token},
                ":running": {"S": "RUNNING"},
            },
        )


def left_over(stage: RunningStage, executors: Collection[str]) -> dict[str, list[Any]]:
    """Return what a stage still has of external executors' jobs that have ended."""
    queues = [getattr(stage.description.queues, name) for name in (*executors, "completion")]
    left = {
        "messages": [url for queue in queues for url in (queue.url, queue.dlqUrl) if stage.depth(url)],
        "slots": [token for executor in executors for token in slots(stage).held(executor)],
        "executing": [row["jobKey"]["S"] for row in stage.rows() if "executing" in row],
        "inputs": stage.objects("inputs/"),
        "containers": containers_of(engine_of(stage)),
    }
    return {name: found for name, found in left.items() if found}
