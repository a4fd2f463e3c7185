"""Run as a program: synthesizes a release that gives a job type of the stage ``longwork`` to another executor.

``python moved_stage.py FOLDER JOB-TYPE EXECUTOR`` writes its assembly. The executor that had the job type is left
without any, and drains.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import aws_cdk as cdk
from sluice_core.executors import parse_executors
from sluice_infra.app import build
from sluice_infra.stages import stage_config


def main(folder: Path, job_type: str, executor: str) -> None:
    config = stage_config("longwork")
    before = parse_executors(config.executors)
    after = {**before, job_type: executor}
    app = cdk.App(outdir=str(folder))
    build(
        app,
        replace(
            config,
            executors=",".join(f"{kind}={one}" for kind, one in after.items()),
            draining=tuple({*before.values()} - {*after.values()}),
        ),
    )
    app.synth()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
