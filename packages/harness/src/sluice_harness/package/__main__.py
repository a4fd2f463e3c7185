"""``uvx nox -s package``: writes a folder that deploys Sluice without the CDK."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from sluice_harness import cdk_cli
from sluice_harness.cdk_cli import CdkError
from sluice_harness.description import ROOT
from sluice_harness.package.archive import SUMS, write_sums, zip_folder
from sluice_harness.package.merge import PackageError, locate_code, merge
from sluice_harness.package.parameters import BUCKET, PACKAGED_STAGE
from sluice_harness.package.parametrize import parametrize
from sluice_harness.package.sam import as_sam
from sluice_harness.yaml_text import dump

_FUNCTIONS = "functions"
_TARGETS = {"lambda": "AWS (Lambda on arm64)", "host": "a local stage on this machine, and not AWS"}


def main() -> None:
    """Synthesize the stage that is packaged, and write the package."""
    parser = argparse.ArgumentParser(prog="nox -s package --", description=__doc__)
    parser.add_argument(
        "--target",
        choices=tuple(_TARGETS),
        default="lambda",
        help="where the functions are to run: in AWS (arm64), or on a local stage on this machine",
    )
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="the folder to write (default: dist)")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    try:
        _refuse_others(out)
        with tempfile.TemporaryDirectory() as scratch:
            assembly = cdk_cli.synthesize(
                PACKAGED_STAGE, Path(scratch) / "cdk.out", on_engine=options.target == "host"
            )
            write(assembly, out, options.target)
    except CdkError as error:
        raise SystemExit(f"error: {cdk_cli.explain(str(error))}") from None
    except PackageError as error:
        raise SystemExit(f"error: {error}") from None
    for file in sorted(path for path in out.rglob("*") if path.is_file()):
        sys.stdout.write(f"{file.relative_to(out)}  {file.stat().st_size:,} bytes\n")
    sys.stdout.write(f"version {(out / 'VERSION').read_text().strip()}: for {_TARGETS[options.target]}\n")
    sys.stdout.write(f"next: {out}/deploy.sh --help, or read {out}/README.md\n")


def write(assembly: Path, out: Path, target: str = "lambda") -> None:
    """Write the package of an assembly into a folder, in place of an older package there.

    Parameters
    ----------
    assembly : Path
        What was synthesized of the stage that is packaged.
    out : Path
        The folder.
    target : str, optional
        Where the assembly's functions run, "lambda" or "host"; VERSION tells it.

    Raises
    ------
    PackageError
        The stage cannot be packaged, or the folder holds something else.

    """
    _refuse_others(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".package-") as scratch:
        draft = Path(scratch) / out.name
        keys = _zip_assets(assembly, draft / _FUNCTIONS)
        template = {
            "AWSTemplateFormatVersion": "2010-09-09",
            "Description": f"Sluice {version('sluice-harness')}: queue-based job ingestion",
            **parametrize(locate_code(merge(assembly), keys, {"Ref": BUCKET})),
        }
        (draft / "template.yaml").write_text(dump(template))
        (draft / "sam").mkdir()
        (draft / "sam" / "template.yaml").write_text(dump(as_sam(template, "..")))
        shutil.copyfile(Path(__file__).with_name("deploy.sh"), draft / "deploy.sh")
        (draft / "deploy.sh").chmod(0o755)
        shutil.copyfile(ROOT / "docs" / "package.md", draft / "README.md")
        (draft / "VERSION").write_text(f"{version('sluice-harness')} {target}\n")
        write_sums(draft)
        shutil.rmtree(out, ignore_errors=True)
        draft.rename(out)


def _zip_assets(assembly: Path, folder: Path) -> dict[str, str]:
    """Zip an assembly's assets, and return the zips' names in the package by the CDK's keys."""
    keys = {}
    for listing in sorted(assembly.glob("*.assets.json")):
        for asset in json.loads(listing.read_text())["files"].values():
            for destination in asset["destinations"].values():
                if asset["source"]["packaging"] == "zip" and destination["objectKey"] not in keys:
                    file = zip_folder(assembly / asset["source"]["path"], folder)
                    keys[destination["objectKey"]] = f"{_FUNCTIONS}/{file.name}"
    return keys


def _refuse_others(out: Path) -> None:
    if out.exists() and any(out.iterdir()) and not (out / SUMS).exists():
        raise PackageError(f"{out} is there and is no package: name another folder with --out")


if __name__ == "__main__":
    main()
