"""Load on a stage: ``locust -f loadtests/locustfile.py --host <apiUrl>``, with the web UI or ``--headless``.

Users sign in as those that the running stage's description (``build/stages/*.json``) lists for that host.
"""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import Any

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from locust import HttpUser, constant_pacing, task
from locust.exception import StopUser

_STAGES = Path(__file__).parents[1] / "build" / "stages"
_PATIENCE_S = 120
_turn = itertools.count()


class Submitter(HttpUser):
    """Submits a job every second and follows it to its end, as often as Retry-After allows."""

    wait_time = constant_pacing(1)

    def on_start(self) -> None:
        """Sign in, each user as the next of the stage's ordinary users."""
        stage = _description(self.host)
        ordinary = [user for user in stage["users"] if not user["groups"]]
        user = ordinary[next(_turn) % len(ordinary)]
        self.client.headers["Authorization"] = _sign_in(stage, user)

    @task
    def submit_and_follow(self) -> None:
        """One job, from submission to its end."""
        began = time.perf_counter()
        answer = self.client.post("/submit-job", json={"parameters": {"records": 10}})
        if answer.status_code != 202:  # noqa: PLR2004 - Locust has counted the failure
            return
        failure = self._follow(answer.json()["jobId"])
        self.environment.events.request.fire(
            request_type="JOB",
            name="end to end",
            response_time=(time.perf_counter() - began) * 1000,
            response_length=0,
            exception=failure,
            context=self.context(),
        )

    def _follow(self, job_id: str) -> Exception | None:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            answer = self.client.get(f"/job-status/{job_id}", name="/job-status/{job-id}")
            if not answer.ok:
                return RuntimeError(f"status {answer.status_code}")
            if "Retry-After" not in answer.headers:
                status = answer.json()["status"]
                return None if status == "COMPLETED" else RuntimeError(f"ended {status}")
            time.sleep(float(answer.headers["Retry-After"]))
        return TimeoutError(f"not ended after {_PATIENCE_S} s")


def _description(host: str | None) -> dict[str, Any]:
    for path in sorted(_STAGES.glob("*.json")):
        stage: dict[str, Any] = json.loads(path.read_text())
        if stage["apiUrl"].rstrip("/") == (host or "").rstrip("/"):
            return stage
    raise StopUser(f"no running stage describes itself as {host}: start one with `uvx nox -s local`")


def _sign_in(stage: dict[str, Any], user: dict[str, Any]) -> str:
    cognito = boto3.client(
        "cognito-idp",
        endpoint_url=stage["endpointUrl"],
        region_name=stage["region"],
        config=Config(signature_version=UNSIGNED),
    )
    answer = cognito.initiate_auth(
        AuthFlow="USER_PASSWORD_AUTH",
        ClientId=stage["userPoolClientId"],
        AuthParameters={"USERNAME": user["username"], "PASSWORD": user["password"]},
    )
    return str(answer["AuthenticationResult"]["IdToken"])
