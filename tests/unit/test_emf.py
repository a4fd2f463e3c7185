"""The EMF lines that functions print: all of the catalogue and nothing else, and each thing counted once.

That each line is valid, `Output.emf` sees to, here and wherever a test reads one.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from sluice_core.executors import Refused, Retry
from sluice_core.jobs import JobError, JobStatus
from sluice_core.rows import new_row
from sluice_core.work_queue import WorkQueueExecutor
from sluice_handlers import telemetry
from unit.conftest import RETENTION_S
from unit.emf import CATALOGUE, complaints
from unit.fake_pool import CLIENT_ID, POOL_ID, access_claims, id_claims, running_pool, sign
from unit.lambda_events import MAX_RECEIVES, Context, ask, handle, ids, job, request_record, row, sqs_record
from unit.wire_faults import Fault

if TYPE_CHECKING:
    from types import ModuleType

    from sluice_core.ledger import JobLedger
    from unit.conftest import Dispatch, Lapse, Load, Meanwhile
    from unit.external_stage import ExternalStage
    from unit.resources import Output, WorkQueue
    from unit.wire_faults import Wire

# Which function emits what; all but cold starts, which are every function's.
EMITTED = {
    "processor": {
        *("SubmissionsRecorded", "SubmissionsDuplicate", "SubmissionsRejected", "SubmissionsConflicting"),
        *("JobsFailed", "BatchItemFailures", "RequestAgeOfFirstAttempt"),
    },
    "batch_simulator": {
        *("JobsStarted", "JobsCompleted", "JobsRetried", "JobsFailed", "JobsFailedPermanent"),
        *("JobsFailedRetriesExhausted", "BatchItemFailures", "WorkAgeOfFirstAttempt", "QueueWait", "RunTime"),
        *("EndToEnd", "ResultBytes", "ResultsDiscarded"),
    },
    "sweeper": {
        "SubmissionsRecorded",
        "JobsSwept",
        "JobsFailed",
        "JobsFailedWorkerLost",
        "JobsFailedNotProcessed",
    },
    "starter": {
        *("JobsStarted", "ExecutionsNotStarted", "JobsFailed", "JobsFailedNotStarted", "WorkAgeOfFirstAttempt"),
    },
    "completion": {
        *("JobsCompleted", "JobsRetried", "JobsFailed", "JobsFailedStopped", "JobsFailedTimedOut", "QueueWait"),
        *("RunTime", "ExternalEndToEnd", "ResultBytes", "CompletionsDropped", "BatchItemFailures"),
    },
    "reconciler": {"ExecutionsRunning", "CompletionsReconciled", "JobsRetried"},
    "event_publisher": {"EventsPublished", "BatchItemFailures"},
    "job_status": {"StatusReads"},
    "cancel_job": {"JobsCancelled"},
    "authorizer": {"AuthorizerDenials", "TokensRefused"},
}
JOB = job("mine")


def assert_emitted(output: Output, function: str, *, without_a_type: frozenset[str] = frozenset()) -> None:
    """All of a function's metrics are there and no other, by job type as well where the catalogue says so."""
    names: dict[bool, set[str]] = {True: set(), False: set()}
    for document in output.emf:
        [directive] = document["_aws"]["CloudWatchMetrics"]
        names["JobType" in document] |= {metric["Name"] for metric in directive["Metrics"]}
    assert names[True] | names[False] == EMITTED[function]
    assert names[True] == {name for name in EMITTED[function] if CATALOGUE[name].by_job_type} - without_a_type


def test_the_catalogue_is_what_functions_and_clients_emit() -> None:
    by_clients = {name for name, metric in CATALOGUE.items() if metric.by_client}
    by_functions = set().union(*EMITTED.values()) | {"ColdStarts"}
    assert by_functions | by_clients == set(CATALOGUE)
    assert by_functions & by_clients == set()


# --- each function's metrics, all of them and no other


