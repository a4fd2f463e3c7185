"""One factory for all functions: arm64, traced, a log group of its own and a role that starts with nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_event_sources as event_sources
from aws_cdk import aws_logs as logs
from constructs import Construct

from sluice_infra.acknowledgements import acknowledge
from sluice_infra.bundling import bundle
from sluice_infra.queues import MAX_RECEIVES
from sluice_infra.stages import LOG_RETENTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aws_cdk import aws_dynamodb as dynamodb
    from aws_cdk import aws_sqs as sqs

    from sluice_infra.stages import StageConfig

# Failed invocations of a mapping are in no other metric (AWS Lambda, "Viewing metrics for event source mappings").
_COUNTED = lambda_.MetricsConfig(metrics=[lambda_.MetricType.EVENT_COUNT])
# All functions and their timeouts in seconds: a queue's visibility and an alarm go by them.
TIMEOUTS_S: Mapping[str, int] = {
    "authorizer": 5,
    "processor": 30,
    "batch-simulator": 60,
    "job-status": 10,
    "cancel-job": 10,
    "sweeper": 60,
    "event-publisher": 30,
}


def log_group(scope: Construct, construct_id: str, config: StageConfig) -> logs.LogGroup:
    """Declare a log group that forgets after the stage's time, and goes with its stack."""
    return logs.LogGroup(
        scope,
        construct_id,
        retention=LOG_RETENTIONS[config.log_days],
        removal_policy=cdk.RemovalPolicy.DESTROY,
    )


class Function(Construct):
    """A Lambda function: ``batch-simulator`` is the handler of `sluice_handlers.batch_simulator`."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        config: StageConfig,
        *,
        memory_mib: int | None = None,
        environment: Mapping[str, str],
    ) -> None:
        super().__init__(scope, "".join(part.capitalize() for part in name.split("-")))
        self.log_group = log_group(self, "Logs", config)
        self.role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        self.function = lambda_.Function(
            self,
            "Function",
            code=lambda_.Code.from_asset(str(bundle(config.bundle_target))),
            handler=f"sluice_handlers.{name.replace('-', '_')}.handler",
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=lambda_.Architecture.ARM_64,
            timeout=cdk.Duration.seconds(TIMEOUTS_S[name]),
            memory_size=memory_mib or config.memory_mib,
            role=self.role,
            log_group=self.log_group,
            tracing=lambda_.Tracing.ACTIVE,
            # No START, END and REPORT of what went well: Lambda's metrics say the same, and lines are billed.
            logging_format=lambda_.LoggingFormat.JSON,
            system_log_level_v2=lambda_.SystemLogLevel.WARN,
            application_log_level_v2=lambda_.ApplicationLogLevel[config.log_level],
            environment={"STAGE": config.name, **environment},
        )
        self.allow(["logs:CreateLogStream", "logs:PutLogEvents"], [self.log_group.log_group_arn])
        acknowledge(
            self.role,
            {
                "AwsSolutions-IAM5[Resource::*]": "X-Ray's PutTraceSegments and DynamoDB's ListStreams, which a "
                "stream's reader needs, take no resource (AWS, Service Authorization Reference)"
            },
        )
        acknowledge(
            self.function,
            {"AwsSolutions-L1": "3.13 is the newest runtime that the pinned wheels are tested on"},
        )

    def allow(self, actions: Sequence[str], resources: Sequence[str]) -> None:
        """Grant actions by name on resources by ARN."""
        self.role.add_to_policy(iam.PolicyStatement(actions=list(actions), resources=list(resources)))

    def consume(self, queue: sqs.IQueue, *, max_concurrency: int) -> str:
        """Be invoked with batches of up to ten, report failures by message, and return the mapping's id."""
        source = event_sources.SqsEventSource(
            queue,
            batch_size=10,
            max_concurrency=max_concurrency,
            report_batch_item_failures=True,
            metrics_config=_COUNTED,
        )
        self.function.add_event_source(source)
        self.function.add_environment("QUEUE_URL", queue.queue_url)
        self.function.add_environment("MAX_RECEIVES", str(MAX_RECEIVES))
        return source.event_source_mapping_id

    def follow(self, table: dynamodb.Table, *, pattern: Mapping[str, object]) -> str:
        """Be invoked with a table's changes of a pattern, in batches of up to 100; return the mapping's id.

        What fails is tried again for as long as the stream holds it, which is a day.
        """
        self.allow(
            ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"],
            [str(table.table_stream_arn)],
        )
        self.allow(["dynamodb:ListStreams"], ["*"])
        mapping = self.function.add_event_source_mapping(
            "Stream",
            event_source_arn=table.table_stream_arn,
            starting_position=lambda_.StartingPosition.TRIM_HORIZON,
            batch_size=100,
            max_batching_window=cdk.Duration.seconds(1),
            bisect_batch_on_error=True,
            report_batch_item_failures=True,
            metrics_config=_COUNTED,
            filters=[lambda_.FilterCriteria.filter(dict(pattern))],
        )
        return mapping.event_source_mapping_id
