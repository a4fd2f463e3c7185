"""SQS's own redrive, StartMessageMoveTask: it moves a whole dead-letter queue, faster than any client could."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from sluice_harness.ops.stage import Failure

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from sluice_harness.description import Queue
    from sluice_harness.ops.output import Bar, Interrupt

# What an engine says that does not know it; the local one does not.
_UNKNOWN = {"InvalidAction", "UnknownOperationException", "UnsupportedOperation"}
_UNDER_WAY = ("RUNNING", "CANCELLING")
_POLL_S = 2.0


def are_offered(sqs: SQSClient, queue: Queue) -> bool:
    """Whether the engine knows move tasks.

    Raises
    ------
    Failure
        One is under way on this queue, and there can only be one.

    """
    source = _arn(sqs, queue.dlqUrl)
    try:
        tasks = sqs.list_message_move_tasks(SourceArn=source)["Results"]
    except ClientError as error:
        if error.response.get("Error", {}).get("Code", "").rpartition(".")[2] in _UNKNOWN:
            return False
        raise
    if tasks and tasks[0].get("Status") in _UNDER_WAY:
        moved, of = (tasks[0].get(f"ApproximateNumberOfMessages{part}", 0) for part in ("Moved", "ToMove"))
        raise Failure(
            f"another move of these dead letters is under way ({moved} of {of}); wait for it, or end it: "
            f"aws sqs list-message-move-tasks --source-arn {source}"
        )
    return True


def move(sqs: SQSClient, queue: Queue, rate: int, bar: Bar, interrupt: Interrupt) -> int:
    """Move all dead letters to their source queue, and return how many that were.

    Raises
    ------
    Failure
        The task failed or was cancelled; what it had not moved lies where it was.

    """
    source = _arn(sqs, queue.dlqUrl)
    handle = sqs.start_message_move_task(
        SourceArn=source, DestinationArn=_arn(sqs, queue.url), MaxNumberOfMessagesPerSecond=rate
    )["TaskHandle"]
    is_cancelled = False
    while True:
        [task] = sqs.list_message_move_tasks(SourceArn=source, MaxResults=1)["Results"]
        moved = task.get("ApproximateNumberOfMessagesMoved", 0)
        bar.reach(moved, task.get("ApproximateNumberOfMessagesToMove", moved))
        if task.get("Status") not in _UNDER_WAY:
            break
        if interrupt.came and not is_cancelled:
            sqs.cancel_message_move_task(TaskHandle=handle)
            is_cancelled = True
        time.sleep(_POLL_S)
    if task.get("Status") == "FAILED":
        raise Failure(f"SQS ended the move after {moved} messages: {task.get('FailureReason')}")
    return moved


def _arn(sqs: SQSClient, url: str) -> str:
    return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
