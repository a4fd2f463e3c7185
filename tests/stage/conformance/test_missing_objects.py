"""S3 tells that an object is missing only to who may list its bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from botocore.exceptions import ClientError
from stage.conformance.callers import Caller, grant
from stage.conformance.functions import unique

if TYPE_CHECKING:
    from stage.conformance.callers import Grant
    from stage.conformance.conftest import Engine


@pytest.fixture(scope="module")
def bucket(engine: Engine) -> str:
    """A bucket with one object."""
    name = unique("bucket")
    engine.client("s3").create_bucket(Bucket=name)
    engine.client("s3").put_object(Bucket=name, Key="inputs/there", Body=b"it")
    return name


@pytest.fixture(scope="module")
def caller(engine: Engine) -> Caller:
    return Caller(engine)


def reading(bucket: str) -> Grant:
    return grant("s3:GetObject", f"arn:aws:s3:::{bucket}/*")


def statuses(caller: Caller, bucket: str, key: str) -> list[int]:
    """What a caller is told of an object: as it reads it, asks for it, and by a presigned URL."""
    s3 = caller.client("s3")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key})
    return [status(s3.get_object, bucket, key), status(s3.head_object, bucket, key), httpx.get(url).status_code]


def status(call: Any, bucket: str, key: str) -> int:
    try:
        return int(call(Bucket=bucket, Key=key)["ResponseMetadata"]["HTTPStatusCode"])
    except ClientError as error:
        return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def test_who_may_only_read_is_denied_what_is_missing(caller: Caller, bucket: str) -> None:
    # given
    caller.may(reading(bucket))

    # then
    assert statuses(caller, bucket, "inputs/there") == [200, 200, 200]
    assert statuses(caller, bucket, "inputs/missing") == [403, 403, 403]
    with pytest.raises(ClientError) as caught:
        caller.client("s3").get_object(Bucket=bucket, Key="inputs/missing")
    assert caught.value.response["Error"]["Code"] == "AccessDenied"


def test_who_may_list_is_told(caller: Caller, bucket: str) -> None:
    # given
    caller.may(reading(bucket), grant("s3:ListBucket", f"arn:aws:s3:::{bucket}"))

    # then
    assert statuses(caller, bucket, "inputs/missing") == [404, 404, 404]


def test_to_list_a_prefix_is_not_enough(caller: Caller, bucket: str) -> None:
    # given
    prefix = {"StringLike": {"s3:prefix": "inputs/*"}}
    caller.may(reading(bucket), grant("s3:ListBucket", f"arn:aws:s3:::{bucket}", **prefix))

    # then
    assert statuses(caller, bucket, "inputs/missing") == [403, 403, 403]
