"""The AWS clients: made once per process, with timeouts that leave a function time to try again.

The SDK's own defaults wait 60 s for an answer, which is longer than most functions here may run. They are
botocore's: boto3 has the same ones, and would add its resources and the transfer manager to each cold start.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore import exceptions
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.handlers import add_expect_header

if TYPE_CHECKING:
    from botocore.session import Session
    from mypy_boto3_batch import BatchClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient
    from mypy_boto3_sts import STSClient

# botocore would put its own name together anew for each call: a seventh of a put's CPU.
_USER_AGENT = "sluice"
# Four tries in all, with the SDK's jittered pauses between them (Boto3, "Retries", standard mode).
_QUICK = Config(
    connect_timeout=2,
    read_timeout=3,
    retries={"mode": "standard", "total_max_attempts": 4},
    user_agent=_USER_AGENT,
)
# Starting a container may take its service some seconds, and so may an answer about a hundred.
_SLOW = _QUICK.merge(Config(read_timeout=10, retries={"mode": "standard", "total_max_attempts": 2}))
# The default CRC32 costs a quarter of a put's CPU, and TLS and S3's own checks guard the body already.
S3_CONFIG = Config(
    connect_timeout=2,
    read_timeout=10,
    retries={"mode": "standard", "total_max_attempts": 4},
    user_agent=_USER_AGENT,
    signature_version="s3v4",
    # The bucket's regional host: a signature covers the host, and S3 redirects from its global one.
    s3={"addressing_style": "virtual"},
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)
_THROTTLED = {
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
_SERVER_ERROR = 500


@cache
def session() -> Session:
    """Return the process's one session, which reads what describes services and endpoints once for all clients."""
    return botocore.session.get_session()


def _client(service: str, config: Config, **credentials: Any) -> Any:
    return session().create_client(service, config=config, **credentials)


def dynamodb() -> DynamoDBClient:
    """Return a client of DynamoDB."""
    client: DynamoDBClient = _client("dynamodb", _QUICK)
    return client


def sqs() -> SQSClient:
    """Return a client of SQS."""
    client: SQSClient = _client("sqs", _QUICK)
    return client


def events() -> EventBridgeClient:
    """Return a client of EventBridge."""
    client: EventBridgeClient = _client("events", _QUICK)
    return client


def stepfunctions() -> SFNClient:
    """Return a client of Step Functions."""
    client: SFNClient = _client("stepfunctions", _QUICK)
    return client


def batch() -> BatchClient:
    """Return a client of AWS Batch, which tries nothing again: SubmitJob has no idempotency token."""
    client: BatchClient = _client(
        "batch", _SLOW.merge(Config(retries={"mode": "standard", "total_max_attempts": 1}))
    )
    return client


def ecs() -> ECSClient:
    """Return a client of ECS."""
    client: ECSClient = _client("ecs", _SLOW)
    return client


def lambda_() -> LambdaClient:
    """Return a client of Lambda."""
    client: LambdaClient = _client("lambda", _QUICK)
    return client


def sts() -> STSClient:
    """Return a client of STS."""
    client: STSClient = _client("sts", _QUICK)
    return client


def s3(**credentials: str) -> S3Client:
    """Return a client of S3; other credentials than the function's own go by botocore's names."""
    client: S3Client = _client("s3", S3_CONFIG, **credentials)
    # botocore asks S3 whether it may send each body, and waits: a round trip that is worth it for large ones only.
    client.meta.events.unregister("before-call.s3", add_expect_header)
    return client


def is_transient(error: ClientError | BotoCoreError) -> bool:
    """Whether a call that failed may succeed later; whether it was acted upon is not known.

    A refusal for want of a grant, a missing table or a malformed call is not transient.
    """
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= _SERVER_ERROR or error.response.get("Error", {}).get("Code") in _THROTTLED
    return isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError)
