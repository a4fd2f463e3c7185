"""Executors that a deployment would take away: not while a job type uses them, nor before their jobs are over.

CloudFormation deletes a queue with all that is in it. So an executor goes in two deployments: the first leaves it
without job types, ``draining``, and the second takes it away.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from sluice_core.executors import EXTERNAL, parse_executors
from sluice_core.rows import EXECUTION_INDEX

from sluice_harness import live_functions
from sluice_harness.deploy.target import TargetError
from sluice_harness.deploy.terminal import Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from sluice_harness.deploy.target import Target

# What of a queue's messages is where (Amazon SQS API Reference, "GetQueueAttributes").
_MESSAGES = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesDelayed",
    "ApproximateNumberOfMessagesNotVisible",
)


def refuse_to_lose_jobs(stage: str, assembly: Path, target: Target) -> None:
    """See that a deployment takes away no executor that still has work.

    Raises
    ------
    Refused
        It does; the message says what there is, and what to do first.
    TargetError
        The stage does not say.

    """
    stack = f"sluice-{stage}-ingestion"
    try:
        there = _outputs(stack, target)
        wanted = json.loads((assembly / f"{stack}.template.json").read_text())["Outputs"]
        for executor in _executors(there):
            if executor not in _executors(wanted) and (work := list(_work(executor, there, target))):
                told = f"{stage} would lose jobs of {executor}: {', '.join(work)}"
                raise Refused(f"{told}. {_next_step(stage, executor)}")
    except ClientError as error:
        told = f"{stack} does not say whether its jobs are over: {error}"
        raise TargetError(f"{told}; docs/deploying.md names the rights that this takes") from None


def executing(stage: str, target: Target) -> dict[str, int]:
    """Return how many executions are open on each of a stage's executors that has any.

    Raises
    ------
    TargetError
        The stage does not say.

    """
    stack = f"sluice-{stage}-ingestion"
    dynamodb = target.client("dynamodb")
    try:
        there = _outputs(stack, target)
        counts = {executor: _executions(dynamodb, there["JobTable"], executor) for executor in _executors(there)}
    except dynamodb.exceptions.ResourceNotFoundException:  # an earlier deletion came as far as the table
        return {}
    except ClientError as error:
        told = f"{stack} does not say whether its jobs are over: {error}"
        raise TargetError(f"{told}; docs/deploying.md names the rights that this takes") from None
    return {executor: count for executor, count in counts.items() if count}


def _next_step(stage: str, executor: str) -> str:
    """Return what to do first, and how to see that it is done."""
    tool = "uv run --no-sync sluice-ops"
    return (
        f'Deploy it with no job type on {executor} and with draining=("{executor}",) in stages.py; once its jobs '
        f"are over, without. `{tool} executions --executor {executor} --waiting --stage {stage}` lists them, and "
        f"`{tool} dlq list --queue {executor} --stage {stage}` its dead letters, which `dlq redrive` brings back"
    )


def _outputs(stack: str, target: Target) -> dict[str, str]:
    """Return what a stack tells; of one that is not there, nothing."""
    try:
        [found] = target.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":  # which says that there is none
            raise
        return {}
    return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}


def _executors(outputs: Collection[str]) -> list[str]:
    return [executor for executor in EXTERNAL if f"{executor.title()}QueueUrl" in outputs]


def _work(executor: str, outputs: Mapping[str, str], target: Target) -> Iterator[str]:
    """Yield what an executor still has to do, in words."""
    processor = live_functions.live(outputs["ProcessorFunction"])
    told = target.client("lambda").get_function_configuration(FunctionName=processor)["Environment"]["Variables"]
    if types := [kind for kind, used in parse_executors(told.get("EXECUTORS", "")).items() if used == executor]:
        yield f"{' and '.join(types)} may be submitted until the deployment is through"
    sqs, queue = target.client("sqs"), executor.title()
    for kind, what in (("Queue", "queued"), ("Dlq", "dead letters")):
        if messages := _messages(sqs, outputs[f"{queue}{kind}Url"]):
            yield f"{messages} {what}"
    if executions := _executions(target.client("dynamodb"), outputs["JobTable"], executor):
        yield f"{executions} executing"


def _messages(sqs: Any, url: str) -> int:
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(_MESSAGES))["Attributes"]
    return sum(map(int, counts.values()))


def _executions(dynamodb: Any, table: str, executor: str) -> int:
    count: int = dynamodb.query(
        TableName=table,
        IndexName=EXECUTION_INDEX,
        Select="COUNT",
        KeyConditionExpression="executing = :executor",
        ExpressionAttributeValues={":executor": {"S": executor}},
    )["Count"]
    return count
