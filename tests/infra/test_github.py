"""The roles that GitHub's workflows take on: who may, and what they may do then."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, get_args

import aws_cdk as cdk
import pytest
import yaml
from infra.assemblies import Assembly, Properties
from infra.test_lint import findings
from infra.test_nag import violations
from infra.test_pipeline_permissions import ON_EVERYTHING, grants
from sluice_harness.description import ROOT
from sluice_infra.app import check
from sluice_infra.github import ENVIRONMENTS, GithubStack, Trust
from sluice_infra.pipeline import UV_VERSION
from sluice_infra.stages import TrafficShift
from unit.sessions import ACTIONS

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("infra")

ISSUER = "token.actions.githubusercontent.com"
GITHUB = ROOT / ".github"


def roles_for(trust: Trust, folder: Path) -> Assembly:
    settings = json.loads((ROOT / "packages" / "infra" / "cdk.json").read_text())["context"]
    # As the CDK CLI does, by which cfn-lint knows whose template it is.
    app = cdk.App(outdir=str(folder), context={**settings, "aws:cdk:enable-path-metadata": True})
    GithubStack(app, "sluice-github", trust)
    check(app)
    app.synth()
    return Assembly("github", folder)


@pytest.fixture(scope="module")
def roles(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    return roles_for(Trust(repository="ann/sluice"), tmp_path_factory.mktemp("github"))


def trusts(roles: Assembly) -> dict[str, Properties]:
    """The one statement of who may take on a role, by the role's id without its digest."""
    found = {}
    for name, role in roles.of_type("IAM::Role").items():
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        found[name[:-8]] = statement
    return found


def test_a_role_is_for_one_environment_of_one_repository(roles: Assembly) -> None:
    # given who may take on each role
    found = trusts(roles)

    # then it is a job of that environment, whose token is meant for AWS
    (provider,) = roles.of_type("IAM::OIDCProvider")
    assert {name: trust["Condition"] for name, trust in found.items()} == {
        f"{name}Role": {
            "StringEquals": {
                f"{ISSUER}:aud": "sts.amazonaws.com",
                f"{ISSUER}:sub": f"repo:ann/sluice:environment:{name.lower()}",
            }
        }
        for name in ("Staging", "Production")
    }
    for trust in found.values():
        assert trust["Action"] == "sts:AssumeRoleWithWebIdentity"
        assert trust["Principal"] == {"Federated": {"Fn::GetAtt": [provider, "Arn"]}}


def test_a_role_deploys_through_the_cdks_own_roles_only(roles: Assembly) -> None:
    for role in ("StagingRole", "ProductionRole"):
        taken = [resource for action, resource, _ in grants(roles, role) if action == "sts:AssumeRole"]
        here = "-${AWS::AccountId}-${AWS::Region}"
        assert {one.partition(":role/")[2] for one in taken} == {
            f"cdk-hnb659fds-{kind}-role{here}" for kind in ("deploy", "file-publishing", "lookup")
        }


def test_productions_role_may_only_deploy_and_run_a_job(roles: Assembly) -> None:
    assert {action for action, _, _ in grants(roles, "ProductionRole")} == {
        *("sts:AssumeRole", "ssm:GetParameter"),
        *(ACTIONS["smoke"] - ACTIONS["describe"]),
    }


def test_stagings_role_may_do_what_its_tests_do_too(roles: Assembly) -> None:
    assert {action for action, _, _ in grants(roles, "StagingRole")} == {
        *("sts:AssumeRole", "ssm:GetParameter"),
        *ACTIONS["integration"],
        *ACTIONS["loadtest"],
    }


def test_no_action_is_granted_by_wildcard(roles: Assembly) -> None:
    for role in ("StagingRole", "ProductionRole"):
        for action, resource, _ in grants(roles, role):
            assert "*" not in action
            assert resource != "*" or action in ON_EVERYTHING
            assert "prod" not in resource or role == "ProductionRole"


def test_the_rules_of_cdk_nag_and_cfn_lint_find_nothing(roles: Assembly) -> None:
    assert violations(roles) == []
    (template,) = roles.template_files
    assert findings(template.read_text()) == []


def test_an_account_that_trusts_github_already_gets_one_role_for_its_stage(tmp_path: Path) -> None:
    # given an account of production's own, and the ids that GitHub adds to names
    trust = Trust(repository="ann@1/sluice@22", stages=("prod",), provider_exists=True)

    # when its roles are made, then there is one, for that name, and the provider is the account's
    made = roles_for(trust, tmp_path)
    (role,) = trusts(made).values()
    assert role["Condition"]["StringEquals"][f"{ISSUER}:sub"] == "repo:ann@1/sluice@22:environment:production"
    assert f":oidc-provider/{ISSUER}" in str(role["Principal"])
    assert {resource["Type"] for resource in made.resources.values()} == {"AWS::IAM::Role", "AWS::IAM::Policy"}


@pytest.mark.parametrize("repository", ["", "sluice", "ann/*", "ann/sluice:ref", "ann@*/sluice", "a/b/c"])
def test_a_repository_that_could_be_somebody_elses_is_refused(repository: str) -> None:
    with pytest.raises(ValueError, match=r"^repository must be owner/name, not"):
        Trust(repository=repository)


@pytest.mark.parametrize("stages", [(), ("staging", "dev")])
def test_a_stage_that_no_workflow_deploys_is_refused(stages: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"^stages must be of staging, prod"):
        Trust(repository="ann/sluice", stages=stages)


def deploying() -> dict[str, Properties]:
    """The jobs of the workflow that deploys, by their environment."""
    jobs = yaml.safe_load((GITHUB / "workflows" / "deploy.yml").read_text())["jobs"].values()
    return {job["environment"]: job for job in jobs if "environment" in job}


def test_the_workflow_uses_these_environments() -> None:
    assert deploying().keys() == {*ENVIRONMENTS.values()}
    for stage, environment in ENVIRONMENTS.items():
        commands = [step.get("run") for step in deploying()[environment]["steps"]]
        assert f"uvx nox -s deploy -- --stage {stage} --yes" in commands


def test_a_job_and_its_role_outlast_the_longest_traffic_shift(roles: Assembly) -> None:
    # given how long that takes, in minutes: a linear shift's ten steps, or a canary's one
    found = re.findall(r"(Linear|Canary)10Percent(?:Every)?(\d+)Minutes?", " ".join(get_args(TrafficShift)))
    assert len(found) == len(get_args(TrafficShift))
    longest = max(int(minutes) * (10 if kind == "Linear" else 1) for kind, minutes in found)

    # then each job has an hour besides, for all else that it does, and its role's session lasts as long
    for job in deploying().values():
        (session,) = [step["with"] for step in job["steps"] if "role-to-assume" in step.get("with", {})]
        assert job["timeout-minutes"] >= longest + 60
        assert session["role-duration-seconds"] == job["timeout-minutes"] * 60
        for role in roles.of_type("IAM::Role").values():
            assert role["MaxSessionDuration"] == session["role-duration-seconds"]


def test_uv_has_one_version_wherever_a_pipeline_installs_it() -> None:
    for path in (ROOT / ".ci" / "run", GITHUB / "actions" / "prepare" / "action.yml"):
        assert re.findall(r"pip install .*?\buv\b(\S*)", path.read_text()) == [f"=={UV_VERSION}"], path
