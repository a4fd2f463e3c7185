"""Metrics through CloudWatch's API, by each of the protocols that it speaks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from stage.conformance.functions import unique
from stage.conformance.metrics import named, points, span, total
from stage.conformance.protocols import PROTOCOLS, cloudwatch_client

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

# Fixed, so that no test sees the minute change.
NOW = datetime.now(UTC).replace(second=0, microsecond=0)


@pytest.fixture(params=PROTOCOLS)
def cloudwatch(engine: Engine, request: pytest.FixtureRequest) -> Any:
    return cloudwatch_client(engine, request.param)


def minutes_ago(number: int) -> datetime:
    return NOW - timedelta(minutes=number)


def put(cloudwatch: Any, name: str, *values: float, at: datetime, **datum: Any) -> None:
    data = [{"MetricName": name, "Timestamp": at, **datum, "Value": value} for value in values]
    cloudwatch.put_metric_data(Namespace="Test", MetricData=data)


def stat(name: str, of: str = "Sum", **dimensions: str) -> dict[str, Any]:
    metric = {"Namespace": "Test", "MetricName": name, "Dimensions": named(dimensions)}
    return {"Metric": metric, "Period": 60, "Stat": of}


def test_what_is_put_is_read(cloudwatch: Any) -> None:
    # given values over three minutes, of which the second has none
    name = unique("m")
    put(cloudwatch, name, 1, 2, 6, at=minutes_ago(5), Unit="Seconds")
    put(cloudwatch, name, 10, at=minutes_ago(3), Unit="Seconds")

    # when they are read with statistics and percentiles
    found = cloudwatch.get_metric_statistics(
        Namespace="Test",
        MetricName=name,
        StartTime=minutes_ago(5),
        EndTime=minutes_ago(0),
        Period=60,
        Statistics=["SampleCount", "Sum", "Average", "Minimum", "Maximum"],
        ExtendedStatistics=["p50"],
    )

    # then each minute with data is a point
    points = {point["Timestamp"]: point for point in found["Datapoints"]}
    assert list(points) == [minutes_ago(5), minutes_ago(3)]
    of_first = points[minutes_ago(5)]
    assert [of_first[one] for one in ("SampleCount", "Sum", "Average", "Minimum", "Maximum")] == [3, 9, 3, 1, 6]
    assert of_first["ExtendedStatistics"] == {"p50": 2}
    assert of_first["Unit"] == "Seconds"


def test_expressions_are_evaluated_over_statistics(cloudwatch: Any) -> None:
    # given requests and errors
    name = unique("m")
    for minute, (requests, errors) in enumerate([(4, 1), (10, 5)]):
        put(cloudwatch, name, requests, at=minutes_ago(5 - minute), Dimensions=named({"Kind": "request"}))
        put(cloudwatch, name, errors, at=minutes_ago(5 - minute), Dimensions=named({"Kind": "error"}))
    queries = [
        {"Id": "rate", "Expression": "100 * failed / all", "Label": "failed in %"},
        {"Id": "all", "MetricStat": stat(name, Kind="request"), "ReturnData": False},
        {"Id": "failed", "MetricStat": stat(name, Kind="error")},
    ]

    # when their ratio is asked for
    times = {"StartTime": minutes_ago(5), "EndTime": minutes_ago(0)}
    newest_first = cloudwatch.get_metric_data(MetricDataQueries=queries, **times)["MetricDataResults"]
    oldest_first = cloudwatch.get_metric_data(MetricDataQueries=queries, ScanBy="TimestampAscending", **times)[
        "MetricDataResults"
    ]

    # then only what returns data is there, newest first unless told otherwise
    assert [(one["Id"], one["Label"], one["Values"]) for one in newest_first] == [
        ("rate", "failed in %", [50, 25]),
        ("failed", name, [5, 1]),
    ]
    assert newest_first[0]["Timestamps"] == [minutes_ago(4), minutes_ago(5)]
    assert newest_first[0]["StatusCode"] == "Complete"
    assert [one["Values"] for one in oldest_first] == [[25, 50], [1, 5]]


def test_series_are_paged(cloudwatch: Any) -> None:
    # given two series of three points
    names = [unique("m"), unique("m")]
    for name in names:
        for number in range(3):
            put(cloudwatch, name, number, at=minutes_ago(5 - number))

    # when they are read two points at a time
    pages = cloudwatch.get_paginator("get_metric_data").paginate(
        MetricDataQueries=[{"Id": f"m{n}", "MetricStat": stat(name)} for n, name in enumerate(names)],
        StartTime=minutes_ago(5),
        EndTime=minutes_ago(0),
        ScanBy="TimestampAscending",
        MaxDatapoints=2,
    )
    shown = [[(one["StatusCode"], one["Values"]) for one in page["MetricDataResults"]] for page in pages]

    # then the first series comes whole before the second begins
    assert shown == [
        [("PartialData", [0, 1]), ("PartialData", [])],
        [("Complete", [2]), ("PartialData", [0])],
        [("Complete", []), ("Complete", [1, 2])],
    ]


def test_an_expression_that_is_not_known_is_an_error(cloudwatch: Any) -> None:
    queries = [{"Id": "e1", "Expression": "ANOMALY_DETECTION_BAND(m1)"}, {"Id": "m1", "MetricStat": stat("m")}]

    with pytest.raises(ClientError, match="ANOMALY_DETECTION_BAND") as refused:
        cloudwatch.get_metric_data(MetricDataQueries=queries, **span())

    assert refused.value.response["Error"]["Code"] == "ValidationError"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_values_come_with_counts_and_as_sets(cloudwatch: Any) -> None:
    # given ten values as three, and a set of four
    counted, of_set = unique("m"), unique("m")
    statistics = {"SampleCount": 4, "Sum": 10, "Minimum": 1, "Maximum": 4}
    cloudwatch.put_metric_data(
        Namespace="Test",
        MetricData=[
            {"MetricName": counted, "Values": [1, 2, 3], "Counts": [5, 4, 1]},
            {"MetricName": of_set, "StatisticValues": statistics},
        ],
    )

    # when their statistics are read
    def read(name: str, *extended: str) -> dict[str, Any]:
        (point,) = cloudwatch.get_metric_statistics(
            Namespace="Test",
            MetricName=name,
            Period=86_400,
            Statistics=["SampleCount", "Sum", "Maximum"],
            ExtendedStatistics=list(extended),
            **span(),
        )["Datapoints"]
        return dict(point)

    # then they are those of all values, and a set has no percentiles
    of_counted, of_statistics = read(counted, "p90"), read(of_set, "p90")
    assert (of_counted["SampleCount"], of_counted["Sum"], of_counted["Maximum"]) == (10, 16, 3)
    assert of_counted["ExtendedStatistics"]["p90"] == pytest.approx(2.1)
    assert (of_statistics["SampleCount"], of_statistics["Sum"], of_statistics["Maximum"]) == (4, 10, 4)
    assert "ExtendedStatistics" not in of_statistics


def test_metrics_are_listed_by_what_they_have(cloudwatch: Any) -> None:
    # given a metric with two sets of dimensions, and an old one
    name = unique("m")
    put(cloudwatch, name, 1, at=minutes_ago(1), Dimensions=named({"Stage": "a"}))
    put(cloudwatch, name, 1, at=minutes_ago(1), Dimensions=named({"Stage": "a", "JobType": "b"}))
    put(cloudwatch, name, 1, at=minutes_ago(600), Dimensions=named({"Stage": "old"}))

    def listed(**wanted: Any) -> list[list[dict[str, str]]]:
        found = cloudwatch.list_metrics(Namespace="Test", MetricName=name, **wanted)["Metrics"]
        return [metric["Dimensions"] for metric in found]

    # then filters ask for a name or for a value as well
    both = [{"Name": "JobType", "Value": "b"}, {"Name": "Stage", "Value": "a"}]
    assert len(listed()) == 3
    assert listed(Dimensions=[{"Name": "JobType"}]) == [both]
    assert listed(Dimensions=named({"Stage": "old"})) == [named({"Stage": "old"})]
    assert listed(Dimensions=named({"Stage": "none"})) == []
    assert named({"Stage": "old"}) not in listed(RecentlyActive="PT3H")


def test_another_set_of_dimensions_is_another_metric(engine: Engine) -> None:
    # given a value under one set of dimensions
    name = unique("m")
    put(engine.client("cloudwatch"), name, 7, at=minutes_ago(1), Dimensions=named({"Stage": "a"}))

    # then it is not under fewer, more or others
    assert total(engine, "Test", name, Stage="a") == 7
    assert total(engine, "Test", name) is None
    assert total(engine, "Test", name, Stage="a", JobType="b") is None
    assert total(engine, "Test", name, Stage="b") is None


def test_units_are_streams_of_their_own(engine: Engine) -> None:
    # given one name with two units
    client, name = engine.client("cloudwatch"), unique("m")
    put(client, name, 3, at=minutes_ago(1), Unit="Seconds")
    put(client, name, 5, at=minutes_ago(1), Unit="Count")

    # then a unit that is named chooses one, and none takes both
    def read(**unit: str) -> list[float]:
        query = {"Id": "m1", "MetricStat": {**stat(name), **unit}}
        found = client.get_metric_data(MetricDataQueries=[query], **span())["MetricDataResults"]
        return list(found[0]["Values"])

    assert (read(Unit="Seconds"), read(Unit="Count"), read(Unit="Bytes"), read()) == ([3], [5], [], [8])


def test_a_client_may_not_put_metrics_of_aws(engine: Engine) -> None:
    with pytest.raises(ClientError, match="AWS/"):
        engine.client("cloudwatch").put_metric_data(
            Namespace="AWS/SQS", MetricData=[{"MetricName": "NumberOfMessagesSent", "Value": 1}]
        )

    assert points(engine, "AWS/SQS", "NumberOfMessagesSent", "Sum") == []
