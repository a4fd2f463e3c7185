"""A policy that was changed decides by what it says now, and a caller is named in refusals."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

ALLOW = {"Effect": "Allow", "Action": "sqs:GetQueueUrl", "Resource": "*"}


def _user(engine: Engine) -> tuple[str, Any]:
    iam = engine.client("iam")
    name = f"user-{uuid.uuid4().hex[:8]}"
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return name, engine.client("sqs", key["AccessKeyId"], key["SecretAccessKey"])


def _grant(engine: Engine, user: str, *statements: dict[str, str]) -> None:
    policy = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    engine.client("iam").put_user_policy(UserName=user, PolicyName="one", PolicyDocument=policy)


def _asks(sqs: Any, queue: str) -> str:
    """What becomes of a call: nothing, or the message of its refusal."""
    try:
        sqs.get_queue_url(QueueName=queue)
    except ClientError as error:
        return str(error.response["Error"]["Message"])
    return ""


def test_a_changed_policy_counts_from_the_next_call(engine: Engine) -> None:
    # given a queue, and a user who may ask for it and has
    queue = f"queue-{uuid.uuid4().hex[:8]}"
    engine.client("sqs").create_queue(QueueName=queue)
    user, sqs = _user(engine)
    _grant(engine, user, ALLOW)
    before = _asks(sqs, queue)

    # when the policy is taken back, given again and overruled
    _grant(engine, user, {**ALLOW, "Action": "sqs:DeleteQueue"})
    without = _asks(sqs, queue)
    _grant(engine, user, ALLOW)
    again = _asks(sqs, queue)
    _grant(engine, user, ALLOW, {**ALLOW, "Effect": "Deny"})
    denied = _asks(sqs, queue)

    # then
    assert (before, again) == ("", "")
    assert f"user/{user} is not authorized to perform: sqs:GetQueueUrl" in without
    assert "explicit deny" in denied


def test_a_queues_own_policy_knows_its_caller(engine: Engine) -> None:
    # given a queue that refuses one user, and two users who are granted the same
    queue = f"queue-{uuid.uuid4().hex[:8]}"
    url = engine.client("sqs").create_queue(QueueName=queue)["QueueUrl"]
    (refused, its_sqs), (_, other_sqs) = users = _user(engine), _user(engine)
    for user, _ in users:
        _grant(engine, user, {**ALLOW, "Action": "sqs:SendMessage"})
    statement = {
        "Effect": "Deny",
        "Principal": {"AWS": f"arn:aws:iam::000000000000:user/{refused}"},
        "Action": "sqs:SendMessage",
        "Resource": "*",
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    engine.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})

    # when both send
    outcomes = []
    for sqs in (its_sqs, other_sqs):
        try:
            sqs.send_message(QueueUrl=url, MessageBody="hello")
            outcomes.append("sent")
        except ClientError as error:
            outcomes.append(error.response["Error"]["Code"])

    # then
    assert outcomes == ["AccessDenied", "sent"]
