"""Batch from a template: compute environments, job queues and job definitions.

MiniStack refuses a template with any of them. Here they are put into the engine's stores, as its API would; a
changed definition is another revision, and the one before is deregistered (AWS CloudFormation template reference,
"AWS::Batch::ComputeEnvironment", "AWS::Batch::JobQueue", "AWS::Batch::JobDefinition"). `Ref` is the ARN of each.

Of what a template may say, only what `batch_jobs` does is known; other properties are refused, rather than left
out.
"""

from __future__ import annotations

import json
from typing import Any

from ministack.services import batch
from ministack.services.cloudformation import provisioners

from sluice_harness.compat.containers.batch_api import definition_of, register
from sluice_harness.compat.containers.batch_jobs import jobs
from sluice_harness.compat.patching import expect

Properties = dict[str, Any]
Made = tuple[str, dict[str, str]]

ENVIRONMENT, QUEUE, DEFINITION = (
    f"AWS::Batch::{kind}" for kind in ("ComputeEnvironment", "JobQueue", "JobDefinition")
)
_LONGEST_NAME = 128
_KNOWN = {
    ENVIRONMENT: {
        "ComputeEnvironmentName", "Type", "State", "ComputeResources", "ServiceRole", "ReplaceComputeEnvironment",
        "UpdatePolicy", "Tags",
    },
    QUEUE: {"JobQueueName", "Priority", "State", "ComputeEnvironmentOrder", "Tags"},
    DEFINITION: {
        "JobDefinitionName", "Type", "ContainerProperties", "Parameters", "PlatformCapabilities", "PropagateTags",
        "RetryStrategy", "Timeout", "Tags",
    },
}  # fmt: skip
# Maps whose keys are names, not properties.
_NAMES = frozenset({"Options", "Parameters", "Tags"})


def apply() -> None:
    """Register the types."""
    handlers = provisioners._RESOURCE_HANDLERS
    if _KNOWN.keys() & handlers.keys():
        raise RuntimeError(
            f"the engine has CloudFormation handlers of AWS::Batch: look whether {__name__} is needed"
        )
    expect(batch, "_create_compute_environment", "p")
    expect(batch, "_create_job_queue", "p")
    expect(provisioners, "_physical_name", "stack_name", "logical_id", "lowercase", "max_len", "seeded")
    handlers[ENVIRONMENT] = {
        "create": _create_environment,
        "update": _update_environment,
        "delete": _drop_environment,
    }
    handlers[QUEUE] = {"create": _create_queue, "update": _update_queue, "delete": _drop_queue}
    handlers[DEFINITION] = {"create": _register, "update": _register_anew, "delete": _deregister}
    for kind in _KNOWN:
        provisioners._STACK_TAG_PROPERTY[kind] = ("Tags", "map")


def _create_environment(logical_id: str, props: Properties, stack_name: str) -> Made:
    wanted = _as_request(ENVIRONMENT, props)
    wanted.setdefault("computeEnvironmentName", _name(stack_name, logical_id))
    arn = _answer(batch._create_compute_environment(wanted))["computeEnvironmentArn"]
    return arn, {"ComputeEnvironmentArn": arn}


def _update_environment(physical_id: str, _old: Properties, new: Properties, _stack_name: str) -> Made:
    wanted = _as_request(ENVIRONMENT, new)
    _answer(batch._update_compute_environment({**wanted, "computeEnvironment": physical_id}))
    return physical_id, {"ComputeEnvironmentArn": physical_id}


def _drop_environment(physical_id: str, _props: Properties) -> None:
    batch._compute_envs.pop(physical_id.rpartition("/")[2], None)


def _create_queue(logical_id: str, props: Properties, stack_name: str) -> Made:
    wanted = _as_request(QUEUE, props)
    wanted.setdefault("jobQueueName", _name(stack_name, logical_id))
    arn = _answer(batch._create_job_queue(wanted))["jobQueueArn"]
    return arn, {"JobQueueArn": arn}


def _update_queue(physical_id: str, _old: Properties, new: Properties, _stack_name: str) -> Made:
    batch._job_queues[physical_id.rpartition("/")[2]].update(_as_request(QUEUE, new))
    return physical_id, {"JobQueueArn": physical_id}


def _drop_queue(physical_id: str, _props: Properties) -> None:
    for job in [one for one in jobs.values() if one.record["jobQueue"] == physical_id]:
        job.terminate("JobQueue was deleted")  # "all jobs in the queue are eventually terminated" (DeleteJobQueue)
    batch._job_queues.pop(physical_id.rpartition("/")[2], None)


def _register(logical_id: str, props: Properties, stack_name: str) -> Made:
    wanted = _as_request(DEFINITION, props)
    if wanted.get("retryStrategy", {}).get("attempts", 1) != 1:
        raise ValueError("the local stage makes one attempt at a job: RetryStrategy.Attempts must be 1")
    wanted.setdefault("jobDefinitionName", _name(stack_name, logical_id))
    arn = _answer(register(wanted))["jobDefinitionArn"]
    return arn, {"JobDefinitionArn": arn}


def _register_anew(physical_id: str, _old: Properties, new: Properties, stack_name: str) -> Made:
    name = physical_id.rpartition("/")[2].partition(":")[0]
    return _register(name, {"JobDefinitionName": name, **new}, stack_name)  # the engine deletes what is replaced


def _deregister(physical_id: str, _props: Properties) -> None:
    definition_of(physical_id)["status"] = "INACTIVE"


def _name(stack_name: str, logical_id: str) -> str:
    return str(provisioners._physical_name(stack_name, logical_id, max_len=_LONGEST_NAME))


def _as_request(kind: str, props: Properties) -> dict[str, Any]:
    """Return a template's properties as the API's members, with numbers that are numbers."""
    if unknown := sorted(props.keys() - _KNOWN[kind]):
        raise ValueError(f"the local stage does not know {', '.join(unknown)} of {kind}")
    request: dict[str, Any] = _camel(props)
    for holder, name in (("timeout", "attemptDurationSeconds"), ("retryStrategy", "attempts")):
        if name in request.get(holder, {}):
            request[holder][name] = int(request[holder][name])
    return request


def _camel(value: Any) -> Any:
    if isinstance(value, list):
        return [_camel(one) for one in value]
    if isinstance(value, dict):
        return {key[:1].lower() + key[1:]: one if key in _NAMES else _camel(one) for key, one in value.items()}
    return value


def _answer(response: tuple[int, Any, bytes]) -> dict[str, Any]:
    status, _, body = response
    answer: dict[str, Any] = json.loads(body)
    if status >= 400:  # noqa: PLR2004 - HTTP's
        raise ValueError(answer.get("message") or answer)
    return answer
