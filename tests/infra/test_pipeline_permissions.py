"""What the pipeline's steps may do, and GitHub's workflows: actions by name, on the stage that they are for."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import pytest
from infra.assemblies import Assembly, Properties, listed
from infra.test_permissions import WITHOUT_RESOURCE as OF_FUNCTIONS
from sluice_infra.exact_grants import exact_statements
from unit.sessions import ACTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.xdist_group("infra")

# What may be granted on everything, and why: the Service Authorization Reference has no resource for it, or ...
ON_EVERYTHING = {
    "cloudwatch:DescribeAlarms": "composite alarms are told of only to those who may see all",
    "cloudwatch:DescribeAlarmHistory": "composite alarms are told of only to those who may see all",
    "cloudwatch:GetMetricData": "no resource",
    "cloudwatch:ListMetrics": "no resource",
    "lambda:ListEventSourceMappings": "no resource",
    "xray:BatchGetTraces": "no resource",
}
OF_A_BUILD = {
    *("logs:CreateLogStream", "logs:PutLogEvents"),
    *("s3:GetBucketAcl", "s3:GetBucketLocation", "s3:GetBucketVersioning"),
    *("s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket"),
    *("kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom"),
    "kms:ReEncryptTo",
}


def text(value: Any) -> str:
    """A value of a template as one string, its references by name."""
    if isinstance(value, str):
        return value
    ((function, argument),) = value.items()
    if function == "Fn::Join":
        return "".join(text(part) for part in argument[1])
    return argument if function == "Fn::Sub" else f"<{'.'.join(listed(argument))}>"


def grants(pipeline: Assembly, role: str) -> Iterator[tuple[str, str, Properties]]:
    """Every action that a role may take, with the resource and the statement."""
    (name,) = [name for name in pipeline.of_type("IAM::Role") if name.startswith(role)]
    for statement in pipeline.statements_of_role(name):
        for action in listed(statement["Action"]):
            for resource in listed(statement["Resource"]):
                yield action, text(resource), statement


def test_no_action_is_granted_by_wildcard(pipeline: Assembly) -> None:
    for owner, statement in pipeline.statements():
        if statement["Effect"] == "Allow":
            assert not {"NotAction", "NotResource"} & {*statement}, owner
            assert [action for action in listed(statement["Action"]) if "*" in action] == [], owner


def test_what_is_granted_on_everything_takes_no_resource(pipeline: Assembly) -> None:
    # given what roles may do on everything
    found = {
        action
        for owner, statement in pipeline.statements()
        if pipeline.resources[owner]["Type"] == "AWS::IAM::Policy"
        if "*" in listed(statement["Resource"])
        for action in listed(statement["Action"])
    }

    # then there is a reason for each, and the stages' functions have none of it
    assert found == {*ON_EVERYTHING}
    assert not found & OF_FUNCTIONS


def test_a_role_that_is_taken_on_is_named(pipeline: Assembly) -> None:
    for owner, statement in pipeline.statements():
        if "sts:AssumeRole" in listed(statement["Action"]) and "Resource" in statement:
            for resource in map(text, listed(statement["Resource"])):
                assert "*" not in resource, owner
                assert resource.startswith("<Pipeline") or ":role/cdk-hnb659fds-" in resource, owner


def test_the_pipelines_own_update_and_its_assets_go_through_the_cdks_roles(pipeline: Assembly) -> None:
    for role, kinds in (
        ("PipelineUpdatePipelineSelfMutation", {"deploy", "file-publishing"}),
        ("PipelineAssetsFileRole", {"file-publishing"}),
    ):
        taken = {resource for action, resource, _ in grants(pipeline, role) if action == "sts:AssumeRole"}
        assert {resource.partition("hnb659fds-")[2].partition("-role")[0] for resource in taken} == kinds


@pytest.mark.parametrize(
    ("role", "stage", "sessions"),
    [
        ("IntegrationRole", "staging", ("describe", "integration")),
        ("LoadRole", "staging", ("describe", "loadtest")),
        ("SmokeRole", "prod", ("smoke",)),
    ],
)
def test_a_step_may_do_what_its_sessions_do_on_its_stage_and_nothing_else(
    pipeline: Assembly, role: str, stage: str, sessions: tuple[str, ...]
) -> None:
    # given what a step's role may do
    found = [*grants(pipeline, role)]

    # then it is what its sessions do, beside what every build does
    assert {action for action, _, _ in found} == OF_A_BUILD.union(*(ACTIONS[session] for session in sessions))

    # and it names its own stage, but for what only lists
    for action, resource, statement in found:
        if action.startswith("cognito-idp:"):
            assert statement["Condition"]["StringEquals"]["aws:ResourceTag/stage"] == stage
        elif resource not in ("*", "<Artifacts82DD59A1.Arn>", "<Artifacts82DD59A1.Arn>/*"):
            assert (
                f"sluice-{stage}-" in resource
                or resource.endswith(f"/stages/{stage}")
                or resource.startswith("<")
                or action in ("apigateway:GET", "logs:DescribeLogGroups")
            ), (action, resource)


# What CloudFormation names and these roles may use: what an ARN has before the name, how long a name may be.
NAMED = {
    "DynamoDB::Table": ("table/", 255),
    "Lambda::Function": ("function:", 64),
    "Logs::LogGroup": ("log-group:", 512),
    "S3::Bucket": ("", 63),
    "SQS::Queue": ("", 80),
}


def names(assembly: Assembly, stage: str) -> dict[str, str]:
    """How the ARNs of a stage's resources would end, were it named so, each with the resource's kind."""
    found = {f"stack/sluice-{stage}-{part}/0a1b": "stack" for part in ("auth", "ingestion", "observability")}
    for dashboard in assembly.of_type("CloudWatch::Dashboard").values():
        own = dashboard["DashboardName"].removeprefix(f"sluice-{assembly.stage}-")
        found[f"dashboard/sluice-{stage}-{own}"] = "dashboard"
    for kind, (prefix, longest) in NAMED.items():
        for resource in assembly.of_type(kind):
            is_load_log = resource.startswith("LoadLog")
            stack = f"sluice-{stage}-{'observability' if is_load_log else 'ingestion'}"
            name = physical_name(stack, resource, longest)
            found[prefix + (name.lower() if kind == "S3::Bucket" else name)] = "LoadLog" if is_load_log else kind
    return found


def physical_name(stack: str, resource: str, longest: int) -> str:
    """A name as CloudFormation makes them; of one that is too long it leaves half to the stack's, half to the id.

    AWS documents the form only ("Name type"); how names are cut was seen in accounts.
    """
    left = longest - len("--0a1b2c3d4e5f")
    if len(stack) + len(resource) > left:
        stack, resource = stack[: left - left // 2], resource[: left // 2]
    return f"{stack}-{resource}-0a1b2c3d4e5f"


def reached(pipeline: Assembly, role: str, named: dict[str, str]) -> set[str]:
    """Which of these a role may do something on, beyond having them listed."""
    patterns = {
        resource.replace("<AWS::", "<").split(":", 5)[5]
        for action, resource, _ in grants(pipeline, role)
        if resource.startswith("arn:") and action != "logs:DescribeLogGroups"
    }
    return {name for name in named if any(fnmatchcase(name, pattern) for pattern in patterns)}


@pytest.mark.parametrize(
    ("role", "stage", "kinds"),
    [
        ("IntegrationRole", "staging", {"stack", "dashboard", "Lambda::Function"}),
        (
            "LoadRole",
            "staging",
            {"stack", "dashboard", "LoadLog", "DynamoDB::Table", "S3::Bucket", "SQS::Queue"},
        ),
        ("SmokeRole", "prod", {"stack"}),
    ],
)
def test_a_step_reaches_its_stage_and_none_whose_name_begins_so(
    pipeline: Assembly, synthesized: Callable[[str], Assembly], role: str, stage: str, kinds: set[str]
) -> None:
    # given the names of what the stage has, then all that the step works on is in its grants
    own = names(synthesized(stage), stage)
    assert reached(pipeline, role, own) == {name for name, kind in own.items() if kind in kinds}

    # and nothing of a personal stage with a name that begins with the stage's
    for other in ("x", "2", "observability", "load"):
        assert reached(pipeline, role, names(synthesized(stage), f"{stage}-{other}")) == set()


def test_grants_by_tag_fit_the_tags_that_a_stage_has(synthesized: Callable[[str], Assembly]) -> None:
    for stage in ("staging", "prod"):
        tags = synthesized(stage).only("Cognito::UserPool")["UserPoolTags"]
        assert tags == {"project": "sluice", "stage": stage}


# --- what CDK Pipelines grants, made exact


def test_a_grant_by_wildcard_that_nobody_knows_is_an_error() -> None:
    statement = {"Effect": "Allow", "Action": ["s3:GetObject*", "s3:Replicate*"], "Resource": "<bucket>"}
    with pytest.raises(ValueError, match=r"^role grants s3:Replicate\*: say in sluice_infra.exact_grants"):
        exact_statements(statement, "role")


def test_a_grant_on_everything_that_nobody_knows_is_an_error() -> None:
    for resource in ("*", {"Fn::Join": ["", ["arn:*:iam::", {"Ref": "AWS::AccountId"}, ":role/*"]]}):
        statement = {"Effect": "Allow", "Action": "iam:PassRole", "Resource": resource}
        with pytest.raises(ValueError, match=r"^role grants iam:PassRole on everything"):
            exact_statements(statement, "role")


def test_what_is_not_used_is_not_granted() -> None:
    unused = {"Effect": "Allow", "Action": ["codebuild:CreateReport", "s3:DeleteObject*"], "Resource": "<one>"}
    default_logs = {"Effect": "Allow", "Action": ["logs:CreateLogGroup", "logs:PutLogEvents"], "Resource": "<two>"}
    assert [*exact_statements(unused, "role"), *exact_statements(default_logs, "role")] == []
