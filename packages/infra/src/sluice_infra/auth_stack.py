"""The auth stack: who may call. A user pool, its client, the scope of access tokens and the admins' group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
from aws_cdk import aws_cognito as cognito
from sluice_core.callers import ADMIN_GROUP

from sluice_infra.acknowledgements import acknowledge

if TYPE_CHECKING:
    from constructs import Construct

    from sluice_infra.stages import StageConfig


class AuthStack(cdk.Stack):
    """User pool and client; the ingestion stack refers to both."""

    def __init__(self, scope: Construct, name: str, config: StageConfig, **kwargs: Any) -> None:
        super().__init__(scope, name, description="Sluice: who may submit and read jobs", **kwargs)
        self.user_pool = cognito.UserPool(
            self,
            "UserPool",
            self_sign_up_enabled=False,
            sign_in_aliases=cognito.SignInAliases(username=True, email=True),
            password_policy=cognito.PasswordPolicy(
                min_length=12,
                require_digits=True,
                require_lowercase=True,
                require_uppercase=True,
                require_symbols=True,
            ),
            account_recovery=cognito.AccountRecovery.EMAIL_ONLY,
            removal_policy=cdk.RemovalPolicy.RETAIN if config.protected else cdk.RemovalPolicy.DESTROY,
            deletion_protection=config.protected,
        )
        acknowledge(
            self.user_pool,
            {
                "AwsSolutions-COG2": "clients are programs that sign in without a second factor",
                "AwsSolutions-COG8": "threat protection needs the Plus plan, priced per user: a team's choice",
            },
        )
        jobs_scope = cognito.ResourceServerScope(scope_name="jobs", scope_description="Submit and read jobs")
        resource_server = self.user_pool.add_resource_server(
            "ResourceServer", identifier="sluice", scopes=[jobs_scope]
        )
        self.client = self.user_pool.add_client(
            "Client",
            auth_flows=cognito.AuthFlow(user_password=True, user_srp=True),
            prevent_user_existence_errors=True,
            o_auth=cognito.OAuthSettings(
                flows=cognito.OAuthFlows(authorization_code_grant=True),
                scopes=[
                    cognito.OAuthScope.OPENID,
                    cognito.OAuthScope.resource_server(resource_server, jobs_scope),
                ],
                callback_urls=["http://localhost/callback"],
            ),
        )
        cognito.CfnUserPoolGroup(
            self,
            "Admins",
            user_pool_id=self.user_pool.user_pool_id,
            group_name=ADMIN_GROUP,
            description="May read and cancel every owner's jobs",
        )
        cdk.CfnOutput(self, "UserPoolId", value=self.user_pool.user_pool_id)
        cdk.CfnOutput(self, "UserPoolClientId", value=self.client.user_pool_client_id)
