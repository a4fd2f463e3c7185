"""Which stage an operator means, and how to reach it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from sluice_core.executors import EXTERNAL
from sluice_core.ledger import JobLedger
from sluice_core.results import ResultWriter

from sluice_harness import live_functions
from sluice_harness.description import described, load
from sluice_harness.local_stage import ROOT_KEY

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_xray import XRayClient

    from sluice_harness.description import Queue, StageDescription

CONNECTIONS = 16
_CONFIG = Config(
    connect_timeout=5,
    read_timeout=20,
    max_pool_connections=CONNECTIONS,
    retries={"mode": "standard", "total_max_attempts": 4},
)
_DEFAULT = "local"


class UsageError(Exception):
    """What was asked for makes no sense as it is; the message says what to do."""


class Failure(Exception):  # noqa: N818 - named for what it is
    """It could not be done; the message says how far it came and what to do next."""


def find_stage(name: str | None) -> StageDescription:
    """Return the stage of this name, or the one that is meant if none is named.

    Raises
    ------
    UsageError
        There is none, or several.

    """
    there = described()
    if name is None:
        if len(there) > 1 and _DEFAULT not in there:
            raise UsageError(f"there are several stages; say which: --stage {' or --stage '.join(there)}")
        name = there[0] if len(there) == 1 else _DEFAULT
    try:
        return load(name)
    except FileNotFoundError:
        others = f" (there are: {', '.join(there)})" if there else ""
        raise UsageError(
            f"no stage describes itself in build/stages/{name}.json{others}; "
            "`uvx nox -s local` brings a local one up, in another terminal"
        ) from None
    except ValueError as error:
        raise UsageError(f"{error}; bring the stage up again") from error


@dataclass(frozen=True, slots=True)
class Limits:
    """What an external executor is held to: executions at once, and seconds that one may take."""

    running: int
    seconds: int


class Access:
    """A stage's queues, table and bucket, as an operator reaches them: in AWS by the default credential chain."""

    def __init__(self, stage: StageDescription) -> None:
        self.stage = stage

    @cached_property
    def sqs(self) -> SQSClient:
        """A client of SQS."""
        client: SQSClient = self._client("sqs")
        return client

    @cached_property
    def dynamodb(self) -> DynamoDBClient:
        """A client of DynamoDB."""
        client: DynamoDBClient = self._client("dynamodb")
        return client

    @cached_property
    def s3(self) -> S3Client:
        """A client of S3."""
        client: S3Client = self._client("s3")
        return client

    @cached_property
    def xray(self) -> XRayClient:
        """A client of X-Ray."""
        client: XRayClient = self._client("xray")
        return client

    @cached_property
    def functions(self) -> LambdaClient:
        """A client of Lambda."""
        client: LambdaClient = self._client("lambda")
        return client

    @cached_property
    def ledger(self) -> JobLedger:
        """The job table's one writer; nothing is recorded from here, so no retention is needed."""
        return JobLedger(self.dynamodb, self.stage.jobTable, retention_s=0)

    @cached_property
    def results(self) -> ResultWriter:
        """The result store."""
        return ResultWriter(self.s3, self.stage.resultBucket)

    def queues(self, only: str | None = None) -> dict[str, Queue]:
        """Return the stage's queues by name, or only one of them.

        Raises
        ------
        UsageError
            The stage has no such queue.

        """
        every = self.stage.queues.by_name()
        if only is None:
            return every
        if only not in every:
            raise UsageError(f"stage {self.stage.stage} has no {only} queue; it has {', '.join(every)}")
        return {only: every[only]}

    @cached_property
    def worker_logs(self) -> str:
        """The log group of the function that does the work of ``lambda``."""
        simulator = live_functions.live(self.stage.functions.batchSimulator)
        return self.functions.get_function_configuration(FunctionName=simulator)["LoggingConfig"]["LogGroup"]

    @cached_property
    def limits(self) -> dict[str, Limits]:
        """What the stage's external executors are held to, as its starter is told."""
        there = [name for name in EXTERNAL if name in self.stage.queues.by_name()]
        if not there:
            return {}
        starter = live_functions.live(self.stage.functions.starter)
        told = self.functions.get_function_configuration(FunctionName=starter)["Environment"]["Variables"]
        return {
            name: Limits(int(told[f"{name.upper()}_MAX_RUNNING"]), int(told[f"{name.upper()}_TIMEOUT_SECONDS"]))
            for name in there
        }

    def _client(self, service: str) -> Any:
        local = {"aws_access_key_id": ROOT_KEY, "aws_secret_access_key": ROOT_KEY}
        return boto3.client(
            service,  # type: ignore[call-overload]
            endpoint_url=self.stage.endpointUrl,
            region_name=self.stage.region,
            config=_CONFIG,
            **(local if self.stage.endpointUrl else {}),
        )
