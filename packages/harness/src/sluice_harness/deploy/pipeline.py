"""``uvx nox -s pipeline``: what brings each commit to production, deployed once by hand.

With ``--connection`` it is a pipeline in AWS; with ``--github`` it is the roles that GitHub's workflows take on.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rich.console import Console

from sluice_harness import cdk_cli
from sluice_harness.deploy import removal
from sluice_harness.deploy.target import in_aws, make_ready
from sluice_harness.deploy.terminal import Refused, confirm, failing_in_one_message, show_changes, shown
from sluice_harness.description import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from sluice_harness.deploy.target import Target

# What to do once it is there.
_NEXT = {
    "pipeline": "it runs now, and after every push to {branch}",
    "github": "on GitHub, give each environment the variables AWS_ROLE_ARN and AWS_REGION={region}",
}


def main() -> None:
    """Do what the command line says; exit with 0 only if it was done."""
    options = parser().parse_args()
    console = Console(highlight=False)
    with failing_in_one_message():
        if options.do == "synth":
            console.print(str(_synthesize(options, console)), soft_wrap=True)
            return
        target = in_aws()
        do = {"diff": _diff, "deploy": _deploy, "destroy": _destroy}[options.do]
        do(options, target, _synthesize(options, console), console)


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    parser = argparse.ArgumentParser(
        prog="nox -s pipeline --",
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    for name, does in (
        ("synth", "write the templates into build/cdk.out, and no more"),
        ("diff", "show what a deployment would change, and change nothing"),
        ("deploy", "show what would change, ask, and deploy"),
        ("destroy", "ask, and delete the pipeline or the roles; the stages stay"),
    ):
        what.add_argument(f"--{name}", dest="do", action="store_const", const=name, help=does)
    parser.add_argument("--repository", required=True, metavar="OWNER/NAME", help="where the code is")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--connection", metavar="ARN", help="of CodeConnections: a pipeline in AWS")
    how.add_argument("--github", action="store_true", help="roles for GitHub's workflows instead")
    parser.add_argument("--branch", default="main", help="pushes to it start the pipeline (main)")
    parser.add_argument("--stages", default="staging,prod", help="with --github: those in this account (both)")
    parser.add_argument(
        "--provider-exists", action="store_true", help="with --github: the account trusts GitHub's tokens already"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--bootstrap", action="store_true", help="make the account ready for the CDK first")
    return parser


def _name(options: argparse.Namespace) -> str:
    """Return which of infra's apps it is; its one stack is ``sluice-`` and the same."""
    return "github" if options.github else "pipeline"


def _synthesize(options: argparse.Namespace, console: Console) -> Path:
    name, context = _name(options), {"repository": options.repository}
    if options.github:
        context |= {"stages": options.stages, "provider": "exists" if options.provider_exists else "new"}
    else:
        context |= {"branch": options.branch, "connection": options.connection}
    with console.status(f"synthesizing sluice-{name}"):
        return cdk_cli.synthesize_app(name, context, ROOT / "build" / "cdk.out" / name)


def _diff(options: argparse.Namespace, target: Target, assembly: Path, console: Console) -> None:
    console.print(f"sluice-{_name(options)}: compared with {target}")
    show_changes(cdk_cli.diff(assembly, target.environment), console)


def _deploy(options: argparse.Namespace, target: Target, assembly: Path, console: Console) -> None:
    name = _name(options)
    console.print(f"sluice-{name}: to be deployed to {target}")
    make_ready(target, assembly, bootstrap=options.bootstrap)
    show_changes(cdk_cli.diff(assembly, target.environment), console)
    confirm(f"Deploy sluice-{name}? It lets {options.repository} deploy here from then on", yes=options.yes)
    with console.status("deploying") as status:
        outputs = cdk_cli.deploy(assembly, target.environment, shown(status.update))
    for output, value in outputs.items():
        console.print(f"{output}: {value}", soft_wrap=True)
    console.print(f"deployed; {_NEXT[name].format(branch=options.branch, region=target.region)}", soft_wrap=True)


def _destroy(options: argparse.Namespace, target: Target, assembly: Path, console: Console) -> None:
    name = f"sluice-{_name(options)}"
    if not removal.stacks(assembly, target.client("cloudformation")):
        raise Refused(f"there is no {name} in {target}; AWS_REGION and AWS_PROFILE say where to look")
    console.print(f"{name}: to be deleted from {target}; the stages that it deployed stay")
    confirm(f"Delete {name} for good?", yes=options.yes)
    with console.status("deleting") as status:
        removal.destroy(assembly, target, tell=shown(status.update))
    console.print(f"{name} is gone")


if __name__ == "__main__":
    main()
