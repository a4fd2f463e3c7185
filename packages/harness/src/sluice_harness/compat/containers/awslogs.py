"""The log driver ``awslogs``: a container's output, line by line, in a log stream of its own.

Fargate opens the stream with the task's execution role before the container starts, and a task whose stream cannot
be opened does not start ("ResourceInitializationError: failed to validate logger args", Amazon ECS Developer Guide,
"Stopped tasks error messages", and "Send Amazon ECS logs to CloudWatch"). The stream is PREFIX/CONTAINER/TASK (ibid.,
"awslogs-stream-prefix", which Fargate needs). The newest lines only are kept, as of functions.
"""

from __future__ import annotations

import time
from typing import Any

from ministack.services import cloudwatch_logs

from sluice_harness.compat.access import service_roles
from sluice_harness.compat.containers.process import StartError
from sluice_harness.compat.functions.log_streams import LINES_KEPT
from sluice_harness.compat.patching import expect

Options = dict[str, str]


def apply() -> None:
    """Check that log groups and streams are where `Stream` looks for them."""
    expect(cloudwatch_logs, "_log_groups")
    expect(cloudwatch_logs, "_create_log_stream", "data")
    expect(cloudwatch_logs, "_make_group_arn", "name")
    expect(cloudwatch_logs, "_append_log_events", "stream", "events")
    expect(cloudwatch_logs, "_fanout_to_subscription_filters", "group_name", "stream_name", "events")


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
        stream = cloudwatch_logs._log_groups.get(self.group, {}).get("streams", {}).get(self.name)
        if stream is None:
            return
        now = int(time.time() * 1000)
        events = [{"timestamp": now, "message": line, "ingestionTime": now}]
        cloudwatch_logs._append_log_events(stream, events)
        if len(stream["events"]) > LINES_KEPT:
            del stream["events"][: LINES_KEPT // 4]
        cloudwatch_logs._fanout_to_subscription_filters(self.group, self.name, events)


def _not_opened(why: str) -> StartError:
    return StartError(
        "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: "
        f"failed to create Cloudwatch log stream: {why} : exit status 1"
    )
