"""Every request leaves one line in the stage's access log."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import httpx
from stage.conformance import apis
from stage.conformance.test_gateway_responses import authorized

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

NAMES = (
    *("requestId", "extendedRequestId", "status", "responseLength", "responseLatency", "httpMethod", "stage"),
    *("resourcePath", "integrationStatus", "integrationLatency", "integration.status", "path", "protocol"),
    *("authorizer.principalId", "authorizer.owner", "authorizer.none", "error.message", "error.responseType"),
    *("identity.sourceIp", "identity.userAgent", "identity.none", "requestTime", "xrayTraceId"),
)
FORMAT = "{" + ",".join(f'"{name}":"$context.{name}"' for name in NAMES) + "}"


def logged_api(engine: Engine, integration: dict[str, Any], line: str = FORMAT) -> tuple[apis.Api, str]:
    """An API with an authorizer and an access log, and the log group's name."""
    group = apis.unique("access")
    extra = {"Log": {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": group}}}
    stage = {"AccessLogSetting": {"DestinationArn": {"Fn::GetAtt": ["Log", "Arn"]}, "Format": line}}
    return authorized(engine, integration, stage=stage, extra=extra), group


def lines(engine: Engine, group: str) -> list[str]:
    events = engine.client("logs").filter_log_events(logGroupName=group)["events"]
    return [event["message"] for event in events]


def test_a_served_request_is_logged(engine: Engine) -> None:
    # given an API with an access log
    api, group = logged_api(engine, apis.mock("hello"))

    # when it serves a request
    started = time.time()
    answer = api.post("{}", headers={"Authorization": "token-ok", "User-Agent": "tester/1"})

    # then one line tells its values, and a dash stands for what there is none of
    (line,) = lines(engine, group)
    found = json.loads(line)
    assert found["requestId"] == answer.headers["x-amzn-requestid"]
    assert found["extendedRequestId"] == answer.headers["x-amz-apigw-id"]
    assert (found["status"], found["responseLength"]) == ("200", "5")
    assert found["integration.status"] == found["integrationStatus"] == "200"
    assert 0 <= int(found["responseLatency"]) <= (time.time() - started) * 1000 + 1
    assert (found["httpMethod"], found["resourcePath"], found["stage"]) == ("POST", "/jobs/{id}", "prod")
    assert (found["authorizer.principalId"], found["authorizer.owner"]) == ("me", "o-1")
    assert (found["identity.sourceIp"], found["identity.userAgent"]) == ("127.0.0.1", "tester/1")
    assert [found[name] for name in ("authorizer.none", "error.message", "identity.none")] == ["-", "-", "-"]


def test_rejected_requests_are_logged(engine: Engine) -> None:
    # given an API with an access log
    api, group = logged_api(engine, apis.mock("hello"))

    # when requests are rejected
    api.post("{}")
    api.post("{}", headers={"Authorization": "token-deny"})
    httpx.get(f"{api.url}/nowhere")

    # then each has its line, without an integration's status
    found = [json.loads(line) for line in lines(engine, group)]
    assert [one["status"] for one in found] == ["401", "403", "403"]
    assert [one["error.responseType"] for one in found] == [
        "UNAUTHORIZED",
        "ACCESS_DENIED",
        "MISSING_AUTHENTICATION_TOKEN",
    ]
    assert {one["integrationStatus"] for one in found} == {"-"}


def test_the_integrations_status_is_the_back_ends(engine: Engine) -> None:
    # given an integration whose queue is gone
    queue = apis.unique("gone")
    integration = apis.to_queue(queue) | {"Credentials": None}
    role = engine.client("iam").create_role(
        RoleName=apis.unique("sender"),
        AssumeRolePolicyDocument=json.dumps(
            apis.sender(queue)["Sender"]["Properties"]["AssumeRolePolicyDocument"]
        ),
    )["Role"]
    grant = apis.sender(queue)["Sender"]["Properties"]["Policies"][0]["PolicyDocument"]
    engine.client("iam").put_role_policy(
        RoleName=role["RoleName"], PolicyName="p", PolicyDocument=json.dumps(grant)
    )
    api, group = logged_api(engine, integration | {"Credentials": role["Arn"]})

    # when a job is posted
    api.post("{}", headers={"Authorization": "token-ok"})

    # then the log tells the client's status and the queue's
    found = json.loads(lines(engine, group)[0])
    assert (found["status"], found["integrationStatus"]) == ("500", "400")


def test_values_are_not_escaped(engine: Engine) -> None:
    # given an API with an access log, when a value holds a quote, then it is written as it is, as AWS does
    api, group = logged_api(engine, apis.mock("hello"), '{"agent":"$context.identity.userAgent"}')
    api.post("{}", headers={"User-Agent": 'a"b'})
    assert lines(engine, group) == ['{"agent":"a"b"}']


def test_a_changed_format_holds(engine: Engine) -> None:
    # given an API with an access log, when its format is changed
    api, group = logged_api(engine, apis.mock("hello"))
    change = {"op": "replace", "path": "/accessLogSettings/format", "value": "$context.status only"}
    engine.client("apigateway").update_stage(
        restApiId=api.physical["Api"], stageName="prod", patchOperations=[change]
    )

    # then the next line is written in it
    api.post("{}")
    assert lines(engine, group) == ["401 only"]
