"""A real engine process for whatever talks to AWS: one per pytest worker, with tables and queues per test."""

from __future__ import annotations

import functools
import importlib
import json
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any, Protocol

import boto3
import botocore.session
import pytest
from sluice_core import clients, dead_letters
from sluice_core.executors import Started
from sluice_core.ledger import JobLedger
from sluice_core.work_queue import WorkQueueExecutor
from sluice_handlers import telemetry
from sluice_harness import description
from sluice_harness.local_stage import LocalStage
from unit import workloads_for_tests
from unit.external_stage import external  # noqa: F401 - a fixture
from unit.lambda_events import MAX_RECEIVES
from unit.operated import STAGE, Operated, Sources
from unit.resources import Bucket, Output, WorkQueue
from unit.wire_faults import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import ModuleType

    from botocore.session import Session
    from sluice_core.jobs import Submission

    Dispatch = Callable[..., list[dict[str, Any]]]
    Lapse = Callable[..., None]
    Load = Callable[..., ModuleType]
    MakeQueue = Callable[..., WorkQueue]
    Meanwhile = dict[str, Callable[[], object]]

RETENTION_S = 7 * 86_400
REQUEST_RETENTION_S = 4 * 86_400


class _CurrentStdout:
    """Standard output as it is when written to: pytest changes it for each test, a handler keeps what it saw."""

    def write(self, text: str) -> int:
        return sys.stdout.write(text)

    def flush(self) -> None:
        sys.stdout.flush()


_log_handler: Any = telemetry.logger.registered_handler
# No test is to depend on which of them came first.
telemetry.Measurements._is_cold = False
# Not setStream, which would flush the stream of pytest's start, long closed.
_log_handler.stream = _CurrentStdout()


class ClientMaker(Protocol):
    """Makes clients of the engine."""

    endpoint_url: str

    def client(self, service: str) -> Any: ...


class _Engine:
    def __init__(self, stage: LocalStage) -> None:
        self.endpoint_url = stage.endpoint_url
        self.client = functools.cache(stage.client)  # a client takes longer to make than a test to run


@pytest.fixture(scope="session")
def engine(worker_id: str) -> Iterator[ClientMaker]:
    with LocalStage(f"unit-{worker_id}") as stage:
        yield _Engine(stage)


@pytest.fixture(scope="session")
def sdk_session() -> Session:
    """Stand in for a process's one session, which remembers the credentials it first saw."""
    session = botocore.session.get_session()
    session.set_credentials("test", "test")
    session.set_config_variable("region", "us-east-1")
    return session


@pytest.fixture(scope="session")
def engine_session(sdk_session: Session) -> boto3.Session:
    """Stand in for boto3's default session, which remembers the credentials it first saw."""
    return boto3.Session(botocore_session=sdk_session)


