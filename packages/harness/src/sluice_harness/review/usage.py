"""How much a stage did in the window: the summary's numbers, and what its costs are estimated from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sluice_core import metrics
from sluice_core.metrics import JOB_TYPE, NAMESPACE, STAGE

from sluice_harness.cloudwatch.definitions import CompositeAlarm, Metric, MetricAlarm, MetricStat
from sluice_harness.review.costs import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sluice_core.metrics import Metric as CatalogueMetric

    from sluice_harness.description import StageDescription
    from sluice_harness.review.alarms import AlarmState
    from sluice_harness.review.series import SeriesReader
    from sluice_harness.review.window import Window

_MB_PER_GB = 1024
_QUEUE_REQUESTS = (
    "NumberOfMessagesSent",
    "NumberOfMessagesReceived",
    "NumberOfMessagesDeleted",
    "NumberOfEmptyReceives",
)


@dataclass(frozen=True, slots=True)
class Summary:
    """The window in numbers. Times in ms, of ``lambda``'s jobs; None where none of them completed.

    Attributes
    ----------
    submitted : int
        Jobs entered in the ledger: recorded, rejected as invalid, or cancelled before their request was read.

    """

    submitted: int
    completed: int
    failed: int
    cancelled: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class Counts:
    """Reads single numbers of a stage over the window."""

    def __init__(self, stage: StageDescription, window: Window, reader: SeriesReader) -> None:
        self._stage = stage
        self._window = window
        self._reader = reader

    def summary(self, own: Sequence[Metric]) -> Summary:
        """Return the summary; ``own`` are all metrics of the namespace Sluice."""
        self._prefetch([(metric, "Sum") for metric in _COUNTED], [(metrics.END_TO_END, stat) for stat in _TIMES])
        recorded, rejected, completed, failed, cancelled = (round(self._own(metric)) for metric in _COUNTED)
        p50, p95, p99 = (self._value(self._of_stage(metrics.END_TO_END), stat) for stat in _TIMES)
        # A job that is cancelled before its request was read is of no known type yet, and never recorded.
        typed = [
            one for one in own if one.name == metrics.JOBS_CANCELLED.name and JOB_TYPE in dict(one.dimensions)
        ]
        unread = cancelled - round(self._sum(one for one in typed if self._is_own(one)))
        return Summary(recorded + rejected + unread, completed, failed, cancelled, p50, p95, p99)

    def usage(
        self,
        listed: Mapping[str, Sequence[Metric]],
        alarms: Sequence[AlarmState],
        sizes: Mapping[str, tuple[int, str]],
        groups: Iterable[str],
    ) -> Usage:
        """Return what was used.

        Parameters
        ----------
        listed : mapping
            All metrics of the namespaces ``Sluice``, ``AWS/ApiGateway`` and ``AWS/DynamoDB``.
        alarms : sequence of AlarmState
            Those that the stage has.
        sizes : mapping
            Each function's memory in MB and its architecture.
        groups : iterable of str
            The functions' log groups.

        """
        of_table = [one for one in listed["AWS/DynamoDB"] if ("TableName", self._stage.jobTable) in one.dimensions]
        sent = {name: self._sum(_named(of_table, name)) for name in ("Write", "Read")}
        logged = [Metric("AWS/Logs", "IncomingBytes", (("LogGroupName", group),)) for group in groups]
        summary = self.summary(listed[NAMESPACE])
        return Usage(
            seconds=self._window.seconds,
            jobs=summary.submitted,
            api_requests=self._api_requests(listed["AWS/ApiGateway"], alarms),
            sqs_requests=self._sum(self._of_queues()),
            lambda_requests=self._sum(Metric("AWS/Lambda", "Invocations", _function(name)) for name in sizes),
            gb_seconds=self._gb_seconds(sizes),
            write_units=sent["Write"],
            read_units=sent["Read"],
            s3_puts=self._own(metrics.JOBS_COMPLETED) + self._own(metrics.RESULTS_DISCARDED),
            log_bytes=self._known_sum(logged),
            custom_metrics=sum(map(self._is_own, listed[NAMESPACE])),
            alarm_metrics=sum(
                len(one.definition.stats) for one in alarms if isinstance(one.definition, MetricAlarm)
            ),
            composite_alarms=sum(isinstance(one.definition, CompositeAlarm) for one in alarms),
            dashboards=len(self._stage.dashboards),
        )

    def _api_requests(self, listed: Sequence[Metric], alarms: Sequence[AlarmState]) -> float:
        """Count the requests of the API that the alarms watch: a description says nothing of its name."""
        watched = {
            value
            for alarm in alarms
            if isinstance(alarm.definition, MetricAlarm)
            for stat in alarm.definition.stats
            for name, value in stat.metric.dimensions
            if name == "ApiName"
        }
        apis = [
            Metric("AWS/ApiGateway", "Count", (("ApiName", name), ("Stage", self._stage.stage)))
            for name in watched
        ]
        return self._sum((one for one in apis if one in listed), "SampleCount")

    def _of_queues(self) -> Iterator[Metric]:
        for queue in self._stage.queues.by_name().values():
            for url in (queue.url, queue.dlqUrl):
                for name in _QUEUE_REQUESTS:
                    yield Metric("AWS/SQS", name, (("QueueName", url.rpartition("/")[2]),))

    def _gb_seconds(self, sizes: Mapping[str, tuple[int, str]]) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, (memory_mb, architecture) in sizes.items():
            milliseconds = self._sum([Metric("AWS/Lambda", "Duration", _function(name))])
            used = milliseconds / 1_000 * memory_mb / _MB_PER_GB
            found[architecture] = found.get(architecture, 0.0) + used
        return found

    def _is_own(self, metric: Metric) -> bool:
        return (STAGE, self._stage.stage) in metric.dimensions

    def _of_stage(self, metric: CatalogueMetric) -> Metric:
        return Metric(NAMESPACE, metric.name, ((STAGE, self._stage.stage),))

    def _own(self, metric: CatalogueMetric) -> float:
        return self._value(self._of_stage(metric), "Sum") or 0.0

    def _prefetch(self, *asked: Sequence[tuple[CatalogueMetric, str]]) -> None:
        length, window = self._window.seconds, self._window
        self._reader.prefetch(
            (MetricStat(self._of_stage(metric), stat, length), window.start, window.end)
            for part in asked
            for metric, stat in part
        )

    def _sum(self, asked: Iterable[Metric], stat: str = "Sum") -> float:
        return self._known_sum(list(asked), stat) or 0.0

    def _known_sum(self, asked: Sequence[Metric], stat: str = "Sum") -> float | None:
        """Return the sum over metrics, None if none of them has data."""
        window = self._window
        self._reader.prefetch((MetricStat(one, stat, window.seconds), window.start, window.end) for one in asked)
        values = [value for one in asked if (value := self._value(one, stat)) is not None]
        return sum(values) if values else None

    def _value(self, metric: Metric, stat: str) -> float | None:
        return self._reader.value(metric, stat, self._window.start, self._window.end)


_COUNTED = (
    metrics.SUBMISSIONS_RECORDED,
    metrics.SUBMISSIONS_REJECTED,
    metrics.JOBS_COMPLETED,
    metrics.JOBS_FAILED,
    metrics.JOBS_CANCELLED,
)
_TIMES = ("p50", "p95", "p99")


def _named(table: Sequence[Metric], direction: str) -> list[Metric]:
    """Return a table's and its indexes' consumed capacity."""
    return [one for one in table if one.name == f"Consumed{direction}CapacityUnits"]


def _function(name: str) -> tuple[tuple[str, str], ...]:
    return (("FunctionName", name),)
