"""Whether an object is missing is told only to who may list its bucket.

MiniStack answers 404 to whoever may read objects. S3 does so only to who has `s3:ListBucket` on the bucket
besides: "if you don't have the s3:ListBucket permission, Amazon S3 returns an HTTP status code 403 (access denied)
error" (Amazon S3 API Reference, "GetObject", "HeadObject"). A grant of listing under a condition on the prefix
does not count: these requests have none.

Closed around S3's answers, under AUTH only.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from ministack import app
from ministack.core import iam_evaluator, router
from ministack.core.responses import get_region

from sluice_harness.compat.patching import expect

_CODE, _DENIED = b"<Code>NoSuchKey</Code>", b"<Code>AccessDenied</Code>"
_MESSAGE, _SAID = b"The specified key does not exist.", b"Access Denied"


def apply() -> None:
    """Deny where the caller may not know."""
    parameters = ("access_key_id", "iam_action", "service", "region", "resource_arn", "service_context")
    expect(iam_evaluator, "enforce", *parameters)
    expect(router, "extract_access_key_id", "headers", "query_params")
    handle = app.SERVICE_HANDLERS["s3"]

    async def handle_without_telling(method: str, path: str, headers: Any, body: bytes, query: Any) -> Any:
        status, answer_headers, answer = await handle(method, path, headers, body, query)
        bucket, _, key = path.lstrip("/").partition("/")
        is_missing = status == HTTPStatus.NOT_FOUND and key and (method == "HEAD" or _CODE in bytes(answer))
        if not (app.AUTH and is_missing and method in {"GET", "HEAD"}) or _may_list(bucket, headers, query):
            return status, answer_headers, answer
        denied = bytes(answer).replace(_CODE, _DENIED).replace(_MESSAGE, _SAID)
        return int(HTTPStatus.FORBIDDEN), answer_headers, denied

    app.SERVICE_HANDLERS["s3"] = handle_without_telling


def _may_list(bucket: str, headers: Any, query: Any) -> bool:
    key = router.extract_access_key_id(headers, query)
    return iam_evaluator.enforce(key, "s3:ListBucket", "s3", get_region(), f"arn:aws:s3:::{bucket}") is None