def test_of_the_processor(processor: ModuleType, ledger: JobLedger, output: Output, wire: Wire) -> None:
    # Given jobs on record, and requests of every kind: new, repeated, in conflict, invalid, and not to be started
    ledger.record([job("known", n=1), job("taken", n=1)])
    wire.strike(Fault.THROTTLED, "SendMessageBatch")
    bodies: list[tuple[str, Any, int]] = [
        ("fresh", {"jobType": "scripted"}, 1),
        ("known", {"jobType": "scripted", "parameters": {"n": 1}}, 2),
        ("taken", {"jobType": "scripted", "parameters": {"n": 2}}, 3),
        ("bad", {"jobType": "no-such-type"}, 4),
    ]

    handle(processor, *(request_record(job_id, body, at=at) for job_id, body, at in bodies))

    # Of an invalid request no type is known.
    assert_emitted(output, "processor", without_a_type=frozenset({"JobsFailed"}))


def test_of_the_batch_simulator(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, output: Output, *, meanwhile: Meanwhile
) -> None:
    # Given jobs that complete, fail for good, fail once, fail for the last time, and are cancelled meanwhile
    jobs = [job("good"), job("hopeless", do="permanent"), job("unlucky", do="transient"), job("cancelled")]
    worn_out = job("worn-out", do="transient")
    ledger.record([*jobs, worn_out])
    meanwhile[jobs[3].key.job_id] = lambda: ledger.cancel(jobs[3].key, 5)

    handle(simulator, *dispatch(*jobs))
    handle(simulator, *dispatch(worn_out, receives=MAX_RECEIVES))

    assert_emitted(output, "batch_simulator")


