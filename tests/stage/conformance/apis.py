"""Tiny APIs for the gateway's conformance tests, deployed by CloudFormation as the project's own is."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
from stage.conformance.functions import EXECUTION_POLICIES

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

SEND = (
    "Action=SendMessage&MessageBody=$util.urlEncode($input.body)"
    "&MessageAttribute.1.Name=requestId&MessageAttribute.1.Value.DataType=String"
    "&MessageAttribute.1.Value.StringValue=$util.urlEncode($context.requestId)"
)
FORM = {"integration.request.header.Content-Type": "'application/x-www-form-urlencoded'"}


@dataclass
class Api:
    """A deployed API with one resource, `/jobs/{id}`."""

    url: str
    path: str
    physical: dict[str, str] = field(default_factory=dict)

    def post(self, body: str | bytes | dict[str, Any] = "", **options: Any) -> httpx.Response:
        """POST a body (an object as JSON) to `/jobs/7`."""
        headers = {"Content-Type": "application/json"} | options.pop("headers", {})
        content = json.dumps(body) if isinstance(body, dict) else body
        return httpx.post(f"{self.url}/jobs/7", content=content, headers=headers, **options)


def mock(response: str, request: str = '{"statusCode": 200}') -> dict[str, Any]:
    """A MOCK integration with these templates."""
    return {
        "Type": "MOCK",
        "RequestTemplates": {"application/json": request},
        "IntegrationResponses": [{"StatusCode": "200", "ResponseTemplates": {"application/json": response}}],
    }


def to_queue(queue: str, template: str = SEND, **changes: Any) -> dict[str, Any]:
    """An integration that sends to ``queue`` with the role `Sender`, 202 for 2xx and 500 by default."""
    default = {"application/json": '{"code": "$input.path(\'$.Error.Code\')"}'}
    return {
        "Type": "AWS",
        "IntegrationHttpMethod": "POST",
        "Uri": f"arn:aws:apigateway:us-east-1:sqs:path/000000000000/{queue}",
        "Credentials": {"Fn::GetAtt": ["Sender", "Arn"]},
        "PassthroughBehavior": "NEVER",
        "RequestParameters": FORM,
        "RequestTemplates": {"application/json": template},
        "IntegrationResponses": [
            {"StatusCode": "500", "ResponseTemplates": default},
            {
                "StatusCode": "202",
                "SelectionPattern": r"2\d{2}",
                "ResponseTemplates": {"application/json": "{}"},
            },
        ],
        **changes,
    }


def sender(queue: str, action: str = "sqs:SendMessage", service: str = "apigateway") -> dict[str, Any]:
    """The role `Sender`: ``service`` may do ``action`` on ``queue``."""
    arn = f"arn:aws:sqs:us-east-1:000000000000:{queue}"
    trust = {
        "Effect": "Allow",
        "Principal": {"Service": f"{service}.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    grant = {"Effect": "Allow", "Action": action, "Resource": arn}
    properties = {
        "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [trust]},
        "Policies": [{"PolicyName": "p", "PolicyDocument": {"Version": "2012-10-17", "Statement": [grant]}}],
    }
    return {"Sender": {"Type": "AWS::IAM::Role", "Properties": properties}}


def function(code: str) -> dict[str, Any]:
    """A Lambda function, its role, and the API's permission to invoke it, as resources."""
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    role = {
        "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [trust]},
        "ManagedPolicyArns": [f"arn:aws:iam::aws:policy/{policy}" for policy in EXECUTION_POLICIES],
    }
    properties = {
        "Runtime": "python3.13",
        "Handler": "index.handler",
        "Code": {"ZipFile": code},
        "Role": {"Fn::GetAtt": ["FunctionRole", "Arn"]},
    }
    permission = {
        "FunctionName": {"Ref": "Function"},
        "Action": "lambda:InvokeFunction",
        "Principal": "apigateway.amazonaws.com",
        "SourceArn": {"Fn::Sub": "arn:aws:execute-api:us-east-1:000000000000:${Api}/*"},
    }
    return {
        "FunctionRole": {"Type": "AWS::IAM::Role", "Properties": role},
        "Function": {"Type": "AWS::Lambda::Function", "Properties": properties},
        "Permission": {"Type": "AWS::Lambda::Permission", "Properties": permission},
    }


def invocation() -> dict[str, Any]:
    """The URI by which the gateway calls `Function`."""
    call = "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/${Function.Arn}/invocations"
    return {"Fn::Sub": call}


def new_queue(engine: Engine) -> str:
    """Create a queue of a fresh name and return the name."""
    name = unique("queue")
    engine.client("sqs").create_queue(QueueName=name)
    return name


def received(engine: Engine, queue: str) -> list[dict[str, Any]]:
    """Receive what the queue holds."""
    sqs = engine.client("sqs")
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
    return list(found.get("Messages", []))


def unique(prefix: str) -> str:
    """A name nobody else has."""
    return f"{prefix}-{uuid.uuid4().hex[:10]}"


def deploy(
    engine: Engine,
    integration: dict[str, Any],
    *,
    method: dict[str, Any] | None = None,
    stage: dict[str, Any] | None = None,
    extra: dict[str, Any] | None = None,
) -> Api:
    """Deploy `POST /jobs/{id}` with this integration, and whatever else the test needs."""
    resources = _api(integration, method or {}, stage or {}) | (extra or {})
    # A deployment takes the gateway responses that exist when it is made.
    others = [name for name, one in resources.items() if one["Type"].endswith(("Method", "GatewayResponse"))]
    resources["Deployment"]["DependsOn"] = others
    cloudformation, name = engine.client("cloudformation"), unique("stack")
    cloudformation.create_stack(
        StackName=name, TemplateBody=json.dumps({"Resources": resources}), Capabilities=["CAPABILITY_IAM"]
    )
    cloudformation.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 0.1})
    listed = cloudformation.describe_stack_resources(StackName=name)["StackResources"]
    physical = {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in listed}
    path = f"/restapis/{physical['Api']}/prod/_user_request_"
    return Api(engine.url + path, path, physical)


def _api(integration: dict[str, Any], method: dict[str, Any], stage: dict[str, Any]) -> dict[str, Any]:
    api, parent = {"Ref": "Api"}, {"Fn::GetAtt": ["Api", "RootResourceId"]}

    def resource(kind: str, **properties: Any) -> dict[str, Any]:
        return {"Type": f"AWS::ApiGateway::{kind}", "Properties": {"RestApiId": api, **properties}}

    where = {"ResourceId": {"Ref": "Job"}, "HttpMethod": "POST", "AuthorizationType": "NONE"}
    return {
        "Api": {"Type": "AWS::ApiGateway::RestApi", "Properties": {"Name": unique("api")}},
        "Jobs": resource("Resource", ParentId=parent, PathPart="jobs"),
        "Job": resource("Resource", ParentId={"Ref": "Jobs"}, PathPart="{id}"),
        "Method": resource("Method", **(where | method), Integration=integration),
        "Deployment": resource("Deployment"),
        "Stage": resource("Stage", StageName="prod", DeploymentId={"Ref": "Deployment"}, **stage),
    }
