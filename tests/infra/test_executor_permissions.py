"""External executors: who may do what on which conditions, and that what holds for every stage holds with them.

What each role may do, on what and why, is in `docs/security.md`, which `test_security_page` holds to the template.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from infra import test_functions, test_permissions, test_queues, test_stages, test_storage
from infra.assemblies import listed, logical_id, short
from sluice_infra.stage_access import may_judge

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.assemblies import Assembly, Properties

pytestmark = pytest.mark.xdist_group("infra")

# Of these no action takes a resource (Service Authorization Reference; AWS Step Functions, "Logging").
WITHOUT_RESOURCE = {
    *("xray:PutTraceSegments", "xray:PutTelemetryRecords", "xray:GetSamplingRules", "xray:GetSamplingTargets"),
    *("logs:CreateLogDelivery", "logs:GetLogDelivery", "logs:UpdateLogDelivery", "logs:DeleteLogDelivery"),
    *("logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:DescribeResourcePolicies"),
    *("logs:DescribeLogGroups", "dynamodb:ListStreams", "ecr:GetAuthorizationToken"),
    *("batch:ListJobs", "batch:DescribeJobs"),
}
HOLDS = [
    test_functions.test_functions_run_on_arm64_and_python_3_13,
    test_functions.test_functions_are_traced,
    test_functions.test_lambda_logs_no_lines_of_its_own_for_what_went_well,
    test_functions.test_functions_know_their_stage,
    test_functions.test_every_function_logs_to_a_declared_group_of_its_own,
    test_functions.test_every_function_may_write_to_its_own_log_group_only,
    test_permissions.test_no_statement_allows_an_action_by_wildcard,
    test_permissions.test_no_statement_allows_everything_but,
    test_permissions.test_no_role_has_a_full_access_policy,
    test_permissions.test_every_function_has_a_role_of_its_own,
    test_permissions.test_whoever_lists_the_bucket_sees_results_and_inputs_only,
    test_queues.test_messages_stay_invisible_for_six_timeouts_and_the_batching_window,
    test_queues.test_every_queue_sets_messages_aside_only_after_five_receives,
    test_queues.test_dead_letters_outlive_the_queue_they_come_from,
    test_queues.test_consumers_know_after_how_many_receives_a_message_is_set_aside,
    test_queues.test_every_queue_is_encrypted,
    test_queues.test_every_queue_refuses_plain_http,
    test_queues.test_no_function_reserves_concurrency,
    test_queues.test_consumers_know_their_queue,
    test_stages.test_logs_are_kept_as_long_as_the_stage_says,
    test_stages.test_functions_have_the_stage_s_memory_and_log_level,
    test_stages.test_a_name_that_is_given_has_the_stage_s_in_it,
    test_storage.test_results_expire_with_their_rows,
]


@pytest.fixture(scope="module")
def longwork(synthesized: Callable[[str], Assembly]) -> Assembly:
    return synthesized("longwork")


@pytest.mark.parametrize("holds", HOLDS, ids=lambda test: test.__name__.removeprefix("test_"))
def test_what_holds_for_every_stage_holds_with_executors(
    holds: Callable[[Assembly], None], longwork: Assembly
) -> None:
    holds(longwork)


def test_only_actions_without_resources_are_allowed_on_everything(longwork: Assembly) -> None:
    for owner, statement in longwork.statements():
        if longwork.resources[owner]["Type"] == "AWS::KMS::Key":
            continue  # there it means the key itself (KMS, "Key policies in AWS KMS")
        if statement["Effect"] == "Allow" and "*" in listed(statement.get("Resource", [])):
            assert set(listed(statement["Action"])) <= WITHOUT_RESOURCE, owner


def of_action(assembly: Assembly, action: str) -> dict[str, Properties]:
    """The statements of roles that allow an action, by role."""
    return {
        short(role): statement
        for role in assembly.of_type("IAM::Role")
        for statement in assembly.statements_of_role(role)
        if action in listed(statement["Action"])
    }


def test_the_starter_alone_passes_roles_and_to_ecs_only(longwork: Assembly) -> None:
    # given who may pass which roles
    [(role, statement)] = of_action(longwork, "iam:PassRole").items()

    # then it is the starter, to ECS, and those of the task definition
    assert role == "StarterRole"
    assert statement["Condition"] == {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}
    definition = longwork.only("ECS::TaskDefinition")
    passed = {logical_id(one) for one in statement["Resource"]}
    assert passed == {logical_id(definition[name]) for name in ("TaskRoleArn", "ExecutionRoleArn")}


def test_tasks_run_in_the_stage_s_own_cluster_only(longwork: Assembly) -> None:
    [statement] = of_action(longwork, "ecs:RunTask").values()
    [cluster] = longwork.of_type("ECS::Cluster")
    assert statement["Condition"] == {"ArnEquals": {"ecs:cluster": {"Fn::GetAtt": [cluster, "Arn"]}}}


def trust(assembly: Assembly, role: str) -> dict[str, Any]:
    [name] = [name for name in assembly.of_type("IAM::Role") if short(name) == role]
    [statement] = assembly.resources[name]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    return dict(statement.get("Condition", {}))


@pytest.mark.parametrize("role", ["WorkflowRole", "NetworkFlowLogRole", "BatchJobTaskRole", "EcsJobTaskRole"])
def test_services_take_on_roles_in_this_account_s_name_only(role: str, longwork: Assembly) -> None:
    assert trust(longwork, role)["StringEquals"] == {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}


@pytest.mark.parametrize("role", ["BatchJobExecutionRole", "EcsJobExecutionRole"])
def test_fargate_takes_on_execution_roles_as_aws_documents_it_without_conditions(
    role: str, longwork: Assembly
) -> None:
    assert trust(longwork, role) == {}


def test_a_container_s_work_cannot_have_its_execution_role(longwork: Assembly) -> None:
    # given the roles of both definitions, then no two are the same
    batch = longwork.only("Batch::JobDefinition")["ContainerProperties"]
    ecs = longwork.only("ECS::TaskDefinition")
    roles = [batch["JobRoleArn"], batch["ExecutionRoleArn"], ecs["TaskRoleArn"], ecs["ExecutionRoleArn"]]
    assert len({logical_id(role) for role in roles}) == 4


def test_only_schedules_and_the_api_invoke_functions_through_resource_policies(longwork: Assembly) -> None:
    # given the rules that run functions
    scheduled = {
        (longwork.invoked(target["Arn"]), rule)
        for rule, one in longwork.of_type("Events::Rule").items()
        if "ScheduleExpression" in one
        for target in one["Targets"]
    }

    # then these are the permissions that EventBridge has
    permitted = {
        (longwork.invoked(one["FunctionName"]), logical_id(one["SourceArn"]))
        for one in longwork.of_type("Lambda::Permission").values()
        if one["Principal"] == "events.amazonaws.com"
    }
    assert permitted == scheduled
    principals = {one["Principal"] for one in longwork.of_type("Lambda::Permission").values()}
    assert principals == {"events.amazonaws.com", "apigateway.amazonaws.com"}


def test_the_sweeper_reads_the_dead_letters_of_jobs_and_no_others(longwork: Assembly) -> None:
    read = {short(logical_id(queue)) for queue in longwork.allowed("sweeper")["sqs:ReceiveMessage"]}
    of_jobs = ("Requests", "Work", "Stepfunctions", "Batch", "Ecs")
    assert read == {f"{queue}DeadLetters" for queue in of_jobs}


def test_whoever_judges_a_load_test_sees_every_queue() -> None:
    # given the queues that a pipeline's load test may look at, on stages with and without executors
    seen = {
        stage: {
            resource.partition("-ingestion-")[2]
            for statement in may_judge(stage)
            if "sqs:GetQueueAttributes" in statement.actions
            for resource in statement.resources
        }
        for stage in ("longwork", "staging")
    }

    # then they are those that the stage has
    assert seen["staging"] == {"Requests*", "Work*"}
    assert seen["longwork"] == {"Requests*", "Work*", "Stepfunctions*", "Batch*", "Ecs*", "Completions*"}
