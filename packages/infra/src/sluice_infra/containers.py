"""What a job's container is, whichever service runs it: its image, its roles, its settings, its log.

It runs `sluice_core.run_job`, which claims the job that its environment names and ends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct
from sluice_core.executors import CONTAINER

from sluice_infra.acknowledgements import acknowledge
from sluice_infra.functions import log_group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sluice_infra.container_network import ContainerNetwork
    from sluice_infra.executor_settings import Containers
    from sluice_infra.stages import StageConfig
    from sluice_infra.storage import Storage

COMMAND = ("python", "-m", "sluice_core.run_job")
# Nobody's: neither root nor a user that the image knows, and enough to read what is in it.
USER = "65532:65532"
# After a job's own timeout, for the container to say so: what takes longer is stopped from outside.
GRACE_S = 120
_PULL = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
_LOG = ("logs:CreateLogStream", "logs:PutLogEvents")


class JobContainer(Construct):
    """The roles, the log group and the environment of one executor's containers.

    Attributes
    ----------
    task_role : Role
        What the job's work may do.
    execution_role : Role
        What Fargate does in its name before that, and beside it: pull the image, write the log.
    environment : mapping of str to str
        What is the same for each job.
    log_group : LogGroup
        Where its lines go.

    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        config: StageConfig,
        settings: Containers,
        *,
        storage: Storage,
        network: ContainerNetwork,
        environment: Mapping[str, str],
    ) -> None:
        super().__init__(scope, name)
        self._network = network
        self.log_group = log_group(self, "Logs", config)
        # In this account's name only (Amazon ECS, "Task IAM role", on the confused deputy).
        self.task_role = self._add_role(
            "TaskRole",
            {
                "StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID},
                "ArnLike": {
                    "aws:SourceArn": f"arn:{cdk.Aws.PARTITION}:ecs:{cdk.Aws.REGION}:{cdk.Aws.ACCOUNT_ID}:*"
                },
            },
        )
        # Without that: no page of AWS's says that the agent which takes on this one brings these keys along, and
        # if it does not, no container starts. ("Task execution IAM role" has a trust without conditions.)
        self.execution_role = self._add_role("ExecutionRole")
        self.environment = {
            **environment,
            "WORKLOADS": config.workloads,
            "WORK_TIMEOUT_SECONDS": str(settings.timeout_s),
            "AWS_DEFAULT_REGION": cdk.Aws.REGION,  # botocore reads no AWS_REGION
        }
        self._let_work(storage)
        self._let_begin(settings)

    def log_configuration(self) -> dict[str, object]:
        """Return where the container's lines go, as both services spell it."""
        return {
            "logDriver": "awslogs",
            "options": {
                "awslogs-group": self.log_group.log_group_name,
                "awslogs-region": cdk.Aws.REGION,
                "awslogs-stream-prefix": CONTAINER,
            },
        }

    def _add_role(self, name: str, conditions: Mapping[str, object] | None = None) -> iam.Role:
        agent = iam.ServicePrincipal("ecs-tasks.amazonaws.com", conditions=conditions)
        return iam.Role(self, name, assumed_by=agent)

    def _let_work(self, storage: Storage) -> None:
        table = storage.table.table_arn
        self._allow(self.task_role, "dynamodb", ["dynamodb:PartiQLUpdate"], [table])
        for prefix, actions in (("inputs", ["s3:GetObject"]), ("results", ["s3:PutObject", "s3:DeleteObject"])):
            storage.allow_objects(self.task_role, prefix, *actions)
            self._network.let_through("s3", actions, [storage.bucket.arn_for_objects(f"{prefix}/*")])

    def _let_begin(self, settings: Containers) -> None:
        account, region, repository = settings.repository
        image = f"arn:{cdk.Aws.PARTITION}:ecr:{region}:{account}:repository/{repository}"
        for service in ("ecr.api", "ecr.dkr"):
            self._network.let_through(service, _PULL, [image])
            self._network.let_through(service, ["ecr:GetAuthorizationToken"], ["*"])
        self.execution_role.add_to_policy(iam.PolicyStatement(actions=[*_PULL], resources=[image]))
        self.execution_role.add_to_policy(
            iam.PolicyStatement(actions=["ecr:GetAuthorizationToken"], resources=["*"])
        )
        acknowledge(
            self.execution_role,
            {"AwsSolutions-IAM5[Resource::*]": "ECR's GetAuthorizationToken takes no resource (Amazon ECR, IAM)"},
        )
        self._allow(self.execution_role, "logs", _LOG, [self.log_group.log_group_arn])

    def _allow(self, role: iam.Role, service: str, actions: Sequence[str], resources: Sequence[str]) -> None:
        """Allow something by the role and on the way."""
        role.add_to_policy(iam.PolicyStatement(actions=list(actions), resources=list(resources)))
        self._network.let_through(service, actions, resources)
