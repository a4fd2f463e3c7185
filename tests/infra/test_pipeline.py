"""The pipeline: what comes after what, what each step runs, and what it may do."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from infra.assemblies import Assembly, Properties, logical_id
from infra.conftest import CONNECTION
from infra.test_lint import findings
from infra.test_nag import violations
from sluice_harness.cdk_cli import explain
from sluice_infra import pipeline as infra
from sluice_infra.pipeline import Source
from unit.sessions import called, complaint

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.xdist_group("infra")

RIGHT = {"repository": "ann/sluice", "branch": "main", "connection": CONNECTION}


@pytest.fixture
def stages(pipeline: Assembly) -> dict[str, list[Properties]]:
    """The pipeline's stages with their actions, by name."""
    return {stage["Name"]: stage["Actions"] for stage in pipeline.only("CodePipeline::Pipeline")["Stages"]}


def order(actions: list[Properties]) -> dict[str, int]:
    return {action["Name"]: action["RunOrder"] for action in actions}


def build(pipeline: Assembly, action: Properties) -> dict[str, Any]:
    """The build specification of the project that an action runs."""
    project = pipeline.resources[logical_id(action["Configuration"]["ProjectName"])]["Properties"]
    written = project["Source"]["BuildSpec"]
    if not written.startswith("{"):  # the name of a file beside the templates
        written = (pipeline.folder / written).read_text()
    spec: dict[str, Any] = yaml.safe_load(written)
    return spec


def commands(pipeline: Assembly, action: Properties) -> list[str]:
    spec = build(pipeline, action)
    return [command for phase in spec["phases"].values() for command in phase.get("commands", [])]


# --- the order


def test_production_comes_last_and_only_after_staging(stages: dict[str, list[Properties]]) -> None:
    assert [*stages] == ["Source", "Build", "UpdatePipeline", "Assets", "staging", "prod"]


def test_staging_is_tested_after_all_of_it_is_deployed(stages: dict[str, list[Properties]]) -> None:
    # given the order in which staging's actions run
    runs = order(stages["staging"])
    deployments = [when for name, when in runs.items() if name.endswith((".Prepare", ".Deploy"))]

    # then the tests come after the last deployment, and load after the tests that find faults sooner
    assert len(deployments) == 6
    assert max(deployments) < runs["Integration"] < runs["Load"]
    assert {*runs} - {"Integration", "Load"} == {name for name in runs if name.endswith((".Prepare", ".Deploy"))}


def test_nothing_of_production_happens_before_somebody_approves(stages: dict[str, list[Properties]]) -> None:
    # given production's actions in their order
    (first, *others) = sorted(stages["prod"], key=lambda action: action["RunOrder"])

    # then the first, and it alone, is the approval, and the last is a job there
    assert first["ActionTypeId"]["Category"] == "Approval"
    assert min(action["RunOrder"] for action in others) > first["RunOrder"]
    assert others[-1]["Name"] == "Smoke"
    assert {action["Name"] for action in others if action["RunOrder"] == others[-1]["RunOrder"]} == {"Smoke"}


def test_both_are_deployed_in_the_order_of_their_stacks(stages: dict[str, list[Properties]]) -> None:
    for stage in ("staging", "prod"):
        runs = order(stages[stage])
        auth, ingestion, observability = (
            runs[f"sluice-{stage}-{part}.Deploy"] for part in ("auth", "ingestion", "observability")
        )
        assert auth < ingestion < observability


# --- what it takes, builds and deploys


def test_it_takes_the_repository_and_branch_that_were_named(
    pipeline: Assembly, stages: dict[str, list[Properties]]
) -> None:
    (source,) = stages["Source"]
    assert source["Configuration"] == {
        "ConnectionArn": CONNECTION,
        "FullRepositoryId": "ann/sluice",
        "BranchName": "trunk",
    }
    assert pipeline.only("CodePipeline::Pipeline")["PipelineType"] == "V2"


def test_it_runs_the_projects_own_sessions(pipeline: Assembly, stages: dict[str, list[Properties]]) -> None:
    # given what each step runs
    actions = [action for one in stages.values() for action in one if "ProjectName" in action["Configuration"]]
    sessions = {
        action["Name"]: [*called("\n".join(commands(pipeline, action)))] for action in actions if action["Name"]
    }

    # then each has its sessions, which are there and take these arguments
    names = {step: [name for name, _ in calls] for step, calls in sessions.items() if calls}
    assert names == {
        "Synth": ["lint", "typecheck", "test", "pipeline"],
        "Integration": ["describe", "integration"],
        "Load": ["describe", "loadtest"],
        "Smoke": ["smoke"],
    }
    complaints = [complaint(*call) for calls in sessions.values() for call in calls]
    assert [one for one in complaints if one] == []

    # and the same sources as its own build the next version of the pipeline
    (arguments,) = [arguments for name, arguments in sessions["Synth"] if name == "pipeline"]
    assert arguments == [
        *("--synth", "--repository", "ann/sluice", "--branch", "trunk"),
        *("--connection", CONNECTION),
    ]


