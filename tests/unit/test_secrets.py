"""What a client sends, and what opens doors, is in no function's logs and metrics, however things go."""

from __future__ import annotations

import json
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from sluice_core.executors import Refused, Retry
from sluice_core.jobs import JobError, StoredResult
from sluice_core.ledger import Attempt
from sluice_core.rows import new_row
from sluice_core.work_queue import WorkQueueExecutor
from sluice_handlers import heartbeat
from unit.beats import BEAT_S, wait_for_beats
from unit.conftest import RETENTION_S
from unit.lambda_events import ANN, BEN, Context, api_event, handle, job, request_record, row, sqs_record
from unit.wire_faults import Fault

if TYPE_CHECKING:
    from types import ModuleType

    from sluice_core.ledger import JobLedger
    from unit.conftest import Dispatch, Load, Meanwhile
    from unit.external_stage import ExternalStage
    from unit.resources import Output, WorkQueue
    from unit.wire_faults import Wire

SECRET = "hunter2-secret"
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl"
JOB = job("mine", secret=SECRET)
ENVELOPE = {"level", "message", "timestamp", "service"}
# All that a log line may say beyond these; none of it is the client's but the id that their token becomes.
MAY_SAY = {
    *("outcome", "jobId", "jobType", "traceId", "attempt"),
    *("messageId", "code", "reason", "error", "status", "events", "codes"),
    *("queueWaitMs", "runMs", "endToEndMs", "bytes", "jobs", "messages"),
    *("executor", "handle", "starts", "slots", "step", "why"),
}
# Of EMF documents: a dimension or two, and the metrics by name.
DIMENSIONS = ({"Stage"}, {"Stage", "JobType"}, {"Stage", "Executor"})


@pytest.fixture(autouse=True)
def nothing_slips_out(output: Output) -> Any:
    """Look at all that was printed, after each test."""
    yield
    printed = output.text
    for secret in (SECRET, TOKEN, ANN, BEN, "Traceback"):
        assert secret not in printed
    for line in output.logs:
        assert set(line) <= ENVELOPE | MAY_SAY, line
    for document in output.emf:
        [directive] = document["_aws"]["CloudWatchMetrics"]
        assert set(directive["Dimensions"][0]) in DIMENSIONS
        names = {metric["Name"] for metric in directive["Metrics"]}
        assert set(document) == {"_aws", *names, *directive["Dimensions"][0]}
    assert printed  # else nothing was looked at


def api(function: ModuleType, job_id: str | None, **request: Any) -> None:
    """Call a function of the API with a token in the header and a secret wherever a client may put one."""
    event = api_event(job_id, **request)
    event["headers"] = {"Authorization": f"Bearer {TOKEN}", "Cookie": SECRET}
    event["body"] = SECRET
    function.handler(event, None)


@pytest.mark.parametrize("fault", [None, *Fault])
def test_of_the_processor(processor: ModuleType, ledger: JobLedger, wire: Wire, *, fault: Fault | None) -> None:
    # Given requests of every kind, and calls that fail in every way
    ledger.record([job("known", secret=SECRET)])
    bodies: list[tuple[str, Any]] = [
        ("fresh", {"jobType": "scripted", "parameters": {"secret": SECRET}}),
        ("known", {"jobType": "scripted", "parameters": {"secret": SECRET * 2}}),
        ("bad-1", {"jobType": SECRET}),
        ("bad-2", f'{{"{SECRET}'),
        ("bad-3", {SECRET: 1}),
        ("bad-4", {"jobType": "scripted", "parameters": {"do": SECRET}}),
    ]
    for operation in ("BatchExecuteStatement", "SendMessageBatch", "UpdateItem") if fault else ():
        assert fault is not None
        wire.strike(fault, operation, times=1)
    records = [*(request_record(job_id, body) for job_id, body in bodies), sqs_record(SECRET)]

    # Lambda logs what is raised, too
    raised = []
    for _ in range(3):
        try:
            handle(processor, *records)
        except (ClientError, BotoCoreError) as error:
            raised.append(repr(error))

    assert bool(raised) is (fault is Fault.DENIED)
    assert SECRET not in str(raised)


@pytest.mark.parametrize("change", [None, "claim", "complete", "fail", "release"])
def test_of_the_worker(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, *, wire: Wire, change: str | None
) -> None:
    jobs = [job(f"job-{do}", do=do, secret=SECRET) for do in ("succeed", "permanent", "transient")]
    ledger.record(jobs)
    records = [*dispatch(*jobs), sqs_record(SECRET), sqs_record(json.dumps({"owner": ANN, "jobId": SECRET}))]
    if change:
        wire.strike_change(Fault.NO_ANSWER, change)

    handle(simulator, *records)
    for record in records:
        record["attributes"]["ApproximateReceiveCount"] = "5"
    handle(simulator, *records)


