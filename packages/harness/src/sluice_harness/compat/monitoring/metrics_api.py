"""PutMetricData, GetMetricData, GetMetricStatistics and ListMetrics, on the metric store.

MiniStack answers an expression with an error, orders points one way whatever is asked, pages nothing, and takes a
metric without dimensions for all metrics of that name. CloudWatch evaluates metric math, gives the newest point
first unless told otherwise, gives at most 100,800 points a call, and takes each set of dimensions for a metric of
its own ("Amazon CloudWatch API reference": "GetMetricData", "GetMetricStatistics", "ListMetrics" and
"PutMetricData").

A timestamp that a client puts is real time; those that are read are the stage's.
"""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

from sluice_harness.cloudwatch import expressions, statistics
from sluice_harness.cloudwatch.definitions import Metric, MetricStat, Query
from sluice_harness.compat.monitoring.metric_store import MINUTE, store
from sluice_harness.compat.monitoring.wire import ApiError

if TYPE_CHECKING:
    from sluice_harness.cloudwatch.definitions import Series
    from sluice_harness.compat.monitoring.metric_store import Dimensions, Identity
    from sluice_harness.compat.monitoring.wire import Parameters

POINTS_A_CALL = 100_800
STATISTICS_A_CALL = 1440
METRICS_A_PAGE = 500
RECENTLY_SECONDS = 3 * 3600


def put_metric_data(wanted: Parameters) -> Parameters:
    """Record data points of a client's own metrics."""
    namespace = wanted["Namespace"]
    if namespace.startswith("AWS/"):
        raise ApiError(
            "InvalidParameterValue", "The value AWS/ for parameter Namespace is invalid: it is reserved."
        )
    for datum in wanted.get("MetricData", ()):
        _put(namespace, datum)
    return {}


def _put(namespace: str, datum: Parameters) -> None:
    metric = (namespace, datum["MetricName"], _dimensions(datum))
    unit, at = datum.get("Unit", "None"), datum.get("Timestamp", time.time())
    if "StatisticValues" in datum:
        of = datum["StatisticValues"]
        store.record_set(metric, (of["SampleCount"], of["Sum"], of["Minimum"], of["Maximum"]), unit, at)
    elif "Values" in datum:
        counts = datum.get("Counts") or [1] * len(datum["Values"])
        if len(counts) != len(datum["Values"]):
            raise ApiError("InvalidParameterValue", "The parameters Values and Counts must have one length.")
        for value, count in zip(datum["Values"], counts, strict=True):
            store.record(*metric, value, unit, at, count)
    elif "Value" in datum:
        store.record(*metric, datum["Value"], unit, at)
    else:
        raise ApiError("MissingParameter", "A datum needs one of Value, Values and StatisticValues.")


def _dimensions(source: Parameters) -> Dimensions:
    return tuple(sorted((one["Name"], one["Value"]) for one in source.get("Dimensions", ())))


def get_metric_data(wanted: Parameters) -> Parameters:
    """Return the series of statistics and expressions."""
    start, end = _range(wanted)
    queries = [_query(one) for one in wanted["MetricDataQueries"]]
    if len({query.id for query in queries}) < len(queries):
        raise ApiError("ValidationError", "The values for parameter id in MetricDataQueries are not unique.")
    try:
        results = _evaluated(queries, start, end)
    except (expressions.UnsupportedExpression, statistics.UnsupportedStatistic) as error:
        raise ApiError("ValidationError", f"Error in MetricDataQueries: {error}") from error
    newest_first = wanted.get("ScanBy", "TimestampDescending") == "TimestampDescending"
    series = [
        (query, sorted(results[query.id].items(), reverse=newest_first)) for query in queries if query.returns
    ]
    return _page(series, wanted)


def _range(wanted: Parameters) -> tuple[int, int]:
    start, end = int(wanted["StartTime"]) // MINUTE * MINUTE, int(wanted["EndTime"])
    if start >= end:
        raise ApiError("ValidationError", "The parameter StartTime must be less than the parameter EndTime.")
    return start, end


def _query(source: Parameters) -> Query:
    stat, expression = source.get("MetricStat"), source.get("Expression")
    if (stat is None) == (expression is None):
        raise ApiError("ValidationError", f"{source['Id']} needs one of MetricStat and Expression.")
    returns, label = source.get("ReturnData", True), source.get("Label", "")
    if stat is None:
        return Query(source["Id"], label or source["Id"], None, expression, source.get("Period"), returns)
    metric = stat["Metric"]
    if stat["Period"] % MINUTE:
        raise ApiError("ValidationError", f"{source['Id']}: periods below a minute are not supported here.")
    of = MetricStat(
        Metric(metric["Namespace"], metric["MetricName"], _dimensions(metric)),
        stat["Stat"],
        stat["Period"],
        stat.get("Unit"),
    )
    return Query(source["Id"], label or metric["MetricName"], of, None, None, returns)