def test_it_deploys_what_is_deployed_by_hand(
    pipeline: Assembly, synthesized: Callable[[str], Assembly], stages: dict[str, list[Properties]]
) -> None:
    for stage in ("staging", "prod"):
        # given a stage's stacks by name, as the pipeline deploys them and as `nox -s deploy` does
        by_hand = {
            file.name.removesuffix(".template.json"): template_of(file.read_text())
            for file in synthesized(stage).template_files
        }
        deployed = {
            action["Configuration"]["StackName"]: template_of(
                (pipeline.folder / action["Configuration"]["TemplatePath"].partition("::")[2]).read_text()
            )
            for action in stages[stage]
            if "TemplatePath" in action["Configuration"]
        }

        # then they are the same: whoever deploys, nothing is replaced
        assert deployed == by_hand


def template_of(content: str) -> dict[str, Any]:
    """A template without notes of where the CDK's constructs are, and the digest of such notes in an id."""
    template: dict[str, Any] = json.loads(re.sub(r"(ApiRestApiDeployment\w{8})[0-9a-f]{32}", r"\1", content))
    for resource in template["Resources"].values():
        resource.pop("Metadata", None)
    return template


# --- how it keeps what it has


def test_artifacts_are_encrypted_with_a_key_that_rotates_and_travel_encrypted(pipeline: Assembly) -> None:
    # given the bucket and the key
    bucket, key = pipeline.only("S3::Bucket"), pipeline.only("KMS::Key")
    (key_id,) = pipeline.of_type("KMS::Key")

    # then one encrypts the other
    (encryption,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    assert logical_id(encryption["ServerSideEncryptionByDefault"]["KMSMasterKeyID"]) == key_id
    assert key["EnableKeyRotation"] is True

    # and nobody comes without TLS, from outside, or after a month
    denied = [one for _, one in pipeline.statements() if one["Effect"] == "Deny"]
    assert [one["Condition"] for one in denied] == [{"Bool": {"aws:SecureTransport": "false"}}]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["LifecycleConfiguration"]["Rules"][0]["ExpirationInDays"] == 30


def test_builds_are_not_privileged_and_write_to_a_log_that_forgets(pipeline: Assembly) -> None:
    (log,) = pipeline.of_type("Logs::LogGroup")
    assert pipeline.only("Logs::LogGroup")["RetentionInDays"] == 90
    projects = pipeline.of_type("CodeBuild::Project")
    assert len(projects) == 6
    for name, project in projects.items():
        assert project["Environment"]["PrivilegedMode"] is False, name
        assert project["LogsConfig"]["CloudWatchLogs"]["GroupName"] == {"Ref": log}, name
        assert "EncryptionKey" in project, name


def test_the_rules_of_cdk_nag_and_cfn_lint_find_nothing(pipeline: Assembly) -> None:
    assert violations(pipeline) == []
    (template,) = pipeline.template_files
    assert findings(template.read_text()) == []


def test_tools_are_those_of_this_checkout(pipeline: Assembly, stages: dict[str, list[Properties]]) -> None:
    (update,) = stages["UpdatePipeline"]
    assert f"npm install -g aws-cdk@{infra._cdk_version()}" in commands(pipeline, update)
    (assets,) = stages["Assets"]
    assert f"npm install -g cdk-assets@{infra.CDK_ASSETS_VERSION}" in commands(pipeline, assets)


# --- what is refused


@pytest.mark.parametrize(
    ("setting", "value", "wanted"),
    [
        ("repository", "", "owner/name"),
        ("repository", "sluice", "owner/name"),
        ("repository", "ann/sluice; curl evil", "owner/name"),
        ("branch", "", "the name of a branch"),
        ("branch", "$(date)", "the name of a branch"),
        ("branch", "--yes", "the name of a branch"),
        ("connection", "", "the ARN of a connection"),
        ("connection", "arn:aws:codeconnections:eu-central-1:1:connection/1", "the ARN of a connection"),
        ("connection", CONNECTION.replace("codeconnections", "codebuild"), "the ARN of a connection"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_it_may_be(setting: str, value: str, wanted: str) -> None:
    with pytest.raises(ValueError, match=f"^{setting} must be {wanted}.*, not "):
        Source(**{**RIGHT, setting: value})


def test_repositories_may_lie_in_groups_and_connections_may_be_old() -> None:
    Source(**{**RIGHT, "repository": "group/sub.group/sluice"})
    Source(**{**RIGHT, "connection": CONNECTION.replace("codeconnections", "codestar-connections")})


def test_whoever_synthesizes_it_is_told_what_is_wrong_in_one_line() -> None:
    # given an app that was not told anything
    with pytest.raises(SystemExit) as refused:
        infra.main()

    # then its one line is what is left of the many that the CDK CLI adds
    told = str(refused.value)
    assert told == "error: repository must be owner/name, not ''"
    assert explain(f"cdk synth ended with 1:\n{told}\npython: Subprocess exited with error 1") == told[7:]