@pytest.fixture
def table(engine: ClientMaker) -> str:
    """Return a job table as `sluice_infra.storage` declares it."""
    name = f"jobs-{uuid.uuid4().hex}"
    engine.client("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": "jobKey", "AttributeType": "S"},
            {"AttributeName": "listKey", "AttributeType": "S"},
            {"AttributeName": "submittedAt", "AttributeType": "N"},
            {"AttributeName": "executing", "AttributeType": "S"},
            {"AttributeName": "executingSince", "AttributeType": "N"},
        ],
        KeySchema=[{"AttributeName": "jobKey", "KeyType": "HASH"}],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "byExecution",
                "KeySchema": [
                    {"AttributeName": "executing", "KeyType": "HASH"},
                    {"AttributeName": "executingSince", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            },
            {
                "IndexName": "byOwner",
                "KeySchema": [
                    {"AttributeName": "listKey", "KeyType": "HASH"},
                    {"AttributeName": "submittedAt", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            },
        ],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    return name


@pytest.fixture
def ledger(engine: ClientMaker, table: str) -> JobLedger:
    return JobLedger(engine.client("dynamodb"), table, RETENTION_S)


@pytest.fixture
def make_queue(engine: ClientMaker) -> MakeQueue:
    """Make queues as `sluice_infra.queues` declares them: hidden for long, and redriven if told to where."""
    sqs = engine.client("sqs")

    def make(name: str, dead_letters: WorkQueue | None = None) -> WorkQueue:
        attributes = {"VisibilityTimeout": "360"}
        if dead_letters is not None:
            policy = {"deadLetterTargetArn": dead_letters.arn, "maxReceiveCount": MAX_RECEIVES}
            attributes["RedrivePolicy"] = json.dumps(policy)
        url = sqs.create_queue(QueueName=f"{name}-{uuid.uuid4().hex}", Attributes=attributes)["QueueUrl"]
        return WorkQueue(sqs, url)

    return make


@pytest.fixture
def work_dlq(make_queue: MakeQueue) -> WorkQueue:
    return make_queue("work-dlq")


@pytest.fixture
def work_queue(make_queue: MakeQueue, work_dlq: WorkQueue) -> WorkQueue:
    return make_queue("work", work_dlq)


@pytest.fixture
def request_dlq(make_queue: MakeQueue) -> WorkQueue:
    return make_queue("requests-dlq")


@pytest.fixture
def request_queue(make_queue: MakeQueue, request_dlq: WorkQueue) -> WorkQueue:
    return make_queue("requests", request_dlq)


@pytest.fixture
def dispatch(work_queue: WorkQueue) -> Dispatch:
    """Send jobs through the real executor; return the real records that Lambda would get, so often received."""

    def send(*submissions: Submission, receives: int = 1) -> list[dict[str, Any]]:
        results = WorkQueueExecutor(work_queue.sqs, work_queue.url).start(submissions)
        assert all(isinstance(one, Started) for one in results)
        records = {}
        for record in work_queue.deliver():
            record["attributes"]["ApproximateReceiveCount"] = str(receives)
            message = json.loads(record["body"])
            records[message["owner"], message["jobId"]] = record
        return [records[one.key.owner, one.key.job_id] for one in submissions]

    return send


@pytest.fixture
def lapse(engine: ClientMaker, table: str) -> Lapse:
    """Let the leases of jobs lapse, as they would half a minute later."""

    def end_leases(*submissions: Submission) -> None:
        for one in submissions:
            engine.client("dynamodb").update_item(
                TableName=table,
                Key={"jobKey": {"S": str(one.key)}},
                UpdateExpression="SET leaseUntil = :past",
                ConditionExpression="attribute_exists(jobKey)",
                ExpressionAttributeValues={":past": {"N": "1"}},
            )

    return end_leases


@pytest.fixture
def bucket(engine: ClientMaker) -> Bucket:
    s3 = engine.client("s3")
    name = f"results-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=name)
    return Bucket(s3, name)


@pytest.fixture
def download_role(engine: ClientMaker, bucket: Bucket) -> str:
    """Return the ARN of a role that may read this bucket's results, and do nothing else."""
    iam = engine.client("iam")
    name = f"download-{uuid.uuid4().hex}"
    trust = [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]
    grant = [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket.name}/results/*"}]
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=_policy(trust))
    iam.put_role_policy(RoleName=name, PolicyName="read", PolicyDocument=_policy(grant))
    arn: str = role["Role"]["Arn"]
    return arn


def _policy(statements: list[dict[str, Any]]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


@pytest.fixture
def lambda_environment(
    engine: ClientMaker, sdk_session: Session, monkeypatch: pytest.MonkeyPatch
) -> pytest.MonkeyPatch:
    """Set what Lambda sets; everything that the functions' clients do goes to the engine."""
    monkeypatch.setattr(clients, "session", lambda: sdk_session)
    for name, value in {
        "AWS_ENDPOINT_URL": engine.endpoint_url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "STAGE": "unit",
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    """Stand on the line between the functions and AWS."""
    wire = Wire()

    def tapped(make: Callable[..., Any]) -> Callable[..., Any]:
        return lambda **credentials: wire.tap(make(**credentials))

    for name in ("dynamodb", "events", "lambda_", "s3", "sqs"):
        monkeypatch.setattr(clients, name, tapped(getattr(clients, name)))
    return wire


@pytest.fixture
def load(lambda_environment: pytest.MonkeyPatch, wire: Wire) -> Load:
    """Import a function as Lambda does: afresh, with its settings in the environment."""
    assert wire.calls == []

    def fresh(module: str, **settings: str) -> ModuleType:
        for name, value in settings.items():
            lambda_environment.setenv(name, value)
        lambda_environment.delitem(sys.modules, f"sluice_handlers.{module}", raising=False)
        return importlib.import_module(f"sluice_handlers.{module}")

    return fresh


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Output:
    return Output(capsys)


@pytest.fixture
def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture
def simulator(load: Load, table: str, bucket: Bucket, work_queue: WorkQueue) -> ModuleType:
    return load(
        "batch_simulator",
        JOB_TABLE=table,
        RETENTION_SECONDS=str(RETENTION_S),
        RESULT_BUCKET=bucket.name,
        WORKLOADS=workloads_for_tests.SETTING,
        QUEUE_URL=work_queue.url,
        MAX_RECEIVES=str(MAX_RECEIVES),
    )


@pytest.fixture
def processor(load: Load, table: str, work_queue: WorkQueue, request_queue: WorkQueue) -> ModuleType:
    return load(
        "processor",
        JOB_TABLE=table,
        RETENTION_SECONDS=str(RETENTION_S),
        WORK_QUEUE_URL=work_queue.url,
        WORKLOADS=f"weather-report=sluice_core.weather:WeatherReport,{workloads_for_tests.SETTING}",
        QUEUE_URL=request_queue.url,
        MAX_RECEIVES=str(MAX_RECEIVES),
    )


@pytest.fixture
def sweeper(load: Load, table: str, bucket: Bucket, work_dlq: WorkQueue, request_dlq: WorkQueue) -> ModuleType:
    return load(
        "sweeper",
        JOB_TABLE=table,
        RETENTION_SECONDS=str(RETENTION_S),
        RESULT_BUCKET=bucket.name,
        WORKLOADS=f"weather-report=sluice_core.weather:WeatherReport,{workloads_for_tests.SETTING}",
        WORK_DLQ_URL=work_dlq.url,
        REQUEST_DLQ_URL=request_dlq.url,
    )


@pytest.fixture
def job_status(load: Load, table: str, bucket: Bucket, download_role: str) -> ModuleType:
    return load(
        "job_status",
        JOB_TABLE=table,
        RETENTION_SECONDS=str(RETENTION_S),
        RESULT_BUCKET=bucket.name,
        DOWNLOAD_ROLE_ARN=download_role,
        REQUEST_RETENTION_SECONDS=str(REQUEST_RETENTION_S),
    )


@pytest.fixture
def cancel_job(load: Load, table: str) -> ModuleType:
    return load(
        "cancel_job",
        JOB_TABLE=table,
        RETENTION_SECONDS=str(RETENTION_S),
        REQUEST_RETENTION_SECONDS=str(REQUEST_RETENTION_S),
    )


@pytest.fixture
def operated(
    *,
    engine: ClientMaker,
    table: str,
    ledger: JobLedger,
    bucket: Bucket,
    request_queue: WorkQueue,
    request_dlq: WorkQueue,
    work_queue: WorkQueue,
    work_dlq: WorkQueue,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Operated:
    """Return a stage that describes itself, for the operator tools to find."""
    monkeypatch.setattr(description, "_STAGES", tmp_path)
    monkeypatch.setattr(dead_letters, "_WAIT_S", 0)  # the engine has one server: what there is, it finds at once
    sources = Sources(request_queue, request_dlq, work_queue, work_dlq)
    operated = Operated(engine.endpoint_url, table, ledger, bucket, sources)
    operated.description.save(STAGE)
    return operated


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which jobs the workload has run."""
    runs: list[str] = []
    monkeypatch.setattr(workloads_for_tests, "runs", runs)
    return runs


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which jobs' work was told to stop."""
    stopped: list[str] = []
    monkeypatch.setattr(workloads_for_tests, "stopped", stopped)
    return stopped


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """What is to happen while a job's work runs, by the job's id."""
    meanwhile: Meanwhile = {}
    monkeypatch.setattr(workloads_for_tests, "meanwhile", meanwhile)
    return meanwhile
