"""Where to look at what runs a job: a page of AWS's console, and the command that shows the same anywhere.

The addresses are those that the console itself shows; AWS documents none of them.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING
from urllib.parse import quote

from sluice_core.executors import BATCH, ECS, LAMBDA, STEP_FUNCTIONS

if TYPE_CHECKING:
    from sluice_core.jobs import Job

    from sluice_harness.description import StageDescription


def page(stage: StageDescription, job: Job, log_group: str = "") -> str:
    """Return the address of a job's execution in the console; empty on a local stage, and for what never began.

    Parameters
    ----------
    stage : StageDescription
        The job's.
    job : Job
        Its row says which executor had it last, and by which handle.
    log_group : str, optional
        Of the batch simulator, whose lines tell of a job by its id; an invocation has several jobs and no page.

    """
    if stage.endpointUrl or not job.handle:
        return ""
    region, handle = stage.region, quote(job.handle, safe=":")
    console = f"https://{region}.console.aws.amazon.com"
    if job.executor == LAMBDA and log_group:
        found = f"log-group/{_twice(log_group)}/log-events$3FfilterPattern$3D{_twice(_quoted(job))}"
        return f"{console}/cloudwatch/home?region={region}#logsV2:log-groups/{found}"
    cluster, task = (arn.rpartition("/")[2] for arn in (stage.executors.ecsCluster, job.handle))
    pages = {
        STEP_FUNCTIONS: f"{console}/states/home?region={region}#/v2/executions/details/{handle}",
        BATCH: f"{console}/batch/home?region={region}#jobs/detail/{handle}",
        ECS: f"{console}/ecs/v2/clusters/{cluster}/tasks/{task}?region={region}",
    }
    return pages.get(job.executor, "")


def command(stage: StageDescription, job: Job, log_group: str = "") -> str:
    """Return the command that shows a job's execution, for the runbooks' shell; empty for what never began."""
    if not job.handle:
        return ""
    if job.executor == LAMBDA and log_group:
        # Without a start, all that the group keeps would be read.
        lines = f"aws logs filter-log-events --log-group-name {log_group} --start-time {job.submitted_at}"
        return f"{lines} --filter-pattern {shlex.quote(_quoted(job))}"
    handle = shlex.quote(job.handle)
    commands = {
        STEP_FUNCTIONS: f"aws stepfunctions describe-execution --execution-arn {handle}",
        BATCH: f"aws batch describe-jobs --jobs {handle}",
        ECS: f"aws ecs describe-tasks --cluster {stage.executors.ecsCluster} --tasks {handle}",
    }
    return commands.get(job.executor, "")


def owner_command(stage: StageDescription) -> str:
    """Return the command that tells whose a user's jobs are, with NAME for the user's."""
    return (
        f"aws cognito-idp admin-get-user --user-pool-id {stage.userPoolId} --username NAME "
        """--query "UserAttributes[?Name=='sub'].Value" --output text"""
    )


def _quoted(job: Job) -> str:
    """Return the filter pattern that looks for a job's id, hyphens and all."""
    return f'"{job.key.job_id}"'


def _twice(text: str) -> str:
    """Encode a part of CloudWatch's addresses, which are encoded twice, with $ for the second time's %."""
    return quote(quote(text, safe=""), safe="").replace("%", "$")
