"""A release over a running stage whose queues are full: nothing is lost, done twice or cut off, and it all serves.

The release brings other code, another environment value, an index of the table and another setting of a queue, in
one deployment by the CDK CLI, while clients go on submitting. The next one has a function that fails, and alarms
that take it back while CodeDeploy shifts its traffic.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sluice_core import LIVE_ALIAS
from sluice_harness import cdk_cli
from sluice_harness.bench.posting import post_many
from sluice_harness.cdk_cli import CdkError
from sluice_harness.local_stage import engine_environment
from stage import changed_stage
from stage.answers import assert_problem
from stage.running import deployed, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stage.running import Person, RunningStage

pytestmark = pytest.mark.xdist_group("changes")

BACKLOG = 300
WAITING = 100
# A twentieth of a second's work each, and a client besides: there is work in every moment of the deployment.
WORK = b'{"parameters": {"records": 3000}}'
GREETING = {"jobType": "greeting"}
EVERY_S = 0.1
# A stage minute takes a quarter of a second: a shift in steps of ten minutes has its alarms long before it ends.
SPEED = 240.0
STATEFUL = (
    "AWS::Cognito::UserPool",
    "AWS::Cognito::UserPoolClient",
    "AWS::DynamoDB::Table",
    "AWS::Lambda::EventSourceMapping",
    "AWS::S3::Bucket",
    "AWS::SQS::Queue",
)


@pytest.fixture(scope="module")
def stage(assembly: Path) -> Iterator[RunningStage]:
    """A stage whose release this is."""
    with deployed("changes", assembly, speed=SPEED) as running:
        yield running


@pytest.fixture(scope="module")
def ann(stage: RunningStage) -> Person:
    return stage.person("ann")


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the assemblies of both releases."""
    folder = tmp_path_factory.mktemp("changed")
    node = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    unchecked = {**os.environ, "PATH": node, "CDK_VALIDATION": "false"}  # the tests of infra have it checked
    subprocess.run([sys.executable, changed_stage.__file__, str(folder)], env=unchecked, check=True)
    return folder


@contextlib.contextmanager
def submitting(ann: Person) -> Iterator[list[str]]:
    """Submit all the while, as a client of whom nothing is refused; yield the ids of what is accepted."""
    accepted: list[str] = []
    stop = threading.Event()

    def submit() -> None:
        with httpx.Client(timeout=30, headers={"Authorization": ann.id_token}) as http:
            while not stop.wait(EVERY_S):
                answer = http.post(f"{ann.api_url}/submit-job", json={"parameters": {"records": 100}})
                assert answer.status_code == 202, answer.text
                accepted.append(answer.json()["jobId"])

    with ThreadPoolExecutor(1) as pool:
        client = pool.submit(submit)
        try:
            yield accepted
        finally:
            stop.set()
            client.result()


def physical(stage: RunningStage) -> dict[str, str]:
    """The physical ids of what must not be replaced, by their logical ids."""
    cloudformation = stage.client("cloudformation")
    found: dict[str, str] = {}
    for stack in ("sluice-local-auth", "sluice-local-ingestion"):
        pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack)
        found |= {
            one["LogicalResourceId"]: one["PhysicalResourceId"]
            for page in pages
            for one in page["StackResourceSummaries"]
            if one["ResourceType"] in STATEFUL
        }
    return found


def completed(stage: RunningStage) -> dict[str, dict[str, Any]]:
    """The rows of the jobs that have completed, by job id."""
    rows = [row for row in stage.rows() if row["status"]["S"] == "COMPLETED"]
    return {row["jobKey"]["S"].partition("#")[2]: row for row in rows}


@dataclass(frozen=True)
class Release:
    """What was accepted before and during the release and what became of it, and the ids of what is to stay."""

    accepted: list[str]
    rows: dict[str, dict[str, Any]]
    results: list[str]
    before: dict[str, str]


@pytest.fixture(scope="module")
def release(stage: RunningStage, ann: Person, releases: Path) -> Release:
    """Deploy the release while there is work in the queues and in the workers, and clients go on."""
    # given a backlog of work, begun and for the most part waiting
    assert_problem(ann.submit(GREETING), 400, "invalid-body", stage)
    before = physical(stage)
    with stage.unworked():
        backlog = post_many(ann.api_url, ann.id_token, WORK, BACKLOG).job_ids
        until(lambda: stage.depth(stage.description.queues.work.url) >= BACKLOG, "all of it is work")
    until(lambda: completed(stage), "the first jobs have completed")
    assert stage.depth(stage.description.queues.work.url) > WAITING

    # when the release is deployed
    with submitting(ann) as meanwhile:
        cdk_cli.deploy(releases / "changed", engine_environment(stage.local.endpoint_url))
    # and all that was accepted is done
    accepted = [*backlog, *meanwhile]
    until(lambda: len(completed(stage)) >= len(accepted), "all jobs have completed", within=180)
    stage.drained()
    return Release(accepted, completed(stage), stage.objects(), before)


