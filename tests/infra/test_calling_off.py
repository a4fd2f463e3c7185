"""What docs/releasing.md has somebody type to call a release off, typed against AWS as its APIs are documented.

The local stage shifts no traffic, so it has no CodeDeploy: answers come from here, and the AWS CLI reads them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

import pytest
from sluice_harness.description import ROOT
from stage.following import blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from infra.assemblies import Assembly

pytestmark = pytest.mark.xdist_group("infra")

# "ListStackResources" of the CloudFormation API and "StopDeployment" of CodeDeploy's.
APPLICATION, STACK, PAGE = "AWS::CodeDeploy::Application", "sluice-prod-ingestion", 100
SHIFTING = {"processor": ["d-1", "d-2"], "sweeper": []}


class Answers(ThreadingHTTPServer):
    """Both services: a stack with these resources, whose deployment groups are `SHIFTING`."""

    def __init__(self, resources: list[str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.stopped: list[dict[str, Any]] = []
        # The application comes last, as it may.
        self._resources = sorted(resources, key=lambda kind: kind == APPLICATION)

    def answer(self, target: str, body: str) -> str:
        """Answer a call; one that is not known here is an error of the test."""
        if not target:
            asked = {name: value for name, (value,) in parse_qs(body).items()}
            assert (asked["Action"], asked["StackName"]) == ("ListStackResources", STACK)
            return self._listed(int(asked.get("NextToken", "0")))
        asked, operation = json.loads(body), target.rpartition(".")[2]
        if operation == "StopDeployment":
            self.stopped.append(asked)
            return json.dumps({"status": "Pending"})
        assert asked["applicationName"] == f"the-{APPLICATION}"
        if operation == "ListDeploymentGroups":
            return json.dumps({"deploymentGroups": [*SHIFTING]})
        assert (operation, asked["includeOnlyStatuses"]) == ("ListDeployments", ["InProgress"])
        return json.dumps({"deployments": SHIFTING[asked["deploymentGroupName"]]})

    def _listed(self, start: int) -> str:
        members = "".join(
            f"<member><ResourceType>{escape(kind)}</ResourceType>"
            f"<PhysicalResourceId>the-{escape(kind)}</PhysicalResourceId></member>"
            for kind in self._resources[start : start + PAGE]
        )
        end = start + PAGE
        more = f"<NextToken>{end}</NextToken>" if end < len(self._resources) else ""
        result = f"<StackResourceSummaries>{members}</StackResourceSummaries>{more}"
        return f"<Response><ListStackResourcesResult>{result}</ListStackResourcesResult></Response>"


class _Handler(BaseHTTPRequestHandler):
    server: Answers

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        answered = self.server.answer(self.headers.get("X-Amz-Target", ""), body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answered)))
        self.end_headers()
        self.wfile.write(answered)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called there
        """Say nothing."""


@pytest.fixture
def aws(synthesized: Callable[[str], Assembly]) -> Iterator[Answers]:
    (template,) = [file for file in synthesized("prod").template_files if file.name.startswith(STACK)]
    resources = json.loads(template.read_text())["Resources"].values()
    assert len(resources) > PAGE
    with Answers([resource["Type"] for resource in resources]) as answers:
        serving = threading.Thread(target=answers.serve_forever)
        serving.start()
        yield answers
        answers.shutdown()
        serving.join()


def test_what_shifts_is_stopped(aws: Answers, tmp_path: Path) -> None:
    # given a shell, and the commands that call a release off
    (commands,) = [one.text for one in blocks(ROOT / "docs" / "releasing.md") if "stop-deployment" in one.text]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "NAMED": "sluice-prod",
        "HOME": str(tmp_path),
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{aws.server_port}",
        "AWS_DEFAULT_REGION": "eu-central-1",
        **dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "test"),
        "AWS_MAX_ATTEMPTS": "1",
    }

    # when they are typed
    typed = ["bash", "-eu", "-o", "pipefail", "-c", commands]
    done = subprocess.run(typed, env=environment, capture_output=True, text=True, timeout=120, check=False)

    # then each deployment that was in progress is stopped, and goes back
    assert (done.stderr, done.stdout.split()) == ("", ["Pending", "Pending"])
    assert aws.stopped == [{"deploymentId": one, "autoRollbackEnabled": True} for one in SHIFTING["processor"]]
