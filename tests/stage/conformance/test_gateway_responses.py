"""The gateway's own errors go through its gateway responses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from stage.conformance import apis

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

PROBLEM = (
    '{"type": "$context.error.responseType", "detail": $context.error.messageString, '
    '"plain": "$context.error.message", "id": "$context.requestId", "at": "${context.path}", '
    '"who": "$context.identity.sourceIp", "nothing": "$context.authorizer.nothing", "if": "#if(true)x#end"}'
)
AUTHORIZER = """
def handler(event, context):
    token = event["authorizationToken"].removeprefix("token-")
    if token == "raise":
        raise RuntimeError("secret")
    if token == "unauthorized":
        raise Exception("Unauthorized")
    if token == "shapeless":
        return {"principalId": "me"}
    effect = "Deny" if token == "deny" else "Allow"
    statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": event["methodArn"]}
    return {
        "principalId": "me",
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": {"owner": "o-1", "admin": True, "level": 3},
    }
"""


def problem(kind: str, status: str | None = None) -> dict[str, Any]:
    """A gateway response of this kind, as a problem document."""
    properties = {
        "RestApiId": {"Ref": "Api"},
        "ResponseType": kind,
        "ResponseTemplates": {"application/json": PROBLEM},
        "ResponseParameters": {
            "gatewayresponse.header.Content-Type": "'application/problem+json'",
            "gatewayresponse.header.X-Id": "context.requestId",
        },
    }
    return {
        "Type": "AWS::ApiGateway::GatewayResponse",
        "Properties": properties | ({"StatusCode": status} if status else {}),
    }


def authorized(engine: Engine, integration: dict[str, Any], **options: Any) -> apis.Api:
    """An API whose token authorizer takes tokens of the form `token-x`."""
    authorizer = {
        "RestApiId": {"Ref": "Api"},
        "Name": "tokens",
        "Type": "TOKEN",
        "IdentitySource": "method.request.header.Authorization",
        "IdentityValidationExpression": "token-.*",
        "AuthorizerUri": apis.invocation(),
    }
    extra = apis.function(AUTHORIZER) | {
        "Authorizer": {"Type": "AWS::ApiGateway::Authorizer", "Properties": authorizer},
        "Client": problem("DEFAULT_4XX"),
        "Server": problem("DEFAULT_5XX"),
    }
    method = {"AuthorizationType": "CUSTOM", "AuthorizerId": {"Ref": "Authorizer"}}
    return apis.deploy(engine, integration, method=method, extra=extra | options.pop("extra", {}), **options)


@pytest.fixture(scope="module")
def guarded(engine: Engine) -> apis.Api:
    return authorized(engine, apis.mock("$context.authorizer.principalId,$context.authorizer.owner"))


@pytest.mark.parametrize(
    ("token", "status", "kind"),
    [
        (None, 401, "UNAUTHORIZED"),
        ("other-scheme", 401, "UNAUTHORIZED"),  # does not fit the expression: the function is not called
        ("token-unauthorized", 401, "UNAUTHORIZED"),
        ("token-deny", 403, "ACCESS_DENIED"),
        ("token-raise", 500, "AUTHORIZER_FAILURE"),
        ("token-shapeless", 500, "API_CONFIGURATION_ERROR"),
    ],
)
def test_a_refused_caller_gets_the_customised_response(
    guarded: apis.Api, token: str | None, status: int, kind: str
) -> None:
    # given problem documents for 4XX and 5XX, when such a caller calls
    answer = guarded.post("{}", headers={"Authorization": token} if token else {})

    # then the refusal is a problem document, its variables substituted and nothing evaluated
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-id"] == answer.headers["x-amzn-requestid"]
    found = answer.json()
    assert found["type"] == kind
    assert found["id"] == answer.headers["x-amzn-requestid"]
    assert found["at"] == f"{guarded.path}/jobs/7"
    assert (found["who"], found["nothing"], found["if"]) == ("127.0.0.1", "", "#if(true)x#end")
    assert found["detail"] == (found["plain"] or None)
    assert "secret" not in answer.text


def test_an_accepted_caller_reaches_the_integration(guarded: apis.Api) -> None:
    # given an authorizer, when a good token comes, then its context reaches the templates
    assert guarded.post("{}", headers={"Authorization": "token-ok"}).text == "me,o-1"


def test_an_unknown_route_takes_the_overridden_status(engine: Engine) -> None:
    # given a 404 for a missing authentication token, which is what an unknown route is
    api = apis.deploy(engine, apis.mock("ok"), extra={"Lost": problem("MISSING_AUTHENTICATION_TOKEN", "404")})

    # when unknown routes and methods are called, then they are not found
    for answer in (httpx.get(f"{api.url}/nowhere"), httpx.delete(f"{api.url}/jobs/7")):
        assert answer.status_code == 404
        assert answer.json()["detail"] == "Missing Authentication Token"


def test_throttling_answers_429(engine: Engine) -> None:
    # given a stage that takes one request a burst
    limit = {"ResourcePath": "/*", "HttpMethod": "*", "ThrottlingRateLimit": 0.01, "ThrottlingBurstLimit": 1}
    extra = {"Client": problem("DEFAULT_4XX"), "Slow": problem("THROTTLED")}
    api = apis.deploy(engine, apis.mock("ok"), extra=extra, stage={"MethodSettings": [limit]})

    # when two come, then the second is throttled
    assert api.post("{}").text == "ok"
    answer = api.post("{}")
    assert (answer.status_code, answer.json()["type"]) == (429, "THROTTLED")


def test_a_body_over_ten_megabytes_is_too_large(engine: Engine) -> None:
    # given an API with problem documents, when the largest body and a larger one come
    api = apis.deploy(engine, apis.mock("ok"), extra={"Client": problem("DEFAULT_4XX")})
    largest = 10 * 1024 * 1024
    fits, larger = api.post(b" " * largest), api.post(b" " * (largest + 1))

    # then only the second is refused
    assert fits.status_code == 200
    assert (larger.status_code, larger.json()["type"]) == (413, "REQUEST_TOO_LARGE")


def test_an_unsupported_type_takes_the_customised_response(engine: Engine) -> None:
    # given NEVER and a problem document, when another type comes, then the refusal is that document
    integration = apis.mock("ok") | {"PassthroughBehavior": "NEVER"}
    api = apis.deploy(engine, integration, extra={"Client": problem("DEFAULT_4XX")})
    answer = api.post("{}", headers={"Content-Type": "text/plain"})
    assert (answer.status_code, answer.json()["type"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert answer.headers["content-type"] == "application/problem+json"


PROXIED = """
import time
def handler(event, context):
    kind = event["queryStringParameters"]["kind"]
    if kind == "raise":
        raise RuntimeError("secret")
    if kind == "shapeless":
        return "text"
    if kind == "slow":
        time.sleep(2)
    return {"statusCode": 201, "body": event["requestContext"]["requestId"]}
"""


@pytest.fixture(scope="module")
def proxied(engine: Engine) -> apis.Api:
    integration = {
        "Type": "AWS_PROXY",
        "IntegrationHttpMethod": "POST",
        "Uri": apis.invocation(),
        "TimeoutInMillis": 1500,
    }
    return apis.deploy(engine, integration, extra=apis.function(PROXIED) | {"Server": problem("DEFAULT_5XX")})


def test_a_proxied_function_sees_the_gateways_request_id(proxied: apis.Api) -> None:
    # given a function behind the gateway, when it is called, then it has the id that the client gets
    answer = proxied.post("{}", params={"kind": "good"})
    assert (answer.status_code, answer.text) == (201, answer.headers["x-amzn-requestid"])


@pytest.mark.parametrize(("kind", "status"), [("raise", 502), ("shapeless", 502), ("slow", 504)])
def test_a_failed_function_is_the_gateways_error(proxied: apis.Api, kind: str, status: int) -> None:
    # given a problem document for 5XX, when the function fails
    answer = proxied.post("{}", params={"kind": kind})

    # then the answer is that document, without the function's own words
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in json.dumps(answer.json())
