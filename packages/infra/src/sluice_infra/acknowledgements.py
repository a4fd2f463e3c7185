"""cdk-nag findings we accept: each on one resource, each with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from constructs import IConstruct


def acknowledge(construct: IConstruct, findings: Mapping[str, str]) -> None:
    """Accept findings (rule id, with its ``[finding]`` where it has one) for this construct alone."""
    validations = cdk.Validations.of(construct)
    for rule, reason in findings.items():
        validations.acknowledge(cdk.Acknowledgment(id=rule, reason=reason))
