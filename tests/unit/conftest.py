"""A real engine process for whatever talks to AWS: one per pytest worker, with tables and queues per test."""

from __future__ import annotations

import functools
import importlib
import json
import sys
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import boto3
import pytest
from sluice_core.executors import WorkQueueExecutor
from sluice_core.ledger import JobLedger
from sluice_handlers import telemetry
from sluice_harness.local_stage import LocalStage
from unit import workloads_for_tests
from unit.lambda_events import MAX_RECEIVES, work_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from sluice_core.jobs import Submission

    Dispatch = Callable[..., list[dict[str, Any]]]

RETENTION_S = 7 * 86_400
REQUEST_RETENTION_S = 4 * 86_400


class _CurrentStdout:
    """Standard output as it is when written to: pytest changes it for each test, a handler keeps what it saw."""

    def write(self, text: str) -> int:
        return sys.stdout.write(text)

    def flush(self) -> None:
        sys.stdout.flush()


_log_handler: Any = telemetry.logger.registered_handler
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
def engine_session() -> boto3.Session:
    """Stand in for boto3's default session, which remembers the credentials it first saw."""
    return boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")


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
        ],
        KeySchema=[{"AttributeName": "jobKey", "KeyType": "HASH"}],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "byOwner",
                "KeySchema": [
                    {"AttributeName": "listKey", "KeyType": "HASH"},
                    {"AttributeName": "submittedAt", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
    )
    return name


@pytest.fixture
def ledger(engine: ClientMaker, table: str) -> JobLedger:
    return JobLedger(engine.client("dynamodb"), table, RETENTION_S)


@dataclass(frozen=True)
class WorkQueue:
    """A queue, and what a test does with it."""

    sqs: SQSClient
    url: str

    def receive(self) -> list[dict[str, Any]]:
        """Take all messages there are."""
        messages: list[Any] = []
        while batch := self.sqs.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["All"]
        ).get("Messages"):
            messages += batch
        return messages

    def job_ids(self) -> list[str]:
        """Take all messages and say whose they are."""
        return sorted(json.loads(message["Body"])["jobId"] for message in self.receive())


@pytest.fixture
def work_queue(engine: ClientMaker) -> WorkQueue:
    sqs = engine.client("sqs")
    return WorkQueue(sqs, sqs.create_queue(QueueName=f"work-{uuid.uuid4().hex}")["QueueUrl"])


@pytest.fixture
def dispatch(work_queue: WorkQueue) -> Callable[..., list[dict[str, Any]]]:
    """Send jobs through the real executor and return the records that Lambda would get."""

    def send(*submissions: Submission, receives: int = 1) -> list[dict[str, Any]]:
        assert WorkQueueExecutor(work_queue.sqs, work_queue.url).start(submissions) == set()
        bodies = {json.loads(one["Body"])["jobId"]: one["Body"] for one in work_queue.receive()}
        return [work_record(bodies[one.key.job_id], receives=receives) for one in submissions]

    return send


@dataclass(frozen=True)
class Bucket:
    """The result bucket."""

    s3: S3Client
    name: str

    def keys(self) -> list[str]:
        listed = self.s3.list_objects_v2(Bucket=self.name)
        return [one["Key"] for one in listed.get("Contents", [])]

    def read(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=self.name, Key=key)["Body"].read()


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
    engine: ClientMaker, engine_session: boto3.Session, monkeypatch: pytest.MonkeyPatch
) -> pytest.MonkeyPatch:
    """Set what Lambda sets; everything that the functions' clients do goes to the engine."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", engine_session)
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
def load(lambda_environment: pytest.MonkeyPatch) -> Callable[..., ModuleType]:
    """Import a function as Lambda does: afresh, with its settings in the environment."""

    def fresh(module: str, **settings: str) -> ModuleType:
        for name, value in settings.items():
            lambda_environment.setenv(name, value)
        lambda_environment.delitem(sys.modules, f"sluice_handlers.{module}", raising=False)
        return importlib.import_module(f"sluice_handlers.{module}")

    return fresh


class Output:
    """What a function printed: log lines and EMF documents, one JSON object a line."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture
        self._text = ""

    @property
    def text(self) -> str:
        """Everything so far, standard error included."""
        self._text += "".join(self._capture.readouterr())
        return self._text

    @property
    def logs(self) -> list[dict[str, Any]]:
        return [line for line in self._lines() if "_aws" not in line]

    @property
    def emf(self) -> list[dict[str, Any]]:
        return [line for line in self._lines() if "_aws" in line]

    def values(self, metric: str) -> list[float]:
        """Return all datapoints of one metric, in order."""
        return [value for document in self.emf for value in document.get(metric, [])]

    def _lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Output:
    return Output(capsys)


@pytest.fixture
def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture
def simulator(load: Callable[..., ModuleType], table: str, bucket: Bucket) -> ModuleType:
    return load(
        "batch_simulator",
        JOB_TABLE=table,
        RETENTION_SECONDS="604800",
        RESULT_BUCKET=bucket.name,
        WORKLOADS=workloads_for_tests.SETTING,
        MAX_RECEIVES=str(MAX_RECEIVES),
    )


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which jobs the workload has run."""
    runs: list[str] = []
    monkeypatch.setattr(workloads_for_tests, "runs", runs)
    return runs
