"""Events in the shapes that Lambda delivers (AWS Lambda Developer Guide), and a context."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

from sluice_core.callers import Caller, owner_tag
from sluice_core.jobs import JobKey, Submission

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from sluice_core.jobs import Job
    from sluice_core.ledger import JobLedger

ANN = "0a1b2c3d-1111-4222-8333-444455556666"
BEN = "99990000-1111-4222-8333-444455556666"
MAX_RECEIVES = 5

_numbers = itertools.count(1)


class Context:
    """A Lambda context whose time runs out as told; the last answer holds."""

    aws_request_id = "c0ffee00-1111-4222-8333-444455556666"

    def __init__(self, *remaining_ms: int) -> None:
        self._remaining_ms = list(remaining_ms or [60_000])

    def get_remaining_time_in_millis(self) -> int:
        return self._remaining_ms.pop(0) if len(self._remaining_ms) > 1 else self._remaining_ms[0]


def job(job_id: str, *, owner: str = ANN, at: int = 1_790_000_000_000, **parameters: Any) -> Submission:
    """Return a submission; short names are padded to the length of a client token."""
    return Submission(JobKey(owner, job_id.ljust(16, "-")), "scripted", parameters, at)


def gateway_id(owner: str, at: int) -> str:
    """Return an id as the gateway's template makes it."""
    return f"{at}-5e2f0d4c-3b1a-4f60-9c8d-7e6f5a4b3c2d-{owner_tag(owner)}"


def sqs_record(body: str, *, receives: int = 1, attributes: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return one record of an SQS event; no queue knows its message."""
    number = next(_numbers)
    return {
        "messageId": f"message-{number}",
        "receiptHandle": f"AQEB{number}",
        "body": body,
        "attributes": {
            "ApproximateReceiveCount": str(receives),
            "SentTimestamp": "1790000000000",
            "SenderId": "AIDA",
            "ApproximateFirstReceiveTimestamp": "1790000000001",
        },
        "messageAttributes": {
            name: {"stringValue": value, "stringListValues": [], "binaryListValues": [], "dataType": "String"}
            for name, value in (attributes or {}).items()
        },
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:requests",
        "awsRegion": "us-east-1",
    }


def received_record(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message that was received from a queue as Lambda would deliver it."""
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": dict(message["Attributes"]),
        "messageAttributes": {
            name: {"stringValue": value["StringValue"], "dataType": value["DataType"]}
            for name, value in message.get("MessageAttributes", {}).items()
        },
        "eventSource": "aws:sqs",
        "awsRegion": "us-east-1",
    }


def request_attributes(job_id: str, owner: str, at: int, request_id: str) -> dict[str, str]:
    """Return the message attributes that the gateway's template sends."""
    return {
        "owner": owner,
        "jobId": job_id.ljust(16, "-"),
        "submittedAt": str(at),
        "requestId": request_id,
    }


def request_record(
    job_id: str,
    body: Any,
    *,
    owner: str = ANN,
    at: int = 1_790_000_000_000,
    receives: int = 1,
    request_id: str = "request-1",
) -> dict[str, Any]:
    """Return a record as the gateway's template sends it; a body that is text goes as it is."""
    return sqs_record(
        body if isinstance(body, str) else json.dumps(body),
        receives=receives,
        attributes=request_attributes(job_id, owner, at, request_id),
    )


def work_record(body: str, *, receives: int = 1) -> dict[str, Any]:
    """Return a record of the work queue."""
    return sqs_record(body, receives=receives)


def failed_ids(answer: Mapping[str, Any]) -> list[str]:
    """Return the ids that a function reports back; nothing else may be in its answer."""
    assert list(answer) == ["batchItemFailures"]
    assert all(list(one) == ["itemIdentifier"] for one in answer["batchItemFailures"])
    return sorted(one["itemIdentifier"] for one in answer["batchItemFailures"])


def ids(*records: Mapping[str, Any]) -> list[str]:
    return sorted(record["messageId"] for record in records)


def api_event(
    job_id: str | None,
    *,
    owner: str = ANN,
    groups: tuple[str, ...] = (),
    query: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return a proxy event as API Gateway sends it, with the context that the authorizer wrote."""
    return {
        "headers": {"Accept": "*/*"},
        "queryStringParameters": query,
        "pathParameters": None if job_id is None else {"job-id": job_id},
        "requestContext": {
            "extendedRequestId": "request-1",
            "authorizer": {"principalId": owner, **Caller(owner, groups).context()},
        },
        "body": None,
        "isBase64Encoded": False,
    }


def ask(function: ModuleType, job_id: str | None, **request: Any) -> tuple[int, Any, dict[str, str]]:
    """Call a function of the API; return the answer's status, its document and its headers."""
    answer = function.handler(api_event(job_id, **request), None)
    assert set(answer) == {"statusCode", "headers", "body"}
    return answer["statusCode"], json.loads(answer["body"]), answer["headers"]


def handle(function: ModuleType, *records: dict[str, Any], context: Context | None = None) -> list[str]:
    """Run a function on one batch and return the ids that it reports back."""
    return failed_ids(function.handler({"Records": list(records)}, context or Context()))


def row(ledger: JobLedger, submission: Submission) -> Job:
    """Return the job as it is on record, where it must be."""
    found = ledger.get(submission.key)
    assert found is not None
    return found