def _evaluated(queries: list[Query], start: int, end: int) -> dict[str, Series]:
    of_metrics = [query for query in queries if query.stat is not None]
    fetched = store.fetch([query.stat for query in of_metrics if query.stat is not None], start, end)
    series = {query.id: found for query, found in zip(of_metrics, fetched, strict=True)}
    periods = [query.stat.period if query.stat else query.period for query in queries]
    period = max(filter(None, periods), default=MINUTE)
    return expressions.evaluate_queries(queries, series, period, range(start, end, period))


def _page(series: list[tuple[Query, list[tuple[int, float]]]], wanted: Parameters) -> Parameters:
    """Return as many points as a call may, the series one after the other."""
    left = min(wanted.get("MaxDatapoints", POINTS_A_CALL), POINTS_A_CALL)
    passed = to_skip = _position(wanted)
    results, complete = [], True
    for query, points in series:
        skipped = min(to_skip, len(points))
        to_skip -= skipped
        shown = points[skipped : skipped + left]
        left -= len(shown)
        passed += len(shown)
        whole = skipped + len(shown) == len(points)
        complete = complete and whole
        results.append(
            {
                "Id": query.id,
                "Label": query.label,
                "Timestamps": [at for at, _ in shown],
                "Values": [value for _, value in shown],
                "StatusCode": "Complete" if whole else "PartialData",
            }
        )
    answer: Parameters = {"MetricDataResults": results, "Messages": []}
    return answer if complete else {**answer, "NextToken": _token(passed)}


def get_metric_statistics(wanted: Parameters) -> Parameters:
    """Return statistics of one metric."""
    start, end = _range(wanted)
    period, basic, extended = wanted["Period"], wanted.get("Statistics", []), wanted.get("ExtendedStatistics", [])
    if not basic and not extended:
        raise ApiError("MissingParameter", "The request needs Statistics or ExtendedStatistics.")
    if period % MINUTE:
        raise ApiError("InvalidParameterValue", "Periods below a minute are not supported here.")
    if (end - start) / period > STATISTICS_A_CALL:
        text = f"You have requested up to {(end - start) // period} datapoints, which exceeds the limit of 1,440."
        raise ApiError("InvalidParameterCombination", text)
    metric = (wanted["Namespace"], wanted["MetricName"], _dimensions(wanted))
    points = []
    for at, samples, unit in store.periods(metric, range(start, end, period), wanted.get("Unit")):
        point: Parameters = {"Timestamp": at, "Unit": unit, **{name: samples.statistic(name) for name in basic}}
        try:
            of_extended = {name: samples.statistic(name) for name in extended}
        except statistics.UnsupportedStatistic as error:
            raise ApiError("InvalidParameterValue", str(error)) from error
        if known := {name: value for name, value in of_extended.items() if value is not None}:
            point["ExtendedStatistics"] = known
        points.append(point)
    return {"Label": wanted["MetricName"], "Datapoints": points}


def list_metrics(wanted: Parameters) -> Parameters:
    """Return the metrics that have data."""
    newest = store.clock.now() - RECENTLY_SECONDS if wanted.get("RecentlyActive") else 0
    found = sorted(metric for metric, last in store.metrics() if last >= newest and _matches(metric, wanted))
    position = _position(wanted)
    page = found[position : position + METRICS_A_PAGE]
    answer: Parameters = {"Metrics": [_described(metric) for metric in page]}
    if len(found) > position + METRICS_A_PAGE:
        answer["NextToken"] = _token(position + METRICS_A_PAGE)
    return answer


def _matches(metric: Identity, wanted: Parameters) -> bool:
    namespace, name, dimensions = metric
    if wanted.get("Namespace", namespace) != namespace or wanted.get("MetricName", name) != name:
        return False
    having = dict(dimensions)
    return all(
        one["Name"] in having and one.get("Value", having[one["Name"]]) == having[one["Name"]]
        for one in wanted.get("Dimensions", ())
    )


def _described(metric: Identity) -> Parameters:
    namespace, name, dimensions = metric
    named = [{"Name": one, "Value": value} for one, value in dimensions]
    return {"Namespace": namespace, "MetricName": name, "Dimensions": named}


def _token(position: int) -> str:
    return base64.urlsafe_b64encode(json.dumps({"position": position}).encode()).decode()


def _position(wanted: Parameters) -> int:
    token = wanted.get("NextToken")
    if not token:
        return 0
    try:
        found: Any = json.loads(base64.urlsafe_b64decode(token))
        return int(found["position"])
    except (ValueError, TypeError, KeyError) as error:
        raise ApiError("InvalidNextToken", f"Invalid NextToken: {token}") from error
