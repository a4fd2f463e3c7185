"""What a stage may put before its API: a domain name of its own, and a web ACL that somebody else looks after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_certificatemanager as acm
from aws_cdk import aws_route53 as route53
from aws_cdk import aws_wafv2 as wafv2
from constructs import Construct

if TYPE_CHECKING:
    from sluice_infra.stages import Domain, StageConfig


class FrontDoor(Construct):
    """A stage's domain name and web ACL, each if it has one.

    Attributes
    ----------
    url : str
        Where clients find the API: under the domain, else under API Gateway's own.

    """

    def __init__(self, scope: Construct, name: str, config: StageConfig, api: apigateway.RestApi) -> None:
        super().__init__(scope, name)
        self.url = api.url
        if config.domain:
            self._name(api, config.domain)
            self.url = f"https://{config.domain.name}/"
        if config.web_acl_arn:
            stage_arn = api.deployment_stage.stage_arn
            wafv2.CfnWebACLAssociation(self, "WebAcl", resource_arn=stage_arn, web_acl_arn=config.web_acl_arn)

    def _name(self, api: apigateway.RestApi, domain: Domain) -> None:
        named = apigateway.DomainName(
            self,
            "Domain",
            domain_name=domain.name,
            certificate=acm.Certificate.from_certificate_arn(self, "Certificate", domain.certificate_arn),
            endpoint_type=apigateway.EndpointType.REGIONAL,
            security_policy=apigateway.SecurityPolicy.TLS_1_2,
            mapping=api,
        )
        route53.CfnRecordSet(
            self,
            "Record",
            hosted_zone_id=domain.hosted_zone_id,
            name=domain.name,
            type="A",
            alias_target=route53.CfnRecordSet.AliasTargetProperty(
                dns_name=named.domain_name_alias_domain_name,
                hosted_zone_id=named.domain_name_alias_hosted_zone_id,
            ),
        )
