"""Puts the review together: what was collected, drawn, counted and found."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sluice_core.metrics import NAMESPACE

from sluice_harness.review import alarms as alarm_reports
from sluice_harness.review import collect, costs, panels
from sluice_harness.review.findings import Dashboard, Finding, Item, findings
from sluice_harness.review.objectives import Objective, objectives
from sluice_harness.review.series import SeriesReader
from sluice_harness.review.usage import Counts, Summary
from sluice_harness.review.widgets import MetricWidget, Widget, read_widgets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from sluice_harness.description import StageDescription
    from sluice_harness.ops.executions import Standing
    from sluice_harness.review.alarms import AlarmReport, AlarmState, Drill
    from sluice_harness.review.collect import Observer
    from sluice_harness.review.costs import CostLine
    from sluice_harness.review.logs import LogResult
    from sluice_harness.review.window import Window

_NAMESPACES = (NAMESPACE, "AWS/ApiGateway", "AWS/DynamoDB")


@dataclass(frozen=True, slots=True)
class Review:
    """All that the page shows; `made_at` is an epoch second of real time."""

    stage: StageDescription
    window: Window
    made_at: float
    findings: list[Finding]
    summary: Summary
    objectives: list[Objective]
    standings: list[Standing]
    dashboards: list[Dashboard]
    alarms: list[AlarmReport]
    runbooks: dict[str, str]
    logs: list[LogResult]
    costs: list[CostLine]
    prices: Mapping[str, Any]


def review(observer: Observer, window: Window, drills: Mapping[str, Drill]) -> Review:
    """Return the review of a stage over a window, with what the last drill found of each alarm.

    Raises
    ------
    botocore.exceptions.ClientError
        The stage refuses to say what it is asked.

    """
    stage, reader = observer.stage, SeriesReader(observer.source)
    widgets = {name: read_widgets(body, observer.metrics) for name, body in observer.dashboards().items()}
    states = observer.alarms(window)
    _prefetch(reader, window, widgets, states)
    dashboards = [draw_dashboard(name, found, window, reader, stage) for name, found in widgets.items()]
    alarms = _alarms(states, window, reader, observer.prefix, drills)
    goals = objectives(alarms, window, reader)
    logs = observer.log_results(window)
    runbooks = collect.runbooks([alarm.runbook for alarm in alarms])
    counts = Counts(stage, window, reader)
    listed = {namespace: observer.metrics(namespace) for namespace in _NAMESPACES}
    used = counts.usage(
        listed,
        states,
        observer.sizes(),
        sorted({group for result in logs for group in result.query.groups}),
    )
    prices = costs.prices()
    return Review(
        stage=stage,
        window=window,
        made_at=time.time(),
        findings=findings(dashboards, alarms, goals, logs, runbooks),
        summary=counts.summary(listed[NAMESPACE]),
        objectives=goals,
        standings=observer.standings(),
        dashboards=dashboards,
        alarms=alarms,
        runbooks=runbooks,
        logs=logs,
        costs=costs.estimate(used, prices),
        prices=prices,
    )


def _prefetch(
    reader: SeriesReader, window: Window, widgets: Mapping[str, Sequence[Widget]], states: Sequence[AlarmState]
) -> None:
    reader.prefetch(
        one
        for found in widgets.values()
        for widget in found
        if isinstance(widget, MetricWidget)
        for one in panels.wanted(widget, window)
    )
    reader.prefetch(one for state in states for one in alarm_reports.wanted(state, window))


def draw_dashboard(
    name: str, widgets: Sequence[Widget], window: Window, reader: SeriesReader, stage: StageDescription
) -> Dashboard:
    """Return a dashboard with its widgets' data in a window; the reader fetches what it does not know yet."""
    items = [
        Item(
            f"{name}-{number}",
            panels.draw(widget, window, reader, stage.functions) if isinstance(widget, MetricWidget) else widget,
        )
        for number, widget in enumerate(widgets, start=1)
    ]
    return Dashboard(name, items)


def _alarms(
    states: Sequence[AlarmState], window: Window, reader: SeriesReader, prefix: str, drills: Mapping[str, Drill]
) -> list[AlarmReport]:
    return [alarm_reports.report(state, window, reader, prefix, drills) for state in states]
