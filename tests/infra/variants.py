"""Run as a program: synthesizes apps that differ from the local stage in one thing each.

``python variants.py FOLDER`` writes one assembly per variant into the folder and prints the variants' names.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import aws_cdk as cdk
from aws_cdk import aws_s3, aws_sqs
from sluice_core.workloads import WorkResult
from sluice_harness.description import ROOT
from sluice_infra.app import build, check
from sluice_infra.executor_settings import Containers
from sluice_infra.stages import Domain, stage_config

LOCAL = stage_config("local")
# As the CDK CLI has it for an app: cdk.json's, and paths in templates, by which cfn-lint knows the CDK's.
CONTEXT = {
    **json.loads((ROOT / "packages" / "infra" / "cdk.json").read_text())["context"],
    "aws:cdk:enable-path-metadata": True,
}
IMAGE = f"000000000000.dkr.ecr.us-east-1.amazonaws.com/own@sha256:{'1' * 64}"


class Echo:
    """A workload whose parameters no other workload has."""

    parameters_schema: ClassVar = {"type": "object", "properties": {"text": {"type": "string"}}}

    def run(self, job_id: str, _parameters: object) -> WorkResult:
        return WorkResult(job_id.encode(), "text/plain", "txt")


def unchanged(app: cdk.App) -> None:
    """What the others are held against."""
    build(app, LOCAL)


def other_retention(app: cdk.App) -> None:
    """Functions differ; the API does not."""
    build(app, replace(LOCAL, result_days=LOCAL.result_days + 1))


def other_schema(app: cdk.App) -> None:
    """The API differs in nothing but the request schema."""
    build(app, replace(LOCAL, workloads=f"weather-report={__name__}:Echo"))


def with_front_door(app: cdk.App) -> None:
    """A domain name and a web ACL."""
    arn = "arn:aws:{}:us-east-1:000000000000:{}"
    build(
        app,
        replace(
            LOCAL,
            domain=Domain(
                name="jobs.example.com",
                certificate_arn=arn.format("acm", "certificate/one"),
                hosted_zone_id="Z0123456789",
            ),
            web_acl_arn=arn.format("wafv2", "regional/webacl/one/two"),
        ),
    )


def unencrypted(app: cdk.App) -> None:
    """Two resources that the AwsSolutions rules refuse."""
    build(app, LOCAL)
    stack = cdk.Stack(app, "careless")
    aws_s3.Bucket(stack, "Bucket")
    aws_sqs.Queue(stack, "Queue", encryption=aws_sqs.QueueEncryption.UNENCRYPTED)
    check(app)


def workflows_alone(app: cdk.App) -> None:
    """One external executor: Step Functions."""
    build(app, replace(LOCAL, executors="weather-report=stepfunctions"))
    check(app)


def batch_alone(app: cdk.App) -> None:
    """One external executor: AWS Batch."""
    build(app, replace(LOCAL, executors="weather-report=batch", batch=Containers(image=IMAGE)))
    check(app)


def ecs_draining(app: cdk.App) -> None:
    """One external executor, which no job type uses any more: ECS."""
    ecs = Containers(image=IMAGE, vcpu=0.25, memory_mib=512, timeout_s=5 * 86_400)
    build(app, replace(LOCAL, draining=("ecs",), ecs=ecs, result_days=7))
    check(app)


VARIANTS = (
    unchanged,
    other_retention,
    other_schema,
    with_front_door,
    unencrypted,
    workflows_alone,
    batch_alone,
    ecs_draining,
)


def main(folder: Path) -> None:
    for variant in VARIANTS:
        app = cdk.App(outdir=str(folder / variant.__name__), context=CONTEXT)
        variant(app)
        try:
            app.synth()
        except RuntimeError as error:
            if "ValidationFailed" not in str(error):
                raise
    sys.stdout.write(json.dumps([variant.__name__ for variant in VARIANTS]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
