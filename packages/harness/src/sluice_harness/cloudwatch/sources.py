"""Where series come from: anything that answers as GetMetricData does.

Alarms and dashboards are computed by one code whether their data is the local stage's or an account's, so an
account is asked for raw statistics only, and the mathematics is done here.
"""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_cloudwatch.type_defs import MetricDataQueryTypeDef, MetricStatTypeDef

    from sluice_harness.cloudwatch.definitions import MetricStat, Series

# "GetMetricData": a call can include up to 500 MetricDataQuery structures.
_QUERIES_A_CALL: Final = 500


class SourceFailed(RuntimeError):  # noqa: N818 - an answer: the call itself succeeded
    """A series that an account would not or could not give."""


class SeriesSource(Protocol):
    """Answers with the series of metrics; `AccountSource` is one, the store of a local stage another."""

    def fetch(self, stats: Sequence[MetricStat], start: int, end: int) -> list[Series]:
        """Return the series of each statistic, in their order.

        Parameters
        ----------
        stats : Sequence[MetricStat]
            Their periods are multiples of a minute, and may differ.
        start, end : int
            Epoch seconds, multiples of 60; the end is not included. Periods are counted from the start.

        """


class AccountSource:
    """Reads series from an account by GetMetricData.

    Parameters
    ----------
    cloudwatch : CloudWatchClient
        Of the region whose metrics are meant.

    """

    def __init__(self, cloudwatch: CloudWatchClient) -> None:
        self._cloudwatch = cloudwatch

    def fetch(self, stats: Sequence[MetricStat], start: int, end: int) -> list[Series]:
        """Return the series of each statistic, in their order; see `SeriesSource`."""
        series: list[Series] = []
        for first in range(0, len(stats), _QUERIES_A_CALL):
            series += self._fetch(stats[first : first + _QUERIES_A_CALL], start, end)
        return series

    def _fetch(self, stats: Sequence[MetricStat], start: int, end: int) -> list[Series]:
        found: dict[str, Series] = {f"m{index}": {} for index in range(len(stats))}
        pages = self._cloudwatch.get_paginator("get_metric_data").paginate(
            MetricDataQueries=[_query(name, stat) for name, stat in zip(found, stats, strict=True)],
            StartTime=datetime.fromtimestamp(start, UTC),
            EndTime=datetime.fromtimestamp(end, UTC),
            ScanBy="TimestampAscending",
        )
        for result in itertools.chain.from_iterable(page["MetricDataResults"] for page in pages):
            if result["StatusCode"] in ("Forbidden", "InternalError"):
                raise SourceFailed(f"GetMetricData answered {result['StatusCode']} for {result['Label']}")
            times = (int(time.timestamp()) for time in result["Timestamps"])
            found[result["Id"]].update(zip(times, result["Values"], strict=True))
        return list(found.values())


def _query(name: str, stat: MetricStat) -> MetricDataQueryTypeDef:
    wanted: MetricStatTypeDef = {
        "Metric": {
            "Namespace": stat.metric.namespace,
            "MetricName": stat.metric.name,
            "Dimensions": [{"Name": name, "Value": value} for name, value in stat.metric.dimensions],
        },
        "Period": stat.period,
        "Stat": stat.stat,
    }
    if stat.unit is not None:
        wanted["Unit"] = stat.unit  # type: ignore[typeddict-item]  # the alarm's definition says which
    return {"Id": name, "MetricStat": wanted}
