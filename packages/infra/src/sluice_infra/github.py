"""The roles that GitHub's workflows take on, without a key: ``python -m sluice_infra.github``, an app of its own.

GitHub says in a signed token which repository and environment a job runs in (OpenID Connect); AWS gives that
environment's role for it, and for nothing else. ``.github/workflows/deploy.yml`` uses them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam

from sluice_infra import stage_access
from sluice_infra.app import check
from sluice_infra.exact_grants import DEPLOY_ROLE, FILE_PUBLISHING_ROLE, LOOKUP_ROLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from constructs import Construct

# The environment in GitHub of each stage that workflows deploy.
ENVIRONMENTS: Mapping[str, str] = {"staging": "staging", "prod": "production"}
_ISSUER = "token.actions.githubusercontent.com"
_AUDIENCE = "sts.amazonaws.com"
# As long as a job of deploy.yml may take, with the longest traffic shift that a stage can have.
_SESSION = cdk.Duration.hours(3)
# What `cdk bootstrap` leaves, for `cdk deploy` to see that it was there (CDK Developer Guide, "Bootstrapping").
_BOOTSTRAP_VERSION = (
    "arn:${AWS::Partition}:ssm:${AWS::Region}:${AWS::AccountId}:parameter/cdk-bootstrap/hnb659fds/version"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Who may take on the roles.

    Attributes
    ----------
    repository : str
        As tokens of its jobs name it: ``owner/name``, or with the immutable ids that GitHub adds for repositories
        made since summer 2026, ``owner@123/name@456`` (GitHub Docs, "OpenID Connect reference").
    stages : tuple of str
        The stages in this account: a role each.
    provider_exists : bool
        Whether the account trusts GitHub's tokens already: there can be one provider for an issuer.

    Raises
    ------
    ValueError
        One of them cannot be right; the message names it and what it may be.

    """

    repository: str
    stages: tuple[str, ...] = tuple(ENVIRONMENTS)
    provider_exists: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+(@\d+)?/[\w.-]+(@\d+)?", self.repository, re.ASCII):
            raise ValueError(f"repository must be owner/name, not {self.repository!r}")
        if not self.stages or not {*self.stages} <= {*ENVIRONMENTS}:
            raise ValueError(f"stages must be of {', '.join(ENVIRONMENTS)}, not {', '.join(self.stages)!r}")


class GithubStack(cdk.Stack):
    """The provider and a role for each stage's environment."""

    def __init__(self, scope: Construct, name: str, trust: Trust, **kwargs: Any) -> None:
        super().__init__(scope, name, description="Sluice: what GitHub's workflows may do", **kwargs)
        provider = f"arn:{cdk.Aws.PARTITION}:iam::{cdk.Aws.ACCOUNT_ID}:oidc-provider/{_ISSUER}"
        if not trust.provider_exists:
            issuer = iam.CfnOIDCProvider(self, "GitHub", url=f"https://{_ISSUER}", client_id_list=[_AUDIENCE])
            provider = issuer.attr_arn
        for stage in trust.stages:
            self._add_role(stage, trust.repository, provider)

    def _add_role(self, stage: str, repository: str, provider: str) -> None:
        environment = ENVIRONMENTS[stage]
        subject = f"repo:{repository}:environment:{environment}"
        role = iam.Role(
            self,
            f"{environment.capitalize()}Role",
            description=f"Sluice: workflows of {repository} that deploy {stage}",
            max_session_duration=_SESSION,
            assumed_by=iam.WebIdentityPrincipal(
                provider, {"StringEquals": {f"{_ISSUER}:aud": _AUDIENCE, f"{_ISSUER}:sub": subject}}
            ),
        )
        stage_access.allow(role, _may_deploy())
        stage_access.allow(role, stage_access.may_have_users(stage))
        if stage == "staging":
            stage_access.allow(role, [*stage_access.may_inspect(stage), *stage_access.may_judge(stage)])
        cdk.CfnOutput(self, f"{environment.capitalize()}RoleArn", value=role.role_arn)


def _may_deploy() -> list[iam.PolicyStatement]:
    """To deploy as the CDK does, which works through roles of its own, and to see that they are there."""
    roles = [cdk.Fn.sub(role) for role in (DEPLOY_ROLE, FILE_PUBLISHING_ROLE, LOOKUP_ROLE)]
    return [
        iam.PolicyStatement(actions=["sts:AssumeRole"], resources=roles),
        iam.PolicyStatement(actions=["ssm:GetParameter"], resources=[cdk.Fn.sub(_BOOTSTRAP_VERSION)]),
    ]


def main() -> None:
    """Synthesize the roles that the context describes."""
    app = cdk.App()
    stages = app.node.try_get_context("stages")
    try:
        trust = Trust(
            repository=app.node.try_get_context("repository") or "",
            **({"stages": tuple(stages.split(","))} if stages else {}),
            provider_exists=app.node.try_get_context("provider") == "exists",
        )
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
    GithubStack(app, "sluice-github", trust)
    check(app)
    app.synth()


if __name__ == "__main__":
    main()
