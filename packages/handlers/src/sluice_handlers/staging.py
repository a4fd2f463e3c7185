"""What one step of a workflow leaves for the next: in S3, for Step Functions carries no more than 256 KiB."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluice_core.workloads import WorkResult

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from sluice_core.ledger import Attempt

_EXTENSION = "extension"


class Staging:
    """Keeps one object an execution, under ``staged/`` in the bucket of results.

    Methods raise botocore's ClientError when S3 refuses; the bucket's lifecycle deletes what is left.
    """

    def __init__(self, s3: S3Client, bucket: str) -> None:
        self._s3 = s3
        self._bucket = bucket

    def put(self, attempt: Attempt, made: WorkResult) -> None:
        """Keep what an execution has made; the same step again takes its place."""
        self._s3.put_object(
            Bucket=self._bucket,
            Key=_object_key(attempt),
            Body=made.body,
            ContentType=made.content_type,
            Metadata={_EXTENSION: made.extension},
        )

    def get(self, attempt: Attempt) -> WorkResult:
        """Return what an execution has made."""
        answer = self._s3.get_object(Bucket=self._bucket, Key=_object_key(attempt))
        return WorkResult(answer["Body"].read(), answer["ContentType"], answer["Metadata"][_EXTENSION])

    def delete(self, attempt: Attempt) -> None:
        """Delete what an execution has made, if it has made anything."""
        self._s3.delete_object(Bucket=self._bucket, Key=_object_key(attempt))


def _object_key(attempt: Attempt) -> str:
    return f"staged/{attempt.key.owner}/{attempt.key.job_id}/{attempt.token}"
