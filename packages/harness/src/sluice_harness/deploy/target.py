"""Where a stage is to be: an account and region of AWS, or the engine of a local stage that is up."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

from sluice_harness import cdk_cli
from sluice_harness.description import described, load
from sluice_harness.local_stage import engine_environment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sluice_harness.description import StageDescription

# The CDK's own mark of a bootstrapped account and region (CDK Developer Guide, "Bootstrapping").
_BOOTSTRAP_VERSION = "/cdk-bootstrap/hnb659fds/version"


class TargetError(Exception):
    """A stage cannot be there; the message says why and what to do next."""


@dataclass(frozen=True, slots=True)
class Target:
    """An account and region, with credentials.

    Attributes
    ----------
    environment : mapping
        What the CDK CLI gets: nothing else of this process's AWS settings reaches it.
    endpoint_url : str or None
        The engine's address, or None for AWS itself.

    """

    account: str
    region: str
    environment: Mapping[str, str]
    endpoint_url: str | None = None

    def __str__(self) -> str:
        return f"account {self.account}, region {self.region}" + (
            f", on the engine at {self.endpoint_url}" if self.endpoint_url else ""
        )

    def client(self, service: str) -> Any:
        """Return a boto3 client with this target's credentials."""
        return boto3.client(
            service,  # type: ignore[call-overload]
            endpoint_url=self.endpoint_url,
            region_name=self.region,
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=self.environment.get("AWS_SESSION_TOKEN"),
        )

    def has_bootstrap(self) -> bool:
        """Whether the account was made ready for the CDK in this region.

        Raises
        ------
        TargetError
            It does not say.

        """
        try:
            self.client("ssm").get_parameter(Name=_BOOTSTRAP_VERSION)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ParameterNotFound":
                return False
            raise TargetError(f"cannot see whether {self} is bootstrapped: {error}") from None
        return True


def on_engine(name: str) -> Target:
    """Return the engine of a local stage that is up.

    Raises
    ------
    TargetError
        There is no such stage, or it is one of AWS.

    """
    try:
        stage = load(name)
    except (FileNotFoundError, ValueError):
        up = ", ".join(other for other in described() if is_local(other))
        step = f"there is {up}" if up else "in another terminal: uvx nox -s local"
        raise TargetError(f"no local stage {name!r} is up; {step}") from None
    if not stage.endpointUrl:
        raise TargetError(f"the stage {name!r} is in AWS; --on takes a local stage that is up")
    return of_stage(stage)


def is_local(name: str) -> bool:
    """Whether a stage describes itself as one on this machine."""
    try:
        return load(name).endpointUrl is not None
    except (FileNotFoundError, ValueError):
        return False


def refuse_local(name: str) -> None:
    """See that a stage that is to be found in AWS is not one of a local stage's engine.

    Raises
    ------
    TargetError
        It is; the message says how to reach it.

    """
    if is_local(name):
        raise TargetError(f"the stage {name!r} is on this machine: add --on local")


def of_stage(stage: StageDescription) -> Target:
    """Return where a stage is that describes itself, with the caller's credentials.

    Raises
    ------
    TargetError
        There are no credentials, or those of another account.

    """
    if stage.endpointUrl:
        return Target(stage.account, stage.region, engine_environment(stage.endpointUrl), stage.endpointUrl)
    target = in_aws(stage.region)
    if target.account != stage.account:
        raise TargetError(
            f"stage {stage.stage} is in account {stage.account}, but these credentials are of {target.account}; "
            "name that account's profile in AWS_PROFILE"
        )
    return target


def in_aws(region: str | None = None) -> Target:
    """Return the account of the credentials that boto3 finds, and their region if none is given.

    Raises
    ------
    TargetError
        There are no credentials, no region, or they are wrong.

    """
    try:
        # boto3 knows AWS_DEFAULT_REGION only, the other SDKs and the CLI AWS_REGION too.
        session: Any = boto3.Session(region_name=region or os.environ.get("AWS_REGION"))
        region, credentials = session.region_name, session.get_credentials()
    except BotoCoreError as error:  # a profile that is not there
        raise TargetError(f"{error}; `aws configure list-profiles` lists those there are") from None
    if credentials is None:
        raise TargetError("no AWS credentials; sign in (`aws sso login`) and name the profile in AWS_PROFILE")
    if region is None:
        raise TargetError("no region; name one: AWS_REGION=eu-central-1 uvx nox -s deploy -- --stage NAME")
    if region not in session.get_available_regions("sqs"):
        raise TargetError(f"AWS has no region {region!r}; set AWS_REGION to one that it has, such as eu-central-1")
    try:
        account = session.client("sts").get_caller_identity()["Account"]
        frozen = credentials.get_frozen_credentials()
    except EndpointConnectionError as error:
        raise TargetError(
            f"AWS cannot be reached in {region}: {error}; check AWS_REGION and the network"
        ) from None
    except (BotoCoreError, ClientError) as error:
        raise TargetError(f"AWS refuses these credentials: {error}; sign in again: `aws sso login`") from None
    environment = {
        "AWS_ACCESS_KEY_ID": frozen.access_key,
        "AWS_SECRET_ACCESS_KEY": frozen.secret_key,
        **({"AWS_SESSION_TOKEN": frozen.token} if frozen.token else {}),
        "AWS_REGION": region,
    }
    return Target(account, region, environment)


def make_ready(target: Target, assembly: Path, *, bootstrap: bool) -> None:
    """See that the CDK can deploy there; the engine, which forgets, is made ready each time.

    Raises
    ------
    TargetError
        The account is not bootstrapped, and was not to be.

    """
    if target.endpoint_url or bootstrap:
        cdk_cli.bootstrap(assembly, target.environment, target.account, target.region)
    elif not target.has_bootstrap():
        raise TargetError(
            f"{target} is not bootstrapped for the CDK, which is done once and makes a bucket and roles: "
            "run the same command with --bootstrap"
        )