@pytest.mark.parametrize("fault", [Fault.DENIED, Fault.NO_ANSWER])
def test_of_the_heartbeat(
    simulator: ModuleType,
    ledger: JobLedger,
    dispatch: Dispatch,
    *,
    wire: Wire,
    meanwhile: Meanwhile,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_EVERY_S", BEAT_S)
    ledger.record([JOB])
    wire.strike_change(fault, "renew", times=2)
    wire.strike(fault, "ChangeMessageVisibilityBatch")
    meanwhile[JOB.key.job_id] = lambda: wait_for_beats(wire)

    handle(simulator, *dispatch(JOB))


def test_of_the_status_and_the_list(job_status: ModuleType, ledger: JobLedger) -> None:
    ledger.record([JOB])
    ledger.abort(JOB.key, JobError("BAD", SECRET), 5)

    api(job_status, JOB.key.job_id)
    api(job_status, SECRET)
    api(job_status, None)
    for query in ({"cursor": SECRET}, {"limit": SECRET}, {"status": SECRET}, {"owner": BEN}):
        api(job_status, None, query=query)
        api(job_status, JOB.key.job_id, query=query, groups=("apiAdmins",))


def test_of_the_cancellation(cancel_job: ModuleType, ledger: JobLedger) -> None:
    ledger.record([JOB])

    api(cancel_job, SECRET)
    api(cancel_job, JOB.key.job_id, owner=BEN)
    api(cancel_job, JOB.key.job_id)
    api(cancel_job, JOB.key.job_id)


def test_of_the_sweeper(
    sweeper: ModuleType,
    ledger: JobLedger,
    *,
    work_dlq: WorkQueue,
    request_dlq: WorkQueue,
    wire: Wire,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sluice_core.dead_letters._WAIT_S", 0)
    ledger.record([JOB])
    WorkQueueExecutor(work_dlq.sqs, work_dlq.url).start([JOB])
    request_dlq.send_request("fresh", {"jobType": "scripted", "parameters": {"secret": SECRET}})
    request_dlq.send_request("bad", {"jobType": SECRET})
    for queue in (work_dlq, request_dlq):
        queue.sqs.send_message(QueueUrl=queue.url, MessageBody=f'{{"a": "{SECRET}"}}')
    wire.strike(Fault.DENIED, "ListObjectsV2")

    assert sweeper.handler({}, Context())["ended"] == 3


def test_of_the_event_publisher(load: Load, wire: Wire) -> None:
    publisher = load("event_publisher", EVENT_BUS="no-such-bus")
    image = new_row(JOB, RETENTION_S) | {
        "status": {"S": "FAILED"},
        "endedAt": {"N": "5"},
        "error": {"M": {"code": {"S": "BAD"}, "message": {"S": SECRET}}},
        "result": {"M": {"objectKey": {"S": SECRET}, "contentType": {"S": "text/csv"}, "size": {"N": "1"}}},
    }
    record = {"dynamodb": {"SequenceNumber": "1", "NewImage": image}}
    wire.answer("PutEvents", {"Entries": [{"ErrorCode": "Throttled", "ErrorMessage": SECRET}]})
    wire.answer("PutEvents", {"Entries": [{"EventId": "1"}]})

    for _ in range(2):
        publisher.handler({"Records": [record]}, None)

    assert SECRET not in json.dumps(wire.made("PutEvents")[1].parameters)


@pytest.mark.parametrize("fault", [Fault.DENIED, Fault.NO_ANSWER])
def test_of_external_executors(external: ExternalStage, now_ms: int, fault: Fault) -> None:
    # Given jobs that are started, put off and refused, among messages that nobody here wrote
    jobs = [replace(JOB, key=job(name).key) for name in ("one", "two", "three")]
    external.services["ecs"].answers.extend([Retry("RESOURCE:CPU"), Refused(JobError("NOT_STARTED", SECRET))])
    external.queue(*jobs)
    queue = external.queues["ecs"]
    queue.sqs.send_message(QueueUrl=queue.url, MessageBody=f'{{"a": "{SECRET}"}}')
    external.start()

    # When they end, in all ways, and what is to be deleted, stopped, woken and asked is not
    rows = [external.row(one) for one in jobs]
    for operation in ("DeleteObject", "Stop", "Invoke"):
        external.wire.strike(fault, operation)
    [started] = [one for one in rows if one.handle]
    external.ledger.fail([(external.claim(started, now_ms), JobError("BAD", SECRET))], now_ms)
    events = [external.event(one, change) for one in rows for change in ("crashed", "stopped", "succeeded")]
    external.complete(*events, sqs_record(SECRET), sqs_record(json.dumps({"source": "aws.ecs", "detail": SECRET})))
    external.reconcile()


@pytest.mark.parametrize("do", ["succeed", "permanent", "transient"])
def test_of_the_steps_of_a_workflow(external: ExternalStage, do: str) -> None:
    [started] = external.started(job("mine", do=do, secret=SECRET), executor="stepfunctions")
    raised = []
    for step in ("fetch", "transform", "store"):
        event = {"step": step, "owner": ANN, "jobId": started.key.job_id, "startToken": started.start_token}
        try:
            external.function("workflow_step").handler(event, Context())
        except Exception as error:  # Lambda logs what is raised, too
            raised.append("".join(traceback.format_exception(error)))

    assert bool(raised) is (do != "succeed")
    assert SECRET not in str(raised)


def test_of_a_discarded_result(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, *, meanwhile: Meanwhile, wire: Wire
) -> None:
    ledger.record([JOB])
    meanwhile[JOB.key.job_id] = lambda: ledger.cancel(JOB.key, 5)
    wire.strike(Fault.DENIED, "DeleteObject")

    handle(simulator, *dispatch(JOB))

    other = job("other", secret=SECRET)
    ledger.record([other])
    attempt = Attempt(other.key, "other")
    ledger.claim([attempt], 5, 10)
    ledger.complete([(attempt, StoredResult("results/a", "text/plain", 1))], 6)
    handle(simulator, *dispatch(other, receives=2))
    assert row(ledger, other).result is not None
