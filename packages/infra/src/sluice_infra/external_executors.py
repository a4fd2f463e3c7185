"""What a stage has besides ``lambda`` if a job type uses it: queues, slots, and functions that start and settle.

Jobs wait for an executor in a queue of its own, from which the starter takes no more than there are slots. What
has ended is told by a rule on the service's events, by way of a queue, to the completion function; what was never
told the reconciler finds by asking.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from sluice_core.executors import BATCH, ECS, STEP_FUNCTIONS
from sluice_core.rows import EXECUTION_INDEX

from sluice_infra.acknowledgements import acknowledge
from sluice_infra.batch_executor import BatchExecutor
from sluice_infra.container_network import ContainerNetwork
from sluice_infra.containers import JobContainer
from sluice_infra.ecs_executor import EcsExecutor
from sluice_infra.executor_settings import retention_s
from sluice_infra.functions import Function, timeouts_s
from sluice_infra.queues import MAX_RECEIVES, RedrivenQueue
from sluice_infra.workflow import Workflow, add_step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from constructs import Construct

    from sluice_infra.executor_settings import Containers
    from sluice_infra.stages import StageConfig
    from sluice_infra.storage import Storage

_EACH_MINUTE = cdk.Duration.minutes(1)
# Of events there are as many as jobs end, and each is a few calls.
_COMPLETION_CONCURRENCY = 10
# Changes go in PartiQL batches; rows are read one by one or in batches.
_LEDGER = ["dynamodb:PartiQLUpdate", "dynamodb:GetItem", "dynamodb:BatchGetItem"]


class ExternalExecutors:
    """All that the external executors of a stage share, and each of them: parts of the ingestion stack.

    Attributes
    ----------
    functions : dict of str to Function
        By name, those that only such a stage has.

    """

    def __init__(
        self,
        stack: Construct,
        config: StageConfig,
        *,
        storage: Storage,
        ledger_settings: Mapping[str, str],
        processor: Function,
        cancel_job: Function,
        sweeper: Function,
    ) -> None:
        self._stack = stack
        self._config = config
        self._storage = storage
        self._store_settings = {**ledger_settings, "RESULT_BUCKET": storage.bucket.bucket_name}
        self.functions: dict[str, Function] = {}
        timeouts = timeouts_s(config)
        self._queues = {
            executor: RedrivenQueue(
                stack,
                executor.title(),
                consumer_timeout_s=timeouts["starter"],
                retention=cdk.Duration.seconds(retention_s(config, executor)),
            )
            for executor in config.external_executors
        }
        self._completions = RedrivenQueue(stack, "Completions", consumer_timeout_s=timeouts["completion"])
        self._slots = self._add_slots()
        self._executors = self._add_executors()
        self._settings = {
            **self._store_settings,
            "SLOTS_TABLE": self._slots.table_name,
            **self._queue_urls(),
            **self._dlq_urls(),
            **{name: value for one in self._executors.values() for name, value in one.settings.items()},
            "MAX_RECEIVES": str(MAX_RECEIVES),
        }
        self._starter = self._add_starter()
        self._mapping = self._add_completion()
        self._add_reconciler()
        self._connect(processor, cancel_job, sweeper)
        self._rules = self._add_rules()

    def placeholders(self) -> dict[str, str]:
        """Return what dashboards and alarms call the things of this, and their names in CloudWatch."""
        return {
            **{f"{name}Queue": pair.queue.queue_name for name, pair in self._named_queues().items()},
            **{f"{name}Dlq": pair.dead_letters.queue_name for name, pair in self._named_queues().items()},
            "CompletionMapping": self._mapping,
            "SlotsTable": self._slots.table_name,
            "ExecutionIndex": EXECUTION_INDEX,
            **{f"{executor.title()}Rule": rule.ref for executor, rule in self._rules.items()},
            **self._own_outputs(),
        }

    def outputs(self) -> dict[str, str]:
        """Return what the stack tells tools of this."""
        return {
            **{f"{name}QueueUrl": pair.queue.queue_url for name, pair in self._named_queues().items()},
            **{f"{name}DlqUrl": pair.dead_letters.queue_url for name, pair in self._named_queues().items()},
            "SlotsTable": self._slots.table_name,
            **self._own_outputs(),
        }

    def _own_outputs(self) -> dict[str, str]:
        return {name: value for one in self._executors.values() for name, value in one.outputs.items()}

    def _named_queues(self) -> dict[str, RedrivenQueue]:
        return {name.title(): pair for name, pair in self._queues.items()} | {"Completion": self._completions}

    def _queue_urls(self) -> dict[str, str]:
        return {f"{executor.upper()}_QUEUE_URL": pair.queue.queue_url for executor, pair in self._queues.items()}

    def _dlq_urls(self) -> dict[str, str]:
        return {
            f"{executor.upper()}_DLQ_URL": pair.dead_letters.queue_url for executor, pair in self._queues.items()
        }

    def _queue_arns(self) -> list[str]:
        return [pair.queue.queue_arn for pair in self._queues.values()]

    def _dlq_arns(self) -> list[str]:
        return [pair.dead_letters.queue_arn for pair in self._queues.values()]

    def _add_slots(self) -> dynamodb.Table:
        slots = dynamodb.Table(
            self._stack,
            "Slots",
            partition_key=dynamodb.Attribute(name="executor", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            encryption=dynamodb.TableEncryption.AWS_MANAGED,
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        acknowledge(
            slots,
            {"AwsSolutions-DDB3": "one item an executor, which the reconciler makes good from the job table"},
        )
        return slots

    def _add_executors(self) -> dict[str, Workflow | BatchExecutor | EcsExecutor]:
        stack, config = self._stack, self._config
        executors: dict[str, Workflow | BatchExecutor | EcsExecutor] = {}
        if STEP_FUNCTIONS in config.external_executors:
            step = add_step(stack, config, self._storage, self._store_settings)
            self.functions["workflow-step"] = step
            executors[STEP_FUNCTIONS] = Workflow(stack, "Workflow", config, step=step)
        if {BATCH, ECS} & {*config.external_executors}:
            network = ContainerNetwork(stack, "Network", config)
            if BATCH in config.external_executors:
                job = self._container("BatchJob", config.batch, network)
                executors[BATCH] = BatchExecutor(stack, "BatchJobs", config, network=network, job=job)
            if ECS in config.external_executors:
                job = self._container("EcsJob", config.ecs, network)
                executors[ECS] = EcsExecutor(stack, "EcsTasks", config, network=network, job=job)
        return executors

    def _container(self, name: str, settings: Containers, network: ContainerNetwork) -> JobContainer:
        return JobContainer(
            self._stack,
            name,
            self._config,
            settings,
            storage=self._storage,
            network=network,
            environment=self._store_settings,
        )

    def _add_function(self, name: str, **environment: str) -> Function:
        function = Function(self._stack, name, self._config, environment={**self._settings, **environment})
        self.functions[name] = function
        return function

    def _add_starter(self) -> Function:
        starter = self._add_function("starter")
        # Polled by itself and not by Lambda: it receives only what there is a slot for.
        consuming = ["ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility"]
        starter.allow([f"sqs:{action}" for action in consuming], self._queue_arns())
        self._let_settle(starter)
        self._let_list(starter)
        self._storage.allow_objects(starter.role, "inputs", "s3:PutObject")
        for executor in self._executors.values():
            executor.let_start(starter)
            executor.let_stop(starter)
        self._each_minute(starter, "Start")
        return starter

    def _add_completion(self) -> str:
        """Add what settles the executions whose end is told, and return its mapping's id."""
        completion = self._add_function("completion", STARTER=self._starter.live.function_arn)
        self._let_settle_all(completion)
        return completion.consume(self._completions.queue, max_concurrency=_COMPLETION_CONCURRENCY)

    def _add_reconciler(self) -> None:
        """Add what settles the executions whose end nobody has told."""
        reconciler = self._add_function("reconciler", STARTER=self._starter.live.function_arn)
        self._let_settle_all(reconciler)
        self._let_list(reconciler)
        reconciler.allow(["dynamodb:GetItem"], [self._slots.table_arn])
        for executor in self._executors.values():
            executor.let_stop(reconciler)
        self._each_minute(reconciler, "Reconcile")

    def _let_settle(self, function: Function) -> None:
        """Let a function end jobs, clear up after them, give slots back, and queue jobs anew or set them aside."""
        function.allow(_LEDGER, [self._storage.table.table_arn])
        function.allow(["dynamodb:UpdateItem"], [self._slots.table_arn])
        function.allow(["sqs:SendMessage"], [*self._queue_arns(), *self._dlq_arns()])
        self._storage.allow_objects(function.role, "inputs", "s3:GetObject")
        for prefix in ("inputs", "results", *(["staged"] if STEP_FUNCTIONS in self._executors else [])):
            self._storage.allow_objects(function.role, prefix, "s3:DeleteObject")
        # What attempts that died have left; and whether an input that cannot be read is there.
        self._storage.allow_listing(function.role, "results", "inputs")

    def _let_settle_all(self, function: Function) -> None:
        """Let a function settle, besides, what it has to ask about, and tell of slots that it has freed."""
        self._let_settle(function)
        self._let_wake(function)
        for executor in self._executors.values():
            executor.let_look(function)

    def _let_list(self, function: Function) -> None:
        """Let a function see which executions are not known to be over."""
        function.allow(["dynamodb:Query"], [f"{self._storage.table.table_arn}/index/{EXECUTION_INDEX}"])

    def _let_wake(self, function: Function) -> None:
        function.allow(["lambda:InvokeFunction"], [self._starter.live.function_arn])

    def _connect(self, processor: Function, cancel_job: Function, sweeper: Function) -> None:
        """Let the functions of every stage do their part: submit, stop, and read dead letters."""
        processor.tell(
            {
                **({"EXECUTORS": self._config.executors} if self._config.executors else {}),
                **self._queue_urls(),
                "STARTER": self._starter.live.function_arn,
            }
        )
        processor.allow(["sqs:SendMessage"], self._queue_arns())
        self._let_wake(processor)
        for executor in self._executors.values():
            cancel_job.tell(executor.settings)
            executor.let_stop(cancel_job)
        sweeper.tell(self._dlq_urls())
        sweeper.allow(["sqs:ReceiveMessage", "sqs:ChangeMessageVisibility"], self._dlq_arns())

    def _add_rules(self) -> dict[str, events.CfnRule]:
        """Have EventBridge put the end of each execution, and nothing else, on the queue of completions."""
        queue = self._completions.queue
        rules = {
            executor: events.CfnRule(
                self._stack,
                f"{executor.title()}Ended",
                event_pattern=one.ends,
                targets=[events.CfnRule.TargetProperty(id="Completions", arn=queue.queue_arn)],
            )
            for executor, one in self._executors.items()
        }
        queue.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal("events.amazonaws.com")],
                actions=["sqs:SendMessage"],
                resources=[queue.queue_arn],
                conditions={"ArnEquals": {"aws:SourceArn": [rule.attr_arn for rule in rules.values()]}},
            )
        )
        return rules

    def _each_minute(self, function: Function, name: str) -> None:
        """Run a function each minute; one that fails is not tried again, for the next is soon."""
        function.live.configure_async_invoke(retry_attempts=0, max_event_age=_EACH_MINUTE)
        target = targets.LambdaFunction(function.live, retry_attempts=0, max_event_age=_EACH_MINUTE)
        events.Rule(self._stack, name, schedule=events.Schedule.rate(_EACH_MINUTE), targets=[target])
