"""What CloudWatch says of a metric, for the conformance tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from stage.conformance.functions import eventually

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

WHOLE = 86_400


def span() -> dict[str, datetime]:
    """Return a time range that holds all of a test, on an engine of any speed."""
    start = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(hours=1)
    return {"StartTime": start, "EndTime": start + timedelta(days=10)}


def named(dimensions: dict[str, str]) -> list[dict[str, str]]:
    """Return dimensions as the API has them."""
    return [{"Name": name, "Value": value} for name, value in dimensions.items()]


def points(engine: Engine, namespace: str, name: str, stat: str, **dimensions: str) -> list[dict[str, Any]]:
    """Return the data points of a metric, a day each: one, if there is any."""
    found = engine.client("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=name,
        Dimensions=named(dimensions),
        Period=WHOLE,
        Statistics=[stat],
        **span(),
    )
    return list(found["Datapoints"])


def statistic(engine: Engine, namespace: str, name: str, stat: str, **dimensions: str) -> float | None:
    """Return one statistic over all that was recorded of a metric, or None if nothing was."""
    found = points(engine, namespace, name, stat, **dimensions)
    return found[0][stat] if found else None


def total(engine: Engine, namespace: str, name: str, **dimensions: str) -> float | None:
    """Return the sum of all that was recorded of a metric, or None if nothing was."""
    return statistic(engine, namespace, name, "Sum", **dimensions)


def reaches(engine: Engine, expected: float, namespace: str, name: str, **dimensions: str) -> float | None:
    """Wait until a metric's sum is what is expected, and return what it is then."""
    eventually(lambda: total(engine, namespace, name, **dimensions) == expected)
    return total(engine, namespace, name, **dimensions)
