"""The result store: one S3 object a finished attempt, read by clients through presigned URLs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sluice_core import clients
from sluice_core.jobs import StoredResult

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from sluice_core.jobs import JobKey
    from sluice_core.ledger import JobLedger
    from sluice_core.workloads import WorkResult

DOWNLOAD_SECONDS = 900
_SESSION_SECONDS = 3600  # the longest a role assumed from a role may live (IAM, "Role chaining")


class ResultWriter:
    """Writes results and deletes what is none; used by whatever runs or ends the work."""

    def __init__(self, s3: S3Client, bucket: str) -> None:
        self._s3 = s3
        self._bucket = bucket

    def put(self, key: JobKey, attempt: str, result: WorkResult) -> StoredResult:
        """Store one attempt's result. Each attempt has a key of its own, so that none overwrites another's.

        Raises
        ------
        botocore.exceptions.ClientError
            S3 refused; the attempt may be repeated.

        """
        object_key = f"{_folder(key)}{attempt}.{result.extension}"
        self._s3.put_object(
            Bucket=self._bucket,
            Key=object_key,
            Body=result.body,
            ContentType=result.content_type,
            ContentDisposition=f'attachment; filename="{key.job_id}.{result.extension}"',
        )
        return StoredResult(object_key, result.content_type, len(result.body))

    def delete(self, result: StoredResult) -> None:
        """Delete a result that came too late."""
        self._s3.delete_object(Bucket=self._bucket, Key=result.object_key)

    def delete_leftovers(self, key: JobKey, ledger: JobLedger) -> int:
        """Delete what attempts that died have left of a job that has ended, and return how much that was.

        The job is read after the listing: what was there by then and is not its result never will be, even if
        the job was brought back and has ended again. An open job's objects are left alone.
        """
        listed = self._s3.list_objects_v2(Bucket=self._bucket, Prefix=_folder(key)).get("Contents", [])
        if not listed:
            return 0
        job = ledger.get_many([key], consistent=True).get(key)
        if job is None or job.status.is_open:
            return 0
        left = [one["Key"] for one in listed if job.result is None or one["Key"] != job.result.object_key]
        for object_key in left:
            self._s3.delete_object(Bucket=self._bucket, Key=object_key)
        return len(left)


def _folder(key: JobKey) -> str:
    return f"results/{key.owner}/{key.job_id}/"


@dataclass(frozen=True, slots=True)
class Download:
    """A presigned URL and the epoch second at which it stops working."""

    url: str
    expires_at: int


class DownloadSigner:
    """Presigns downloads with a role of its own, which can read results and do nothing else.

    A presigned URL dies with the credentials that signed it, and a function's own credentials do not say when
    that is (Amazon S3, "Sharing objects with presigned URLs"). The assumed session's end is known, and it is
    renewed before a URL could outlive it.
    """

    def __init__(self, role_arn: str, bucket: str) -> None:
        self._role_arn = role_arn
        self._bucket = bucket
        self._session_end = 0.0
        self._s3: S3Client | None = None

    def sign(self, result: StoredResult) -> Download:
        """Return a URL that works for 15 minutes without credentials.

        Raises
        ------
        botocore.exceptions.ClientError
            The signing role cannot be assumed.

        """
        now = int(time.time())
        url = self._client(now).generate_presigned_url(
            "get_object",
            Params={"Bucket": self._bucket, "Key": result.object_key},
            ExpiresIn=DOWNLOAD_SECONDS,
        )
        return Download(url, now + DOWNLOAD_SECONDS)

    def _client(self, now: int) -> S3Client:
        if self._s3 is None or self._session_end < now + DOWNLOAD_SECONDS:
            answer = clients.sts().assume_role(
                RoleArn=self._role_arn, RoleSessionName="download", DurationSeconds=_SESSION_SECONDS
            )
            session = answer["Credentials"]
            self._session_end = session["Expiration"].timestamp()
            self._s3 = clients.s3(
                aws_access_key_id=session["AccessKeyId"],
                aws_secret_access_key=session["SecretAccessKey"],
                aws_session_token=session["SessionToken"],
            )
        return self._s3
