"""Jobs in ECS on Fargate: a cluster, and a task definition whose container runs one job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from constructs import Construct
from sluice_core.executors import CONTAINER

from sluice_infra.acknowledgements import acknowledge, as_found
from sluice_infra.containers import COMMAND, USER

if TYPE_CHECKING:
    from sluice_infra.container_network import ContainerNetwork
    from sluice_infra.containers import JobContainer
    from sluice_infra.functions import Function
    from sluice_infra.stages import StageConfig

# The longest that Fargate waits between SIGTERM and SIGKILL (Amazon ECS, "Task definition parameters").
_STOP_TIMEOUT_S = 120


class EcsExecutor(Construct):
    """The ``ecs`` executor.

    Attributes
    ----------
    settings : mapping of str to str
        What functions have to know to start, stop and look at its tasks.
    ends : mapping
        The pattern of the events that say that one is over.
    outputs : mapping of str to str
        What the stack tells tools of it.

    """

    def __init__(
        self, scope: Construct, name: str, config: StageConfig, *, network: ContainerNetwork, job: JobContainer
    ) -> None:
        super().__init__(scope, name)
        self._job = job
        self._family = f"sluice-{config.name}-job"
        cluster = self._add_cluster()
        self._cluster = cluster.attr_arn
        self._tasks = self._arn("task", f"{cluster.ref}/*")
        self._add_definition(config, job)
        self.settings = {
            "ECS_CLUSTER": self._cluster,
            # Without a revision: the newest, so that a start in the midst of a deployment finds one.
            "ECS_TASK_DEFINITION": self._family,
            "ECS_SUBNETS": ",".join(network.subnet_ids),
            "ECS_SECURITY_GROUP": network.security_group_id,
            "ECS_MAX_RUNNING": str(config.ecs.max_running),
            "ECS_TIMEOUT_SECONDS": str(config.ecs.timeout_s),
        }
        self.ends = {
            "source": ["aws.ecs"],
            "detail-type": ["ECS Task State Change"],
            "detail": {"clusterArn": [self._cluster], "lastStatus": ["STOPPED"]},
        }
        self.outputs = {"EcsCluster": self._cluster, "EcsLogGroup": job.log_group.log_group_name}

    def _add_cluster(self) -> ecs.CfnCluster:
        cluster = ecs.CfnCluster(self, "Cluster")
        acknowledge(
            cluster,
            {"AwsSolutions-ECS4": "jobs have metrics of their own; Container Insights is billed by the metric"},
        )
        return cluster

    def _add_definition(self, config: StageConfig, job: JobContainer) -> None:
        settings, kind = config.ecs, ecs.CfnTaskDefinition
        definition = kind(
            self,
            "Definition",
            family=self._family,
            requires_compatibilities=["FARGATE"],
            network_mode="awsvpc",
            cpu=f"{settings.vcpu * 1_024:g}",
            memory=str(settings.memory_mib),
            runtime_platform=kind.RuntimePlatformProperty(
                cpu_architecture="ARM64", operating_system_family="LINUX"
            ),
            task_role_arn=job.task_role.role_arn,
            execution_role_arn=job.execution_role.role_arn,
            container_definitions=[
                kind.ContainerDefinitionProperty(
                    name=CONTAINER,
                    image=settings.image,
                    essential=True,
                    command=[*COMMAND],
                    user=USER,
                    readonly_root_filesystem=True,
                    stop_timeout=_STOP_TIMEOUT_S,
                    environment=[
                        kind.KeyValuePairProperty(name=name, value=value)
                        for name, value in job.environment.items()
                    ],
                    log_configuration=job.log_configuration(),
                )
            ],
        )
        acknowledge(
            definition,
            {"AwsSolutions-ECS2": "names of resources and figures: there is no secret among the settings"},
        )

    def let_start(self, function: Function) -> None:
        """Let a function run tasks of this definition in this cluster, by these roles."""
        definition = self._arn("task-definition", self._family)
        in_cluster = {"ArnEquals": {"ecs:cluster": self._cluster}}
        function.role.add_to_policy(
            iam.PolicyStatement(
                actions=["ecs:RunTask"], resources=[definition, f"{definition}:*"], conditions=in_cluster
            )
        )
        acknowledge(
            function.role,
            {
                f"AwsSolutions-IAM5[Resource::{as_found(self, f'{definition}:*')}]": "revisions of the one "
                "definition get their numbers as they come"
            },
        )
        function.role.add_to_policy(
            iam.PolicyStatement(
                actions=["iam:PassRole"],
                resources=[self._job.task_role.role_arn, self._job.execution_role.role_arn],
                conditions={"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}},
            )
        )

    def let_stop(self, function: Function) -> None:
        """Let a function stop tasks."""
        self._on_tasks(function, "ecs:StopTask")

    def let_look(self, function: Function) -> None:
        """Let a function see how tasks stand."""
        self._on_tasks(function, "ecs:DescribeTasks")

    def _on_tasks(self, function: Function, action: str) -> None:
        function.allow([action], [self._tasks])
        acknowledge(
            function.role,
            {
                f"AwsSolutions-IAM5[Resource::{as_found(self, self._tasks)}]": "tasks of this one cluster; "
                "ECS itself makes their ids"
            },
        )

    def _arn(self, resource: str, name: str) -> str:
        return cdk.Stack.of(self).format_arn(service="ecs", resource=resource, resource_name=name)
