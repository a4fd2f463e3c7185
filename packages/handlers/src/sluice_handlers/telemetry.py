"""Logs and metrics for all functions: structured lines through Powertools, metrics from the catalogue as EMF."""

from __future__ import annotations

import os
from collections import defaultdict
from typing import TYPE_CHECKING, Self

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics
from sluice_core.metrics import NAMESPACE

if TYPE_CHECKING:
    from types import TracebackType

    from sluice_core.metrics import Metric

# One line per job per function, and Logs cost USD 0.50 a GB: no source location, no boilerplate.
logger = Logger(service="sluice", location=None)


class Measurements:
    """Collects one invocation's metrics and writes them as EMF when the block ends, error or not.

    Metrics with a job type and without go into documents of their own, because an EMF document has one set of
    dimensions and an extra dimension would split a series.
    """

    def __init__(self) -> None:
        self._values: dict[str | None, list[tuple[Metric, float]]] = defaultdict(list)

    def add(self, metric: Metric, value: float = 1, *, job_type: str | None = None) -> None:
        """Add one datapoint."""
        self._values[job_type].append((metric, value))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for job_type, values in self._values.items():
            metrics = EphemeralMetrics(namespace=NAMESPACE)
            metrics.add_dimension("Stage", os.environ["STAGE"])
            if job_type is not None:
                metrics.add_dimension("JobType", job_type)
            for metric, value in values:
                metrics.add_metric(name=metric.name, unit=metric.unit, value=value)
            if metrics.metric_set:  # Powertools writes by itself at 100 values, and warns of writing nothing
                metrics.flush_metrics()
