"""`docs/openapi.yaml` against the local stage: Schemathesis sends what it allows, and what it does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sluice_harness.openapi.document import FILE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stage.running import Person, RunningStage

pytestmark = pytest.mark.xdist_group("stage")

EXAMPLES = 30
# What it would also check, and why that does not hold here.
EXCLUDED = {
    # Any text is a cursor, by its schema. And 5.0 is an integer in 2020-12, but not in the gateway's draft 4.
    "positive_data_acceptance",
    # API Gateway answers 404 to a method that a path does not have, for it takes the two for one thing.
    "unsupported_method",
    # A job under a clientToken is a 404 until it is recorded.
    "ensure_resource_availability",
}


@pytest.fixture
def tester(stage: RunningStage) -> Iterator[Person]:
    """A user whose submissions are accepted and go no further, so that no worker has to do them."""
    with stage.paused():
        yield stage.newcomer("tester")
        stage.client("sqs").purge_queue(QueueUrl=stage.description.queues.request.url)


def test_the_stage_does_what_the_document_says(tester: Person, tmp_path: Path) -> None:
    # When Schemathesis calls the stage by the document, the same calls each time
    report = tmp_path / "report.json"
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("st")),
            *("run", str(FILE), "--url", tester.api_url, "--header", f"Authorization: {tester.id_token}"),
            *("--max-examples", str(EXAMPLES), "--generation-deterministic", "--continue-on-failure"),
            *("--exclude-checks", ",".join(sorted(EXCLUDED)), "--warnings", "off", "--no-color"),
            *("--report", "json", "--report-json-path", str(report)),
        ],
        cwd=tmp_path,  # it keeps files of its own where it runs
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )

    # Then it finds nothing
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(report.read_text())
    assert found["failures"] == found["errors"] == []

    # And it has looked everywhere, and was let in
    assert {phase["status"] for phase in found["phases"].values()} == {"success"}
    rates = found["valid_rates"]
    accepted = {call: sum(phase["accepted"] for phase in by_phase.values()) for call, by_phase in rates.items()}
    assert len(accepted) == found["operations"]["total"] == 4
    assert all(accepted.values()), accepted
    assert rates["POST /submit-job"]["examples"]["rejected"] == 0
