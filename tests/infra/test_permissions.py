"""IAM: actions by name on resources by ARN, and each role does one thing."""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING

import pytest
from infra.assemblies import Assembly, listed, logical_id
from infra.test_security_page import grants
from sluice_harness.description import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.xdist_group("infra")

# The only actions here that take no resource (Service Authorization Reference, AWS X-Ray and Amazon DynamoDB).
WITHOUT_RESOURCE = {"xray:PutTraceSegments", "dynamodb:ListStreams"}


def test_no_statement_allows_an_action_by_wildcard(assembly: Assembly) -> None:
    for owner, statement in assembly.statements():
        if statement["Effect"] == "Allow":
            assert "NotAction" not in statement, owner
            assert [action for action in listed(statement["Action"]) if "*" in action] == [], owner


def test_only_actions_without_resources_are_allowed_on_everything(assembly: Assembly) -> None:
    for owner, statement in assembly.statements():
        if assembly.resources[owner]["Type"] == "AWS::KMS::Key":
            continue  # there it means the key itself (KMS, "Key policies in AWS KMS")
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
    integration = assembly.submit_method["Integration"]
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


def test_only_this_api_and_the_schedule_invoke_functions_through_resource_policies(assembly: Assembly) -> None:
    # given the one REST API and the one schedule
    (api,) = assembly.of_type("ApiGateway::RestApi")
    (rule,) = assembly.of_type("Events::Rule")
    sweeper, _ = assembly.function("sweeper")

    # then every permission to invoke a function is API Gateway's, for that API, but for the sweeper's
    for name, permission in assembly.of_type("Lambda::Permission").items():
        if permission["Principal"] == "events.amazonaws.com":
            assert permission["SourceArn"] == {"Fn::GetAtt": [rule, "Arn"]}
            assert assembly.invoked(permission["FunctionName"]) == sweeper
        else:
            assert permission["Principal"] == "apigateway.amazonaws.com", name
            assert {"Ref": api} in permission["SourceArn"]["Fn::Join"][1], name


def proved() -> set[tuple[str, ...]]:
    """The grants that tests on the local stage take away, one at a time; see `stage.grants.proves`."""
    found: set[tuple[str, ...]] = set()
    for file in (ROOT / "tests" / "stage").glob("test_grants*.py"):
        for name, test in vars(importlib.import_module(f"stage.{file.stem}")).items():
            for mark in getattr(test, "pytestmark", []) if name.startswith("test_") else []:
                if mark.name == "parametrize" and mark.args[0] == "grant":
                    found.update(mark.args[1])
    return found


def test_every_grant_is_proved_to_be_needed(synthesized: Callable[[str], Assembly]) -> None:
    # given what the roles of the stage may do that is deployed on this machine; other stages' may do the same, and
    # CodeDeploy's, which is not here (`docs/security.md` is held against each)
    resources: dict[tuple[str, str], set[str]] = {}
    for role, action, resource in grants(synthesized("local")):
        resources.setdefault((role, action), set()).add(resource)
    granted: set[tuple[str, ...]] = {grant for grant, on in resources.items() if len(on) == 1}
    granted |= {(*grant, one) for grant, on in resources.items() if len(on) > 1 for one in on}

    # then for each there is a test that takes it away, and for nothing else
    unproved = sorted(granted - proved())
    assert not unproved, f"add to tests/stage/test_grants*.py what fails without these (`proves`): {unproved}"
    assert not (stale := sorted(proved() - granted)), f"no role of the stage may do this: {stale}"


def test_the_sweeper_reads_dead_letters_and_can_delete_none(assembly: Assembly) -> None:
    # given the dead-letter queues
    queues = assembly.of_type("SQS::Queue").values()
    dead_letters = {
        logical_id(queue["RedrivePolicy"]["deadLetterTargetArn"]) for queue in queues if "RedrivePolicy" in queue
    }

    # then they are all that it may read
    grants = assembly.allowed("sweeper")
    assert {logical_id(queue) for queue in grants["sqs:ReceiveMessage"]} == dead_letters


def test_whoever_lists_the_bucket_sees_results_and_inputs_only(assembly: Assembly) -> None:
    conditions = [one["Condition"] for _, one in assembly.statements() if "s3:ListBucket" in listed(one["Action"])]
    assert conditions
    for condition in conditions:
        [prefixes] = condition["StringLike"].values()
        assert condition == {"StringLike": {"s3:prefix": prefixes}}
        assert {*listed(prefixes)} <= {"results/*", "inputs/*"}
