"""Files of a package that come out the same, byte for byte, from the same sources."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

# The earliest time that a zip can hold, for all files: when they were written says nothing.
_NO_TIME = (1980, 1, 1, 0, 0, 0)
# Everybody may read: Lambda runs the code as a user of its own (AWS Lambda, "Working with .zip file archives").
_MODE = 0o644
_UNIX = 3
SUMS = "SHA256SUMS"


def zip_folder(source: Path, destination: Path) -> Path:
    """Write a folder's files into ``<destination>/<digest>.zip`` and return that file."""
    destination.mkdir(parents=True, exist_ok=True)
    draft = destination / "draft.zip"
    with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(path for path in source.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(file.relative_to(source).as_posix(), _NO_TIME)
            entry.create_system = _UNIX  # on every machine
            entry.external_attr = _MODE << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes())
    return draft.rename(destination / f"{_digest(draft)[:16]}.zip")


def write_sums(folder: Path) -> Path:
    """Write the checksums of a folder's files as ``sha256sum --check`` reads them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    lines = [f"{_digest(file)}  {file.relative_to(folder).as_posix()}\n" for file in files]
    sums = folder / SUMS
    sums.write_text("".join(lines))
    return sums


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
