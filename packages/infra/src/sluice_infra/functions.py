"""One factory for all functions: arm64, traced, a log group of its own and a role that starts with nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct
from sluice_core import LIVE_ALIAS
from sluice_core.executors import STEP_FUNCTIONS

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
# The functions of every stage and their timeouts in seconds: a queue's visibility and an alarm go by them.
TIMEOUTS_S: Mapping[str, int] = {
    "authorizer": 5,
    "processor": 30,
    "batch-simulator": 60,
    "job-status": 10,
    "cancel-job": 10,
    "sweeper": 60,
    "event-publisher": 30,
}
# Those of a stage that has external executors.
_EXECUTORS_S: Mapping[str, int] = {"starter": 60, "completion": 30, "reconciler": 60}
# As long as Lambda lets a step take.
_WORKFLOW_S: Mapping[str, int] = {"workflow-step": 900}


def timeouts_s(config: StageConfig) -> Mapping[str, int]:
    """Return the functions of a stage and their timeouts in seconds."""
    external = config.external_executors
    return {
        **TIMEOUTS_S,
        **(_EXECUTORS_S if external else {}),
        **(_WORKFLOW_S if STEP_FUNCTIONS in external else {}),
    }


def log_group(
    scope: Construct, construct_id: str, config: StageConfig, *, name: str | None = None
) -> logs.LogGroup:
    """Declare a log group that forgets after the stage's time, and goes with its stack."""
    return logs.LogGroup(
        scope,
        construct_id,
        log_group_name=name,
        retention=LOG_RETENTIONS[config.log_days],
        removal_policy=cdk.RemovalPolicy.DESTROY,
    )


class Function(Construct):
    """A Lambda function: ``batch-simulator`` is the handler of `sluice_handlers.batch_simulator`.

    Whoever invokes it does so through its alias, which a release points at the version that it publishes (AWS
    Lambda, "Create an alias for a Lambda function"): traffic can shift from one version to the next by and by
    (`releases`). CloudFormation deletes the version before once the release has gone through; what still runs of
    it comes to its end. Alarms and dashboards go by FunctionName alone, under which there are "aggregate metrics
    for all versions and aliases of a function" (AWS Lambda, "Viewing metrics for Lambda functions").

    Attributes
    ----------
    live : Alias
        What to invoke, and what to grant others to invoke.
    reports_failures : bool
        Whether it answers with the messages or records that failed, which Lambda does not count as its errors.

    """

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
            timeout=cdk.Duration.seconds(timeouts_s(config)[name]),
            memory_size=memory_mib or config.memory_mib,
            # What the CDK's helpers would add is more than is needed; what is needed is named here.
            role=self.role.without_policy_updates(),
            log_group=self.log_group,
            tracing=lambda_.Tracing.ACTIVE,
            # No START, END and REPORT of what went well: Lambda's metrics say the same, and lines are billed.
            logging_format=lambda_.LoggingFormat.JSON,
            system_log_level_v2=lambda_.SystemLogLevel.WARN,
            application_log_level_v2=lambda_.ApplicationLogLevel[config.log_level],
            environment={"STAGE": config.name, **environment},
        )
        self.live = lambda_.Alias(self, "Live", alias_name=LIVE_ALIAS, version=self.function.current_version)
        self.reports_failures = False
        self.allow(["logs:CreateLogStream", "logs:PutLogEvents"], [self.log_group.log_group_arn])
        # Not PutTelemetryRecords: with that X-Ray's daemon reports on itself, and nothing waits for it.
        self.allow(["xray:PutTraceSegments"], ["*"])
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

    def tell(self, environment: Mapping[str, str]) -> None:
        """Set environment variables besides those that the function was made with."""
        for name, value in environment.items():
            self.function.add_environment(name, value)

    def consume(self, queue: sqs.IQueue, *, max_concurrency: int) -> str:
        """Be invoked with batches of up to ten, report failures by message, and return the mapping's id."""
        # The first three are for Lambda's poller, the last for how soon a message comes again.
        consuming = ["ReceiveMessage", "DeleteMessage", "GetQueueAttributes", "ChangeMessageVisibility"]
        self.allow([f"sqs:{action}" for action in consuming], [queue.queue_arn])
        self.function.add_environment("QUEUE_URL", queue.queue_url)
        self.function.add_environment("MAX_RECEIVES", str(MAX_RECEIVES))
        return self._map(
            f"SqsEventSource:{cdk.Names.node_unique_id(queue.node)}",
            event_source_arn=queue.queue_arn,
            batch_size=10,
            max_concurrency=max_concurrency,
        )

    def follow(self, table: dynamodb.Table, *, pattern: Mapping[str, object]) -> str:
        """Be invoked with a table's changes of a pattern, in batches of up to 100; return the mapping's id.

        What fails is tried again for as long as the stream holds it, which is a day.
        """
        self.allow(
            ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"],
            [str(table.table_stream_arn)],
        )
        self.allow(["dynamodb:ListStreams"], ["*"])
        return self._map(
            "Stream",
            event_source_arn=table.table_stream_arn,
            starting_position=lambda_.StartingPosition.TRIM_HORIZON,
            batch_size=100,
            max_batching_window=cdk.Duration.seconds(1),
            bisect_batch_on_error=True,
            filters=[lambda_.FilterCriteria.filter(dict(pattern))],
        )

    def _map(self, construct_id: str, **options: Any) -> str:
        """Have Lambda read an event source for the alias.

        Below the function, where such a mapping has always been: one of another logical id would read a stream's
        whole day again, and take away what another stack imports.
        """
        self.reports_failures = True
        mapping = lambda_.EventSourceMapping(
            self.function,
            construct_id,
            target=self.live,
            report_batch_item_failures=True,
            metrics_config=_COUNTED,
            **options,
        )
        return mapping.event_source_mapping_id
