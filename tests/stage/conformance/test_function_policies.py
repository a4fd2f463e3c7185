"""A function's resource policy says which method, which authorizer and which rule may invoke it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from stage.conformance import apis
from stage.conformance.functions import create_function, eventually, permit, unique
from stage.conformance.tables import printed

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

PROXIED = """
def handler(event, context):
    return {"statusCode": 200, "body": "done"}
"""
ALLOWING = """
def handler(event, context):
    statement = {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": "*"}
    return {"principalId": "x", "policyDocument": {"Version": "2012-10-17", "Statement": [statement]}}
"""


def function_for(source: str, code: str) -> dict[str, Any]:
    """A function that one source within the API may invoke, and its role, as resources."""
    resources = apis.function(code)
    arn = "arn:aws:execute-api:us-east-1:000000000000:${Api}"
    resources["Permission"]["Properties"]["SourceArn"] = {"Fn::Sub": f"{arn}/{source}"}
    return resources


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("prod/POST/jobs/{id}", 200),
        ("*/POST/jobs/*", 200),
        ("*/GET/jobs/*", 500),
        ("test-invoke-stage/POST/jobs/*", 500),
        ("authorizers/*", 500),
    ],
)
def test_a_method_invokes_the_function_that_lets_it(engine: Engine, source: str, status: int) -> None:
    # given an API in front of a function that lets this source invoke it
    integration = {"Type": "AWS_PROXY", "IntegrationHttpMethod": "POST", "Uri": apis.invocation()}
    api = apis.deploy(engine, integration, extra=function_for(source, PROXIED))

    # when it is called, then it answers, or it fails without a word about why
    answer = api.post("{}")
    assert answer.status_code == status
    assert answer.text == "done" if status == 200 else answer.json() == {"message": "Internal server error"}


@pytest.mark.parametrize(("source", "status"), [("authorizers/${Authorizer}", 200), ("prod/*", 500)])
def test_an_authorizer_invokes_the_function_that_lets_it(engine: Engine, source: str, status: int) -> None:
    # given an API whose authorizer is a function that lets this source invoke it
    authorizer = {
        "RestApiId": {"Ref": "Api"},
        "Name": "any",
        "Type": "TOKEN",
        "IdentitySource": "method.request.header.Authorization",
        "AuthorizerUri": apis.invocation(),
    }
    extra = function_for(source, ALLOWING) | {
        "Authorizer": {"Type": "AWS::ApiGateway::Authorizer", "Properties": authorizer}
    }
    method = {"AuthorizationType": "CUSTOM", "AuthorizerId": {"Ref": "Authorizer"}}
    api = apis.deploy(engine, apis.mock("done"), method=method, extra=extra)

    # when it is called, then it answers, or it fails as with a wrong configuration
    assert api.post("{}", headers={"Authorization": "any"}).status_code == status


def test_a_rule_invokes_the_function_that_lets_it(engine: Engine) -> None:
    # given a rule, and two functions of which one lets it invoke it
    code = "def handler(event, context): print('got', event['detail']['number'])"
    permitted, other = create_function(engine, code), create_function(engine, code)
    events, client, rule = engine.client("events"), engine.client("lambda"), unique("rule")
    source = events.put_rule(Name=rule, EventPattern=json.dumps({"source": [rule]}))["RuleArn"]
    arns = [client.get_function_configuration(FunctionName=name)["FunctionArn"] for name in (permitted, other)]
    events.put_targets(Rule=rule, Targets=[{"Id": str(n), "Arn": arn} for n, arn in enumerate(arns)])
    permit(engine, permitted, "events", source)
    permit(engine, other, "events", f"{source}-other")

    def put(number: int) -> None:
        detail = json.dumps({"number": number})
        events.put_events(Entries=[{"Source": rule, "DetailType": "x", "Detail": detail}])

    # when an event matches, then that one is invoked
    put(1)
    assert eventually(lambda: printed(engine, permitted, "got") == ["1"])

    # and the other is not until it lets the rule
    permit(engine, other, "events", source)
    put(2)
    assert eventually(lambda: printed(engine, other, "got") == ["2"])
    events.remove_targets(Rule=rule, Ids=["0", "1"])
    events.delete_rule(Name=rule)
