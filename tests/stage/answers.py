"""What every error of the API looks like (RFC 9457)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import httpx
    from sluice_harness.description import StageDescription

MEMBERS = {"type", "title", "status", "detail", "requestId"}


class Described(Protocol):
    """A stage of which somebody knows what must not be given away."""

    @property
    def description(self) -> StageDescription: ...


def assert_problem(
    answer: httpx.Response, status: int, name: str, stage: Described, *, default: bool = False
) -> dict[str, Any]:
    """Check that an answer is this problem and gives nothing away; return its document.

    One of the gateway's two default responses stands for several statuses, and does not repeat which it is.
    """
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem.keys() == (MEMBERS - {"status"} if default else MEMBERS)
    assert problem["type"] == f"urn:sluice:problem:{name}"
    assert problem.get("status", status) == status
    assert problem["title"]
    assert problem["detail"]
    assert problem["requestId"] == answer.headers["x-amz-apigw-id"]
    _assert_tells_nothing(answer, stage)
    return problem


def _assert_tells_nothing(answer: httpx.Response, stage: Described) -> None:
    described = stage.description
    secrets = ["arn:", "Traceback", described.account, described.jobTable, described.resultBucket]
    queues, functions = described.queues, described.functions
    urls = (queues.request.url, queues.request.dlqUrl, queues.work.url, queues.work.dlqUrl)
    secrets += [url.rpartition("/")[2] for url in urls]
    secrets += [functions.authorizer, functions.processor, functions.batchSimulator, functions.jobStatus]
    said = answer.text + str(answer.headers.multi_items())
    assert [secret for secret in secrets if secret in said] == []
