"""Builds the functions' code with uv: no Docker, hashed requirements, bytecode included.

One folder serves every function. It is kept under ``build/bundles/`` by a digest of what went into it, so an
unchanged bundle is not built twice.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

Target = Literal["lambda", "host"]

ROOT = Path(__file__).parents[4]
_REQUIREMENTS = ROOT / "requirements" / "lambda.txt"
_PACKAGES = [ROOT / "packages" / name for name in ("core", "handlers")]
_LAMBDA_PYTHON = "3.13"
# The services the functions call; botocore's models of the other 400 are 90 % of a bundle.
_SERVICES = {"batch", "dynamodb", "ecs", "events", "lambda", "s3", "sqs", "stepfunctions", "sts"}
_KEPT = 6


def bundle(target: Target) -> Path:
    """Return the folder with the functions' code for AWS Lambda (arm64) or for this machine.

    Raises
    ------
    RuntimeError
        uv failed; the message carries what it said.

    """
    python = _compiler(target)
    if python is None:
        warnings.warn(
            f"no Python {_LAMBDA_PYTHON} found: the bundle has no bytecode and cold starts will be slower; "
            f"`uv python install {_LAMBDA_PYTHON}` mends that",
            stacklevel=2,
        )
    folder = ROOT / "build" / "bundles" / f"{target}-{_digest(target, compiled=python is not None)}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as scratch:
            built = build(Path(scratch) / "bundle", target)
            try:
                built.rename(folder)
            except OSError:
                if not folder.exists():  # else another process has built the same meanwhile
                    raise
        _forget_older(folder.parent, target)
    folder.touch()
    return folder


def _forget_older(bundles: Path, target: Target) -> None:
    """Keep the last few bundles; the others are of sources long gone."""
    for old in sorted(bundles.glob(f"{target}-*"), key=lambda path: path.stat().st_mtime)[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def build(folder: Path, target: Target) -> Path:
    """Build a bundle into a new folder and return it; the same sources give the same files, byte for byte.

    Raises
    ------
    RuntimeError
        uv failed; the message carries what it said.

    """
    _install(folder, target)
    _prune(folder)
    python = _compiler(target)
    if python is not None:
        _compile(folder, python)
    return folder


def _digest(target: Target, *, compiled: bool) -> str:
    sources = [_REQUIREMENTS, Path(__file__)]
    for package in _PACKAGES:
        sources += [package / "pyproject.toml", *sorted(_sources(package / "src"))]
    # The host's wheels and bytecode go by the Python that runs this; Lambda's are always the same.
    made_by = sys.version if target == "host" else f"bytecode: {compiled}"
    digest = hashlib.sha256(f"{target} {made_by}".encode())
    for source in sources:
        digest.update(str(source.relative_to(ROOT)).encode())
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _sources(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


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
    # What the installer notes for itself: paths of this checkout, times, and checksums of files now gone.
    for notes in folder.glob("*.dist-info"):
        for name in ("RECORD", "direct_url.json", "uv_build.json", "uv_cache.json"):
            (notes / name).unlink(missing_ok=True)


def _compile(folder: Path, python: str) -> None:
    """Ship bytecode: a boto3 client takes twice as long to come up without it.

    Unchecked hashes instead of times, and file names without this folder, keep the files the same from build
    to build. (Python puts the real file name in when it imports the module.)
    """
    command = [python, "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash"]
    subprocess.run([*command, "-s", str(folder), str(folder)], check=True)


@functools.cache
def _compiler(target: Target) -> str | None:
    """Return the Python whose bytecode the functions can load, or None."""
    if target == "host":
        return sys.executable
    find = [_uv_path(), "python", "find", _LAMBDA_PYTHON, "--no-python-downloads"]
    found = subprocess.run(find, capture_output=True, text=True, check=False, cwd=ROOT)
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
