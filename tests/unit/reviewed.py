"""A small stage, recorded in code, that the review can be made of: a bit of everything, some of it hostile."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sluice_core.jobs import Job, JobKey, JobStatus
from sluice_harness.cloudwatch.definitions import Metric, read_alarm
from sluice_harness.cloudwatch.statistics import Distribution
from sluice_harness.description import Functions, Queue, Queues, StageDescription
from sluice_harness.ops.executions import Standing
from sluice_harness.ops.stage import Limits
from sluice_harness.review.alarms import AlarmState, Drill, Transition
from sluice_harness.review.collect import Observer
from sluice_harness.review.logs import LogQuery, LogResult
from sluice_harness.review.review import Review, review
from sluice_harness.review.window import Window
from sluice_harness.stage_clock import StageClock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sluice_harness.cloudwatch.definitions import MetricStat, Series

START = 1_800_000_000
MINUTES = 10
HOSTILE = "</script><img src=x onerror=alert(1)>'\"&{{7*7}}"
STAGE = StageDescription(
    stage="local",
    region="us-east-1",
    account="000000000000",
    endpointUrl="http://127.0.0.1:1",
    apiUrl="unused",
    userPoolId="unused",
    userPoolClientId="unused",
    jobTable="jobs",
    resultBucket="unused",
    queues=Queues(request=Queue("x/requests", "x/requests-dlq"), work=Queue("x/work", "x/work-dlq")),
    functions=Functions(**{name: f"fn-{name}" for name in Functions.__dataclass_fields__}),
    eventBus="unused",
    alarmTopic="unused",
    dashboards=["sluice-local-operations"],
    loadLogGroup="load",
    speed=12.0,
    startedAt=float(START),
)


def metric(namespace: str, name: str, **dimensions: str) -> Metric:
    return Metric(namespace, name, tuple(sorted(dimensions.items())))


def own(name: str, **dimensions: str) -> Metric:
    return metric("Sluice", name, Stage="local", **dimensions)


class Recorded:
    """A `SeriesSource` of samples by metric and minute."""

    def __init__(self) -> None:
        self.samples: dict[Metric, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.calls = 0

    def add(self, one: Metric, minute: int, *values: float) -> None:
        """Add samples in a minute from the start on."""
        self.samples[one][START + 60 * minute] += values

    def fetch(self, stats: Sequence[MetricStat], start: int, end: int) -> list[Series]:
        self.calls += 1
        return [self._series(stat, start, end) for stat in stats]

    def _series(self, stat: MetricStat, start: int, end: int) -> Series:
        periods: dict[int, Distribution] = defaultdict(Distribution)
        for at, values in self.samples.get(stat.metric, {}).items():
            if start <= at < end:
                for value in values:
                    periods[start + (at - start) // stat.period * stat.period].add(value)
        found = {at: samples.statistic(stat.stat) for at, samples in sorted(periods.items())}
        return {at: value for at, value in found.items() if value is not None}


def window() -> Window:
    """Return the window; its end is ten minutes of the stage's time after its start."""
    return Window.back(MINUTES, StageClock(12.0, START), since=START, now=START + (60 * MINUTES - 1) / 12)


def alarm(name: str, *queries: dict[str, Any], threshold: float, **more: Any) -> dict[str, Any]:
    """Return an entry of DescribeAlarms."""
    return {
        "AlarmName": f"sluice-local-{name}",
        "AlarmArn": arn(name),
        "AlarmDescription": f"It says {name}. Severity: warning. Runbook: docs/runbooks/dead-letters.md",
        "Metrics": list(queries),
        "ComparisonOperator": "GreaterThanThreshold",
        "Threshold": threshold,
        "EvaluationPeriods": 3,
        "DatapointsToAlarm": 2,
        "TreatMissingData": "notBreaching",
        "AlarmActions": ["topic"],
        **more,
    }


def arn(name: str) -> str:
    return f"arn:aws:cloudwatch:us-east-1:000000000000:alarm:sluice-local-{name}"


def query(identifier: str, one: Metric, stat: str, period: int = 60, *, returns: bool = True) -> dict[str, Any]:
    """Return an entry of an alarm's Metrics."""
    dimensions = [{"Name": name, "Value": value} for name, value in one.dimensions]
    read = {"Namespace": one.namespace, "MetricName": one.name, "Dimensions": dimensions}
    stated = {"Metric": read, "Period": period, "Stat": stat}
    return {"Id": identifier, "MetricStat": stated, "ReturnData": returns}


