"""Run as a program: synthesizes two releases over the local stage, one after the other.

``python changed_stage.py FOLDER`` writes their assemblies. To ``FOLDER/changed``, what has a change of each kind:
code and environment have another workload, the table another index, and the queue of work keeps its messages
longer. To ``FOLDER/broken``, the same with a function that fails whatever it is asked, its traffic shifted by
CodeDeploy.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from sluice_infra.app import build
from sluice_infra.bundling import bundle
from sluice_infra.stages import stage_config

if TYPE_CHECKING:
    from constructs import Node
    from sluice_infra.stages import StageConfig

GREETING = b"greetings from the new version"
INDEX = "by-status"
RETENTION_S = 5 * 86_400
_MODULE = f"""
from sluice_core.workloads import WorkResult

class Greeting:
    parameters_schema = {{"type": "object"}}

    def run(self, job_id, parameters, stop):
        return WorkResult({GREETING!r}, "text/plain", "txt")
"""


_LOCAL = stage_config("local")
_CHANGED = replace(_LOCAL, workloads=f"{_LOCAL.workloads},greeting=greetings:Greeting")


def main(folder: Path) -> None:
    code = folder / "bundle"
    shutil.copytree(bundle("host"), code)
    (code / "greetings.py").write_text(_MODULE)
    sys.path.append(str(code))  # the gateway's model is made of what the workload says
    with patch("sluice_infra.functions.bundle", return_value=code):
        app, _ = _changed(folder / "changed", _CHANGED)
        app.synth()
        app, ingestion = _changed(
            folder / "broken", replace(_CHANGED, traffic_shift="Linear10PercentEvery10Minutes")
        )
        simulator: Any = ingestion.find_child("BatchSimulator")
        simulator.function.node.default_child.handler = "json.loads"
        app.synth()


def _changed(folder: Path, config: StageConfig) -> tuple[cdk.App, Node]:
    """The stage with another index and another setting of a queue."""
    app = cdk.App(outdir=str(folder))
    build(app, config)
    ingestion = app.node.find_child(f"sluice-{config.name}-ingestion").node
    storage: Any = ingestion.find_child("Storage")
    status = dynamodb.Attribute(name="status", type=dynamodb.AttributeType.STRING)
    storage.table.add_global_secondary_index(
        index_name=INDEX, partition_key=status, projection_type=dynamodb.ProjectionType.KEYS_ONLY
    )
    work: Any = ingestion.find_child("Work")
    work.queue.node.default_child.message_retention_period = RETENTION_S
    return app, ingestion


if __name__ == "__main__":
    main(Path(sys.argv[1]))
