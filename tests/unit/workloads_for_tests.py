"""A workload that does what its parameters say; the functions load it by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from sluice_core.workloads import PermanentError, WorkResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from threading import Event

SETTING = "scripted=unit.workloads_for_tests:Scripted"
# How long work waits to be told to stop; tests that wait for this in vain fail.
LONGEST_WAIT_S = 20

runs: list[str] = []
stopped: list[str] = []
# What happens while a job's work runs, by the job's id.
meanwhile: dict[str, Callable[[], object]] = {}


class Death(BaseException):
    """The end of the worker's process, as far as a test can have it: nothing handles this."""


class Scripted:
    """Notes each run, lets happen what is to happen meanwhile, then succeeds unless ``do`` says otherwise."""

    parameters_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {"do": {"enum": ["succeed", "permanent", "transient", "die"]}, "wait": {"type": "boolean"}},
    }

    def run(self, job_id: str, parameters: Mapping[str, Any], stop: Event) -> WorkResult:
        runs.append(job_id)
        meanwhile.get(job_id, lambda: None)()
        if parameters.get("wait") and stop.wait(LONGEST_WAIT_S):
            stopped.append(job_id)
        match parameters.get("do"):
            case "permanent":
                raise PermanentError("BAD_STATION", f"no station {parameters.get('secret')}")
            case "transient":
                raise ConnectionError(f"upstream choked on {parameters.get('secret')}")
            case "die":
                raise Death
        return WorkResult(f"made for {job_id}".encode(), "text/plain", "txt")
