"""Starts the jobs of the external executors: as many as may run at once, oldest first.

It pulls. Nothing is received before there is a slot for it, so that nothing is put back for want of room, nobody
waits for room, and a queue's own metrics show the backlog. Whoever queues a job or frees a slot wakes it; should a
wake be lost, it runs each minute all the same.

A start is made in steps: a slot and its token are taken, the job's input is put where its work will look, the row
says that the start has begun, the message is acknowledged, the service is asked, and the row gets the handle. The
message brings the job back until the start has begun. From then on the row does, which is in the index of
executions: what has begun and has no handle, for the service put it off or a starter died, is taken up again each
minute, by its token as the same start.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from sluice_core import clients, leases, metrics
from sluice_core.executors import CANCELLED, Execution, ExecutionState, Refused, Retry, Started
from sluice_core.jobs import JobStatus, now_ms
from sluice_core.ledger import Outcome, Start
from sluice_core.requests import MalformedMessage
from sluice_core.work_queue import read_work_message

from sluice_handlers.batches import Batch, backoff_s
from sluice_handlers.pools import Pools
from sluice_handlers.settling import Settler, find_input
from sluice_handlers.signals import stop
from sluice_handlers.telemetry import Measurements, logger, report
from sluice_handlers.tracing import Tracer, trace_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sluice_core.jobs import Job, JobError, JobKey, Submission
    from sluice_core.ledger import Write

    from sluice_handlers.heartbeat import LambdaContext

_MOST = 10  # ReceiveMessage, Amazon SQS API Reference
# Long polling asks all of SQS's servers; an empty answer then means an empty queue.
_WAIT_S = 1
_LONGEST_DELAY_S = 900  # SendMessage, ibid.
# Nothing more is begun with less time left: ten starts take some seconds if a service is slow. If it is slower,
# this invocation dies, and the next run resumes what it has begun.
_RESERVE_MS = 20_000
# What a starter that has died received comes back so long after its time was up.
_AFTER_S = 5
# A starter's timeout: whoever began a start so long ago makes it no more.
_LIFE_MS = 60_000

_pools = Pools.connect(os.environ)


def handler(event: Mapping[str, Any], context: LambdaContext) -> None:
    """Start what there is room for, of the executor that a wake names, or each minute of all."""
    executors = [event["executor"]] if "executor" in event else list(_pools.by_executor)

    def has_time() -> bool:
        return context.get_remaining_time_in_millis() > _RESERVE_MS

    with Measurements() as measured:
        # Where one of them fails or takes all the time, none is always behind it.
        for executor in random.sample(executors, len(executors)):
            if "executor" not in event:
                with _tracer(executor) as tracer:
                    Starter(_pools, executor, measured, tracer).resume(has_time)
            go_on = True
            while go_on and has_time():
                hidden_s = context.get_remaining_time_in_millis() // 1000 + _AFTER_S
                with _tracer(executor) as tracer:
                    go_on = Starter(_pools, executor, measured, tracer).pull(hidden_s)
                measured.write()


def _tracer(executor: str) -> Tracer:
    return Tracer("sluice-starter", f"{executor}-queue")


class Starter:
    """Starts up to ten jobs of one executor, or those that were begun before."""

    def __init__(self, pools: Pools, executor: str, measured: Measurements, tracer: Tracer) -> None:
        self._pools = pools
        self._executor = executor
        self._pool = pools.by_executor[executor]
        self._measured = measured
        self._tracer = tracer
        self._settler = Settler(pools, measured)
        self._is_put_off = False

    def pull(self, hidden_s: int) -> bool:
        """Start what there are slots and messages for, and say whether there may be more of both.

        Parameters
        ----------
        hidden_s : int
            How long messages are hidden from other starters, in seconds: for as long as this one may live.

        """
        tokens = self._pools.slots.take(self._executor, self._pool.cap, _MOST, now_ms())
        if not tokens:
            return False
        records: list[dict[str, Any]] = []
        try:
            records = self._receive(len(tokens), hidden_s)
        finally:
            self._pools.slots.free(self._executor, tokens[len(records) :])
        if not records:
            return False
        intake = _Intake(self._pools, self._executor, records, self._measured, self._tracer)
        begun = intake.begin(tokens[: len(records)])
        self._make(begun)
        return not (intake.is_put_off or self._is_put_off)

    def resume(self, has_time: Callable[[], bool]) -> None:
        """Make the starts that had begun and were not made, oldest first, while there is time."""
        begun_at = self._pools.ledger.executing(self._executor)
        old = [key for key, since in begun_at.items() if since < now_ms() - _LIFE_MS]
        rows = self._pools.ledger.get_many(old)
        left = [rows[key] for key in old if key in rows and _is_left(rows[key], self._executor)]
        while left and has_time() and not self._is_put_off:
            some, left = left[:_MOST], left[_MOST:]
            self._make([job for row in some if (job := self._job(row))])

    def _receive(self, most: int, hidden_s: int) -> list[dict[str, Any]]:
        """Take messages, and return them as Lambda delivers them."""
        answer = self._pools.sqs.receive_message(
            QueueUrl=self._pool.queue_url,
            MaxNumberOfMessages=most,
            WaitTimeSeconds=_WAIT_S,
            VisibilityTimeout=hidden_s,
            MessageSystemAttributeNames=["All"],
        )
        return [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message["Attributes"],
            }
            for message in answer.get("Messages", [])
        ]

    def _job(self, row: Job) -> Submission | None:
        """Return what is to be started of a row; without its input it can only be given up."""
        try:
            job = find_input(self._pools.inputs, row.key)
        except (ClientError, BotoCoreError) as error:
            if not clients.is_transient(error):
                raise
            logger.warning("not resumed", jobId=row.key.job_id, error=type(error).__name__)
            return None
        if job is None:
            lost = Execution(row.key, row.start_token, "", ExecutionState.LOST)
            self._settler.settle(self._executor, lost)
            return None
        return replace(job, start_token=row.start_token, is_again=True)

    def _make(self, jobs: Sequence[Submission]) -> None:
        """Ask the service to start jobs whose starts have begun, and put on record what it answers."""
        if not jobs:
            return
        with self._tracer.call([job.key for job in jobs], self._executor, "Start"):
            results = self._pool.service.start(jobs)
        started = []
        for job, result in zip(jobs, results, strict=True):
            match result:
                case Started(handle):
                    started.append((job, handle))
                case Refused():
                    self._refuse(job, result.error)
                case Retry(reason):
                    self._put_off(job, reason)
        self._note(started)
        self._settler.free_slots()

    def _refuse(self, job: Submission, error: JobError) -> None:
        """End a job that its executor will never take."""
        failed = Execution(job.key, job.start_token, "", ExecutionState.FAILED, error=error)
        self._settler.settle(self._executor, failed)  # if that cannot be written now, it is refused again later

    def _put_off(self, job: Submission, reason: str) -> None:
        self._is_put_off = True
        self._measured.add(metrics.EXECUTIONS_NOT_STARTED)
        self._report("put off", job, is_bad=True, reason=reason)

    def _note(self, started: Sequence[tuple[Submission, str]]) -> None:
        """Put the handles on record, and stop what nobody wants any more by then.

        Who cancels a job reads its row after that, and stops what it names. Who did so before the handle was there
        is found here.
        """
        handles = [(Start(job.key, job.start_token, self._executor), handle) for job, handle in started]
        with self._tracer.call([job.key for job, _ in started], "DynamoDB", "BatchExecuteStatement"):
            writes = self._pools.ledger.note_handles(handles, now_ms())
        rows = self._pools.ledger.get_many([job.key for job, _ in started], consistent=True)
        for (job, handle), write in zip(started, writes, strict=True):
            if write.outcome is Outcome.UNAVAILABLE:
                continue  # if it is not on record, the start is made again
            self._measured.add(metrics.JOBS_STARTED, job_type=job.job_type)
            self._report("started", job, handle=handle)
            row = rows.get(job.key)
            if row is None or row.start_token != job.start_token or _has_ended_without_it(row):
                stop(self._pool.service, self._executor, job.key, handle, CANCELLED)

    def _report(self, outcome: str, job: Submission, *, is_bad: bool = False, **fields: Any) -> None:
        self._tracer.end(job.key, outcome)
        report(
            outcome,
            job.key,
            is_bad=is_bad,
            jobType=job.job_type,
            traceId=trace_id(job.trace_header),
            executor=self._executor,
            queueWaitMs=now_ms() - job.submitted_at,
            **fields,
        )


class _Intake:
    """What came for an executor: up to ten messages, of which each job is to begin its next start.

    Attributes
    ----------
    is_put_off : bool
        Whether some could not begin for now, so that it is better to come back later.

    """

    def __init__(
        self,
        pools: Pools,
        executor: str,
        records: Sequence[Mapping[str, Any]],
        measured: Measurements,
        tracer: Tracer,
    ) -> None:
        self._pools = pools
        self._executor = executor
        self._pool = pools.by_executor[executor]
        self._batch = Batch(records, pools.sqs, self._pool.queue_url, pools.max_receives)
        self._records = records
        self._measured = measured
        self._tracer = tracer
        self.is_put_off = False

    def begin(self, tokens: Sequence[str]) -> list[Submission]:
        """Begin starts, each with a token whose slot is taken, see to the messages, and return what has begun."""
        jobs = [job for job in self._parse() if self._has_input(job)]
        pairs = zip(jobs, tokens[: len(jobs)], strict=True)
        starts = [Start(job.key, token, self._executor, after=job.start_token) for job, token in pairs]
        with self._tracer.call([job.key for job in jobs], "DynamoDB", "BatchExecuteStatement"):
            writes = self._pools.ledger.begin(starts, now_ms())
        begun, spare = [], set(tokens[len(jobs) :])
        for job, start, write in zip(jobs, starts, writes, strict=True):
            match write.outcome:
                case Outcome.WRITTEN:
                    begun.append(replace(job, start_token=start.token, is_again=False))
                case Outcome.REFUSED:
                    spare.add(start.token)
                    self._give_way(job, write)
                case Outcome.UNAVAILABLE:
                    self._put_off(job, "the ledger does not answer")  # it may have begun: its slot stays taken
        self._pools.slots.free(self._executor, spare)
        self._batch.acknowledge([job.key for job in jobs])
        self._batch.put_back()
        return begun

    def _parse(self) -> list[Submission]:
        jobs: dict[JobKey, Submission] = {}
        for record in self._records:
            try:
                job = read_work_message(record["body"], record["attributes"].get("AWSTraceHeader", ""))
            except MalformedMessage as error:
                logger.error("malformed message", messageId=record["messageId"], reason=str(error))
                self._batch.fail_message(record)
                continue
            # Later ones leave SQS's own age.
            if record["attributes"]["ApproximateReceiveCount"] == "1" and not job.is_again:
                age_ms = now_ms() - int(record["attributes"]["SentTimestamp"])
                self._measured.add(metrics.WORK_AGE_OF_FIRST_ATTEMPT, age_ms, job_type=job.job_type)
            self._batch.add(job.key, record)
            # Of a job's messages the latest start's counts, whose token is the greatest: the others are moot.
            if job.key not in jobs or job.start_token > jobs[job.key].start_token:
                jobs[job.key] = self._tracer.follow(job, record)
        return list(jobs.values())

    def _has_input(self, job: Submission) -> bool:
        """Put a job's input where its work looks for it."""
        try:
            with self._tracer.call([job.key], "S3", "PutObject"):
                self._pools.inputs.put(job)
        except (ClientError, BotoCoreError) as error:
            if not clients.is_transient(error):
                raise
            self._put_off(job, type(error).__name__)
            return False
        return True

    def _give_way(self, job: Submission, write: Write) -> None:
        """See to the message of a job that cannot begin this start; it is acknowledged unless it is left here."""
        row = write.job
        if row is None:
            self._batch.retry([job.key])  # of no job at all: that is for an operator to look at
        elif write.has_ended:
            self._delete_input(job)
        elif row.start_token == job.start_token:
            # The start before this one is not closed yet, or its container or a batch simulator has a lease still.
            self._leave(job, leases.free_in_s(row.lease_until, now_ms()))
        elif not row.start_token and not self._is_queued_anew(replace(job, start_token="")):
            self._leave(job)  # an operator has brought the job back: it is of no start any more
        # Else it has begun that start already, or a later one.

    def _put_off(self, job: Submission, reason: str) -> None:
        self.is_put_off = True
        self._measured.add(metrics.EXECUTIONS_NOT_STARTED)
        report("put off", job.key, is_bad=True, jobType=job.job_type, executor=self._executor, reason=reason)
        self._leave(job)

    def _leave(self, job: Submission, seconds: float | None = None) -> None:
        """Leave a job's message for so long, or for a backoff; it is never set aside, for nothing has failed."""
        if seconds is None:
            seconds = backoff_s(self._batch.receives(job.key))
        if not (self._batch.is_last_receive(job.key) and self._is_queued_anew(job, round(seconds))):
            self._batch.wait(job.key, seconds)

    def _is_queued_anew(self, job: Submission, delay_s: int = 0) -> bool:
        """Put a new message in the place of one, which is then acknowledged."""
        again = replace(job, is_again=True)
        [queued] = self._pool.queue.start([again], delay_s=min(delay_s, _LONGEST_DELAY_S))
        return isinstance(queued, Started)

    def _delete_input(self, job: Submission) -> None:
        try:
            self._pools.inputs.delete(job.key)
        except (ClientError, BotoCoreError) as error:
            logger.warning("not deleted", jobId=job.key.job_id, error=type(error).__name__)


def _is_left(row: Job, executor: str) -> bool:
    """Whether a start has begun and was not made, as far as the row knows."""
    return row.status.is_open and row.executing == executor and not row.handle


def _has_ended_without_it(row: Job) -> bool:
    """Whether a job has ended otherwise than by its execution."""
    return not row.status.is_open and row.status is not JobStatus.COMPLETED