def test_every_job_completes_once_and_in_its_first_attempt(release: Release) -> None:
    # then what is on record is what was accepted, nothing of it was cut off, and there is one result of each
    assert release.rows.keys() == set(release.accepted)
    assert {row["attempts"]["N"] for row in release.rows.values()} == {"1"}
    assert Counter(key.split("/")[2] for key in release.results) == Counter(release.accepted)


def test_both_versions_had_their_share(stage: RunningStage, release: Release) -> None:
    # given the log streams in which the function that does the work says that it has done it
    lambda_, function = stage.client("lambda"), stage.description.functions.batchSimulator
    group = lambda_.get_function_configuration(FunctionName=function)["LoggingConfig"]["LogGroup"]
    pages = stage.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group)
    streams = {
        event["logStreamName"] for page in pages for event in page["events"] if "completed" in event["message"]
    }

    # then they are the old version's and the new one's
    assert {stream.partition("[")[2].partition("]")[0] for stream in streams} == {"1", "2"}
    # and the old one is no more
    versions = lambda_.list_versions_by_function(FunctionName=function)["Versions"]
    assert [version["Version"] for version in versions] == ["$LATEST", "2"]
    assert release.accepted


@pytest.mark.usefixtures("release")
def test_the_new_code_and_its_setting_serve(ann: Person) -> None:
    # given a job type that neither code nor environment knew before
    job = ann.ended(ann.accepted(GREETING))

    # then the job is done as the new code does it
    assert job["status"] == "COMPLETED"
    assert httpx.get(job["result"]["url"]).content == changed_stage.GREETING


@pytest.mark.usefixtures("release")
def test_the_table_has_its_new_index_of_all_rows(stage: RunningStage) -> None:
    pages = (
        stage.client("dynamodb")
        .get_paginator("query")
        .paginate(
            TableName=stage.description.jobTable,
            IndexName=changed_stage.INDEX,
            KeyConditionExpression="#status = :completed",
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues={":completed": {"S": "COMPLETED"}},
        )
    )
    assert sum(page["Count"] for page in pages) == len(completed(stage)) >= BACKLOG


@pytest.mark.usefixtures("release")
def test_the_queue_has_its_new_setting(stage: RunningStage) -> None:
    url, name = stage.description.queues.work.url, "MessageRetentionPeriod"
    found = stage.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=[name])
    assert found["Attributes"][name] == str(changed_stage.RETENTION_S)


def test_what_holds_data_or_knows_how_far_it_has_read_is_what_it_was(
    stage: RunningStage, release: Release
) -> None:
    assert len(release.before) >= len(STATEFUL)
    assert physical(stage) == release.before


def test_a_release_that_fails_is_taken_back_and_no_job_fails_with_it(
    stage: RunningStage, ann: Person, release: Release, releases: Path
) -> None:
    # given what has completed so far, and clients that go on
    alias = {"FunctionName": stage.description.functions.batchSimulator, "Name": LIVE_ALIAS}
    serving = stage.client("lambda").get_alias(**alias)["FunctionVersion"]
    done = completed(stage).keys()
    with stage.quick_redelivery(), submitting(ann) as meanwhile:
        # when a version is released whose every invocation fails
        with pytest.raises(CdkError) as failed:
            cdk_cli.deploy(releases / "broken", engine_environment(stage.local.endpoint_url))

        # then an alarm stops the deployment, and the version before serves
        assert "was stopped by alarms: sluice-local-release-batch-simulator-" in str(failed.value)
        found = stage.client("lambda").get_alias(**alias)
        assert (found["FunctionVersion"], "RoutingConfig" in found) == (serving, False)
    assert release.accepted

    # and what the failing version had in its hands is done all the same
    until(lambda: completed(stage).keys() >= set(meanwhile), "all jobs have completed")
    assert completed(stage).keys() == done | set(meanwhile)
    assert not any(
        map(stage.depth, (stage.description.queues.request.dlqUrl, stage.description.queues.work.dlqUrl))
    )
