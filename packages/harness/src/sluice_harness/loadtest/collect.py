"""Asks a stage what became of a load test: by boto3, of a local stage and an account alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sluice_core import metrics
from sluice_core.jobs import JobStatus
from sluice_core.metrics import CLIENT, NAMESPACE, SOURCE, STAGE

from sluice_harness.cloudwatch.definitions import Metric, MetricStat
from sluice_harness.loadtest.evidence import Letter, MetricCount, StageSide
from sluice_harness.ops import records
from sluice_harness.ops.evidence import folder
from sluice_harness.ops.letters import read_all
from sluice_harness.review.findings import of_dashboards
from sluice_harness.review.panels import wanted
from sluice_harness.review.review import draw_dashboard
from sluice_harness.review.series import SeriesReader
from sluice_harness.review.widgets import MetricWidget, read_widgets
from sluice_harness.review.window import MINUTE, Window

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sluice_core.jobs import Job, JobKey
    from sluice_core.metrics import Metric as CatalogueMetric

    from sluice_harness.review.alarms import AlarmState
    from sluice_harness.review.collect import Observer

_OPERATIONS = "operations"
_DEPTHS = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)
_INVALID = "INVALID_REQUEST"
# An invocation's metrics are written at its end, when its rows have been for a while.
EDGE_MS = 5_000
_COUNTED = (
    metrics.SUBMISSIONS_RECORDED,
    metrics.SUBMISSIONS_REJECTED,
    metrics.JOBS_STARTED,
    metrics.JOBS_COMPLETED,
    metrics.JOBS_FAILED,
    metrics.JOBS_CANCELLED,
)


@dataclass(frozen=True, slots=True)
class Moments:
    """When a run began, in epoch seconds of real time, and in which whole minutes of the stage's it was."""

    began: float
    window: Window


