"""Whatever is refused is refused as a problem document that gives nothing away."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from stage.answers import assert_problem
from stage.running import claims

if TYPE_CHECKING:
    from stage.running import Person, RunningStage

pytestmark = pytest.mark.xdist_group("stage")


def with_claims(token: str, **changes: Any) -> str:
    """Change a genuine token's claims and keep its signature."""
    header, _, signature = token.split(".")
    payload = base64.urlsafe_b64encode(json.dumps({**claims(token), **changes}).encode()).rstrip(b"=").decode()
    return f"{header}.{payload}.{signature}"


def call(person: Person, method: str, path: str, token: str | None) -> Any:
    headers = {} if token is None else {"Authorization": token}
    content = b"{}" if method == "POST" else None
    return person.http.request(method, f"{person.api_url}{path}", content=content, headers=headers)


BOTH_METHODS = pytest.mark.parametrize(("method", "path"), [("POST", "/submit-job"), ("GET", "/job-status/an-id")])


@BOTH_METHODS
@pytest.mark.parametrize(
    "token",
    [
        None,
        "nonsense",
        "a.b",
        "a.b.c",
        "Bearer",
        "Bearer nonsense",
        "Basic YW5uOnNlY3JldA==",
        "....",
        "e30.e30.e30",
    ],
)
def test_no_token_and_what_is_none_is_a_401(
    stage: RunningStage, ann: Person, method: str, path: str, token: str | None
) -> None:
    assert_problem(call(ann, method, path, token), 401, "unauthorized", stage)


@BOTH_METHODS
def test_a_genuine_token_with_changed_claims_is_a_401(
    stage: RunningStage, ann: Person, ben: Person, method: str, path: str
) -> None:
    # Given ben's token, whose owner is now ann
    forged = with_claims(ben.id_token, sub=ann.sub)

    # Then it is as good as none
    assert_problem(call(ann, method, path, forged), 401, "unauthorized", stage)


@BOTH_METHODS
def test_an_access_token_without_the_scope_is_a_403(
    stage: RunningStage, ann: Person, method: str, path: str
) -> None:
    # Given the access token of a sign-in with a password, which carries no scope of ours
    assert "sluice/jobs" not in claims(ann.access_token).get("scope", "").split()

    # Then its bearer is known, and not allowed
    assert_problem(call(ann, method, path, ann.access_token), 403, "forbidden", stage)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/nowhere"),
        ("GET", "/submit-job"),
        ("PUT", "/submit-job"),
        ("DELETE", "/submit-job"),
        ("PATCH", "/job-status/an-id"),
        ("DELETE", "/job-status/an-id"),
        ("POST", "/submit-job/more"),
        ("GET", "/job-status/an-id/more"),
        ("GET", "/Submit-Job"),
    ],
)
@pytest.mark.parametrize("signed_in", [True, False])
def test_an_unknown_route_or_method_is_a_404(
    stage: RunningStage, ann: Person, method: str, path: str, *, signed_in: bool
) -> None:
    assert_problem(call(ann, method, path, ann.id_token if signed_in else None), 404, "not-found", stage)


@pytest.mark.parametrize(
    "job_id",
    [
        "no-such-job-0123456789",
        "1700000000000-01234567-89ab-cdef-0123-456789abcdef-01234567",
        "%00",
        "a%2Fb",
        "..%2f..%2fsubmit-job",
        "%F0%9F%8C%A6",
        "x" * 3000,
        "a%23b",
    ],
)
def test_an_unknown_job_is_a_404(stage: RunningStage, ann: Person, job_id: str) -> None:
    assert_problem(ann.status(job_id), 404, "not-found", stage)


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"],
)
def test_another_content_type_is_a_415(stage: RunningStage, ann: Person, content_type: str) -> None:
    assert_problem(ann.post(b"{}", content_type=content_type), 415, "unsupported-media-type", stage)


@pytest.mark.parametrize("size", [1_048_577, 1_500_000, 10 * 1_048_576 + 1, 12_000_000])
def test_a_body_that_no_queue_or_gateway_takes_is_a_413(stage: RunningStage, ann: Person, size: int) -> None:
    # Given a valid submission of just so many bytes: over SQS's limit, or over the gateway's
    empty = b'{"parameters":{"note":""}}'
    body = empty[:-3] + b"x" * (size - len(empty)) + empty[-3:]
    assert len(body) == size

    # Then it is refused, and nothing is queued
    assert_problem(ann.post(body), 413, "too-large", stage)
