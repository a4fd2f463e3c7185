"""The ingestion stack: gateway → request queue → processor → work queue → batch simulator → bucket → event bus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from sluice_core.jobs import JobStatus
from sluice_core.rows import LIST_INDEX

from sluice_infra.alarm_specs import function_placeholder
from sluice_infra.api import SUBMIT_PATH, JobApi
from sluice_infra.external_executors import ExternalExecutors
from sluice_infra.functions import TIMEOUTS_S, Function
from sluice_infra.queues import RETENTION, RedrivenQueue
from sluice_infra.releases import Releases
from sluice_infra.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from constructs import Construct

    from sluice_infra.auth_stack import AuthStack
    from sluice_infra.stages import StageConfig

_SWEEP_EVERY = cdk.Duration.minutes(1)
# Changes go through PartiQL batches; after a refused insert the ledger reads the row that stopped it.
_LEDGER_CHANGES = ["dynamodb:PartiQLUpdate"]
_LEDGER_RECORDS = ["dynamodb:PartiQLInsert", "dynamodb:GetItem"]


class IngestionStack(cdk.Stack):
    """Everything between a submission and its result."""

    def __init__(
        self, scope: Construct, name: str, config: StageConfig, *, auth: AuthStack, **kwargs: Any
    ) -> None:
        super().__init__(scope, name, description="Sluice: from submission to result", **kwargs)
        self._config = config
        self._requests = RedrivenQueue(self, "Requests", consumer_timeout_s=TIMEOUTS_S["processor"])
        self._work = RedrivenQueue(self, "Work", consumer_timeout_s=TIMEOUTS_S["batch-simulator"])
        self._storage = Storage(self, "Storage", config)
        self._ledger_settings = {
            "JOB_TABLE": self._storage.table.table_name,
            "RETENTION_SECONDS": str(config.result_days * 86_400),
        }
        self.functions: dict[str, Function] = {}
        self._mappings: dict[str, str] = {}
        self._authorizer = self._add_authorizer(auth)
        self._processor = self._add_processor()
        self._batch_simulator = self._add_batch_simulator()
        self._job_status = self._add_job_status()
        self._cancel_job = self._add_cancel_job()
        self._sweeper = self._add_sweeper()
        self._bus = events.EventBus(self, "JobEvents", event_bus_name=f"sluice-{config.name}")
        self._event_publisher = self._add_event_publisher()
        self._executors = self._add_executors() if config.external_executors else None
        self._api = JobApi(
            self,
            "Api",
            config,
            request_queue=self._requests.queue,
            authorizer=self._authorizer.live,
            job_status=self._job_status.live,
            cancel_job=self._cancel_job.live,
            readers=[one.live for one in self._readers()],
        )
        if config.traffic_shift:
            Releases(self, "Releases", config, config.traffic_shift, self.functions)
        self._add_outputs()

    def _add_function(
        self, name: str, *, memory_mib: int | None = None, environment: Mapping[str, str]
    ) -> Function:
        function = Function(self, name, self._config, memory_mib=memory_mib, environment=environment)
        self.functions[name] = function
        return function

    def placeholders(self) -> dict[str, str]:
        """Return what dashboards and alarms call the things of this stack, and their names in CloudWatch."""
        return {
            "ApiName": self._api.rest_api.rest_api_name,
            "SubmitMethod": "POST",
            "SubmitResource": SUBMIT_PATH,
            "RequestQueue": self._requests.queue.queue_name,
            "RequestDlq": self._requests.dead_letters.queue_name,
            "WorkQueue": self._work.queue.queue_name,
            "WorkDlq": self._work.dead_letters.queue_name,
            "JobTable": self._storage.table.table_name,
            "ListIndex": LIST_INDEX,
            **self._mappings,
            **(self._executors.placeholders() if self._executors else {}),
            **{function_placeholder(name): one.function.function_name for name, one in self.functions.items()},
        }

    def _add_authorizer(self, auth: AuthStack) -> Function:
        return self._add_function(
            "authorizer",
            environment={
                "USER_POOL_ID": auth.user_pool.user_pool_id,
                "USER_POOL_CLIENT_ID": auth.client.user_pool_client_id,
            },
        )

    def _add_processor(self) -> Function:
        processor = self._add_function(
            "processor",
            environment={
                **self._ledger_settings,
                "WORK_QUEUE_URL": self._work.queue.queue_url,
                "WORKLOADS": self._config.workloads,
            },
        )
        processor.allow(
            [*_LEDGER_RECORDS, *_LEDGER_CHANGES, "dynamodb:UpdateItem"], [self._storage.table.table_arn]
        )
        processor.allow(["sqs:SendMessage"], [self._work.queue.queue_arn])
        self._mappings["RequestMapping"] = processor.consume(
            self._requests.queue, max_concurrency=self._config.processor_concurrency
        )
        return processor

    def _add_batch_simulator(self) -> Function:
        simulator = self._add_function(
            "batch-simulator",
            memory_mib=self._config.work_memory_mib,
            environment={
                **self._ledger_settings,
                "RESULT_BUCKET": self._storage.bucket.bucket_name,
                "WORKLOADS": self._config.workloads,
            },
        )
        simulator.allow([*_LEDGER_CHANGES, "dynamodb:BatchGetItem"], [self._storage.table.table_arn])
        simulator.allow(["sqs:SendMessage"], [self._work.queue.queue_arn])
        self._storage.allow_objects(simulator.role, "results", "s3:PutObject", "s3:DeleteObject")
        self._storage.allow_listing(simulator.role, "results")
        self._mappings["WorkMapping"] = simulator.consume(
            self._work.queue, max_concurrency=self._config.work_concurrency
        )
        return simulator

    def _add_job_status(self) -> Function:
        status = self._add_function(
            "job-status",
            environment={
                **self._ledger_settings,
                "RESULT_BUCKET": self._storage.bucket.bucket_name,
                "REQUEST_RETENTION_SECONDS": str(RETENTION.to_seconds()),
            },
        )
        table = self._storage.table.table_arn
        status.allow(["dynamodb:GetItem", "dynamodb:BatchGetItem"], [table])
        status.allow(["dynamodb:Query"], [f"{table}/index/{LIST_INDEX}"])
        # Presigned URLs are signed by a role of their own, whose session's end is known (see results.py). Its
        # trust names the one role that takes it on: enough in one account (AWS STS API Reference, AssumeRole).
        download_role = iam.Role(self, "DownloadRole", assumed_by=iam.ArnPrincipal(status.role.role_arn))
        self._storage.allow_objects(download_role, "results", "s3:GetObject")
        status.function.add_environment("DOWNLOAD_ROLE_ARN", download_role.role_arn)
        return status

    def _add_cancel_job(self) -> Function:
        cancel = self._add_function(
            "cancel-job",
            environment={
                **self._ledger_settings,
                "REQUEST_RETENTION_SECONDS": str(RETENTION.to_seconds()),
            },
        )
        cancel.allow([*_LEDGER_RECORDS, *_LEDGER_CHANGES], [self._storage.table.table_arn])
        return cancel

    def _add_sweeper(self) -> Function:
        sweeper = self._add_function(
            "sweeper",
            environment={
                **self._ledger_settings,
                "RESULT_BUCKET": self._storage.bucket.bucket_name,
                "REQUEST_DLQ_URL": self._requests.dead_letters.queue_url,
                "WORK_DLQ_URL": self._work.dead_letters.queue_url,
                "WORKLOADS": self._config.workloads,
            },
        )
        sweeper.allow(
            [*_LEDGER_RECORDS, *_LEDGER_CHANGES, "dynamodb:BatchGetItem"], [self._storage.table.table_arn]
        )
        # Reading only: what is in a dead-letter queue is an operator's to delete or redrive.
        sweeper.allow(
            ["sqs:ReceiveMessage", "sqs:ChangeMessageVisibility"],
            [queue.dead_letters.queue_arn for queue in (self._requests, self._work)],
        )
        self._storage.allow_objects(sweeper.role, "results", "s3:DeleteObject")
        self._storage.allow_listing(sweeper.role, "results")
        # Once, for the scheduler and for Lambda itself: the next sweep is the next try.
        sweeper.live.configure_async_invoke(retry_attempts=0, max_event_age=_SWEEP_EVERY)
        target = targets.LambdaFunction(sweeper.live, retry_attempts=0, max_event_age=_SWEEP_EVERY)
        events.Rule(self, "Sweep", schedule=events.Schedule.rate(_SWEEP_EVERY), targets=[target])
        return sweeper

    def _add_event_publisher(self) -> Function:
        publisher = self._add_function(
            "event-publisher",
            environment={"EVENT_BUS": self._bus.event_bus_name},
        )
        publisher.allow(["events:PutEvents"], [self._bus.event_bus_arn])
        ended = [status for status in JobStatus if not status.is_open]
        self._mappings["StreamMapping"] = publisher.follow(
            self._storage.table, pattern={"dynamodb": {"NewImage": {"status": {"S": [str(one) for one in ended]}}}}
        )
        return publisher

    def _readers(self) -> list[Function]:
        """Return the functions that read what is submitted."""
        executors = self._executors.functions.values() if self._executors else []
        return [self._processor, self._batch_simulator, self._sweeper, *executors]

    def _add_executors(self) -> ExternalExecutors:
        executors = ExternalExecutors(
            self,
            self._config,
            storage=self._storage,
            ledger_settings=self._ledger_settings,
            processor=self._processor,
            cancel_job=self._cancel_job,
            sweeper=self._sweeper,
        )
        self.functions |= executors.functions
        return executors

    def _add_outputs(self) -> None:
        for name, value in {
            "ApiUrl": self._api.url,
            "ApiId": self._api.rest_api.rest_api_id,
            "JobTable": self._storage.table.table_name,
            "ResultBucket": self._storage.bucket.bucket_name,
            "RequestQueueUrl": self._requests.queue.queue_url,
            "RequestDlqUrl": self._requests.dead_letters.queue_url,
            "WorkQueueUrl": self._work.queue.queue_url,
            "WorkDlqUrl": self._work.dead_letters.queue_url,
            **{function_placeholder(name): one.function.function_name for name, one in self.functions.items()},
            "EventBus": self._bus.event_bus_name,
            **(self._executors.outputs() if self._executors else {}),
        }.items():
            cdk.CfnOutput(self, name, value=value)
