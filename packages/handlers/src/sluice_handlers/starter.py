"""Starts the jobs of the external executors: as many as may run at once, oldest first.

It pulls. Nothing is received before there is a slot for it, so that nothing is put back for want of room, nobody
waits for room, and a queue's own metrics show the backlog. Whoever queues a job or frees a slot wakes it; should a
wake be lost, it runs each minute all the same.

A start is made in steps: its slot and token are taken, the job's input is put where its work will look, the row
says that it begins, the service is asked, the row gets the handle, and the message is acknowledged. Whoever dies in
between leaves a message, which comes back to a row that says how far it got, and the same token makes it the same
start.
"""

from __future__ import annotations

import os
import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from sluice_core import clients, metrics
from sluice_core.executors import CANCELLED, Execution, ExecutionState, Refused, Retry, Started
from sluice_core.ledger import Outcome, Start
from sluice_core.requests import MalformedMessage
from sluice_core.work_queue import read_work_message

from sluice_handlers.batches import Batch
from sluice_handlers.settling import Settlement, Settler, Stage
from sluice_handlers.telemetry import Measurements, logger, report
from sluice_handlers.tracing import Tracer, trace_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mypy_boto3_sqs.type_defs import MessageTypeDef
    from sluice_core.executors import StartResult
    from sluice_core.jobs import JobError, JobKey, Submission
    from sluice_core.ledger import Write

    from sluice_handlers.heartbeat import LambdaContext

_MOST = 10  # ReceiveMessage, Amazon SQS API Reference
# Long polling asks all of SQS's servers; an empty answer then means an empty queue.
_WAIT_S = 1
# No other look is begun with less time left: one takes some seconds if a service is slow.
_RESERVE_MS = 20_000
# What a starter that has died received comes back so long after its time was up.
_AFTER_S = 5
# Whoever meets another's lease comes back this much after its end, and not all at the same time.
_AFTER_LEASE_S = (1, 5)

_stage = Stage.connect(os.environ)
_sqs = clients.sqs()
_max_receives = int(os.environ["MAX_RECEIVES"])
_queue_urls = {name: os.environ[f"{name.upper()}_QUEUE_URL"] for name in _stage.executors}
_caps = {name: int(os.environ[f"{name.upper()}_MAX_RUNNING"]) for name in _stage.executors}


def handler(event: Mapping[str, Any], context: LambdaContext) -> dict[str, int]:
    """Start what there is room for, of the executor that a wake names or of all; return how many were started."""
    names = [event["executor"]] if "executor" in event else list(_stage.executors)
    started = 0
    with Measurements() as measured:
        # Where one of them fails or takes all the time, none is always behind it.
        for name in random.sample(names, len(names)):
            go_on = True
            while go_on and context.get_remaining_time_in_millis() > _RESERVE_MS:
                with Tracer("sluice-starter", f"{name}-queue") as tracer:
                    pull = _Pull(name, context, measured, tracer)
                    go_on = pull.run()
                started += pull.started
                measured.write()
    return {"started": started}


class _Pull:
    """One look into an executor's queue: up to ten jobs, from message to handle."""

    def __init__(self, executor: str, context: LambdaContext, measured: Measurements, tracer: Tracer) -> None:
        self._executor = executor
        self._context = context
        self._measured = measured
        self._tracer = tracer
        self._settler = Settler(_stage, measured)
        self._batch = Batch([], _sqs, _queue_urls[executor], _max_receives)
        # As their messages have them: the start whose place is to be taken.
        self._messages: dict[JobKey, Submission] = {}
        self._spare: list[str] = []
        self._is_put_off = False
        self.started = 0

    def run(self) -> bool:
        """Start what there are slots and messages for, and say whether there may be more of both."""
        tokens = _stage.slots.take(self._executor, _caps[self._executor], _MOST, _now_ms())
        if not tokens:
            return False
        jobs: list[Submission] = []
        try:
            messages = self._receive(len(tokens))
            jobs = self._with_inputs(self._parse(messages))
        finally:
            _stage.slots.free(self._executor, tokens[len(jobs) :])
        begun = self._begin(jobs, tokens)
        _stage.slots.free(self._executor, self._spare)
        self._note(begun, self._start(begun))
        self._batch.acknowledge(self._messages)
        self._batch.put_back()
        self._settler.free_slots()
        return bool(messages) and not self._is_put_off

    def _receive(self, most: int) -> Sequence[MessageTypeDef]:
        """Take messages, and hide them for as long as this invocation may live."""
        answer = _sqs.receive_message(
            QueueUrl=_queue_urls[self._executor],
            MaxNumberOfMessages=most,
            WaitTimeSeconds=_WAIT_S,
            VisibilityTimeout=self._context.get_remaining_time_in_millis() // 1000 + _AFTER_S,
            MessageSystemAttributeNames=["All"],
        )
        return answer.get("Messages", [])

    def _parse(self, messages: Sequence[MessageTypeDef]) -> list[Submission]:
        for message in messages:
            record = _as_record(message)
            try:
                submission = read_work_message(record["body"], record["attributes"].get("AWSTraceHeader", ""))
            except MalformedMessage as error:
                logger.error("malformed message", messageId=record["messageId"], reason=str(error))
                self._batch.fail_message(record)
                continue
            if record["attributes"]["ApproximateReceiveCount"] == "1":  # later ones leave SQS's own age of the oldest
                age_ms = _now_ms() - int(record["attributes"]["SentTimestamp"])
                self._measured.add(metrics.WORK_AGE_OF_FIRST_ATTEMPT, age_ms, job_type=submission.job_type)
            if self._batch.add(submission.key, record):
                self._messages[submission.key] = self._tracer.follow(submission, record)
        return list(self._messages.values())

    def _with_inputs(self, jobs: Sequence[Submission]) -> list[Submission]:
        """Put the jobs' inputs where their work looks for them, and return the jobs that have theirs."""
        ready = []
        for job in jobs:
            try:
                with self._tracer.call([job.key], "S3", "PutObject"):
                    _stage.inputs.put(job)
            except (ClientError, BotoCoreError) as error:
                if not clients.is_transient(error):
                    raise
                self._put_off(job.key, type(error).__name__)
            else:
                ready.append(job)
        return ready

    def _begin(self, jobs: Sequence[Submission], tokens: Sequence[str]) -> list[Submission]:
        """Put on record that starts begin, and return those that are ours to make, each with its token."""
        starts = [
            Start(job.key, token, self._executor, job.start_token) for job, token in zip(jobs, tokens, strict=False)
        ]
        with self._tracer.call([job.key for job in jobs], "DynamoDB", "BatchExecuteStatement"):
            writes = _stage.ledger.begin(starts, _now_ms())
        begun = []
        for job, start, write in zip(jobs, starts, writes, strict=True):
            if write.is_written:
                begun.append(replace(job, start_token=start.token, is_again=False))
            elif write.outcome is Outcome.UNAVAILABLE:
                self._put_off(job.key, "the ledger does not answer")  # it may have begun: the slot stays taken
            else:
                self._spare.append(start.token)
                begun += self._begun_before(job, write)
        return begun

    def _begun_before(self, job: Submission, write: Write) -> list[Submission]:
        """Return the start under way that a message's receiver did not live to make; else see to the message."""
        row = write.job
        if row is None:
            self._batch.retry([job.key])  # of no job at all: that is for an operator to look at
        elif write.has_ended:
            self._delete_input(job.key)
        elif row.executing == self._executor and not row.handle:
            return [replace(job, start_token=row.start_token, is_again=True)]
        elif row.executing:
            pass  # somebody has made it
        ...
        return []
