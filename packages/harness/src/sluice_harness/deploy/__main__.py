"""``uvx nox -s deploy`` and its like: one stage, in AWS or on a local stage that is up."""

from __future__ import annotations

import argparse
import shutil
from typing import TYPE_CHECKING

from rich.console import Console

from sluice_harness import cdk_cli
from sluice_harness.deploy import removal, smoke
from sluice_harness.deploy.describing import describe, read_outputs
from sluice_harness.deploy.draining import executing, refuse_to_lose_jobs
from sluice_harness.deploy.target import Target, in_aws, make_ready, on_engine, refuse_local
from sluice_harness.deploy.terminal import (
    Refused,
    confirm,
    demand_an_answer,
    failing_in_one_message,
    show_changes,
    shown,
)
from sluice_harness.description import ROOT, forget, load

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sluice_harness.description import StageDescription


def main() -> None:
    """Do what the command line says; exit with 0 only if it was done."""
    options = _parser().parse_args()
    console = Console(highlight=False)
    with failing_in_one_message():
        if not options.on and options.run is not _deploy:
            refuse_local(options.stage)
        target = on_engine(options.on) if options.on else in_aws()
        if options.run in (_deploy, _destroy):
            demand_an_answer(yes=options.yes)
        options.run(options, target, console)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nox -s", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, does in (
        ("deploy", _deploy, "Show what would change, ask, deploy, and run a job as a smoke test."),
        ("diff", _diff, "Show what a deployment would change, and change nothing."),
        ("describe", _describe, "Write build/stages/NAME.json for a stage that somebody else has deployed."),
        ("smoke", _smoke, "Run a job on a stage that is deployed, as its clients do, and download its result."),
        ("destroy", _destroy, "Ask, stop what runs, empty the stage's bucket, and delete all it consists of."),
    ):
        command = commands.add_parser(
            name, prog=f"nox -s {name} --", description=does, help=does, allow_abbrev=False
        )
        command.set_defaults(run=run)
        command.add_argument(
            "--stage", required=True, help="dev, staging, prod, or a personal stage's name, which may be a new one"
        )
        command.add_argument("--on", metavar="NAME", help="a local stage that is up, in place of AWS")
        if run in (_deploy, _destroy):
            command.add_argument("--yes", action="store_true", help="do not ask")
        if run is _deploy:
            command.add_argument(
                "--bootstrap", action="store_true", help="make the account ready for the CDK first"
            )
    return parser


def _deploy(options: argparse.Namespace, target: Target, console: Console) -> None:
    assembly = _synthesize(options, target, console)
    console.print(f"{options.stage}: to be deployed to {target}")
    make_ready(target, assembly, bootstrap=options.bootstrap)
    refuse_to_lose_jobs(options.stage, assembly, target)
    show_changes(cdk_cli.diff(assembly, target.environment), console)
    costs = "" if target.endpoint_url else " It costs money from then on"
    confirm(f"Deploy {options.stage}?{costs}", yes=options.yes)
    with console.status("deploying") as status:
        outputs = cdk_cli.deploy(assembly, target.environment, shown(status.update))
    stage = _described(options, target, outputs, console)
    _run_a_job(stage, target, console)


def _describe(options: argparse.Namespace, target: Target, console: Console) -> None:
    _described(options, target, read_outputs(options.stage, target), console)


def _smoke(options: argparse.Namespace, target: Target, console: Console) -> None:
    _run_a_job(_described(options, target, read_outputs(options.stage, target), console), target, console)


def _run_a_job(stage: StageDescription, target: Target, console: Console) -> None:
    with console.status("running a job"):
        job_id = smoke.check(stage, target.client("cognito-idp"))
    console.print(f"smoke test: job {job_id} is COMPLETED, and its result was downloaded", soft_wrap=True)


def _described(
    options: argparse.Namespace, target: Target, outputs: Mapping[str, str], console: Console
) -> StageDescription:
    stage = describe(options.stage, target, outputs, load(options.on) if options.on else None)
    path = stage.save(options.stage)
    console.print(f"deployed: {stage.apiUrl}, described in {path.relative_to(ROOT)}", soft_wrap=True)
    return stage


def _diff(options: argparse.Namespace, target: Target, console: Console) -> None:
    assembly = _synthesize(options, target, console)
    console.print(f"{options.stage}: compared with {target}")
    show_changes(cdk_cli.diff(assembly, target.environment), console)
    try:
        refuse_to_lose_jobs(options.stage, assembly, target)
    except Refused as refused:
        console.print(f"deploy refuses this as it is: {refused}", markup=False, soft_wrap=True)


def _destroy(options: argparse.Namespace, target: Target, console: Console) -> None:
    assembly = _synthesize(options, target, console)
    if kept := removal.protected(assembly):
        raise Refused(
            f"{options.stage} is protected: {', '.join(kept)} would stay and be billed. Set protected=False for "
            "it in stages.py and deploy that first"
        )
    stacks = removal.stacks(assembly, target.client("cloudformation"))
    if not stacks:
        raise Refused(f"there is no stage {options.stage} in {target}")
    console.print(f"{options.stage}: to be deleted from {target}, with all jobs and results: {', '.join(stacks)}")
    if counts := executing(options.stage, target):
        told = ", ".join(f"{count} on {executor}" for executor, count in counts.items())
        console.print(f"executions that are open and will be stopped: {told}", soft_wrap=True)
    confirm(f"Delete {options.stage} for good?", yes=options.yes)
    with console.status("stopping containers and emptying the bucket") as status:
        removal.destroy(assembly, target, tell=shown(status.update))
    forget(options.stage)
    shutil.rmtree(assembly)
    console.print(f"{options.stage} is gone; the CDK's own bucket and roles stay, for other stages")


def _synthesize(options: argparse.Namespace, target: Target, console: Console) -> Path:
    folder = ROOT / "build" / "cdk.out" / options.stage
    with console.status(f"synthesizing {options.stage}"):
        return cdk_cli.synthesize(options.stage, folder, on_engine=target.endpoint_url is not None)


if __name__ == "__main__":
    main()
