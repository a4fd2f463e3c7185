"""Asks a stage for what the review shows: by boto3, of a local stage and an account alike."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sluice_harness.cloudwatch.definitions import Metric, read_alarm
from sluice_harness.cloudwatch.sources import AccountSource
from sluice_harness.description import ROOT
from sluice_harness.ops.executions import standings
from sluice_harness.ops.stage import Access
from sluice_harness.review.alarms import AlarmState, Drill, Transition
from sluice_harness.review.logs import run_all, saved_queries
from sluice_harness.review.window import moment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_logs import CloudWatchLogsClient

    from sluice_harness.cloudwatch.sources import SeriesSource
    from sluice_harness.ops.executions import Standing
    from sluice_harness.review.logs import LogResult
    from sluice_harness.review.window import Window

RUNBOOKS = ROOT / "docs" / "runbooks"
DRILL_REPORT = ROOT / "build" / "drill" / "report.json"


class Observer(Access):
    """A stage's metrics, alarms and logs."""

    @cached_property
    def cloudwatch(self) -> CloudWatchClient:
        """A client of CloudWatch."""
        client: CloudWatchClient = self._client("cloudwatch")
        return client

    @cached_property
    def logs(self) -> CloudWatchLogsClient:
        """A client of CloudWatch Logs."""
        client: CloudWatchLogsClient = self._client("logs")
        return client

    @cached_property
    def source(self) -> SeriesSource:
        """Where its series come from."""
        return AccountSource(self.cloudwatch)

    @property
    def prefix(self) -> str:
        """What the names of this stage's alarms and dashboards begin with."""
        return f"sluice-{self.stage.stage}-"

    def dashboards(self) -> dict[str, dict[str, Any]]:
        """Return the stage's dashboards, parsed, by their names without prefix; operations first."""
        bodies = {
            name.removeprefix(self.prefix): json.loads(
                self.cloudwatch.get_dashboard(DashboardName=name)["DashboardBody"]
            )
            for name in self.stage.dashboards
        }
        return dict(sorted(bodies.items(), key=lambda item: (item[0] != "operations", item[0])))

    def metrics(self, namespace: str, name: str | None = None) -> list[Metric]:
        """Return the metrics of a namespace, and of a name if it is given."""
        chosen: dict[str, Any] = {"Namespace": namespace, **({"MetricName": name} if name else {})}
        pages = self.cloudwatch.get_paginator("list_metrics").paginate(**chosen)
        return [_metric(found) for page in pages for found in page["Metrics"]]

    def alarms(self, window: Window) -> list[AlarmState]:
        """Return the stage's alarms with their transitions in a window, metric alarms first."""
        transitions = self._transitions(window)
        pages = self.cloudwatch.get_paginator("describe_alarms").paginate(
            AlarmNamePrefix=self.prefix, AlarmTypes=["MetricAlarm", "CompositeAlarm"]
        )
        listed: list[Mapping[str, Any]] = []
        for page in pages:
            listed += page["MetricAlarms"]
            listed += page["CompositeAlarms"]
        return [_state(one, tuple(transitions.get(one["AlarmName"], ()))) for one in listed]

    def _transitions(self, window: Window) -> dict[str, list[Transition]]:
        pages = self.cloudwatch.get_paginator("describe_alarm_history").paginate(
            AlarmTypes=["MetricAlarm", "CompositeAlarm"],
            HistoryItemType="StateUpdate",
            StartDate=moment(window.start),
            EndDate=moment(window.end),
            ScanBy="TimestampAscending",
        )
        found: dict[str, list[Transition]] = {}
        for page in pages:
            for item in page["AlarmHistoryItems"]:
                if item["AlarmName"].startswith(self.prefix):
                    found.setdefault(item["AlarmName"], []).append(_transition(item))
        return found

    def log_results(self, window: Window) -> list[LogResult]:
        """Return what the stage's saved queries find in a window."""
        return run_all(self.logs, saved_queries(self.logs, f"sluice-{self.stage.stage}/"), window)

    def standings(self) -> list[Standing]:
        """Return how the stage's external executors stand now; none for a stage that has none."""
        return standings(self)

    def sizes(self) -> dict[str, tuple[int, str]]:
        """Return each function's memory in MB and its architecture, by its physical name."""
        found = {}
        for name in self.stage.functions.by_handler().values():
            settings = self.functions.get_function_configuration(FunctionName=name)
            found[name] = (settings["MemorySize"], str(settings.get("Architectures", ["x86_64"])[0]))
        return found


def drills(report: Path) -> dict[str, Drill]:
    """Return what the last drill found, by alarm; nothing if there was none."""
    if not report.exists():
        return {}
    alarms = json.loads(report.read_text())["alarms"]
    return {
        name: Drill(
            one["fired"],
            one["alarmAfterS"],
            one["okAfterS"],
            one["notified"],
            one["what"],
            ok_awaited=one.get("okAwaited", True),
        )
        for name, one in alarms.items()
    }


def runbooks(pages: Sequence[str], folder: Path = RUNBOOKS) -> dict[str, str]:
    """Return the text of those runbook pages that there are."""
    files = {page: folder / f"{page}.md" for page in pages if page}
    return {page: file.read_text() for page, file in files.items() if file.exists()}


def _metric(found: Mapping[str, Any]) -> Metric:
    dimensions = sorted((one["Name"], one["Value"]) for one in found.get("Dimensions", []))
    return Metric(found["Namespace"], found["MetricName"], tuple(dimensions))


def _state(described: Mapping[str, Any], transitions: tuple[Transition, ...]) -> AlarmState:
    since = described.get("StateTransitionedTimestamp", described["StateUpdatedTimestamp"])
    return AlarmState(
        read_alarm(described),
        described["StateValue"],
        since.timestamp(),
        described.get("StateReason", ""),
        transitions,
    )


def _transition(item: Mapping[str, Any]) -> Transition:
    data = json.loads(item["HistoryData"])
    before, after = data["oldState"], data["newState"]
    return Transition(
        item["Timestamp"].timestamp(), before["stateValue"], after["stateValue"], after.get("stateReason", "")
    )
