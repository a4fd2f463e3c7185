"""cdk-nag findings we accept: each on one resource, each with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from constructs import IConstruct


def acknowledge(construct: IConstruct, findings: Mapping[str, str]) -> None:
    """Accept findings (rule id, with its ``[finding]`` where it has one) for this construct alone."""
    validations = cdk.Validations.of(construct)
    for rule, reason in findings.items():
        validations.acknowledge(cdk.Acknowledgment(id=rule, reason=reason))


def as_found(construct: IConstruct, resource: str) -> str:
    """Return an ARN with references as findings have it: ``arn:<AWS::Partition>:...:<Cluster1A2B.Arn>/*``."""
    return _written(cdk.Stack.of(construct).resolve(resource))


def _written(part: Any) -> str:
    match part:
        case {"Fn::Join": [_, parts]}:
            return "".join(map(_written, parts))
        case {"Fn::GetAtt": [name, attribute]}:
            return f"<{name}.{attribute}>"
        case {"Ref": name}:
            return f"<{name}>"
        case _:
            return str(part)
