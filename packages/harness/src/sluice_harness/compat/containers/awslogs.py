"""The log driver ``awslogs``: a container's output, line by line, in a log stream of its own.

Fargate opens the stream with the task's execution role before the container starts, and a task whose stream cannot
be opened does not start ("ResourceInitializationError: failed to validate logger args", Amazon ECS Developer
Guide, "Stopped tasks error messages", and "Send Amazon ECS logs to CloudWatch"). The stream is
PREFIX/CONTAINER/TASK (ibid., "awslogs-stream-prefix", which Fargate needs). The newest lines only are kept, as of
functions.
"""

from __future__ import annotations

from ministack.services import cloudwatch_logs

from sluice_harness.compat.access import service_roles
from sluice_harness.compat.containers.process import StartError
from sluice_harness.compat.functions import log_streams
from sluice_harness.compat.patching import expect


def apply() -> None:
    """Check that log groups and streams are where `Stream` looks for them."""
    expect(cloudwatch_logs, "_log_groups")
    expect(cloudwatch_logs, "_create_log_stream", "data")
    expect(cloudwatch_logs, "_make_group_arn", "name")


class Stream:
    """Where a container's output goes.

    Raises
    ------
    StartError
        There is no such log group, or the execution role may not write to it.

    """

    def __init__(self, group: str, name: str, execution_role: str) -> None:
        self.group, self.name = group, name
        arn = cloudwatch_logs._make_group_arn(group).removesuffix(":*")
        for action in ("logs:CreateLogStream", "logs:PutLogEvents"):
            refusal = service_roles.refusal(execution_role, "ecs", action, f"{arn}:log-stream:{name}")
            if refusal:
                raise _not_opened(f"AccessDeniedException: {refusal}")
        if group not in cloudwatch_logs._log_groups:
            raise _not_opened(f"ResourceNotFoundException: The specified log group does not exist: {group}")
        cloudwatch_logs._create_log_stream({"logGroupName": group, "logStreamName": name})

    def write(self, line: str) -> None:
        """Add a line; one of a group that was deleted is lost."""
        if self.group in cloudwatch_logs._log_groups:
            log_streams.append(self.group, self.name, [line])


def _not_opened(why: str) -> StartError:
    return StartError(
        "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: "
        f"failed to create Cloudwatch log stream: {why} : exit status 1"
    )
