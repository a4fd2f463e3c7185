"""TLS-only policies let the stage's clients in, as they let in clients of AWS, which use HTTPS."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine


def _deny_when(secure: str, queue_arn: str) -> str:
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "sqs:*",
        "Resource": queue_arn,
        "Condition": {"Bool": {"aws:SecureTransport": secure}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def _queue_denying(engine: Engine, name: str, secure: str) -> str:
    sqs = engine.client("sqs")
    url: str = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = f"arn:aws:sqs:us-east-1:000000000000:{name}"
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": _deny_when(secure, arn)})
    return url


def test_a_policy_that_denies_plain_http_lets_loopback_in(engine: Engine) -> None:
    # Given a queue that refuses whatever did not come over TLS
    url = _queue_denying(engine, "tls-only", "false")

    # When a client on loopback sends to it
    answer = engine.client("sqs").send_message(QueueUrl=url, MessageBody="hello")

    # Then it is let in
    assert answer["MessageId"]


def test_the_condition_is_evaluated_and_not_skipped(engine: Engine) -> None:
    # Given a queue that refuses whatever came over TLS
    url = _queue_denying(engine, "no-tls", "true")

    # When a client on loopback sends to it
    try:
        engine.client("sqs").send_message(QueueUrl=url, MessageBody="hello")
        code = "none"
    except ClientError as error:
        code = error.response["Error"]["Code"]

    # Then it is refused: loopback counts as TLS
    assert "AccessDenied" in code
