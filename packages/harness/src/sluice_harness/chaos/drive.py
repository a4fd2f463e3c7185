"""Drives a deployed stage through a chaos run: clients, faults and a stopped processor, then the drain."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sluice_core.rows import read_row

from sluice_harness.chaos.traffic import Traffic
from sluice_harness.live_functions import live, mappings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sluice_core.jobs import Job

    from sluice_harness.chaos.faults import Faults
    from sluice_harness.chaos.plan import PlannedJob
    from sluice_harness.description import StageDescription
    from sluice_harness.local_stage import LocalStage

# The template's 180 and 360 s are six times the functions' timeouts; a worker that dies would leave its messages
# hidden for most of the run. As there, longer than a lease, so that whoever finds the message finds the job free.
VISIBILITY_S = 40
# The processor stops when so much of the work is submitted, for a quarter of the submission time at most.
_PAUSE_AT = 0.3
_PAUSE_SHARE = 0.25
_PAUSE_S = 15.0
_LOOK_EVERY_S = 2.0
# In AWS its schedule alone calls it, each minute; here it is called oftener while the run drains.
_SWEEP_EVERY_S = 20.0
# Longer than a dead-letter queue's reader hides what it reads.
_HIDDEN_S = 130.0
_GRACE_S = 15.0
_WAITING = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed")
_IN_FLIGHT = "ApproximateNumberOfMessagesNotVisible"


@dataclass(frozen=True, slots=True)
class Schedule:
    """When what happens; `calm_at` and `ends_at` are moments of the monotonic clock.

    Attributes
    ----------
    rate : float
        How many jobs are submitted per second.
    faults_until : float
        After the end of how many jobs no more faults happen.
    calm_at : float
        When no more faults happen in any case, lest a run that drains slowly never does.
    ends_at : float
        When the run is over, drained or not.
    settle_s : float
        How long after the drain the audit begins, if there is as much time.

    """

    rate: float
    faults_until: float
    calm_at: float
    ends_at: float
    settle_s: float


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    accepted: int
    ended: int
    queued: int


class Drive:
    """One run on one stage.

    Parameters
    ----------
    tell : callable
        Told how far the run is, every two seconds.

    """

    def __init__(
        self,
        stage: LocalStage,
        description: StageDescription,
        plan: Sequence[PlannedJob],
        faults: Faults,
        schedule: Schedule,
        *,
        tell: Callable[[Progress], None],
    ) -> None:
        self._stage = stage
        self._description = description
        self._faults = faults
        self._schedule = schedule
        self._tell = tell
        self._submitting_s = len(plan) / schedule.rate
        self.traffic = Traffic(description, plan, schedule.rate)
        self.drained_after_s: float | None = None
        self.settled_s = 0.0

    async def run(self) -> None:
        """Run until everything has drained and settled, or the time is up; then no more faults happen."""
        began = time.monotonic()
        self._lower_visibility()
        self._faults.start()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._schedule.ends_at - began):
                    await self._until_drained()
                    self.drained_after_s = time.monotonic() - began
        finally:
            self._faults.stop()
        if self.drained_after_s is not None:
            self.settled_s = max(0.0, min(self._schedule.settle_s, self._schedule.ends_at - time.monotonic()))
            await asyncio.sleep(self.settled_s)
        await self._until_shown()

    async def _until_drained(self) -> None:
        sweep = asyncio.create_task(self._sweep())
        try:
            async with asyncio.TaskGroup() as tasks:
                clients = tasks.create_task(self.traffic.run())
                tasks.create_task(self._stop_processor())
                tasks.create_task(self._watch(clients))
        finally:
            sweep.cancel()

    async def _watch(self, clients: asyncio.Task[None]) -> None:
        """Look at the table and the queues until the clients have done and nothing is left."""
        while True:
            jobs = await asyncio.to_thread(self.jobs)
            queued = await asyncio.to_thread(self._queued)
            ended = sum(not job.status.is_open for job in jobs.values())
            self._tell(Progress(self.traffic.accepted, ended, queued))
            if ended >= self._schedule.faults_until or time.monotonic() > self._schedule.calm_at:
                self._faults.stop()
            # Rows first, then queues: whatever was in a queue when the rows were read still counts.
            if clients.done() and not queued and ended >= self.traffic.accepted:
                return
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _sweep(self) -> None:
        await asyncio.sleep(self._submitting_s)
        invoke = self._client("lambda").invoke
        while True:
            sweeper = live(self._description.functions.sweeper)
            await asyncio.to_thread(invoke, FunctionName=sweeper, InvocationType="Event")
            await asyncio.sleep(_SWEEP_EVERY_S)

    async def _stop_processor(self) -> None:
        """Disable the processor's event source mapping for a while."""
        await asyncio.sleep(_PAUSE_AT * self._submitting_s)
        lambda_ = self._client("lambda")
        [mapping] = mappings(lambda_, self._description.functions.processor)
        await asyncio.to_thread(lambda_.update_event_source_mapping, UUID=mapping, Enabled=False)
        await asyncio.sleep(min(_PAUSE_S, _PAUSE_SHARE * self._submitting_s))
        await asyncio.to_thread(lambda_.update_event_source_mapping, UUID=mapping, Enabled=True)

    async def _until_shown(self) -> None:
        """Wait for what a sweeper that died has hidden in a dead-letter queue, lest the audit miss it."""
        queues = self._description.queues
        deadline = min(time.monotonic() + _HIDDEN_S, self._schedule.ends_at + _GRACE_S)
        urls = (queues.request.dlqUrl, queues.work.dlqUrl)
        while any(self._counts(url)[_IN_FLIGHT] for url in urls) and time.monotonic() < deadline:
            await asyncio.sleep(_LOOK_EVERY_S)

    def jobs(self) -> dict[tuple[str, str], Job]:
        """Return every job on record."""
        pages = self._client("dynamodb").get_paginator("scan").paginate(TableName=self._description.jobTable)
        jobs = [read_row(item) for page in pages for item in page["Items"]]
        return {(job.key.owner, job.key.job_id): job for job in jobs}

    def _queued(self) -> int:
        queues = self._description.queues
        return sum(sum(self._counts(url).values()) for url in (queues.request.url, queues.work.url))

    def _counts(self, url: str) -> dict[str, int]:
        names = [*_WAITING, _IN_FLIGHT]
        answer = self._client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)
        return {name: int(value) for name, value in answer["Attributes"].items()}

    def _lower_visibility(self) -> None:
        queues = self._description.queues
        for url in (queues.request.url, queues.work.url):
            self._client("sqs").set_queue_attributes(
                QueueUrl=url, Attributes={"VisibilityTimeout": str(VISIBILITY_S)}
            )

    @functools.cache  # noqa: B019 - one object a run
    def _client(self, service: str) -> Any:
        return self._stage.client(service)
