"""The pipeline from a commit to production, in AWS: ``python -m sluice_infra.pipeline``, an app of its own.

Source → build and tests → the pipeline itself → assets → staging and its tests → approval → production and a job
there. Repository, branch and connection come from the context, which `uvx nox -s pipeline` fills. The stages are
those of `app`, under the same stacks' names.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_codepipeline as codepipeline
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import pipelines
from constructs import RootConstruct

from sluice_infra import stage_access
from sluice_infra.acknowledgements import acknowledge
from sluice_infra.app import build, check
from sluice_infra.bundling import ROOT
from sluice_infra.exact_grants import BOOTSTRAP_STACK, ExactGrants
from sluice_infra.keys import account_may, rotating_key
from sluice_infra.stages import stage_config

if TYPE_CHECKING:
    from collections.abc import Sequence

# The tools that builds install. nox is held to the version of `requirements/dev.txt`.
UV_VERSION = "0.13.9"
CDK_ASSETS_VERSION = "4.7.3"
_INSTALL = [f"pip install --quiet uv=={UV_VERSION}", 'export UV_CONSTRAINT="$PWD/requirements/dev.txt"']
_ARTIFACT_DAYS = 30
_QUESTION = "Staging has passed its tests and its load, with its alarms quiet. Deploy this to production?"
# After every mutation of CDK's own, and before cdk-nag looks.
_LAST = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the pipeline takes the code from.

    Attributes
    ----------
    repository : str
        ``owner/name``, as the connection's provider has it.
    branch : str
        Each push to it starts the pipeline.
    connection : str
        The ARN of a connection in CodeConnections that somebody has authorized.

    Raises
    ------
    ValueError
        One of them cannot be right; the message names it and what it may be.

    """

    repository: str
    branch: str
    connection: str

    def __post_init__(self) -> None:
        for setting, pattern, wanted in (
            ("repository", r"[\w.-]+(/[\w.-]+)+", "owner/name"),
            ("branch", r"\w[\w./-]*", "the name of a branch"),
            (
                "connection",
                r"arn:aws[a-z-]*:(codeconnections|codestar-connections):[a-z0-9-]+:\d{12}:connection/[0-9a-f-]+",
                "the ARN of a connection (`aws codeconnections list-connections` lists those there are)",
            ),
        ):
            value = getattr(self, setting)
            if not re.fullmatch(pattern, value, re.ASCII):
                raise ValueError(f"{setting} must be {wanted}, not {value!r}")


