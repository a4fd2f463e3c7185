"""Execution environments share one unpacked copy of a function's code.

MiniStack unpacks the deployment package anew for every worker it starts: for a bundle of 1,850 files that is most
of a cold start, 50 MB a worker, and as much to delete at the end.

Lambda unpacks a package once, and each environment sees it, read-only, as `/var/task` (Lambda Developer Guide,
"Understanding the Lambda execution environment lifecycle", "Init phase").

Closed by unpacking each package once, beside the workers' folders, and by a link in the place of each copy.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ministack.core import lambda_runtime

from sluice_harness.compat.patching import expect


def apply() -> None:
    """Put a reader of packages that shares what it unpacks where the engine has Python's own."""
    if expect(lambda_runtime, "zipfile") is not zipfile:
        raise RuntimeError("the engine unpacks packages in another way: read its source and adapt this module")
    lambda_runtime.zipfile = SimpleNamespace(
        ZipFile=_SharingZip, BadZipFile=zipfile.BadZipFile, LargeFileError=zipfile.LargeZipFile
    )


class _SharingZip(zipfile.ZipFile):
    def extractall(self, path: Any = None, members: Any = None, pwd: bytes | None = None) -> None:
        """Unpack a function's code by linking to the one copy; layers and the like are unpacked as ever."""
        place = Path(path or ".")
        if place.name != "code" or any(place.iterdir()):
            super().extractall(path, members, pwd)
            return
        shared = Path(tempfile.gettempdir()) / f"code-{self._digest()}"
        if not shared.exists():
            self._unpack(shared)
        place.rmdir()
        place.symlink_to(shared, target_is_directory=True)

    def _digest(self) -> str:
        content = [(entry.filename, entry.CRC, entry.file_size) for entry in self.infolist()]
        return hashlib.sha256(repr(content).encode()).hexdigest()[:32]

    def _unpack(self, shared: Path) -> None:
        # Beside it, and then in its place: no worker sees half of it.
        scratch = Path(tempfile.mkdtemp(prefix="unpacking-"))
        super().extractall(scratch)
        try:
            scratch.rename(shared)
        except OSError:
            if not shared.exists():  # else another worker was first
                raise
            shutil.rmtree(scratch)
