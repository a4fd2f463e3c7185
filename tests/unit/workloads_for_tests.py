"""A workload that does what its parameters say; the functions load it by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from sluice_core.workloads import PermanentError, WorkResult

if TYPE_CHECKING:
    from collections.abc import Mapping

SETTING = "scripted=unit.workloads_for_tests:Scripted"

runs: list[str] = []


class Scripted:
    """Notes each run, then succeeds unless ``do`` says otherwise."""

    parameters_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {"do": {"enum": ["succeed", "permanent", "transient"]}},
    }

    def run(self, job_id: str, parameters: Mapping[str, Any]) -> WorkResult:
        runs.append(job_id)
        match parameters.get("do"):
            case "permanent":
                raise PermanentError("BAD_STATION", f"no station {parameters.get('secret')}")
            case "transient":
                raise ConnectionError(f"upstream choked on {parameters.get('secret')}")
        return WorkResult(f"made for {job_id}".encode(), "text/plain", "txt")