def burn(objective: str, label: str, period: int) -> dict[str, Any]:
    """Return a burn-rate alarm, as `sluice_infra.objectives` writes it."""
    if objective == "latency":
        queries = [query("within", own("EndToEnd"), "PR(:1000)", period, returns=False)]
        expression = "(100 - FILL(within, 100)) / 1"
    else:
        queries = [
            query("lost", own("JobsFailedWorkerLost"), "Sum", period, returns=False),
            query("completed", own("JobsCompleted"), "Sum", period, returns=False),
        ]
        expression = "(FILL(lost, 0)) / (FILL(completed, 0) + FILL(lost, 0)) / 0.001"
    result = {"Id": "result", "Expression": expression, "ReturnData": True}
    once = {"EvaluationPeriods": 1, "DatapointsToAlarm": 1}
    return alarm(f"{objective}-burn-{label}", *queries, result, threshold=14.4, **once)


DEPTH = metric("AWS/SQS", "ApproximateNumberOfMessagesVisible", QueueName="work-dlq")


def states() -> list[AlarmState]:
    """Return the alarms: one in ALARM, one without data, the burn rates, and a composite."""
    loud = alarm("work-dead-letters", query("depth", DEPTH, "Maximum"), threshold=1)
    blind = alarm("blind", query("nothing", metric("AWS/SQS", "NeverThere"), "Sum"), threshold=1)
    both = {
        **{key: loud[key] for key in ("AlarmActions",)},
        "AlarmName": "sluice-local-critical",
        "AlarmArn": arn("critical"),
        "AlarmDescription": "At least one. Severity: critical. Runbook: docs/runbooks/nowhere.md",
        "AlarmRule": 'ALARM("sluice-local-work-dead-letters") OR ALARM("sluice-local-blind")',
    }
    fired = (Transition(START + 240, "OK", "ALARM", f"because {HOSTILE}"),)
    burns = [
        burn(name, label, 60 * minutes) for name in ("availability", "latency") for label, minutes in _WINDOWS
    ]
    return [
        AlarmState(read_alarm(loud), "ALARM", START + 240, f"because {HOSTILE}", fired),
        AlarmState(read_alarm(blind), "INSUFFICIENT_DATA", START, "no data"),
        *(AlarmState(read_alarm(one), "OK", START, "") for one in burns),
        AlarmState(read_alarm(both), "ALARM", START + 240, "child", fired),
    ]


_WINDOWS = (("5m", 5), ("1h", 60))


def widget(kind: str, place: tuple[int, int, int, int], **properties: Any) -> dict[str, Any]:
    x, y, width, height = place
    return {"type": kind, "x": x, "y": y, "width": width, "height": height, "properties": properties}


def dashboard() -> dict[str, Any]:
    """Return a dashboard with every kind of widget."""
    left = {"label": "a minute", "showUnits": False, "min": 0}
    stage = ["Sluice", "JobsCompleted", "Stage", "local"]
    wide = [
        ["Sluice", "EndToEnd", "Stage", "local", {"stat": f"p{n * 9}", "label": f"p{n * 9}"}] for n in range(1, 11)
    ]
    search = f"SEARCH('{{Sluice,Stage,JobType}} MetricName=\"JobsCompleted\" Stage=\"local\"', 'Sum')"  # noqa: F541
    return {
        "widgets": [
            widget(
                "text", (0, 0, 24, 1), markdown=f"# {HOSTILE}\n[l](javascript:alert(1)) ![i](http://203.0.113.1/x)"
            ),
            widget("alarm", (0, 1, 24, 3), title="Alarms", alarms=[arn("work-dead-letters"), arn("gone")]),
            widget(
                "metric",
                (0, 4, 12, 6),
                title="Two axes",
                stat="Sum",
                period=60,
                metrics=[
                    [*stage, {"label": HOSTILE}],
                    [".", "EndToEnd", ".", ".", {"stat": "p95", "yAxis": "right", "color": "#ff8800"}],
                    [".", "JobsRetried", "...", {"label": "retried"}],
                ],
                yAxis={"left": left, "right": {"label": "ms", "min": 0}},
                annotations={"horizontal": [{"label": "many", "value": 40}]},
            ),
            widget(
                "metric",
                (12, 4, 12, 6),
                title="By type",
                stacked=True,
                stat="Sum",
                period=60,
                metrics=[[{"expression": search, "label": "", "id": "types"}]],
                yAxis={"left": left},
            ),
            widget(
                "metric",
                (0, 10, 6, 4),
                title="Share",
                view="singleValue",
                stat="Sum",
                period=60,
                setPeriodToTimeRange=True,
                metrics=[
                    [*stage, {"id": "completed", "visible": False}],
                    [".", "SubmissionsRecorded", ".", ".", {"id": "recorded", "visible": False}],
                    [{"expression": "100 * completed / recorded", "label": "completed", "id": "share"}],
                ],
            ),
            widget("metric", (6, 10, 6, 4), title="Missing", period=60, metrics=[["AWS/SQS", "NeverThere"]]),
            widget(
                "metric",
                (12, 10, 6, 4),
                title="Quiet",
                period=60,
                metrics=[["Sluice", "JobsFailed", "Stage", "local"]],
            ),
            widget("log", (18, 10, 6, 4), title="A log table", query="SOURCE x"),
            widget(
                "metric", (0, 14, 24, 6), title="Many lines", period=60, metrics=wide, yAxis={"left": {"min": 0}}
            ),
        ]
    }


