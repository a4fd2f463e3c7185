"""Metrics in log lines: the embedded metric format."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from stage.conformance.functions import create_function, invoke, unique
from stage.conformance.metrics import named, span, statistic, total

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

PRINTING = """
import json
def handler(event, context):
    for line in event:
        print(line)
"""


@pytest.fixture(scope="module")
def printer(engine: Engine) -> str:
    return create_function(engine, PRINTING)


def document(namespace: str, dimensions: list[list[str]], *names: str, **members: Any) -> dict[str, Any]:
    directive = {
        "Namespace": namespace,
        "Dimensions": dimensions,
        "Metrics": [{"Name": name, "Unit": "Count"} for name in names],
    }
    return {"_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}, **members}


def show(engine: Engine, printer: str, *documents: Any) -> None:
    lines = [one if isinstance(one, str) else json.dumps(one) for one in documents]
    assert invoke(engine, printer, lines) is None


def test_a_line_is_metrics_by_each_set_of_dimensions(engine: Engine, printer: str) -> None:
    # given a line with two metrics and two sets of dimensions, and an id that is no dimension
    namespace = unique("Emf")
    members = {"Stage": "a", "JobType": "b", "jobId": "1", "Started": 3, "Rows": [1, 2, 3]}
    sets = [["Stage"], ["Stage", "JobType"], []]

    show(engine, printer, "plain text", document(namespace, sets, "Started", "Rows", **members))

    # then each metric is there by each set, an array being several samples
    for where in ({"Stage": "a"}, {"Stage": "a", "JobType": "b"}, {}):
        assert total(engine, namespace, "Started", **where) == 3
        assert total(engine, namespace, "Rows", **where) == 6
        assert statistic(engine, namespace, "Rows", "SampleCount", **where) == 3
    (point,) = engine.client("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName="Started",
        Dimensions=named({"Stage": "a"}),
        Period=86_400,
        Statistics=["Sum"],
        **span(),
    )["Datapoints"]
    assert point["Unit"] == "Count"
    listed = engine.client("cloudwatch").list_metrics(Namespace=namespace)["Metrics"]
    assert len(listed) == 6


def test_a_line_has_several_directives_and_a_time_of_its_own(engine: Engine, printer: str) -> None:
    # given a line of half an hour ago with two directives
    namespace, other = unique("Emf"), unique("Emf")
    line = document(namespace, [[]], "First", First=1, Second=2)
    line["_aws"]["CloudWatchMetrics"] += document(other, [[]], "Second")["_aws"]["CloudWatchMetrics"]
    line["_aws"]["Timestamp"] -= 1_800_000

    show(engine, printer, line)

    # then both are metrics of that minute
    query = {"Metric": {"Namespace": other, "MetricName": "Second"}, "Period": 60, "Stat": "Sum"}
    (found,) = engine.client("cloudwatch").get_metric_data(
        MetricDataQueries=[{"Id": "m1", "MetricStat": query}], **span()
    )["MetricDataResults"]
    (minute,) = found["Timestamps"]
    assert minute.timestamp() == line["_aws"]["Timestamp"] // 60_000 * 60
    assert (found["Values"], total(engine, namespace, "First")) == ([2], 1)


@pytest.mark.parametrize(
    "broken",
    [
        {"Value": "3"},
        {"Value": True},
        {"Value": list(range(101))},
        {"Stage": 7},
        {"_aws": None},
        {"_aws": {"CloudWatchMetrics": []}},
        {"_aws": {"Timestamp": "now", "CloudWatchMetrics": []}},
    ],
)
def test_a_line_that_is_no_document_is_a_line(engine: Engine, printer: str, broken: dict[str, Any]) -> None:
    # given a document that breaks the specification in one place, and a good one after it
    namespace, group = unique("Emf"), f"/aws/lambda/{printer}"
    good = document(namespace, [["Stage"]], "Good", Good=1, Stage="a")
    bad = {**document(namespace, [["Stage"]], "Value", Value=1, Stage="a", mark=namespace), **broken}

    show(engine, printer, bad, json.dumps(bad)[:-1], good)

    # then it gives no metric, and is kept as what it is
    assert total(engine, namespace, "Good", Stage="a") == 1
    listed = engine.client("cloudwatch").list_metrics(Namespace=namespace)["Metrics"]
    assert [metric["MetricName"] for metric in listed] == ["Good"]
    events = engine.client("logs").filter_log_events(logGroupName=group)["events"]
    assert json.dumps(bad) in [event["message"] for event in events]


def test_a_metric_without_a_value_is_left_out(engine: Engine, printer: str) -> None:
    namespace = unique("Emf")

    show(engine, printer, document(namespace, [[]], "There", "Missing", There=1))

    assert total(engine, namespace, "There") == 1
    assert total(engine, namespace, "Missing") is None


def test_events_that_are_put_count_as_well(engine: Engine) -> None:
    # given a log group that no function writes to
    logs, group, namespace = engine.client("logs"), unique("group"), unique("Emf")
    logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName="s")

    # when an event with metrics is put
    event = {"timestamp": int(time.time() * 1000), "message": json.dumps(document(namespace, [[]], "Put", Put=4))}
    logs.put_log_events(logGroupName=group, logStreamName="s", logEvents=[event])

    # then it counts
    assert total(engine, namespace, "Put") == 4
