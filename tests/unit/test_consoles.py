"""Where a job's execution is to be seen: a page of AWS's console, and a command that is the same anywhere."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import unquote

import pytest
from sluice_core.jobs import Job, JobKey, JobStatus
from sluice_harness.consoles import command, page
from sluice_harness.description import Executors
from unit.reviewed import STAGE
from unit.state_changes import CLUSTER, HANDLES

AWS = replace(STAGE, endpointUrl=None, region="eu-west-1", executors=Executors(ecsCluster=CLUSTER))
LOGS = "/aws/lambda/batch-simulator"
CONSOLE = "https://eu-west-1.console.aws.amazon.com"
REQUEST = "8a7f-1"


def job_of(executor: str, handle: str) -> Job:
    key = JobKey("owner", "job")
    return Job(key, "type", JobStatus.RUNNING, submitted_at=1, digest="", executor=executor, handle=handle)


@pytest.mark.parametrize(
    ("executor", "address"),
    [
        (
            "stepfunctions",
            f"{CONSOLE}/states/home?region=eu-west-1#/v2/executions/details/{HANDLES['stepfunctions']}",
        ),
        ("batch", f"{CONSOLE}/batch/home?region=eu-west-1#jobs/detail/{HANDLES['batch']}"),
        (
            "ecs",
            f"{CONSOLE}/ecs/v2/clusters/jobs/tasks/{HANDLES['ecs'].rpartition('/')[2]}?region=eu-west-1",
        ),
    ],
)
def test_an_execution_has_a_page_in_aws(executor: str, address: str) -> None:
    job = job_of(executor, HANDLES[executor])
    assert page(AWS, job) == address
    # and none on a local stage, nor before it has begun
    assert page(STAGE, job) == ""
    assert page(AWS, replace(job, handle="")) == ""


def test_an_invocation_s_lines_have_a_page() -> None:
    # given that CloudWatch encodes twice, with $ in the place of the second time's %
    address = page(AWS, job_of("lambda", REQUEST), LOGS)
    place, _, found = address.partition("#logsV2:log-groups/log-group/")
    assert place == f"{CONSOLE}/cloudwatch/home?region=eu-west-1"

    # then the group and the job's id are in it, which the lines have
    group, _, pattern = found.partition("/log-events$3FfilterPattern$3D")
    decoded = [unquote(unquote(part.replace("$", "%"))) for part in (group, pattern)]
    assert decoded == [LOGS, '"job"']
    assert "%" not in found
    assert page(AWS, job_of("lambda", REQUEST)) == ""


@pytest.mark.parametrize(
    ("executor", "shown"),
    [
        ("stepfunctions", f"aws stepfunctions describe-execution --execution-arn {HANDLES['stepfunctions']}"),
        ("batch", f"aws batch describe-jobs --jobs {HANDLES['batch']}"),
        ("ecs", f"aws ecs describe-tasks --cluster {CLUSTER} --tasks {HANDLES['ecs']}"),
    ],
)
def test_a_command_shows_the_same_anywhere(executor: str, shown: str) -> None:
    job = job_of(executor, HANDLES[executor])
    assert command(AWS, job) == command(replace(AWS, endpointUrl="http://127.0.0.1:1"), job) == shown
    assert command(AWS, replace(job, handle="")) == ""


def test_what_a_row_says_is_no_part_of_a_shell_s_language() -> None:
    assert command(AWS, job_of("batch", "a; rm -rf ~")).endswith("--jobs 'a; rm -rf ~'")


def test_an_invocation_s_lines_are_found_by_the_job_that_they_are_of() -> None:
    # given that no line has the request id, and that only those since the job was submitted can be of it
    lines = command(AWS, job_of("lambda", REQUEST), LOGS)
    assert lines == f"aws logs filter-log-events --log-group-name {LOGS} --start-time 1 --filter-pattern '\"job\"'"
