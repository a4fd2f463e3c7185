"""A function's resource policy says which services may invoke it.

MiniStack's gateway and event bus invoke any function. AWS asks the function's policy: API Gateway, for this method
or this authorizer, and EventBridge, for this rule, need a statement that allows them `lambda:InvokeFunction`.
Without one the gateway answers 500, as to a configuration that is wrong, and a rule's target is not invoked (API
Gateway Developer Guide, "API Gateway permissions model for invoking an API"; EventBridge User Guide, "Using
resource-based policies for Amazon EventBridge").

Closed where the two invoke, under AUTH only. A role that an integration or a target has instead is not looked at.
"""

from __future__ import annotations

import functools
from typing import Any

from ministack import app as engine_app
from ministack.core import iam_evaluator as iam
from ministack.services import apigateway_v1 as gateway
from ministack.services import eventbridge, lambda_svc

from sluice_harness.compat.gateway import exchange
from sluice_harness.compat.patching import expect


def apply() -> None:
    """Ask before the gateway and the event bus invoke."""
    call = expect(gateway, "_call_lambda_raw", "function_ref", "event", "account_id", "region")
    authorize = expect(gateway, "_invoke_authorizer_lambda", "authorizer", "event", "account_id", "region")
    invoke = expect(eventbridge, "_invoke_target", "target", "event", "rule", "view")
    expect(gateway, "_extract_lambda_ref_from_integration_uri", "uri")
    expect(lambda_svc, "function_policy_for_arn", "resource_arn")
    expect(iam, "evaluate_resource_policy", "doc", "ctx", "service", "named_only", "direct_only")

    @functools.wraps(call)
    async def call_if_allowed(function_ref: str, event: Any, **scope: Any) -> Any:
        known = exchange.current().context
        method = f"{known['stage']}/{known['httpMethod']}{known['resourcePath']}"
        if not _may_invoke("apigateway", function_ref, _of_api(scope["region"], scope["account_id"], method)):
            return None, "Invalid permissions on Lambda function"
        return await call(function_ref, event, **scope)

    @functools.wraps(authorize)
    async def authorize_if_allowed(authorizer: dict[str, Any], event: Any, account_id: str, region: str) -> Any:
        function_ref = gateway._extract_lambda_ref_from_integration_uri(authorizer.get("authorizerUri", ""))
        source = _of_api(region, account_id, f"authorizers/{authorizer['id']}")
        if not _may_invoke("apigateway", function_ref, source):
            return None  # as to one that does not exist
        return await authorize(authorizer, event, account_id, region)

    @functools.wraps(invoke)
    def invoke_if_allowed(target: dict[str, Any], event: Any, rule: dict[str, Any], view: Any = None) -> None:
        arn = target.get("Arn", "")
        if ":lambda:" not in arn or _may_invoke("events", arn, rule["Arn"]):
            invoke(target, event, rule, view)

    gateway._call_lambda_raw = call_if_allowed
    gateway._invoke_authorizer_lambda = authorize_if_allowed
    eventbridge._invoke_target = invoke_if_allowed


def _of_api(region: str, account: str, path: str) -> str:
    return f"arn:aws:execute-api:{region}:{account}:{exchange.current().context['apiId']}/{path}"


def _may_invoke(service: str, function: str, source: str) -> bool:
    found = lambda_svc.function_policy_for_arn(function) if engine_app.AUTH else None
    if found is None:  # a function that does not exist is somebody else's complaint
        return True
    region, account = source.split(":")[3:5]
    context = iam.EvalContext(
        principal_arn="",
        principal_type="Service",
        principal_account=account,
        action="lambda:InvokeFunction",
        resource_arn=function,
        region=region,
        secure_transport=True,
        service_context={"aws:sourcearn": source, "aws:sourceaccount": account},
    )
    result = iam.evaluate_resource_policy(found[0], context, service=f"{service}.amazonaws.com")
    return bool(result.decision == "Allow")
