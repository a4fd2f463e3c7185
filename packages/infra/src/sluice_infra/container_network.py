"""Where containers run: a network with no way in, and no way out but to the AWS services that they call.

No NAT and no internet gateway. Table and bucket are reached through gateway endpoints, which cost nothing; ECR and
CloudWatch Logs through interface endpoints, which cost by the hour in each zone. Each has a policy that says what
may be done through it, whoever asks: a container that was taken over can carry nothing to another account.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from constructs import Construct

from sluice_infra.functions import log_group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sluice_infra.stages import StageConfig

# TCP to port 443, as rules of security groups spell it.
_HTTPS: dict[str, Any] = {"ip_protocol": "tcp", "from_port": 443, "to_port": 443}


class ContainerNetwork(Construct):
    """Isolated subnets in two zones, their endpoints, and the security group of the containers.

    Attributes
    ----------
    subnet_ids : list of str
        Where containers start.
    security_group_id : str
        What they may reach.

    """

    def __init__(self, scope: Construct, name: str, config: StageConfig) -> None:
        super().__init__(scope, name)
        self._vpc = ec2.Vpc(
            self,
            "Vpc",
            ip_addresses=ec2.IpAddresses.cidr("10.0.0.0/16"),
            max_azs=2,
            nat_gateways=0,
            # 4,091 addresses each: more than containers may run at once.
            subnet_configuration=[
                ec2.SubnetConfiguration(name="Isolated", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED, cidr_mask=20)
            ],
            # Nothing is in that group, and to empty it the CDK would add a function of its own.
            restrict_default_security_group=False,
        )
        self._log_what_is_refused(config)
        self.subnet_ids = [subnet.subnet_id for subnet in self._vpc.isolated_subnets]
        # To any address: a gateway endpoint's are its service's, many and changing. No route leads elsewhere.
        containers = self._security_group(
            "Containers",
            "Containers of jobs: to AWS services through the endpoints",
            security_group_egress=[
                ec2.CfnSecurityGroup.EgressProperty(
                    **_HTTPS, cidr_ip="0.0.0.0/0", description="AWS services, through the endpoints"
                )
            ],
        )
        self.security_group_id = containers.attr_group_id
        self._endpoints = self._security_group(
            "Endpoints",
            "Endpoints of AWS services: from containers of jobs",
            security_group_ingress=[
                ec2.CfnSecurityGroup.IngressProperty(
                    **_HTTPS, source_security_group_id=self.security_group_id, description="Containers of jobs"
                )
            ],
            # None at all; without a rule there would be one that lets everything out.
            security_group_egress=[
                ec2.CfnSecurityGroup.EgressProperty(
                    ip_protocol="icmp",
                    cidr_ip="255.255.255.255/32",
                    from_port=252,
                    to_port=86,
                    description="Nothing",
                )
            ],
        )
        self._policies = {
            **{service: self._add_gateway(service) for service in ("s3", "dynamodb")},
            **{service: self._add_interface(service) for service in ("ecr.api", "ecr.dkr", "logs")},
        }
        # Images' layers are in S3, in a bucket of ECR's own (Amazon ECR, "Minimum Amazon S3 bucket permissions").
        layers = f"arn:{cdk.Aws.PARTITION}:s3:::prod-{cdk.Aws.REGION}-starport-layer-bucket/*"
        self.let_through("s3", ["s3:GetObject"], [layers])

    def let_through(self, service: str, actions: Sequence[str], resources: Sequence[str]) -> None:
        """Let containers do something with a service; their roles have to allow it besides."""
        self._policies[service].add_statements(
            iam.PolicyStatement(principals=[iam.StarPrincipal()], actions=list(actions), resources=list(resources))
        )

    def _security_group(self, name: str, description: str, **rules: Any) -> ec2.CfnSecurityGroup:
        return ec2.CfnSecurityGroup(self, name, vpc_id=self._vpc.vpc_id, group_description=description, **rules)

    def _add_gateway(self, service: str) -> iam.PolicyDocument:
        tables = [subnet.route_table.route_table_id for subnet in self._vpc.isolated_subnets]
        return self._add_endpoint(service, vpc_endpoint_type="Gateway", route_table_ids=tables)

    def _add_interface(self, service: str) -> iam.PolicyDocument:
        return self._add_endpoint(
            service,
            vpc_endpoint_type="Interface",
            subnet_ids=self.subnet_ids,
            security_group_ids=[self._endpoints.attr_group_id],
            private_dns_enabled=True,
        )

    def _add_endpoint(self, service: str, **options: Any) -> iam.PolicyDocument:
        policy = iam.PolicyDocument()
        ec2.CfnVPCEndpoint(
            self,
            f"{service.title().replace('.', '')}Endpoint",
            vpc_id=self._vpc.vpc_id,
            service_name=f"com.amazonaws.{cdk.Aws.REGION}.{service}",
            policy_document=policy,
            **options,
        )
        return policy

    def _log_what_is_refused(self, config: StageConfig) -> None:
        """Log connections that were refused: what a workload lacks here, or what tries to get out."""
        group = log_group(self, "Refused", config)
        account = {"StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID}}
        role = iam.Role(
            self,
            "FlowLogRole",
            assumed_by=iam.ServicePrincipal("vpc-flow-logs.amazonaws.com", conditions=account),
        )
        actions = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
        role.add_to_policy(iam.PolicyStatement(actions=actions, resources=[group.log_group_arn]))
        flow_log = ec2.CfnFlowLog(
            self,
            "FlowLog",
            resource_id=self._vpc.vpc_id,
            resource_type="VPC",
            traffic_type="REJECT",
            log_destination_type="cloud-watch-logs",
            log_group_name=group.log_group_name,
            deliver_logs_permission_arn=role.role_arn,
        )
        flow_log.node.add_dependency(role)  # and what it allows
