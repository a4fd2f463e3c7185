"""What stands before and beside the calls: what the API is, where it is, who may call, which headers there are."""

from __future__ import annotations

from typing import Any

from sluice_harness.openapi import examples

ABOUT = """\
Submit a job and get a 202 at once; ask for its status until it has ended; download its result.

* **Signing in.** Every call takes a Cognito ID token, or an access token with the scope `sluice/jobs`, in
  `Authorization`, with or without `Bearer`. A job belongs to the user who submitted it; nobody else sees it.
* **Waiting.** `Retry-After` says when to ask again. A job that has ended has none.
* **Repeating.** Give a submission a `clientToken` of your own: sent again with it, it is the same job and
  runs once.
* **Errors** are `application/problem+json` (RFC 9457). Programs branch on `type`, people read `detail`.
* **Throttling.** The API takes {rate:,} requests a second and {burst:,} at once, of all callers together; what
  is more is a 429.
"""
SERVERS: list[dict[str, Any]] = [
    {
        "url": "https://{apiId}.execute-api.{region}.amazonaws.com/{stage}",
        "description": "A stage in AWS. One with a domain of its own is there, without the stage's name.",
        "variables": {
            "apiId": {"default": "a1b2c3d4e5", "description": "API Gateway's id of the stage's API."},
            "region": {"default": "eu-central-1"},
            "stage": {"default": "prod"},
        },
    },
    {
        "url": "http://127.0.0.1:{port}/restapis/{apiId}/{stage}/_user_request_",
        "description": "A local stage (`uvx nox -s local`), which prints its address.",
        "variables": {
            "port": {"default": "4566"},
            "apiId": {"default": "a1b2c3d4"},
            "stage": {"default": "local"},
        },
    },
]
SECURITY_SCHEMES: dict[str, Any] = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token of the stage's Cognito user pool. The word Bearer may be left out.",
    }
}
_RETRY_AFTER = {"schema": {"type": "integer", "minimum": 1}, "example": 1}
# By the names of their components: a header that an answer need not have is not one that it has to have.
HEADERS: dict[str, Any] = {
    "Location": {
        "required": True,
        "description": "Where to ask about the job, as a path.",
        "schema": {"type": "string", "format": "uri-reference"},
        "example": examples.LOCATION,
    },
    "Retry-After": {"required": True, "description": "Seconds to wait before the next request.", **_RETRY_AFTER},
    "Retry-After-While-Open": {
        "description": "Seconds to wait before asking again. A job that has ended has none.",
        **_RETRY_AFTER,
    },
    "WWW-Authenticate": {"required": True, "description": "How to sign in.", "schema": {"const": "Bearer"}},
    "Cache-Control": {
        "required": True,
        "description": "Jobs change, and are not to be cached.",
        "schema": {"const": "no-store"},
    },
    "x-amzn-RequestId": {
        "required": True,
        "description": "The request's id. A conflict names its submission by it.",
        "schema": {"type": "string"},
        "example": examples.SUBMISSION_REQUEST_ID,
    },
    "x-amz-apigw-id": {
        "required": True,
        "description": "The request's other id, the one in problems and in the access log.",
        "schema": {"type": "string"},
        "example": examples.REQUEST_ID,
    },
}
EVERY_ANSWER = ("x-amzn-RequestId", "x-amz-apigw-id")
