"""An account is asked for raw statistics, five hundred a call, page by page."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from botocore.stub import Stubber
from sluice_harness.cloudwatch.definitions import Metric, MetricStat
from sluice_harness.cloudwatch.sources import AccountSource, SourceFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    import boto3
    from mypy_boto3_cloudwatch import CloudWatchClient

START, END = 1795532400, 1795532700


@pytest.fixture
def cloudwatch(engine_session: boto3.Session) -> CloudWatchClient:
    return engine_session.client("cloudwatch")


@pytest.fixture
def stubber(cloudwatch: CloudWatchClient) -> Iterator[Stubber]:
    with Stubber(cloudwatch) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def stat(name: str, **more: Any) -> MetricStat:
    return MetricStat(Metric("AWS/SQS", name, (("QueueName", "work"),)), "Maximum", 60, **more)


def query(query_id: str, name: str, **more: str) -> dict[str, Any]:
    dimensions = [{"Name": "QueueName", "Value": "work"}]
    metric = {"Namespace": "AWS/SQS", "MetricName": name, "Dimensions": dimensions}
    return {"Id": query_id, "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Maximum", **more}}


def request(queries: list[dict[str, Any]], **more: str) -> dict[str, Any]:
    start, end = datetime.fromtimestamp(START, UTC), datetime.fromtimestamp(END, UTC)
    return {
        "MetricDataQueries": queries,
        "StartTime": start,
        "EndTime": end,
        "ScanBy": "TimestampAscending",
        **more,
    }


def result(query_id: str, points: dict[int, float], status: str = "Complete") -> dict[str, Any]:
    times = [datetime.fromtimestamp(at, UTC) for at in points]
    return {
        "Id": query_id,
        "Label": "age",
        "Timestamps": times,
        "Values": list(points.values()),
        "StatusCode": status,
    }


def test_series_come_in_the_order_of_their_statistics_whole(
    cloudwatch: CloudWatchClient, stubber: Stubber
) -> None:
    # given an account that answers in two pages, and knows nothing of one metric
    queries = [query("m0", "Age"), query("m1", "None"), query("m2", "Sent", Unit="Count")]
    first = [result("m2", {START: 7.0}), result("m0", {START: 1.0}, "PartialData")]
    stubber.add_response("get_metric_data", {"MetricDataResults": first, "NextToken": "more"}, request(queries))
    second = [result("m0", {START + 60: 2.0}), result("m1", {})]
    stubber.add_response("get_metric_data", {"MetricDataResults": second}, request(queries, NextToken="more"))
    # when it is asked
    series = AccountSource(cloudwatch).fetch([stat("Age"), stat("None"), stat("Sent", unit="Count")], START, END)
    # then each series has the points of all pages
    assert series == [{START: 1.0, START + 60: 2.0}, {}, {START: 7.0}]


def test_many_statistics_go_in_calls_of_five_hundred(cloudwatch: CloudWatchClient, stubber: Stubber) -> None:
    names = [f"Metric{index}" for index in range(501)]
    for some in (names[:500], names[500:]):
        queries = [query(f"m{index}", name) for index, name in enumerate(some)]
        results = [result(f"m{index}", {START: 1.0}) for index, _name in enumerate(some)]
        stubber.add_response("get_metric_data", {"MetricDataResults": results}, request(queries))
    series = AccountSource(cloudwatch).fetch([stat(name) for name in names], START, END)
    assert series == [{START: 1.0}] * 501


@pytest.mark.parametrize("status", ["Forbidden", "InternalError"])
def test_a_series_that_is_refused_is_not_taken_for_an_empty_one(
    cloudwatch: CloudWatchClient, stubber: Stubber, status: str
) -> None:
    answer = {"MetricDataResults": [result("m0", {}, status)]}
    stubber.add_response("get_metric_data", answer, request([query("m0", "Age")]))
    with pytest.raises(SourceFailed, match=f"{status} for age"):
        AccountSource(cloudwatch).fetch([stat("Age")], START, END)
