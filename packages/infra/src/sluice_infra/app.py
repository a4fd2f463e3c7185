"""The CDK app: ``python -m sluice_infra.app``, with ``-c stage=NAME`` (default dev).

It looks nothing up in an account and needs no Docker.
"""

from __future__ import annotations

import aws_cdk as cdk
from cdk_nag import AwsSolutionsChecks

from sluice_infra.auth_stack import AuthStack
from sluice_infra.ingestion_stack import IngestionStack
from sluice_infra.observability_stack import ObservabilityStack
from sluice_infra.stages import StageConfig, stage_config


def build(app: cdk.App, config: StageConfig) -> None:
    """Add one stage's stacks to the app, held against the AwsSolutions rules."""
    auth = AuthStack(app, f"sluice-{config.name}-auth", config, synthesizer=_synthesizer(config))
    ingestion = IngestionStack(
        app, f"sluice-{config.name}-ingestion", config, auth=auth, synthesizer=_synthesizer(config)
    )
    ObservabilityStack(
        app, f"sluice-{config.name}-observability", config, ingestion=ingestion, synthesizer=_synthesizer(config)
    )
    cdk.Tags.of(app).add("project", "sluice")
    cdk.Tags.of(app).add("stage", config.name)
    cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))


def _synthesizer(config: StageConfig) -> cdk.IReusableStackSynthesizer:
    # The local engine enforces IAM but cannot publish through the bootstrap roles.
    if config.bundle_target == "host":
        return cdk.CliCredentialsStackSynthesizer()
    return cdk.DefaultStackSynthesizer()


def main() -> None:
    """Synthesize the stage that the context names."""
    app = cdk.App()
    try:
        on_engine = app.node.try_get_context("engine") == "true"
        config = stage_config(app.node.try_get_context("stage") or "dev", on_engine=on_engine)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
    build(app, config)
    app.synth()


if __name__ == "__main__":
    main()