def test_of_the_sweeper(
    sweeper: ModuleType,
    ledger: JobLedger,
    output: Output,
    *,
    work_dlq: WorkQueue,
    request_dlq: WorkQueue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sluice_core.dead_letters._WAIT_S", 0)
    ledger.record([JOB])
    WorkQueueExecutor(work_dlq.sqs, work_dlq.url).start([JOB])
    request_dlq.send_request("fresh", {"jobType": "scripted"})
    request_dlq.send_request("bad", {"jobType": "no-such-type"})

    assert sweeper.handler({}, Context())["ended"] == 3

    assert_emitted(output, "sweeper")
    assert output.values("JobsSwept") == [1, 1, 1]


def test_of_the_starter(external: ExternalStage, output: Output) -> None:
    # Given jobs of which one is started, one put off and one refused
    refusal = Refused(JobError("NOT_STARTED", "No."))
    external.services["ecs"].answers.extend([Retry("ThrottlingException"), refusal])
    external.queue(job("one"), job("two"), job("three"))

    external.start()

    assert_emitted(output, "starter")


def test_of_the_completion(external: ExternalStage, output: Output, now_ms: int) -> None:
    # Given executions that completed, failed in two ways, and were lost
    jobs = [job("completed"), job("stopped"), job("overdue")]
    completed, stopped, overdue = external.started(*jobs)
    [lost] = external.started(job("lost"), executor="stepfunctions")
    attempt = external.claim(completed, now_ms)
    external.ledger.complete([(attempt, external.store(attempt))], now_ms)
    events = [
        external.event(completed, "succeeded"),
        external.event(stopped, "stopped"),
        external.event(overdue, "overdue"),
        external.event(lost, "not wanted", "stepfunctions"),
    ]
    output.forget()

    # When their events come, with one of an earlier start, and one that is malformed
    earlier = external.event(replace(lost, start_token="earlier"), "stopped", "stepfunctions")
    external.complete(*events, earlier, sqs_record("{"))

    assert_emitted(output, "completion")


def test_of_the_reconciler(external: ExternalStage, output: Output) -> None:
    # Given an execution that its service has forgotten
    external.started(JOB)
    external.age(JOB, seconds=3_600)
    external.services["ecs"].executions.clear()
    output.forget()

    assert external.reconcile() == (1, 1)

    assert_emitted(output, "reconciler")


def test_of_the_event_publisher(load: Load, output: Output, wire: Wire) -> None:
    publisher = load("event_publisher", EVENT_BUS="no-such-bus")
    image = new_row(JOB, RETENTION_S) | {"status": {"S": "CANCELLED"}, "endedAt": {"N": "5"}}
    records = [{"dynamodb": {"SequenceNumber": str(n), "NewImage": image}} for n in range(2)]
    wire.answer("PutEvents", {"Entries": [{"EventId": "1"}, {"ErrorCode": "ThrottlingException"}]})

    publisher.handler({"Records": records}, None)

    assert_emitted(output, "event_publisher")
    assert (output.values("EventsPublished"), output.values("BatchItemFailures")) == ([1], [1])


def test_of_the_status(job_status: ModuleType, ledger: JobLedger, output: Output) -> None:
    ledger.record([JOB])

    for job_id, status in ((JOB.key.job_id, 200), (None, 200), ("no-such-job-of-mine", 404)):
        assert ask(job_status, job_id)[0] == status

    assert_emitted(output, "job_status")
    assert output.values("StatusReads") == [1, 1]


def test_of_the_cancellation(cancel_job: ModuleType, ledger: JobLedger, output: Output) -> None:
    ledger.record([JOB])

    for status in (200, 409):
        assert ask(cancel_job, JOB.key.job_id)[0] == status

    assert_emitted(output, "cancel_job")
    assert output.values("JobsCancelled") == [1]


def test_of_the_authorizer(load: Load, output: Output) -> None:
    # Given tokens that are good, good for something else, and worth nothing
    arn = "arn:aws:execute-api:us-east-1:123456789012:a1b2c3d4e5/prod/GET/job-status"
    good, narrow = sign(id_claims()), sign(access_claims(scope="other/things"))
    with running_pool() as pool:
        settings = {"AWS_REGION": "eu-west-1", "USER_POOL_ID": POOL_ID, "USER_POOL_CLIENT_ID": CLIENT_ID}
        authorizer = load("authorizer", AWS_ENDPOINT_URL=pool.url, **settings)
        for token in (good, narrow):
            authorizer.handler({"authorizationToken": token, "methodArn": arn}, None)
        with pytest.raises(Exception, match=r"^Unauthorized$"):
            authorizer.handler({"authorizationToken": "no.such.token", "methodArn": arn}, None)

    # Then two are denied, one of them with the error that Lambda counts
    assert_emitted(output, "authorizer")
    assert (output.values("AuthorizerDenials"), output.values("TokensRefused")) == ([1, 1], [1])


def test_of_a_cold_start(cancel_job: ModuleType, output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry.Measurements, "_is_cold", True)

    for _ in range(2):
        ask(cancel_job, "no-such-job-of-mine")

    assert output.values("ColdStarts") == [1]


# --- once is once


def test_a_message_that_is_delivered_twice_completes_one_job(
    simulator: ModuleType, ledger: JobLedger, dispatch: Dispatch, output: Output, runs: list[str]
) -> None:
    # Given a message that SQS delivers twice, as it may, and once more after a pause
    ledger.record([JOB])
    [record] = dispatch(JOB)
    handle(simulator, record, copy.deepcopy(record))
    record["attributes"]["ApproximateReceiveCount"] = "2"
    handle(simulator, record)

    # Then one completion is counted, of one start
    assert runs == [JOB.key.job_id]
    assert output.values("JobsCompleted") == output.values("JobsStarted") == [1]
    for once in ("QueueWait", "RunTime", "EndToEnd", "ResultBytes"):
        assert len(output.values(once)) == 1
    assert [line["outcome"] for line in output.logs] == ["completed"]


@pytest.mark.parametrize("fault", [Fault.LOST_ANSWER, Fault.NO_ANSWER, Fault.THROTTLED, Fault.REPEATED])
def test_a_completion_whose_answer_is_lost_is_not_counted_again_when_its_message_comes_back(
    simulator: ModuleType,
    ledger: JobLedger,
    dispatch: Dispatch,
    *,
    output: Output,
    wire: Wire,
    lapse: Lapse,
    fault: Fault,
) -> None:
    # Given a table that takes the completion or not, and does not say so
    ledger.record([JOB])
    [record] = dispatch(JOB)
    wire.strike_change(fault, "complete", times=1)
    failed = handle(simulator, record)

    # When what is not known to have ended comes back, until it has
    if failed:
        assert failed == ids(record)
        if row(ledger, JOB).status is JobStatus.RUNNING:
            lapse(JOB)
        record["attributes"]["ApproximateReceiveCount"] = "2"
        assert handle(simulator, record) == []
    assert handle(simulator, record) == []

    # Then none is counted twice; one that was written unseen is not counted at all, for nobody knows whose it was
    assert row(ledger, JOB).status is JobStatus.COMPLETED
    assert output.values("JobsCompleted") == ([] if fault is Fault.LOST_ANSWER else [1])
    assert len(output.values("EndToEnd")) == len(output.values("JobsCompleted"))


def test_a_request_that_is_delivered_twice_is_one_submission(
    processor: ModuleType, ledger: JobLedger, output: Output
) -> None:
    record = request_record("mine", {"jobType": "scripted"})
    handle(processor, record, copy.deepcopy(record))
    record["attributes"]["ApproximateReceiveCount"] = "2"
    handle(processor, record)

    assert row(ledger, JOB).status is JobStatus.SUBMITTED
    assert output.values("SubmissionsRecorded") == [1]
    assert output.values("SubmissionsDuplicate") == []


# --- that the check can fail


def valid_document() -> dict[str, Any]:
    return {
        "_aws": {
            "Timestamp": 1_790_000_000_000,
            "CloudWatchMetrics": [
                {
                    "Namespace": "Sluice",
                    "Dimensions": [["Stage", "JobType"], ["Stage"]],
                    "Metrics": [{"Name": "RunTime", "Unit": "Milliseconds"}],
                }
            ],
        },
        "Stage": "unit",
        "JobType": "weather-report",
        "RunTime": [1.5],
    }


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("_aws", "Timestamp"), "now"),
        (("_aws", "CloudWatchMetrics", 0, "Namespace"), ""),
        (("_aws", "CloudWatchMetrics", 0, "Namespace"), "Other"),
        (("_aws", "CloudWatchMetrics", 0, "Metrics", 0, "Name"), "RunTimes"),
        (("_aws", "CloudWatchMetrics", 0, "Metrics", 0, "Unit"), "ms"),
        (("_aws", "CloudWatchMetrics", 0, "Metrics", 0, "Unit"), "Seconds"),
        (("_aws", "CloudWatchMetrics", 0, "Metrics"), []),
        (("_aws", "CloudWatchMetrics", 0, "Dimensions"), []),
        (("_aws", "CloudWatchMetrics", 0, "Dimensions"), [["Stage", "JobType"]]),
        (("_aws", "CloudWatchMetrics", 0, "Dimensions"), [["Stage"], ["JobType"]]),
        (("_aws", "CloudWatchMetrics", 0, "Dimensions"), [["Stage"], ["Stage", "JobId"]]),
        (("RunTime",), [1.0] * 101),
        (("RunTime",), ["1"]),
        (("Stage",), 7),
        (("JobType",), ""),
        (("JobType",), JOB.key.owner),
        (("JobType",), "1790000000000-5e2f0d4c"),
        (("jobId",), JOB.key.job_id),
    ],
)
def test_a_document_that_is_wrong_is_found(path: tuple[str | int, ...], value: Any) -> None:
    document = valid_document()
    assert complaints(document) == []

    part: Any = document
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value

    assert complaints(document) != []
