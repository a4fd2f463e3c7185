"""Logs and metrics for all functions: structured lines through Powertools, metrics from the catalogue as EMF."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Self

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics
from sluice_core import metrics
from sluice_core.metrics import EXECUTOR, JOB_TYPE, NAMESPACE, STAGE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from sluice_core.jobs import JobKey
    from sluice_core.metrics import Metric

# One line per job per function, and Logs cost USD 0.50 a GB: no source location, and no trace but the job's own,
# where Powertools would add the invocation's.
logger = Logger(service="sluice", location=None, xray_trace_id=None)
# Nobody is told where a line was written, so nobody looks (Python, "Logging HOWTO", "Optimization").
logging._srcfile = None


def report(outcome: str, key: JobKey, *, is_bad: bool = False, **fields: Any) -> None:
    """Write the one line that a function writes of a job: what became of it here, as a warning if that is bad.

    Fields without a value are left out. Never a payload, a result, a token or an error's text among them.
    """
    known = {name: value for name, value in fields.items() if value not in {None, ""}}
    write = logger.warning if is_bad else logger.info
    write(f"job {outcome}", outcome=outcome, jobId=key.job_id, **known)


class Measurements:
    """Collects one invocation's metrics and writes them as EMF at the latest when the block ends, error or not.

    Metrics with a job type, with an executor and without go into documents of their own, because an EMF document
    has one list of sets of dimensions, and a dimension too many would split a series.
    """

    _is_cold = True

    def __init__(self) -> None:
        # By the dimension beside the stage, if there is one, and its value.
        self._values: dict[tuple[str, str] | None, list[tuple[Metric, float]]] = defaultdict(list)
        if Measurements._is_cold:
            Measurements._is_cold = False
            self.add(metrics.COLD_STARTS)

    def add(
        self, metric: Metric, value: float = 1, *, job_type: str | None = None, executor: str | None = None
    ) -> None:
        """Add one datapoint; a job's type is left out where it is not known."""
        by = (EXECUTOR, executor) if executor else (JOB_TYPE, job_type) if job_type is not None else None
        self._values[by].append((metric, value))

    def write(self) -> None:
        """Write what there is: what is on record is counted, though this process may not live to its end."""
        values, self._values = self._values, defaultdict(list)
        for by, points in values.items():
            _write(points, by)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.write()


def _write(points: Sequence[tuple[Metric, float]], by: tuple[str, str] | None) -> None:
    document = EphemeralMetrics(namespace=NAMESPACE)
    document.add_dimension(STAGE, os.environ["STAGE"])
    if by is not None:
        document.add_dimension(*by)
    if by is not None and by[0] == JOB_TYPE:
        document.add_dimensions(**{STAGE: os.environ["STAGE"]})
    for metric, value in points:
        document.add_metric(name=metric.name, unit=metric.unit, value=value)
    if document.metric_set:  # Powertools writes by itself at 100 values, and warns of writing nothing
        document.flush_metrics()
