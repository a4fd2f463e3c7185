"""A deployed stage's description, from its stacks' outputs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from sluice_harness.deploy.target import TargetError
from sluice_harness.description import from_outputs, load
from sluice_harness.local_stage import engine_api_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sluice_harness.deploy.target import Target
    from sluice_harness.description import StageDescription

_STACKS = ("auth", "ingestion", "observability")


def read_outputs(stage: str, target: Target) -> dict[str, str]:
    """Return the outputs of a deployed stage's stacks by name.

    Raises
    ------
    TargetError
        There is no such stage, or its stacks may not be read.

    """
    cloudformation = target.client("cloudformation")
    return {
        output["OutputKey"]: output["OutputValue"]
        for part in _STACKS
        for output in _stack(cloudformation, f"sluice-{stage}-{part}", stage, target).get("Outputs", [])
    }


def _stack(cloudformation: Any, name: str, stage: str, target: Target) -> dict[str, Any]:
    try:
        found: dict[str, Any] = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":  # which says that there is none
            raise TargetError(f"{name} cannot be read in {target}: {error}") from None
        on = " --on local" if target.endpoint_url else ""
        raise TargetError(
            f"there is no {name} in {target}; to deploy it: uvx nox -s deploy -- --stage {stage}{on}"
        ) from None
    return found


def describe(
    name: str, target: Target, outputs: Mapping[str, str], host: StageDescription | None = None
) -> StageDescription:
    """Describe a stage; one that was there keeps its users, and those on an engine have the engine's clock.

    Parameters
    ----------
    name : str
        The stage's name.
    target : Target
        Where it is.
    outputs : mapping
        Its stacks' outputs by name.
    host : StageDescription, optional
        The local stage on whose engine it is.

    Raises
    ------
    TargetError
        An output is missing.

    """
    try:
        api_url = outputs["ApiUrl"].rstrip("/")
        if target.endpoint_url:
            api_url = engine_api_url(target.endpoint_url, outputs["ApiId"], name)
        place = {"region": target.region, "account": target.account, "endpointUrl": target.endpoint_url}
        stage = from_outputs(dict(outputs), [], stage=name, apiUrl=api_url, **place)
    except KeyError as error:
        raise TargetError(
            f"stage {name} has no output {error}, for it is of another version: deploy it again"
        ) from None
    if host:
        stage = replace(stage, speed=host.speed, startedAt=host.startedAt)
    try:
        before = load(name)
    except (FileNotFoundError, ValueError):
        return stage
    return replace(stage, users=before.users) if before.userPoolId == stage.userPoolId else stage