def recorded() -> Recorded:
    """Return what the stage has measured: 20 jobs in each of eight minutes, 4 of each slow, 2 lost."""
    source = Recorded()
    for minute in range(1, 9):
        for job_type in ("weather-report", HOSTILE):
            source.add(own("JobsCompleted", JobType=job_type), minute, *[1.0] * 10)
        source.add(own("JobsCompleted"), minute, *[1.0] * 20)
        source.add(own("SubmissionsRecorded"), minute, *[1.0] * 20)
        source.add(own("EndToEnd"), minute, *[100.0 + 10 * n for n in range(16)], *[1_200.0] * 4)
        source.add(DEPTH, minute, 0.0 if minute < 3 else 2.0)
    source.add(own("JobsFailedWorkerLost"), 5, 1.0, 1.0)
    source.add(own("SubmissionsRecorded"), 5, 1.0, 1.0)
    return source


def executing() -> list[Job]:
    """Return two jobs that an executor has: of one there is a handle."""
    since = 1_000 * START
    begun = Job(
        JobKey("owner", f"job-{HOSTILE}"),
        HOSTILE,
        JobStatus.RUNNING,
        submitted_at=since,
        digest="",
        executor="ecs",
        handle=f"task/{HOSTILE}",
        starts=2,
        executing="ecs",
        executing_since=since,
    )
    return [begun, replace(begun, key=JobKey("owner", "put-off"), handle="")]


class RecordedObserver(Observer):
    """An observer that asks nobody."""

    def __init__(self) -> None:
        super().__init__(STAGE)
        self.recorded = recorded()
        self.source = self.recorded

    def dashboards(self) -> dict[str, dict[str, Any]]:
        return {"operations": dashboard()}

    def metrics(self, namespace: str, name: str | None = None) -> list[Metric]:
        return [one for one in self.recorded.samples if one.namespace == namespace and name in (None, one.name)]

    def alarms(self, _window: Window) -> list[AlarmState]:
        return states()

    def standings(self) -> list[Standing]:
        return [Standing("ecs", Limits(3, 3_600), waiting=7, in_flight=0, slots=2, executing=executing())]

    def sizes(self) -> dict[str, tuple[int, str]]:
        return {"fn-processor": (512, "arm64")}

    def log_results(self, _window: Window) -> list[LogResult]:
        slow = LogQuery("slowest-jobs", "filter x", ["/aws/lambda/processor"])
        broken = LogQuery("broken", f"fields {HOSTILE}", [])
        rows = [[f"job-{number}", HOSTILE, str(number)] for number in range(120)]
        return [
            LogResult(broken, problem=f"malformed: {HOSTILE}"),
            LogResult(slow, ["jobId", "error", "endToEndMs"], rows),
        ]


def small_review(drills: Mapping[str, Drill] | None = None) -> Review:
    """Return the review of this stage."""
    return review(RecordedObserver(), window(), drills or {})
