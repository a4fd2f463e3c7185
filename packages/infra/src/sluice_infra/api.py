"""The REST API: submissions go from the gateway straight into the request queue; status goes to a function."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_iam as iam
from aws_cdk import aws_xray as xray
from constructs import Construct
from sluice_core import problems
from sluice_core.requests import request_schema, schema_in_words
from sluice_core.workloads import load_workloads

from sluice_infra.acknowledgements import acknowledge
from sluice_infra.front_door import FrontDoor
from sluice_infra.functions import log_group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aws_cdk import aws_lambda as lambda_
    from aws_cdk import aws_sqs as sqs
    from sluice_core.problems import Problem

    from sluice_infra.stages import StageConfig

SUBMIT_PATH = "/submit-job"
_TEMPLATES = Path(__file__).parent / "mapping_templates"
_PROBLEM_TYPE = f"'{problems.MEDIA_TYPE}'"
_AUTHORIZER_TTL = cdk.Duration.minutes(5)

# What the gateway itself answers. Kinds not named here fall to the two defaults.
_GATEWAY_RESPONSES = {
    "DEFAULT_4XX": problems.BAD_REQUEST,
    "DEFAULT_5XX": problems.INTERNAL,
    "UNAUTHORIZED": problems.UNAUTHORIZED,
    "ACCESS_DENIED": problems.FORBIDDEN,
    "INVALID_API_KEY": problems.FORBIDDEN,
    "EXPIRED_TOKEN": problems.FORBIDDEN,
    "INVALID_SIGNATURE": problems.FORBIDDEN,
    "WAF_FILTERED": problems.FORBIDDEN,
    # What API Gateway answers to a path or method that does not exist.
    "MISSING_AUTHENTICATION_TOKEN": problems.NOT_FOUND,
    "RESOURCE_NOT_FOUND": problems.NOT_FOUND,
    "REQUEST_TOO_LARGE": problems.TOO_LARGE,
    "UNSUPPORTED_MEDIA_TYPE": problems.UNSUPPORTED_MEDIA_TYPE,
    "THROTTLED": problems.TOO_MANY_REQUESTS,
    "QUOTA_EXCEEDED": problems.TOO_MANY_REQUESTS,
    "AUTHORIZER_FAILURE": problems.INTERNAL,
    "AUTHORIZER_CONFIGURATION_ERROR": problems.INTERNAL,
    "INTEGRATION_FAILURE": problems.TIMEOUT,
    "INTEGRATION_TIMEOUT": problems.TIMEOUT,
}
_COG4 = {
    "AwsSolutions-COG4": "our authorizer checks the same tokens, and access tokens' scopes and groups besides"
}
_RETRYABLE = {problems.TOO_MANY_REQUESTS}


class JobApi(Construct):
    """The REST API, its authorizer, its methods and its stage.

    ``readers`` read what is submitted: a new schema takes effect after their new versions do.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        config: StageConfig,
        *,
        request_queue: sqs.Queue,
        authorizer: lambda_.IFunction,
        job_status: lambda_.IFunction,
        cancel_job: lambda_.IFunction,
        readers: Sequence[lambda_.IFunction],
    ) -> None:
        super().__init__(scope, name)
        self.rest_api = self._rest_api(config)
        self._authorization = apigateway.TokenAuthorizer(
            self,
            "Authorizer",
            handler=authorizer,
            results_cache_ttl=_AUTHORIZER_TTL,
            # Whatever cannot be a JWT is a 401 before any function runs.
            validation_regex=r"^([Bb][Ee][Aa][Rr][Ee][Rr] )?[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$",
        )
        self._add_submit(config, request_queue, readers)
        jobs = self.rest_api.root.add_resource("job-status")
        self._add_method(jobs, "GET", job_status)
        self._add_method(jobs.add_resource("{job-id}"), "GET", job_status)
        self._add_method(
            self.rest_api.root.add_resource("cancel-job").add_resource("{job-id}"), "POST", cancel_job
        )
        self._add_gateway_responses(config)
        self._add_sampling(config)
        self.url = FrontDoor(self, "FrontDoor", config, self.rest_api).url

    def _add_method(self, resource: apigateway.Resource, verb: str, function: lambda_.IFunction) -> None:
        """Let a function answer one method."""
        integration = apigateway.LambdaIntegration(function, allow_test_invoke=False)
        acknowledge(resource.add_method(verb, integration, authorizer=self._authorization), _COG4)

    def _rest_api(self, config: StageConfig) -> apigateway.RestApi:
        access_log = log_group(self, "AccessLog", config)
        api = apigateway.RestApi(
            self,
            "RestApi",
            rest_api_name=f"sluice-{config.name}",
            endpoint_types=[apigateway.EndpointType.REGIONAL],
            cloud_watch_role=True,
            deploy_options=apigateway.StageOptions(
                stage_name=config.name,
                tracing_enabled=True,
                metrics_enabled=True,
                throttling_rate_limit=config.throttle_rate,
                throttling_burst_limit=config.throttle_burst,
                access_log_destination=apigateway.LogGroupLogDestination(access_log),
                access_log_format=apigateway.AccessLogFormat.custom(json.dumps(_ACCESS_LOG)),
            ),
        )
        acknowledge(
            api.node.find_child("CloudWatchRole"),
            {
                "AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/"
                "AmazonAPIGatewayPushToCloudWatchLogs]": "API Gateway demands this very policy for access logs"
            },
        )
        acknowledge(
            api,
            {"AwsSolutions-APIG2": "bodies are validated on the method that takes one; the others have none"},
        )
        acknowledge(
            api.deployment_stage,
            {
                "AwsSolutions-APIG3": "a web ACL is priced per month and rule: a stage that wants one names it",
                "AwsSolutions-APIG6": "execution logs would carry payloads; access logs carry what is needed",
            },
        )
        return api

    def _add_sampling(self, config: StageConfig) -> None:
        """Trace fewer requests than X-Ray's default rule: each is billed, and one in a hundred tells as much."""
        xray.CfnSamplingRule(
            self,
            "Sampling",
            sampling_rule=xray.CfnSamplingRule.SamplingRuleProperty(
                rule_name=f"sluice-{config.name}",
                resource_arn=self.rest_api.deployment_stage.stage_arn,
                priority=1_000,
                reservoir_size=1,
                fixed_rate=config.trace_rate,
                host="*",
                http_method="*",
                service_name="*",
                service_type="*",
                url_path="*",
                version=1,
            ),
        )

    def _add_submit(self, config: StageConfig, queue: sqs.Queue, readers: Sequence[lambda_.IFunction]) -> None:
        schema = request_schema(load_workloads(config.workloads))
        model = apigateway.CfnModel(
            self,
            "SubmitJobRequest",
            rest_api_id=self.rest_api.rest_api_id,
            content_type="application/json",
            name="SubmitJobRequest",
            schema=schema,
        )
        role = iam.Role(self, "SubmitRole", assumed_by=iam.ServicePrincipal("apigateway.amazonaws.com"))
        role.add_to_policy(iam.PolicyStatement(actions=["sqs:SendMessage"], resources=[queue.queue_arn]))
        integration = apigateway.AwsIntegration(
            service="sqs",
            path=f"{cdk.Aws.ACCOUNT_ID}/{queue.queue_name}",
            integration_http_method="POST",
            options=_submit_options(role),
        )
        method = self.rest_api.root.add_resource(SUBMIT_PATH.removeprefix("/")).add_method(
            "POST",
            integration,
            authorizer=self._authorization,
            request_models={
                "application/json": apigateway.Model.from_model_name(self, "Model", model.ref),
            },
            request_validator=apigateway.RequestValidator(
                self, "BodyValidator", rest_api=self.rest_api, validate_request_body=True
            ),
            method_responses=[
                _method_response(202, "Location", "Retry-After"),
                *(_method_response(status) for status in (400, 413, 503)),
            ],
        )
        acknowledge(method, _COG4)
        # A deployment is a snapshot: a change of schema or policy needs a new one, made after the grant, and once
        # those who read submissions know what the schema now allows.
        deployment = self.rest_api.latest_deployment
        if deployment is not None:
            deployment.add_to_logical_id({"schema": schema})
            deployment.node.add_dependency(model, method, role, *readers)

    def _add_gateway_responses(self, config: StageConfig) -> None:
        # The gateway knows which member is wrong, but cannot put its words into JSON: they have quotes in them.
        told = schema_in_words(load_workloads(config.workloads))
        answers = {**_GATEWAY_RESPONSES, "BAD_REQUEST_BODY": replace(problems.INVALID_BODY, detail=told)}
        for kind, problem in answers.items():
            headers = {"Content-Type": _PROBLEM_TYPE}
            if problem is problems.UNAUTHORIZED:
                headers["WWW-Authenticate"] = "'Bearer'"
            if problem in _RETRYABLE:
                headers["Retry-After"] = "'1'"
            self.rest_api.add_gateway_response(
                kind.title().replace("_", ""),
                type=apigateway.ResponseType.of(kind),
                status_code=None if kind.startswith("DEFAULT") else str(problem.status),
                response_headers=headers,
                templates={"application/json": _gateway_body(kind, problem)},
            )


