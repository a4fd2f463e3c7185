from __future__ import annotations

import re
import time
import urllib.parse
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import boto3
import botocore.session
import httpx
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from sluice_core import clients
from sluice_core.clients import S3_CONFIG
from sluice_core.jobs import JobKey, StoredResult, Submission
from sluice_core.ledger import Attempt, JobLedger
from sluice_core.results import DOWNLOAD_SECONDS, DownloadSigner, ResultWriter
from sluice_core.workloads import WorkResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    from botocore.awsrequest import AWSPreparedRequest
    from unit.resources import Bucket

KEY = JobKey("ann", "my-client-token-0001")
REPORT = WorkResult("höhe,1\r\n".encode(), "text/csv; charset=utf-8", "csv")
ROLE = "arn:aws:iam::123456789012:role/download"


@pytest.fixture
def writer(bucket: Bucket) -> ResultWriter:
    return ResultWriter(bucket.s3, bucket.name)


@pytest.fixture
def signer(lambda_environment: object, download_role: str, bucket: Bucket) -> DownloadSigner:
    assert lambda_environment
    return DownloadSigner(download_role, bucket.name)


class Clock:
    """Stands in for `time.time`; sessions end by this clock, too."""

    def __init__(self, now: float) -> None:
        self.now = now

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(time.time())
    monkeypatch.setattr("sluice_core.results.time", clock)
    return clock


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """moto, for what needs no engine: role sessions of its STS live as long as asked for."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(clients, "session", botocore.session.get_session)  # one that knows of moto
    with mock_aws():
        yield


def session_of(url: str) -> str:
    return urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)["X-Amz-Credential"][0].partition("/")[0]


def test_a_result_is_stored_under_its_job_and_attempt(writer: ResultWriter, bucket: Bucket) -> None:
    stored = writer.put(KEY, "attempt-1", REPORT)

    assert stored == StoredResult(
        "results/ann/my-client-token-0001/attempt-1.csv", "text/csv; charset=utf-8", len(REPORT.body)
    )
    assert bucket.read(stored.object_key) == REPORT.body


def test_attempts_do_not_overwrite_each_other(writer: ResultWriter, bucket: Bucket) -> None:
    first = writer.put(KEY, "attempt-1", REPORT)
    second = writer.put(KEY, "attempt-2", WorkResult(b"other", "text/csv", "csv"))

    assert bucket.read(first.object_key) == REPORT.body
    assert bucket.read(second.object_key) == b"other"


def test_a_result_that_came_too_late_is_deleted_alone(writer: ResultWriter, bucket: Bucket) -> None:
    kept, late = (writer.put(KEY, attempt, REPORT) for attempt in ("attempt-1", "attempt-2"))

    writer.delete(late)
    writer.delete(late)  # and once more does no harm

    assert bucket.keys() == [kept.object_key]


@pytest.mark.usefixtures("aws")
def test_a_result_is_sent_without_asking_s3_first() -> None:
    """Expect: 100-continue is a round trip more for each job."""
    s3 = clients.s3()
    s3.create_bucket(Bucket="results")
    sent: list[AWSPreparedRequest] = []
    s3.meta.events.register("before-send.s3.PutObject", lambda request, **_: sent.append(request))

    ResultWriter(s3, "results").put(KEY, "attempt-1", REPORT)

    assert [(request.method, request.headers.get("Expect")) for request in sent] == [("PUT", None)]


MINE = Attempt(KEY, "attempt-1")


def end(ledger: JobLedger, result: StoredResult | None) -> None:
    """Put the job on record and end it, with a result or without."""
    ledger.record([Submission(KEY, "scripted", {}, 1)])
    if result is None:
        ledger.cancel(KEY, 2)
    else:
        ledger.claim([MINE], 2, 3)
        ledger.complete([(MINE, result)], 3)


def test_what_dead_attempts_left_is_deleted_and_the_result_kept(
    writer: ResultWriter, bucket: Bucket, ledger: JobLedger
) -> None:
    # Given three attempts' objects, and those of jobs whose names begin the same or are another owner's
    left = [writer.put(KEY, f"attempt-{n}", REPORT) for n in range(3)]
    others = [JobKey("ann", KEY.job_id + "2"), JobKey("anna", KEY.job_id), JobKey("ben", KEY.job_id)]
    elsewhere = [writer.put(key, "attempt-0", REPORT) for key in others]

    # When the job has ended with one of them
    end(ledger, left[1])
    assert writer.delete_leftovers(KEY, ledger) == 2

    # Then only that one is left of it, and nothing of the others has gone
    assert bucket.keys() == sorted(one.object_key for one in [left[1], *elsewhere])
    # and once more there is nothing to do
    assert writer.delete_leftovers(KEY, ledger) == 0


def test_of_a_job_that_ended_without_a_result_nothing_is_kept(
    writer: ResultWriter, bucket: Bucket, ledger: JobLedger
) -> None:
    for n in range(2):
        writer.put(KEY, f"attempt-{n}", REPORT)
    end(ledger, None)

    assert writer.delete_leftovers(KEY, ledger) == 2
    assert bucket.keys() == []


def test_an_open_job_s_objects_are_left_alone(writer: ResultWriter, bucket: Bucket, ledger: JobLedger) -> None:
    # Given a job that was brought back and runs again: its newest object may be about to become its result
    ledger.record([Submission(KEY, "scripted", {}, 1)])
    ledger.claim([MINE], 2, 3)
    stored = writer.put(KEY, "attempt-1", REPORT)

    assert writer.delete_leftovers(KEY, ledger) == 0
    assert bucket.keys() == [stored.object_key]


def test_anyone_with_the_url_may_download(writer: ResultWriter, signer: DownloadSigner, bucket: Bucket) -> None:
    # Given a stored result
    stored = writer.put(KEY, "attempt-1", REPORT)

    # When its URL is fetched without credentials
    url = signer.sign(stored).url
    answer = httpx.get(url)

    # Then it downloads as a file of its own name and type
    assert answer.status_code == 200
    assert answer.content == REPORT.body
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="my-client-token-0001.csv"'
    # and a URL that was tampered with opens nothing
    other = writer.put(KEY, "attempt-2", REPORT)
    assert httpx.get(url.replace(stored.object_key, other.object_key)).status_code == 403
    assert httpx.get(url.partition("?")[0]).status_code == 403
    assert bucket.name in url


def test_the_url_opens_only_what_the_role_may_read(signer: DownloadSigner, bucket: Bucket) -> None:
    # Given an object outside the results
    bucket.s3.put_object(Bucket=bucket.name, Key="private/ledger.csv", Body=b"secret")

    url = signer.sign(StoredResult("private/ledger.csv", "text/csv", 6)).url

    assert httpx.get(url).status_code == 403


@pytest.mark.usefixtures("aws")
def test_a_url_lives_fifteen_minutes_and_never_longer_than_said(clock: Clock) -> None:
    # Given a clock within a second
    clock.now = int(clock.now) + 0.9

    download = DownloadSigner(ROLE, "bucket").sign(StoredResult("results/a", "text/plain", 1))

    # Then the signature is good for as long, and what is said is no later
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(download.url).query)
    assert query["X-Amz-Expires"] == [str(DOWNLOAD_SECONDS)] == ["900"]
    assert download.expires_at == int(clock.now) + 900
    signed_at = datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert abs(signed_at.timestamp() + 900 - download.expires_at) <= 5


@pytest.mark.usefixtures("aws")
def test_one_session_serves_until_a_url_could_outlive_it(clock: Clock) -> None:
    # Given a signer whose session began now and lives an hour
    signer = DownloadSigner(ROLE, "bucket")
    result = StoredResult("results/a", "text/plain", 1)
    began = clock.now
    first = signer.sign(result)

    # When URLs are asked for until the last moment at which one lives as long as the session
    clock.now = began + 3600 - DOWNLOAD_SECONDS - 5
    late = signer.sign(result)

    # Then they come from that session and end before it
    assert session_of(late.url) == session_of(first.url)
    assert late.expires_at <= began + 3600

    # When it is later, then a new session signs
    clock.now = began + 3600 - DOWNLOAD_SECONDS + 5
    assert session_of(signer.sign(result).url) != session_of(first.url)


@pytest.mark.usefixtures("lambda_environment")
def test_a_role_that_may_not_be_assumed_raises(bucket: Bucket) -> None:
    signer = DownloadSigner("arn:aws:iam::000000000000:role/no-such-role", bucket.name)

    with pytest.raises(ClientError):
        signer.sign(StoredResult("results/a", "text/plain", 1))


def test_a_bucket_that_is_gone_raises(bucket: Bucket) -> None:
    writer = ResultWriter(bucket.s3, "no-such-bucket")

    with pytest.raises(ClientError, match="NoSuchBucket"):
        writer.put(KEY, "attempt-1", REPORT)


@pytest.mark.usefixtures("lambda_environment")
def test_puts_carry_no_checksum_that_costs_more_than_it_brings(bucket: Bucket) -> None:
    s3 = boto3.client("s3", config=S3_CONFIG)
    headers: list[dict[str, str]] = []
    s3.meta.events.register("before-send.s3.PutObject", lambda request, **_: headers.append(request.headers))

    ResultWriter(s3, bucket.name).put(KEY, "attempt-1", REPORT)

    assert not [name for name in headers[0] if re.match(r"(?i)x-amz-checksum|x-amz-sdk-checksum", name)]


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1", "il-central-1"])
def test_downloads_name_the_buckets_regional_host(region: str) -> None:
    # given a client as the signer makes it, in some region
    s3 = boto3.client(
        "s3", region_name=region, config=S3_CONFIG, aws_access_key_id="key", aws_secret_access_key="secret"
    )

    # when it signs
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "results", "Key": "a"})

    # then the host is the region's, for the signature covers it and the global one redirects
    assert url.startswith(f"https://results.s3.{region}.amazonaws.com/a?") or (
        region == "us-east-1" and url.startswith("https://results.s3.amazonaws.com/a?")
    )