class PipelineStack(cdk.Stack):
    """The pipeline, what it keeps artifacts and logs in, and the roles of its steps."""

    def __init__(self, app: cdk.App, name: str, source: Source, **kwargs: Any) -> None:
        super().__init__(app, name, description="Sluice: from a commit to production", **kwargs)
        self._app = app
        self._code = pipelines.CodePipelineSource.connection(
            source.repository, source.branch, connection_arn=source.connection
        )
        self._artifacts = self._add_artifacts()
        self._pipeline = pipelines.CodePipeline(
            self,
            "Pipeline",
            synth=self._synth(source),
            pipeline_type=codepipeline.PipelineType.V2,
            artifact_bucket=self._artifacts,
            cli_version=_cdk_version(),
            cdk_assets_cli_version=CDK_ASSETS_VERSION,
            publish_assets_in_parallel=False,
            code_build_defaults=self._build_defaults(),
        )
        self._add_staging()
        self._add_production()
        self._pipeline.build_pipeline()
        console = f"https://{self.region}.console.aws.amazon.com/codesuite/codepipeline/pipelines"
        cdk.CfnOutput(self, "PipelineUrl", value=f"{console}/{self._pipeline.pipeline.pipeline_name}/view")
        cdk.Aspects.of(self).add(ExactGrants(), priority=_LAST)
        self._acknowledge()

    def _add_artifacts(self) -> s3.Bucket:
        key = rotating_key(self, "ArtifactKey", "Sluice: artifacts of the pipeline")
        key.add_to_resource_policy(
            account_may("Decrypt", "DescribeKey", "Encrypt", "GenerateDataKey", "ReEncryptFrom", "ReEncryptTo")
        )
        bucket = s3.Bucket(
            self,
            "Artifacts",
            encryption_key=key,
            bucket_key_enabled=True,
            enforce_ssl=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            lifecycle_rules=[
                s3.LifecycleRule(
                    expiration=cdk.Duration.days(_ARTIFACT_DAYS),
                    abort_incomplete_multipart_upload_after=cdk.Duration.days(1),
                )
            ],
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        acknowledge(
            bucket,
            {"AwsSolutions-S1": "only this stack's roles and the CDK's reach it, in executions on record"},
        )
        return bucket

    def _build_defaults(self) -> pipelines.CodeBuildOptions:
        log = logs.LogGroup(
            self, "Logs", retention=logs.RetentionDays.THREE_MONTHS, removal_policy=cdk.RemovalPolicy.DESTROY
        )
        return pipelines.CodeBuildOptions(
            build_environment=codebuild.BuildEnvironment(
                build_image=codebuild.LinuxBuildImage.STANDARD_7_0,
                compute_type=codebuild.ComputeType.MEDIUM,
                privileged=False,
            ),
            partial_build_spec=codebuild.BuildSpec.from_object(
                {"phases": {"install": {"runtime-versions": {"python": "3.13", "nodejs": "22"}}}}
            ),
            logging=codebuild.LoggingOptions(cloud_watch=codebuild.CloudWatchLoggingOptions(log_group=log)),
            timeout=cdk.Duration.hours(1),
        )

    def _synth(self, source: Source) -> pipelines.CodeBuildStep:
        given = {"repository": source.repository, "branch": source.branch, "connection": source.connection}
        options = [part for name, value in given.items() for part in (f"--{name}", value)]
        return pipelines.CodeBuildStep(
            "Synth",
            input=self._code,
            install_commands=_INSTALL,
            commands=[
                "uvx nox -s lint typecheck",
                "uvx nox -s test -- tests/unit tests/infra",
                shlex.join(["uvx", "nox", "-s", "pipeline", "--", "--synth", *options]),
            ],
            primary_output_directory="build/cdk.out/pipeline",
        )

    def _add_staging(self) -> None:
        describe = "uvx nox -s describe -- --stage staging"
        integration = self._step(
            "Integration",
            [describe, "uvx nox -s integration -- --stage staging"],
            stage="staging",
            grants=stage_access.may_inspect("staging"),
        )
        load = self._step(
            "Load",
            [describe, "uvx nox -s loadtest -- --scenario smoke --stage staging --temporary-users 3"],
            stage="staging",
            grants=stage_access.may_judge("staging"),
        )
        # After the other: the load's verdict accounts for every job of its time.
        load.add_step_dependency(integration)
        self._pipeline.add_stage(self._stage("staging"), post=[integration, load])

    def _add_production(self) -> None:
        approval = pipelines.ManualApprovalStep("Approve", comment=_QUESTION)
        smoke = self._step("Smoke", ["uvx nox -s smoke -- --stage prod"], stage="prod")
        self._pipeline.add_stage(self._stage("prod"), pre=[approval], post=[smoke])

    def _stage(self, name: str) -> cdk.Stage:
        """Return a stage under a root of its own.

        The CDK makes some ids of a construct's whole path. Below this app they would not be those of
        `nox -s deploy`, and CloudFormation would replace what is there. A part named Default does not count.
        """
        root = RootConstruct()
        for setting, value in self._app.node.get_all_context().items():
            root.node.set_context(setting, value)
        stage = cdk.Stage(root, "Default", stage_name=name, outdir=f"{self._app.outdir}/assembly-{name}")
        build(stage, stage_config(name))
        return stage

    def _step(
        self, name: str, commands: list[str], *, stage: str, grants: Sequence[iam.PolicyStatement] = ()
    ) -> pipelines.CodeBuildStep:
        """Return a step that runs commands on a stage that is deployed, with a role of its own."""
        role = iam.Role(self, f"{name}Role", assumed_by=iam.ServicePrincipal("codebuild.amazonaws.com"))
        stage_access.allow(role, [*stage_access.may_describe(stage), *stage_access.may_have_users(stage), *grants])
        return pipelines.CodeBuildStep(
            name,
            input=self._code,
            role=role,
            install_commands=_INSTALL,
            commands=commands,
        )

    def _acknowledge(self) -> None:
        """Accept what is left of wildcards once actions are exact."""
        bucket_id = self.get_logical_id(self._artifacts.node.default_child)  # type: ignore[arg-type]
        for policy in self.node.find_all():
            if isinstance(policy, iam.Policy):
                acknowledge(
                    policy,
                    {
                        f"AwsSolutions-IAM5[Resource::<{bucket_id}.Arn>/*]": "artifacts lie in one bucket, "
                        "under keys that CodePipeline makes for each execution"
                    },
                )
        bootstrap_stack = BOOTSTRAP_STACK.replace("${", "<").replace("}", ">")
        acknowledge(
            self._pipeline.self_mutation_project,
            {
                f"AwsSolutions-IAM5[Resource::{bootstrap_stack}]": "the one stack that `cdk bootstrap` makes, "
                "whose id ends in characters of CloudFormation's own"
            },
        )


def _cdk_version() -> str:
    """Return the version of the CDK CLI that deploys by hand, too."""
    manifest = json.loads((ROOT / "packages" / "infra" / "package.json").read_text())
    version: str = manifest["devDependencies"]["aws-cdk"]
    return version


def main() -> None:
    """Synthesize the pipeline that the context describes."""
    app = cdk.App()
    try:
        source = Source(
            repository=app.node.try_get_context("repository") or "",
            branch=app.node.try_get_context("branch") or "",
            connection=app.node.try_get_context("connection") or "",
        )
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
    PipelineStack(app, "sluice-pipeline", source)
    check(app)
    app.synth()


if __name__ == "__main__":
    main()
