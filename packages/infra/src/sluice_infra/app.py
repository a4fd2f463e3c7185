"""The CDK app: ``python -m sluice_infra.app``, with ``-c stage=NAME`` (default dev).

It looks nothing up in an account and needs no Docker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
from cdk_nag import AwsSolutionsChecks

from sluice_infra.auth_stack import AuthStack
from sluice_infra.ingestion_stack import IngestionStack
from sluice_infra.observability_stack import ObservabilityStack
from sluice_infra.stages import StageConfig, stage_config

if TYPE_CHECKING:
    from constructs import Construct


def build(scope: Construct, config: StageConfig) -> None:
    """Add one stage's stacks to the app, or to a pipeline's stage: their names and ids are the same in both."""
    names = {part: f"sluice-{config.name}-{part}" for part in ("auth", "ingestion", "observability")}

    def own(part: str) -> dict[str, Any]:
        # A pipeline's stage would put its own name before the stack's.
        return {"stack_name": names[part], "synthesizer": _synthesizer(config)}

    auth = AuthStack(scope, names["auth"], config, **own("auth"))
    ingestion = IngestionStack(scope, names["ingestion"], config, auth=auth, **own("ingestion"))
    ObservabilityStack(scope, names["observability"], config, ingestion=ingestion, **own("observability"))
    cdk.Tags.of(scope).add("project", "sluice")
    cdk.Tags.of(scope).add("stage", config.name)


def check(app: cdk.App) -> None:
    """Hold all that the app has against the AwsSolutions rules."""
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
    check(app)
    app.synth()


if __name__ == "__main__":
    main()