def moments(observer: Observer, began: float, ended: float) -> Moments:
    """Return a run's moments by when its first request was sent and its last job ended, both real."""
    clock = observer.stage.clock
    start = int(clock.at(began)) // MINUTE * MINUTE
    return Moments(began, Window(start, (int(clock.at(ended)) // MINUTE + 1) * MINUTE, clock))


def depths(observer: Observer) -> dict[str, int]:
    """Return how many messages each queue holds, hidden and delayed ones included."""
    found = {}
    for name, queue in observer.queues().items():
        answer = observer.sqs.get_queue_attributes(QueueUrl=queue.url, AttributeNames=["All"])
        found[name] = sum(int(value) for fact, value in answer["Attributes"].items() if fact in _DEPTHS)
    return found


def stage_side(
    observer: Observer,
    run: Moments,
    accepted: Collection[JobKey],
    ours: Collection[str] = (),
) -> StageSide:
    """Return the stage's side of a run.

    Parameters
    ----------
    observer : Observer
        Of the stage.
    run : Moments
        When it was.
    accepted : collection of JobKey
        The jobs that were accepted.
    ours : collection of str
        The bodies of the malformed messages that this session has sent.

    """
    stage = observer.stage
    table = list(records.scan(observer.dynamodb, stage.jobTable))
    rows = {row.key: row for row in table if row.key in accepted}
    blind, widgets = _blind(observer, run.window)
    return StageSide(
        name=stage.stage,
        prefix=observer.prefix,
        window=run.window,
        rows=rows,
        results=_results(observer, accepted),
        left=depths(observer),
        letters=_letters(observer, accepted, ours),
        counts=counts(observer, run.window, table, accepted),
        retried=round(_sums(observer, run.window, [metrics.JOBS_RETRIED])[0] or 0),
        alarms=alarms(observer, run),
        blind=blind,
        widgets=widgets,
        is_local=stage.endpointUrl is not None,
    )


def alarms(observer: Observer, run: Moments) -> list[AlarmState]:
    """Return the stage's alarms with their transitions from the run's beginning until now."""
    clock = observer.stage.clock
    return observer.alarms(Window(int(clock.at(run.began)), int(clock.now()) + MINUTE, clock))


def counts(
    observer: Observer, window: Window, table: Sequence[Job], accepted: Collection[JobKey]
) -> list[MetricCount]:
    """Return each count as metrics have it and as the ledger has it, over the same minutes.

    Everybody's jobs count: metrics do not say whose they were. Only the clients' submissions are the run's own.
    """
    *sums, submitted = _sums(observer, window, [*_COUNTED, metrics.CLIENT_SUBMISSIONS])
    start, end = 1000 * window.real_start, 1000 * window.real_end
    ledger = tally(table, start, end)
    edges = tally((row for row in table if row.key not in accepted), start - EDGE_MS, start + EDGE_MS)
    for name, number in tally(
        (row for row in table if row.key not in accepted), end - EDGE_MS, end + EDGE_MS
    ).items():
        edges[name] += number
    found = [
        MetricCount(metric.name, value, ledger[metric.name], edge=edges[metric.name])
        for metric, value in zip(_COUNTED, sums, strict=True)
    ]
    recorded = sum(row.key in accepted for row in table)
    return [MetricCount(metrics.CLIENT_SUBMISSIONS.name, submitted, recorded, len(accepted)), *found]


def tally(rows: Iterable[Job], start_ms: float, end_ms: float) -> dict[str, int]:
    """Return what the metrics of a time, in epoch ms, have to add up to, by the rows of the ledger."""
    found = dict.fromkeys((metric.name for metric in _COUNTED), 0)

    def inside(moment: int | None) -> bool:
        return moment is not None and start_ms <= moment < end_ms

    for row in rows:
        if inside(row.submitted_at):
            if row.error is not None and row.error.code == _INVALID:
                found[metrics.SUBMISSIONS_REJECTED.name] += 1
            elif row.digest:  # one that was cancelled before its request was read has none, and is not counted
                found[metrics.SUBMISSIONS_RECORDED.name] += 1
        if inside(row.started_at):
            found[metrics.JOBS_STARTED.name] += row.attempts
        if inside(row.ended_at):
            found[_ENDS[row.status].name] += 1
    return found


_ENDS = {
    JobStatus.COMPLETED: metrics.JOBS_COMPLETED,
    JobStatus.FAILED: metrics.JOBS_FAILED,
    JobStatus.CANCELLED: metrics.JOBS_CANCELLED,
}


def _sums(observer: Observer, window: Window, wanted: Sequence[CatalogueMetric]) -> list[float | None]:
    stage = (STAGE, observer.stage.stage)
    stats = [
        MetricStat(
            Metric(NAMESPACE, one.name, ((SOURCE, CLIENT), stage) if one.by_client else (stage,)),
            "Sum",
            window.seconds,
        )
        for one in wanted
    ]
    return [series.get(window.start) for series in observer.source.fetch(stats, window.start, window.end)]


def _results(observer: Observer, accepted: Collection[JobKey]) -> dict[JobKey, list[str]]:
    """Return the objects below each job's prefix; owners are few, jobs are many."""
    by_prefix = {folder(key): key for key in accepted}
    found: dict[JobKey, list[str]] = {}
    pages = observer.s3.get_paginator("list_objects_v2")
    for owner in {key.owner for key in accepted}:
        for page in pages.paginate(Bucket=observer.stage.resultBucket, Prefix=f"results/{owner}/"):
            for item in page.get("Contents", []):
                key = by_prefix.get(item["Key"].rpartition("/")[0] + "/")
                if key is not None:
                    found.setdefault(key, []).append(item["Key"])
    return found


def _letters(observer: Observer, accepted: Collection[JobKey], ours: Collection[str]) -> list[Letter]:
    return [
        Letter(reading.queue, letter.key, letter.message.body in ours)
        for reading in read_all(observer)
        for letter in reading.letters
        if letter.key in accepted or letter.message.body in ours
    ]


def _blind(observer: Observer, window: Window) -> tuple[list[tuple[str, str]], int]:
    """Return the widgets of the operations dashboard without data and what is missing, and how many there are."""
    body: Mapping[str, object] | None = observer.dashboards().get(_OPERATIONS)
    if body is None:
        return [], 0
    widgets, reader = read_widgets(body, observer.metrics), SeriesReader(observer.source)
    reader.prefetch(
        one for widget in widgets if isinstance(widget, MetricWidget) for one in wanted(widget, window)
    )
    board = draw_dashboard(_OPERATIONS, widgets, window, reader, observer.stage)
    arns = {alarm.definition.arn for alarm in observer.alarms(window)}
    found = [(finding.title, finding.detail) for finding in of_dashboards([board], arns)]
    return found, len(widgets)
