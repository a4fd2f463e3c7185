"""Builds the functions' code with uv: no Docker, hashed requirements, bytecode included.

One folder serves every function. It is kept under ``build/bundles/`` by a digest of what went into it, so an
unchanged bundle is not built twice.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Literal

Target = Literal["lambda", "host"]

ROOT = Path(__file__).parents[4]
_REQUIREMENTS = ROOT / "requirements" / "lambda.txt"
_PACKAGES = [ROOT / "packages" / name for name in ("core", "handlers")]
_LAMBDA_PYTHON = "3.13"
# The services the functions call; botocore's models of the other 400 are 90 % of a bundle.
_SERVICES = {"dynamodb", "s3", "sqs", "sts"}


def bundle(target: Target) -> Path:
    """Return the folder with the functions' code for AWS Lambda (arm64) or for this machine.

    Raises
    ------
    RuntimeError
        uv failed; the message carries what it said.
    """
    folder = ROOT / "build" / "bundles" / f"{target}-{_digest(target)}"
    if not folder.exists():
        scratch = folder.with_suffix(".tmp")
        shutil.rmtree(scratch, ignore_errors=True)
        _install(scratch, target)
        _prune(scratch)
        _compile(scratch, target)
        scratch.rename(folder)
    return folder


def _digest(target: Target) -> str:
    sources = [_REQUIREMENTS, Path(__file__)]
    for package in _PACKAGES:
        sources += [package / "pyproject.toml", *sorted((package / "src").rglob("*.py"))]
    digest = hashlib.sha256(f"{target} {sys.version}".encode())
    for source in sources:
        digest.update(str(source.relative_to(ROOT)).encode())
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _install(folder: Path, target: Target) -> None:
    platform = (
        ["--python-platform", "aarch64-manylinux2014", "--python-version", _LAMBDA_PYTHON]
        if target == "lambda"
        else ["--python", sys.executable]
    )
    install = ["pip", "install", "--quiet", "--target", str(folder), "--only-binary", ":all:", *platform]
    _uv(*install, "--require-hashes", "--no-deps", "--requirements", str(_REQUIREMENTS))
    # Ours are plain Python. A wheel, not an editable install, which would leave a path into this checkout.
    _uv("pip", "install", "--quiet", "--target", str(folder), "--no-deps", *platform, *map(str, _PACKAGES))


def _prune(folder: Path) -> None:
    for model in (folder / "botocore" / "data").iterdir():
        if model.is_dir() and model.name not in _SERVICES:
            shutil.rmtree(model)
    shutil.rmtree(folder / "bin", ignore_errors=True)


def _compile(folder: Path, target: Target) -> None:
    """Ship bytecode: a boto3 client takes twice as long to come up without it.

    Unchecked hashes instead of times keep the files the same from build to build.
    """
    python = sys.executable if target == "host" else _find_lambda_python()
    if python is None:
        warnings.warn(
            f"no Python {_LAMBDA_PYTHON} found: the bundle has no bytecode and cold starts will be slower; "
            f"`uv python install {_LAMBDA_PYTHON}` mends that",
            stacklevel=2,
        )
        return
    command = [python, "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash"]
    subprocess.run([*command, str(folder)], check=True)


def _find_lambda_python() -> str | None:
    found = subprocess.run(
        [_uv_path(), "python", "find", _LAMBDA_PYTHON, "--no-python-downloads"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    return found.stdout.strip() or None


def _uv(*arguments: str) -> None:
    done = subprocess.run([_uv_path(), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"uv {' '.join(arguments[:2])} failed:\n{done.stderr}")


def _uv_path() -> str:
    path = shutil.which("uv")
    if path is None:
        raise RuntimeError("uv is not on the PATH: `pip install uv`")
    return path
