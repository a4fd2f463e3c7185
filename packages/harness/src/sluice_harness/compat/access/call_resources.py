"""Calls of ECS, Batch and Lambda are authorized on what they are about.

MiniStack looks at a task's cluster where AWS looks at its definition, at no resource of Batch at all, and leaves
out the qualifier of a function that is not part of its name. AWS checks (Service Authorization Reference,
"Actions, resources, and condition keys for Amazon Elastic Container Service", "… for AWS Batch", "… for AWS
Lambda"): `ecs:RunTask` on the task definition, and `iam:PassRole` on both of its roles; `ecs:StopTask` and
`ecs:DescribeTasks` on each task, `ecs:ListTasks` on no resource, all with the condition key `ecs:cluster`;
`batch:SubmitJob` on the job queue and on the job definition, `batch:TerminateJob` and `batch:CancelJob` on the
job; and a function with its qualifier, wherever the call has it.

Closed where the engine asks for a call's resource and its condition keys; what it is about besides is asked after
that, before the service has the call.
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from ministack import app
from ministack.core import iam_actions, iam_evaluator, router
from ministack.core.responses import get_account_id, get_region
from ministack.services import batch, ecs

from sluice_harness.compat.patching import expect

if TYPE_CHECKING:
    from collections.abc import Iterator

    Request = dict[str, Any]
    Check = tuple[str, str, dict[str, str]]  # action, resource, condition keys

_CLUSTER, _PASSED_TO = "ecs:cluster", "iam:PassedToService"


def apply() -> None:
    """Tell the engine what calls are about."""
    parameters = ("service", "method", "path", "headers", "body", "query_params", "region", "account_id")
    resource_of = expect(iam_actions, "extract_resource_arn", *parameters)
    context_of = expect(iam_actions, "request_tag_context", "service", "iam_action", "body", "params")
    expect(ecs, "_resolve_td_key", "ref")
    expect(ecs, "_resolve_cluster_name", "ref")

    def extract_resource_arn(*request: Any) -> str:
        service, _, path, headers, body, query = request[:6]
        found: str = resource_of(*request)
        if service in _CHECKS:
            return next((arn for _, arn, _ in _checks(service, path, headers, body)), found)
        if service == "lambda" and found.count(":") == _UNQUALIFIED and (qualifier := query.get("Qualifier")):
            return f"{found}:{qualifier[0] if isinstance(qualifier, list) else qualifier}"
        return found

    def request_context(service: str, iam_action: str, body: bytes, params: Any) -> Request:
        found: Request = context_of(service, iam_action, body, params)
        return {**found, **_in_cluster(_read(body))} if service == "ecs" else found

    iam_actions.extract_resource_arn = extract_resource_arn
    iam_actions.request_tag_context = request_context
    for service in _CHECKS:
        app.SERVICE_HANDLERS[service] = _checking(service, app.SERVICE_HANDLERS[service])


_UNQUALIFIED = "arn:aws:lambda:REGION:ACCOUNT:function:NAME".count(":")


def _checking(service: str, handler: Any) -> Any:
    async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: Any) -> Any:
        if app.AUTH:
            key = router.extract_access_key_id(headers, query)
            for action, resource, context in list(_checks(service, path, headers, body))[1:]:
                denied = iam_evaluator.enforce(key, action, service, get_region(), resource, context)
                if denied:
                    return iam_actions.access_denied_response(
                        service,
                        action,
                        denied.principal_arn,
                        str(uuid.uuid4()),
                        headers=headers,
                        resource_arn=resource,
                    )
        return await handler(method, path, headers, body, query)

    return handle


def _checks(service: str, path: str, headers: dict[str, str], body: bytes) -> Iterator[Check]:
    """Yield what a call is checked for, the call itself first; nothing if it is none of those here."""
    call = headers.get("x-amz-target", "").rpartition(".")[2] or path.rpartition("/")[2].lower()
    about = _CHECKS[service].get(call)
    if about is not None:
        yield from about(_read(body))


def _read(body: bytes) -> Request:
    try:
        request = json.loads(body or b"{}")
    except ValueError:
        return {}  # the service's complaint
    return request if isinstance(request, dict) else {}


def _arn(service: str, resource: str) -> str:
    return f"arn:aws:{service}:{get_region()}:{get_account_id()}:{resource}"


def _run_task(request: Request) -> Iterator[Check]:
    key = ecs._resolve_td_key(request.get("taskDefinition", ""))
    yield "ecs:RunTask", _arn("ecs", f"task-definition/{key}"), _in_cluster(request)
    definition = ecs._task_defs.get(key, {})
    for role in filter(None, (definition.get("taskRoleArn"), definition.get("executionRoleArn"))):
        yield "iam:PassRole", role, {_PASSED_TO: "ecs-tasks.amazonaws.com"}


def _stop_task(request: Request) -> Iterator[Check]:
    yield "ecs:StopTask", _task(request, request.get("task", "")), _in_cluster(request)


def _describe_tasks(request: Request) -> Iterator[Check]:
    for task in request.get("tasks", []):
        yield "ecs:DescribeTasks", _task(request, task), _in_cluster(request)


def _list_tasks(request: Request) -> Iterator[Check]:
    yield "ecs:ListTasks", "*", _in_cluster(request)


def _in_cluster(request: Request) -> dict[str, str]:
    return {_CLUSTER: _arn("ecs", f"cluster/{_cluster(request)}")}


def _cluster(request: Request) -> str:
    return str(ecs._resolve_cluster_name(request.get("cluster", "default")))


def _task(request: Request, ref: str) -> str:
    return ref if ref.startswith("arn:") else _arn("ecs", f"task/{_cluster(request)}/{ref}")


def _submit_job(request: Request) -> Iterator[Check]:
    for kind, member in (("job-queue", "jobQueue"), ("job-definition", "jobDefinition")):
        ref = request.get(member, "")
        yield "batch:SubmitJob", ref if ref.startswith("arn:") else _arn("batch", f"{kind}/{ref}"), {}


def _end_job(action: str) -> Any:
    def checks(request: Request) -> Iterator[Check]:
        yield action, batch._job_arn(request.get("jobId", "")), {}

    return checks


_CHECKS: dict[str, dict[str, Any]] = {
    "ecs": {
        "RunTask": _run_task,
        "StopTask": _stop_task,
        "DescribeTasks": _describe_tasks,
        "ListTasks": _list_tasks,
    },
    "batch": {
        "submitjob": _submit_job,
        "terminatejob": _end_job("batch:TerminateJob"),
        "canceljob": _end_job("batch:CancelJob"),
    },
}
