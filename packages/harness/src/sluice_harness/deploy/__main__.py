"""``uvx nox -s deploy``, ``diff`` and ``destroy``: one stage, in AWS or on a local stage that is up."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console

from sluice_harness import cdk_cli
from sluice_harness.cdk_cli import CdkError
from sluice_harness.deploy import removal, smoke
from sluice_harness.deploy.smoke import SmokeError
from sluice_harness.deploy.target import Target, TargetError, in_aws, make_ready, on_engine
from sluice_harness.description import ROOT, StageDescription, forget, from_outputs, load
from sluice_harness.local_stage import engine_api_url

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Refused(Exception):  # noqa: N818 - named for what it is
    """Whoever was asked said no, or nobody could be asked; nothing was changed."""


def main() -> None:
    """Do what the command line says; exit with 0 only if it was done."""
    options = _parser().parse_args()
    console = Console(highlight=False)
    try:
        target = on_engine(options.on) if options.on else in_aws()
        options.run(options, target, console)
    except KeyboardInterrupt:
        raise SystemExit("interrupted: CloudFormation finishes what it has begun; run it again") from None
    except CdkError as error:
        raise SystemExit(f"error: {cdk_cli.explain(str(error))}") from None
    except (TargetError, SmokeError, Refused, ValueError) as error:
        raise SystemExit(f"error: {error}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nox -s", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, does in (
        ("deploy", _deploy, "Show what would change, ask, deploy, and run a job as a smoke test."),
        ("diff", _diff, "Show what a deployment would change, and change nothing."),
        ("destroy", _destroy, "Ask, empty the stage's bucket, and delete all it consists of."),
    ):
        command = commands.add_parser(name, prog=f"nox -s {name} --", description=does, help=does)
        command.set_defaults(run=run)
        command.add_argument(
            "--stage", required=True, help="dev, staging, prod, or a personal stage's name, which may be a new one"
        )
        command.add_argument("--on", metavar="NAME", help="a local stage that is up, in place of AWS")
        command.add_argument("--yes", action="store_true", help="do not ask")
        command.add_argument("--bootstrap", action="store_true", help="make the account ready for the CDK first")
    return parser


def _deploy(options: argparse.Namespace, target: Target, console: Console) -> None:
    assembly = _synthesize(options, target, console)
    console.print(f"{options.stage}: to be deployed to {target}")
    make_ready(target, assembly, bootstrap=options.bootstrap)
    console.print(cdk_cli.diff(assembly, target.environment), markup=False)
    _confirm(options, f"Deploy {options.stage}? It costs money from then on")
    with console.status("deploying") as status:
        outputs = cdk_cli.deploy(assembly, target.environment, _shown(status.update))
    stage = _describe(options, target, outputs)
    path = stage.save(options.stage)
    console.print(f"deployed: {stage.apiUrl}, described in {path.relative_to(ROOT)}", soft_wrap=True)
    with console.status("running a job"):
        job_id = smoke.check(stage, target.client("cognito-idp"))
    console.print(f"smoke test: job {job_id} is COMPLETED, and its result was downloaded", soft_wrap=True)


def _diff(options: argparse.Namespace, target: Target, console: Console) -> None:
    assembly = _synthesize(options, target, console)
    console.print(f"{options.stage}: compared with {target}")
    console.print(cdk_cli.diff(assembly, target.environment), markup=False)


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
    _confirm(options, f"Delete {options.stage} for good?")
    with console.status("emptying the bucket") as status:
        removal.destroy(assembly, target, tell=_shown(status.update))
    forget(options.stage)
    console.print(f"{options.stage} is gone; the CDK's own bucket and roles stay, for other stages")


def _synthesize(options: argparse.Namespace, target: Target, console: Console) -> Path:
    folder = ROOT / "build" / "cdk.out" / options.stage
    with console.status(f"synthesizing {options.stage}"):
        return cdk_cli.synthesize(options.stage, folder, on_engine=target.endpoint_url is not None)


def _describe(options: argparse.Namespace, target: Target, outputs: dict[str, str]) -> StageDescription:
    """Describe a stage; one that was there keeps its users, and those on an engine have the engine's clock."""
    name, api_url = options.stage, outputs["ApiUrl"].rstrip("/")
    if target.endpoint_url:
        api_url = engine_api_url(target.endpoint_url, outputs["ApiId"], name)
    place = {"region": target.region, "account": target.account, "endpointUrl": target.endpoint_url}
    stage = from_outputs(outputs, [], stage=name, apiUrl=api_url, **place)
    if options.on:
        host = load(options.on)
        stage = replace(stage, speed=host.speed, startedAt=host.startedAt)
    try:
        before = load(name)
    except (FileNotFoundError, ValueError):
        return stage
    return replace(stage, users=before.users) if before.userPoolId == stage.userPoolId else stage


def _confirm(options: argparse.Namespace, question: str) -> None:
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise Refused("nobody can be asked here: run it in a terminal, or with --yes")
    if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise Refused("nothing was changed")


def _shown(update: Callable[[str], None]) -> Callable[[str], None]:
    """Show the last line that the CDK CLI wrote."""
    return lambda line: update(line[:110].replace("[", r"\[")) if line else None


if __name__ == "__main__":
    main()
