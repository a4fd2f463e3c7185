"""Dashboards as data: CloudWatch's own JSON from ``dashboards/``, its ``${Placeholders}`` filled at deployment.

An SRE can paste a file into the console, edit it there and paste it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch

from sluice_infra.bundling import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from constructs import Construct

_FILES = ROOT / "dashboards"


def add_dashboard(scope: Construct, name: str, placeholders: Mapping[str, str]) -> cloudwatch.CfnDashboard:
    """Add ``dashboards/<name>.json``; a placeholder without a value is an error of the deployment."""
    body = (_FILES / f"{name}.json").read_text()
    return cloudwatch.CfnDashboard(scope, name.capitalize(), dashboard_body=cdk.Fn.sub(body, dict(placeholders)))
