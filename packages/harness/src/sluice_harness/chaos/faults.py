"""The engine's side of the faults: puts them into its workers, turns them on and off, and reads their record."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sluice_harness.chaos import worker_faults
from sluice_harness.chaos.worker_faults import MARKER, RECORD, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

_SETTINGS = "settings.json"
_IMPORT = """        mod = importlib.import_module(module_name)
        handler_fn = getattr(mod, handler_name)
"""
_FAULTY_IMPORT = """        import importlib.util
        _ms_spec = importlib.util.spec_from_file_location("sluice_worker_faults", {file!r})
        _ms_faults = importlib.util.module_from_spec(_ms_spec)
        sys.modules["sluice_worker_faults"] = _ms_faults
        _ms_spec.loader.exec_module(_ms_faults)
        _ms_worker = _ms_faults.install({settings!r}, module_name)
        mod = importlib.import_module(module_name)
        handler_fn = _ms_worker.wrap_handler(getattr(mod, handler_name))
"""


def apply(settings: Path) -> None:
    """Make the imported engine's Python workers faulty, as a file of settings says."""
    from ministack.core import lambda_runtime  # noqa: PLC0415 - it reads the engine's environment as it loads

    from sluice_harness.compat.patching import replace_once  # noqa: PLC0415

    faulty = _FAULTY_IMPORT.format(file=worker_faults.__file__, settings=str(settings))
    replace_once(lambda_runtime, "_PYTHON_WORKER_SCRIPT", _IMPORT, faulty)


class Faults:
    """The faults of one run, in a folder of their own."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._folder = Path(settings.folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self.file = self._folder / _SETTINGS
        self.file.write_text(json.dumps(asdict(settings), indent=2) + "\n")

    def start(self) -> None:
        """Let faults happen from now on."""
        (self._folder / MARKER).touch()

    def stop(self) -> None:
        """Let no more faults happen; poison jobs stay what they are."""
        (self._folder / MARKER).unlink(missing_ok=True)

    def record(self) -> list[dict[str, Any]]:
        """Return what has happened so far, oldest first."""
        record = self._folder / RECORD
        return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []

    def counts(self, kinds: Sequence[str]) -> dict[str, int]:
        """Return how often each of these kinds has happened."""
        found = Counter(one["kind"] for one in self.record())
        return {kind: found[kind] for kind in kinds}
