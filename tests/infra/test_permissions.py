"""IAM: actions by name on resources by ARN, and each role does one thing."""

from __future__ import annotations

import json

import pytest
from infra.assemblies import Assembly, listed, logical_id

pytestmark = pytest.mark.xdist_group("infra")

# The only actions here that take no resource (Service Authorization Reference, AWS X-Ray).
WITHOUT_RESOURCE = {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}


def test_no_statement_allows_an_action_by_wildcard(assembly: Assembly) -> None:
    for owner, statement in assembly.statements():
        if statement["Effect"] == "Allow":
            assert "NotAction" not in statement, owner
            assert [action for action in listed(statement["Action"]) if "*" in action] == [], owner


def test_only_actions_without_resources_are_allowed_on_everything(assembly: Assembly) -> None:
    for owner, statement in assembly.statements():
        if statement["Effect"] == "Allow" and "*" in listed(statement.get("Resource", [])):
            assert set(listed(statement["Action"])) <= WITHOUT_RESOURCE, owner


def test_no_statement_allows_everything_but(assembly: Assembly) -> None:
    assert [owner for owner, statement in assembly.statements() if "NotResource" in statement] == []


def test_no_role_has_a_full_access_policy(assembly: Assembly) -> None:
    for name, role in assembly.of_type("IAM::Role").items():
        for policy in role.get("ManagedPolicyArns", []):
            assert "FullAccess" not in json.dumps(policy), name
            assert "AdministratorAccess" not in json.dumps(policy), name


def test_the_gateway_may_send_to_the_request_queue_and_nothing_else(assembly: Assembly) -> None:
    # given the role that the submission's integration takes on
    methods = assembly.of_type("ApiGateway::Method").values()
    (integration,) = [method["Integration"] for method in methods if method["HttpMethod"] == "POST"]
    role = logical_id(integration["Credentials"])

    # when what it may do is read
    (statement,) = assembly.statements_of_role(role)

    # then it is one action on the one queue that the integration names
    assert statement["Effect"] == "Allow"
    assert listed(statement["Action"]) == ["sqs:SendMessage"]
    queue = logical_id(statement["Resource"])
    assert assembly.resources[queue]["Type"] == "AWS::SQS::Queue"
    assert {"Fn::GetAtt": [queue, "QueueName"]} in integration["Uri"]["Fn::Join"][1]
    assert "ManagedPolicyArns" not in assembly.resources[role]["Properties"]


def test_only_the_gateway_takes_on_its_role(assembly: Assembly) -> None:
    (name,) = [name for name in assembly.of_type("IAM::Role") if "SubmitRole" in name]
    (trust,) = assembly.resources[name]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "apigateway.amazonaws.com"}


def test_every_function_has_a_role_of_its_own(assembly: Assembly) -> None:
    roles = [logical_id(function["Role"]) for function in assembly.of_type("Lambda::Function").values()]
    assert len(set(roles)) == len(roles)


def test_only_this_api_invokes_functions_through_resource_policies(assembly: Assembly) -> None:
    # given the one REST API
    (api,) = assembly.of_type("ApiGateway::RestApi")

    # then every permission to invoke a function is API Gateway's, for that API
    for name, permission in assembly.of_type("Lambda::Permission").items():
        assert permission["Principal"] == "apigateway.amazonaws.com", name
        assert {"Ref": api} in permission["SourceArn"]["Fn::Join"][1], name
