"""Jobs in AWS Batch on Fargate: a compute environment, a queue, and a definition whose container runs one job."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_batch as batch
from constructs import Construct

from sluice_infra.acknowledgements import acknowledge, as_found
from sluice_infra.containers import COMMAND, GRACE_S, USER

if TYPE_CHECKING:
    from sluice_infra.container_network import ContainerNetwork
    from sluice_infra.containers import JobContainer
    from sluice_infra.functions import Function
    from sluice_infra.stages import StageConfig


class BatchExecutor(Construct):
    """The ``batch`` executor.

    Attributes
    ----------
    settings : mapping of str to str
        What functions have to know to start, stop and look at its jobs.
    ends : mapping
        The pattern of the events that say that one is over.
    outputs : mapping of str to str
        What the stack tells tools of it.

    """

    def __init__(
        self, scope: Construct, name: str, config: StageConfig, *, network: ContainerNetwork, job: JobContainer
    ) -> None:
        super().__init__(scope, name)
        self._definition_name = f"sluice-{config.name}-job"
        queue = self._add_queue(config, network)
        self._add_definition(config, job)
        self._queue = queue.attr_job_queue_arn
        self.settings = {
            "BATCH_JOB_QUEUE": self._queue,
            # Without a revision: the newest, so that a start in the midst of a deployment finds one.
            "BATCH_JOB_DEFINITION": self._definition_name,
            "BATCH_MAX_RUNNING": str(config.batch.max_running),
            "BATCH_TIMEOUT_SECONDS": str(config.batch.timeout_s),
        }
        self.ends = {
            "source": ["aws.batch"],
            "detail-type": ["Batch Job State Change"],
            "detail": {"jobQueue": [self._queue], "status": ["SUCCEEDED", "FAILED"]},
        }
        self.outputs = {"BatchJobQueue": self._queue, "BatchLogGroup": job.log_group.log_group_name}

    def _add_queue(self, config: StageConfig, network: ContainerNetwork) -> batch.CfnJobQueue:
        environment = batch.CfnComputeEnvironment(
            self,
            "Environment",
            type="MANAGED",
            replace_compute_environment=False,
            compute_resources=batch.CfnComputeEnvironment.ComputeResourcesProperty(
                type="FARGATE",
                # Of all jobs that have a slot; an environment counts in whole CPUs.
                maxv_cpus=math.ceil(config.batch.max_running * config.batch.vcpu),
                subnets=network.subnet_ids,
                security_group_ids=[network.security_group_id],
            ),
        )
        # No jobStateTimeLimitActions: all that waits here is of one size, so if the job at the head has no place,
        # no other has, and to cancel it would only use up its starts. A lack of capacity they see on EC2 alone
        # (AWS Batch, "Jobs stuck in RUNNABLE due to capacity").
        return batch.CfnJobQueue(
            self,
            "Queue",
            priority=1,
            compute_environment_order=[
                batch.CfnJobQueue.ComputeEnvironmentOrderProperty(
                    order=1, compute_environment=environment.attr_compute_environment_arn
                )
            ],
        )

    def _add_definition(self, config: StageConfig, job: JobContainer) -> None:
        settings, kind = config.batch, batch.CfnJobDefinition
        kind(
            self,
            "Definition",
            type="container",
            job_definition_name=self._definition_name,
            platform_capabilities=["FARGATE"],
            # Tries are the ledger's: a job that Batch tried again would be nobody's start.
            retry_strategy=kind.RetryStrategyProperty(attempts=1),
            timeout=kind.TimeoutProperty(attempt_duration_seconds=settings.timeout_s + GRACE_S),
            container_properties=kind.ContainerPropertiesProperty(
                image=settings.image,
                command=[*COMMAND],
                user=USER,
                readonly_root_filesystem=True,
                job_role_arn=job.task_role.role_arn,
                execution_role_arn=job.execution_role.role_arn,
                resource_requirements=[
                    kind.ResourceRequirementProperty(type="VCPU", value=f"{settings.vcpu:g}"),
                    kind.ResourceRequirementProperty(type="MEMORY", value=str(settings.memory_mib)),
                ],
                environment=[
                    kind.EnvironmentProperty(name=name, value=value) for name, value in job.environment.items()
                ],
                log_configuration=job.log_configuration(),
                fargate_platform_configuration=kind.FargatePlatformConfigurationProperty(
                    platform_version="LATEST"
                ),
                network_configuration=kind.NetworkConfigurationProperty(assign_public_ip="DISABLED"),
                runtime_platform=kind.RuntimePlatformProperty(
                    cpu_architecture="ARM64", operating_system_family="LINUX"
                ),
            ),
        )

    def let_start(self, function: Function) -> None:
        """Let a function submit jobs of this definition to this queue, and find those that it has submitted."""
        definition = self._arn("job-definition", self._definition_name)
        function.allow(["batch:SubmitJob"], [self._queue, definition, f"{definition}:*"])
        acknowledge(
            function.role,
            {
                f"AwsSolutions-IAM5[Resource::{as_found(self, f'{definition}:*')}]": "revisions of the one "
                "definition get their numbers as they come"
            },
        )
        self._on_any(function, "batch:ListJobs")

    def let_stop(self, function: Function) -> None:
        """Let a function end jobs."""
        jobs = self._arn("job", "*")
        function.allow(["batch:TerminateJob"], [jobs])
        acknowledge(
            function.role,
            {f"AwsSolutions-IAM5[Resource::{as_found(self, jobs)}]": "Batch itself makes the ids of jobs"},
        )

    def let_look(self, function: Function) -> None:
        """Let a function see how jobs stand."""
        self._on_any(function, "batch:DescribeJobs")

    def _on_any(self, function: Function, action: str) -> None:
        function.allow([action], ["*"])
        acknowledge(
            function.role,
            {"AwsSolutions-IAM5[Resource::*]": "to list and describe jobs of Batch takes no resource, like X-Ray"},
        )

    def _arn(self, resource: str, name: str) -> str:
        return cdk.Stack.of(self).format_arn(service="batch", resource=resource, resource_name=name)
