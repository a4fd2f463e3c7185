"""The AWS clients: made once per process, with timeouts that leave a function time to try again.

The SDK's own defaults wait 60 s for an answer, which is longer than most functions here may run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import boto3
from botocore import exceptions
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

# Four tries in all, with the SDK's jittered pauses between them (Boto3, "Retries", standard mode).
_QUICK = Config(connect_timeout=2, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 4})
# The default CRC32 costs a quarter of a put's CPU, and TLS and S3's own checks guard the body already.
S3_CONFIG = Config(
    connect_timeout=2,
    read_timeout=10,
    retries={"mode": "standard", "total_max_attempts": 4},
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


def dynamodb() -> DynamoDBClient:
    """Return a client of DynamoDB."""
    return boto3.client("dynamodb", config=_QUICK)


def sqs() -> SQSClient:
    """Return a client of SQS."""
    return boto3.client("sqs", config=_QUICK)


def events() -> EventBridgeClient:
    """Return a client of EventBridge."""
    return boto3.client("events", config=_QUICK)


def s3() -> S3Client:
    """Return a client of S3."""
    return boto3.client("s3", config=S3_CONFIG)


def is_transient(error: ClientError | BotoCoreError) -> bool:
    """Whether a call that failed may succeed later; whether it was acted upon is not known.

    A refusal for want of a grant, a missing table or a malformed call is not transient.
    """
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= _SERVER_ERROR or error.response.get("Error", {}).get("Code") in _THROTTLED
    return isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError)
