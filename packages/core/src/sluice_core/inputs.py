"""The input store: what a job asked for, kept in S3 while an external executor has it.

A work message is gone once its job has started, and a service's own input is small: 256 KiB in Step Functions,
30 KiB in AWS Batch, 8 KiB in ECS. So they are told which job it is, and what it asked for is here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluice_core.work_queue import read_work_message, work_message

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from sluice_core.jobs import JobKey, Submission


class InputStore:
    """Keeps one object a job, under ``inputs/`` in the bucket of results."""

    def __init__(self, s3: S3Client, bucket: str) -> None:
        self._s3 = s3
        self._bucket = bucket

    def put(self, submission: Submission) -> None:
        """Keep a job's input; the same again changes nothing.

        Raises
        ------
        botocore.exceptions.ClientError
            S3 refused.

        """
        self._s3.put_object(
            Bucket=self._bucket,
            Key=_object_key(submission.key),
            Body=work_message(submission).encode(),
            ContentType="application/json",
        )

    def get(self, key: JobKey) -> Submission:
        """Return what a job asked for.

        Raises
        ------
        botocore.exceptions.ClientError
            S3 refused, or there is none: ``NoSuchKey``, or ``AccessDenied`` to who may not list the bucket.
        MalformedMessage
            It is nothing of ours.

        """
        answer = self._s3.get_object(Bucket=self._bucket, Key=_object_key(key))
        return read_work_message(answer["Body"].read().decode())

    def has(self, key: JobKey) -> bool:
        """Whether there is a job's input, which takes leave to list ``inputs/``.

        Raises
        ------
        botocore.exceptions.ClientError
            S3 refused.

        """
        answer = self._s3.list_objects_v2(Bucket=self._bucket, Prefix=_object_key(key), MaxKeys=1)
        return bool(answer.get("Contents"))

    def delete(self, key: JobKey) -> None:
        """Delete a job's input once nobody needs it any more.

        Raises
        ------
        botocore.exceptions.ClientError
            S3 refused; the bucket's lifecycle deletes it later.

        """
        self._s3.delete_object(Bucket=self._bucket, Key=_object_key(key))


def _object_key(key: JobKey) -> str:
    return f"inputs/{key.owner}/{key.job_id}.json"