_ACCESS_LOG = {
    # The extended id, here and in problems: a client can choose the other, and nothing here is escaped.
    "requestId": "$context.extendedRequestId",
    "time": "$context.requestTime",
    "ip": "$context.identity.sourceIp",
    "method": "$context.httpMethod",
    "resource": "$context.resourcePath",
    "status": "$context.status",
    "owner": "$context.authorizer.owner",
    "error": "$context.error.responseType",
    "integrationStatus": "$context.integration.status",
    "latencyMs": "$context.responseLatency",
    "integrationLatencyMs": "$context.integration.latency",
    "responseBytes": "$context.responseLength",
    "traceId": "$context.xrayTraceId",
}


def _submit_options(role: iam.Role) -> apigateway.IntegrationOptions:
    return apigateway.IntegrationOptions(
        credentials_role=role,
        passthrough_behavior=apigateway.PassthroughBehavior.NEVER,
        request_parameters={"integration.request.header.Content-Type": "'application/x-www-form-urlencoded'"},
        request_templates={"application/json": _template("submit_request")},
        integration_responses=[
            # No pattern: whatever is not listed is a failure. A blank pattern on the 202 would accept everything.
            apigateway.IntegrationResponse(
                status_code="503",
                response_parameters={"method.response.header.Content-Type": _PROBLEM_TYPE},
                response_templates={"application/json": _refusal()},
            ),
            apigateway.IntegrationResponse(
                status_code="202",
                selection_pattern=r"2\d{2}",
                response_parameters={
                    "method.response.header.Content-Type": "'application/json'",
                    "method.response.header.Retry-After": "'1'",
                },
                response_templates={"application/json": _template("submit_accepted")},
            ),
        ],
    )


def _refusal() -> str:
    template = _template("submit_refused")
    for name, problem in {
        "too_large": problems.TOO_LARGE,
        "invalid_body": problems.INVALID_BODY,
        "unavailable": problems.UNAVAILABLE,
    }.items():
        template = template.replace(f"{{{{{name}}}}}", problem.body(requestId="$context.extendedRequestId"))
    return template


def _template(name: str) -> str:
    """Read a mapping template; comments go, and lines are joined, for a line break would end up in the output."""
    lines = (_TEMPLATES / f"{name}.vtl").read_text().splitlines()
    return "".join(line for line in lines if not line.startswith("##"))


def _gateway_body(kind: str, problem: Problem) -> str:
    """Gateway responses know variables, not VTL; the two defaults stand for several statuses."""
    body = problem.body(requestId="$context.extendedRequestId")
    if kind.startswith("DEFAULT"):
        return body.replace(f'"status": {problem.status}, ', "")
    return body


def _method_response(status: int, *headers: str) -> apigateway.MethodResponse:
    names = ("Content-Type", *headers)
    return apigateway.MethodResponse(
        status_code=str(status),
        response_parameters={f"method.response.header.{name}": True for name in names},
    )
