"""The workload port: what a job does is one class with one method.

The weather report is the default; another workload is one entry in the ``WORKLOADS`` setting.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Mapping
    from threading import Event

DEFAULT_WORKLOADS = "weather-report=sluice_core.weather:WeatherReport"

_FORM = "expected 'job-type=package.module:Class', entries separated by commas"
# Job types become a metric dimension, so they are kept short and plain.
_ENTRY = re.compile(r"\s*([a-z0-9][a-z0-9-]{0,63})\s*=\s*([A-Za-z_][\w.]*):(\w+)\s*")


@dataclass(frozen=True, slots=True)
class WorkResult:
    """What a job made.

    Attributes
    ----------
    body : bytes
        The result as it will be stored and downloaded.
    content_type : str
        Its media type.
    extension : str
        The file name extension, without the dot.

    """

    body: bytes
    content_type: str
    extension: str


class PermanentError(Exception):
    """The job can never succeed: it ends FAILED at once, with this code and message for its client.

    Any other exception of a workload counts as transient, and the job is tried again.

    Parameters
    ----------
    code : str
        UPPER_SNAKE_CASE; clients branch on it.
    message : str
        What to change, in words for the client; never internals, never long input.

    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


class Workload(Protocol):
    """What a job type does.

    Attributes
    ----------
    parameters_schema : Mapping
        The JSON schema (draft 4, which API Gateway models use) of the job's ``parameters``.

    """

    parameters_schema: ClassVar[Mapping[str, Any]]

    def run(self, job_id: str, parameters: Mapping[str, Any], stop: Event) -> WorkResult:
        """Do the work; it may run more than once for one job, and should then give the same result.

        ``stop`` is set when nobody wants the result any more: the job was cancelled, or is now another worker's.
        Long work looks at it now and then, or waits with ``stop.wait(seconds)``, and returns or raises whatever
        it likes: what it gives is discarded. Short work may ignore it.

        Raises
        ------
        PermanentError
            The job can never succeed.

        """
        ...


def load_workloads(setting: str) -> dict[str, Workload]:
    """Return the workloads that a setting names, by job type.

    Parameters
    ----------
    setting : str
        ``job-type=package.module:Class`` entries, separated by commas; each class is made without arguments.

    Raises
    ------
    ValueError
        An entry has another form, repeats a job type, or names a class that is missing or no workload.

    Examples
    --------
    >>> sorted(load_workloads(DEFAULT_WORKLOADS))
    ['weather-report']

    """
    workloads: dict[str, Workload] = {}
    for entry in setting.split(","):
        found = _ENTRY.fullmatch(entry)
        if not found:
            raise ValueError(f"workload {entry.strip()!r}: {_FORM}")
        job_type, module, name = found.groups()
        if job_type in workloads:
            raise ValueError(f"workload {job_type!r} is named twice")
        workloads[job_type] = _load(job_type, module, name)
    return workloads


def _load(job_type: str, module: str, name: str) -> Workload:
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"workload {job_type!r}: cannot load {module}:{name} ({error}); {_FORM}") from error
    missing = [member for member in ("run", "parameters_schema") if not hasattr(found, member)]
    if missing or not callable(found):
        lack = " and ".join(missing) or "a constructor"
        raise ValueError(f"workload {job_type!r}: {module}:{name} is no workload class, it lacks {lack}")
    return cast("Workload", found())
