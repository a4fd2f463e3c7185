"""The network that containers run in: no way in, and no way out but to what a job needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from infra.assemblies import listed, logical_id
from infra.test_security_page import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.assemblies import Assembly

pytestmark = pytest.mark.xdist_group("infra")

ANYWHERE = "0.0.0.0/0"
NOWHERE = "255.255.255.255/32"
# What may be done through each endpoint, and with what.
THROUGH = {
    "s3": {
        ("s3:GetObject", "StorageResults/inputs/*"),
        ("s3:PutObject", "StorageResults/results/*"),
        ("s3:DeleteObject", "StorageResults/results/*"),
        ("s3:GetObject", "prod-Region-starport-layer-bucket/*"),
    },
    "dynamodb": {("dynamodb:PartiQLUpdate", "StorageJobs")},
    **{
        service: {
            ("ecr:GetAuthorizationToken", "*"),
            ("ecr:BatchCheckLayerAvailability", "repository/sluice-job"),
            ("ecr:BatchGetImage", "repository/sluice-job"),
            ("ecr:GetDownloadUrlForLayer", "repository/sluice-job"),
        }
        for service in ("ecr.api", "ecr.dkr")
    },
    "logs": {
        (action, group)
        for action in ("logs:CreateLogStream", "logs:PutLogEvents")
        for group in ("BatchJobLogs", "EcsJobLogs")
    },
}


@pytest.fixture(scope="module")
def longwork(synthesized: Callable[[str], Assembly]) -> Assembly:
    return synthesized("longwork")


def endpoints(assembly: Assembly) -> dict[str, dict[str, Any]]:
    """The endpoints by service."""
    return {
        one["ServiceName"]["Fn::Join"][1][-1].strip("."): one
        for one in assembly.of_type("EC2::VPCEndpoint").values()
    }


def test_there_is_no_way_to_the_internet(longwork: Assembly) -> None:
    # given all that could lead out of a network, then there is none of it
    kinds = {resource["Type"] for resource in longwork.resources.values()}
    ways = {
        "InternetGateway",
        "EgressOnlyInternetGateway",
        "NatGateway",
        "EIP",
        "Route",
        "TransitGatewayAttachment",
    }
    assert {f"AWS::EC2::{way}" for way in ways} & kinds == set()

    # and nothing gets a public address
    assert {one["MapPublicIpOnLaunch"] for one in longwork.of_type("EC2::Subnet").values()} == {False}
    batch = longwork.only("Batch::JobDefinition")["ContainerProperties"]["NetworkConfiguration"]
    assert batch == {"AssignPublicIp": "DISABLED"}


def test_containers_start_in_two_zones(longwork: Assembly) -> None:
    # given the subnets, each in a zone of its own
    subnets = longwork.of_type("EC2::Subnet")
    zones = [str(one["AvailabilityZone"]) for one in subnets.values()]
    assert len(set(zones)) == len(zones) == 2

    # then both executors start in all of them, and what they need is in all of them
    starter = longwork.function("starter")[1]["Environment"]["Variables"]
    told = [one for one in starter["ECS_SUBNETS"]["Fn::Join"][1] if isinstance(one, dict)]
    assert {logical_id(one) for one in told} == set(subnets)
    batch = longwork.only("Batch::ComputeEnvironment")["ComputeResources"]
    assert {logical_id(one) for one in batch["Subnets"]} == set(subnets)
    for service in ("ecr.api", "ecr.dkr", "logs"):
        assert {logical_id(one) for one in endpoints(longwork)[service]["SubnetIds"]} == set(subnets), service
    tables = {
        logical_id(one["RouteTableId"]) for one in longwork.of_type("EC2::SubnetRouteTableAssociation").values()
    }
    for service in ("s3", "dynamodb"):
        assert {logical_id(one) for one in endpoints(longwork)[service]["RouteTableIds"]} == tables, service


def test_endpoints_are_of_what_a_job_needs(longwork: Assembly) -> None:
    kinds = {service: one["VpcEndpointType"] for service, one in endpoints(longwork).items()}
    assert kinds == {
        **dict.fromkeys(("s3", "dynamodb"), "Gateway"),
        **dict.fromkeys(("ecr.api", "ecr.dkr", "logs"), "Interface"),
    }


@pytest.mark.parametrize("service", THROUGH)
def test_through_an_endpoint_goes_what_a_job_needs_and_nothing_else(service: str, longwork: Assembly) -> None:
    # given the endpoint's policy, which holds for whoever asks
    statements = endpoints(longwork)[service]["PolicyDocument"]["Statement"]
    assert {one["Effect"] for one in statements} == {"Allow"}

    # then it allows by name what containers and their services do
    assert {
        (action, shown(resource))
        for one in statements
        for action in listed(one["Action"])
        for resource in listed(one["Resource"])
    } == THROUGH[service]


def test_only_containers_reach_the_endpoints_and_by_tls_only(longwork: Assembly) -> None:
    # given the two security groups: of containers, and of endpoints
    groups = longwork.of_type("EC2::SecurityGroup")
    containers = logical_id(longwork.function("starter")[1]["Environment"]["Variables"]["ECS_SECURITY_GROUP"])
    [behind] = {
        logical_id(group) for one in endpoints(longwork).values() for group in one.get("SecurityGroupIds", [])
    }
    assert {containers, behind} == set(groups)
    batch = longwork.only("Batch::ComputeEnvironment")["ComputeResources"]
    assert [logical_id(one) for one in batch["SecurityGroupIds"]] == [containers]

    # then nobody reaches containers, and they reach others by HTTPS
    tls = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443}
    assert "SecurityGroupIngress" not in groups[containers]
    assert [without_words(rule) for rule in groups[containers]["SecurityGroupEgress"]] == [
        {**tls, "CidrIp": ANYWHERE}
    ]

    # and containers reach the endpoints, which reach nobody
    [ingress] = groups[behind]["SecurityGroupIngress"]
    assert logical_id(ingress.pop("SourceSecurityGroupId")) == containers
    assert without_words(ingress) == tls
    assert [rule["CidrIp"] for rule in groups[behind]["SecurityGroupEgress"]] == [NOWHERE]


def without_words(rule: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in rule.items() if name != "Description"}


def test_what_is_refused_is_logged(longwork: Assembly) -> None:
    # given the network's flow log
    log = longwork.only("EC2::FlowLog")

    # then it is of the network, and its group expires as all do
    assert (log["TrafficType"], log["ResourceType"]) == ("REJECT", "VPC")
    assert logical_id(log["ResourceId"]) in longwork.of_type("EC2::VPC")
    assert logical_id(log["LogGroupName"]) in longwork.of_type("Logs::LogGroup")
