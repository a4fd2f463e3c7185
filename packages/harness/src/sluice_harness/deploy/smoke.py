"""The smoke test of a stage: a user of its own submits a job, follows it to its end and downloads the result."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

import httpx
from botocore.exceptions import ClientError

from sluice_harness.client import JobClient, temporary_users

if TYPE_CHECKING:
    from sluice_harness.description import StageDescription

# A first job meets three cold starts, and new roles and names take their time to be known everywhere.
_PATIENCE_S = 120
# A small job that every stage takes; whoever replaces the weather puts one of their own here.
_JOB = {"jobType": "weather-report", "parameters": {"records": 24}}


class SmokeError(Exception):
    """The stage does not do what it is for; the message says how far a job came and where to look."""


def check(stage: StageDescription, cognito: Any) -> str:
    """Run one job and return its id.

    Parameters
    ----------
    stage : StageDescription
        The stage.
    cognito : boto3 client
        Makes the user, and takes it away again.

    Raises
    ------
    SmokeError
        The job did not end as it should.

    """
    try:
        with temporary_users(cognito, stage.userPoolId, [f"smoke-{secrets.token_hex(6)}"]) as (user,):
            return _run(JobClient(stage, user))
    except ClientError as error:
        raise SmokeError(f"no user could be made for the smoke test, or sign in: {error}") from None
    except httpx.HTTPError as error:
        raise SmokeError(f"{stage.apiUrl} does not answer: {error}") from None


def _run(client: JobClient) -> str:
    try:
        answer = client.submit(_JOB)
        if answer.status_code != httpx.codes.ACCEPTED:
            raise SmokeError(_refused(answer))
        job_id = str(answer.json()["jobId"])
        final = _follow(client, job_id)
    finally:
        client.close()
    if final.get("status") != "COMPLETED":
        raise SmokeError(
            f"job {job_id} is {final.get('status')}, not COMPLETED: `uv run --no-sync sluice-ops job show`"
        )
    result = final["result"]
    download = httpx.get(result["url"], timeout=30)
    if not download.is_success or len(download.content) != result["bytes"]:
        raise SmokeError(f"the result of job {job_id} cannot be downloaded: {download.status_code}")
    return job_id


def _refused(answer: httpx.Response) -> str:
    told = f"the smoke test's job was answered with {answer.status_code}: {answer.text}"
    if answer.status_code != httpx.codes.BAD_REQUEST:
        return told
    file = "packages/harness/src/sluice_harness/deploy/smoke.py"
    step = f"If the stage takes no {_JOB['jobType']}, make _JOB in {file} one that it takes"
    return f"{told}. {step} (docs/replacing-the-weather.md, step 3), and run `uvx nox -s smoke`"


def _follow(client: JobClient, job_id: str) -> dict[str, Any]:
    """Ask as the API says to, for as long as there is a Retry-After."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        answer = client.status(job_id)
        if not answer.is_success:
            raise SmokeError(f"the status of job {job_id} was answered with {answer.status_code}: {answer.text}")
        if "retry-after" not in answer.headers or time.monotonic() > deadline:
            final: dict[str, Any] = answer.json()
            return final
        time.sleep(float(answer.headers["retry-after"]))
