"""What a stage costs, estimated from what its metrics count.

Meant for finding what the money goes into, not for the bill: there are no free tiers in it, and messages are
counted one by one where a request may carry ten.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PRICES: Final = Path(__file__).with_name("prices.json")
_MILLION: Final = 1_000_000
_GB: Final = 10**9
_HOUR_S: Final = 3_600
# AWS's own month where it states prices by the hour and the month.
MONTH_S: Final = 730 * 3_600


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used in a window of so many seconds.

    Attributes
    ----------
    jobs : float
        Submissions recorded or rejected.
    gb_seconds : mapping of str to float
        Lambda's, by architecture.
    log_bytes : float or None
        None where nobody counts them.
    alarm_metrics : int
        What alarms are billed by: each metric that one reads.
    events, traces, transitions, s3_gets : float or None
        Events put on the bus, traces that X-Ray records, state transitions of Step Functions and objects read;
        without a line where they are None.
    vcpu_seconds, container_gb_seconds : mapping of str to float
        Fargate's, by architecture.
    log_months : float or None
        For how long what is logged is kept.

    """

    seconds: float
    jobs: float
    api_requests: float
    sqs_requests: float
    lambda_requests: float
    gb_seconds: Mapping[str, float]
    write_units: float
    read_units: float
    s3_puts: float
    log_bytes: float | None
    custom_metrics: int
    alarm_metrics: int
    composite_alarms: int
    dashboards: int
    events: float | None = None
    traces: float | None = None
    log_months: float | None = None
    transitions: float | None = None
    s3_gets: float | None = None
    vcpu_seconds: Mapping[str, float] = field(default_factory=dict)
    container_gb_seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CostLine:
    """One line of the estimate.

    Attributes
    ----------
    quantity : float or None
        None where it is not known.
    window : float or None
        USD for the window.
    per_million : float or None
        USD for a million jobs like those of the window; None of what costs the same whatever is done.
    per_month : float or None
        USD a month, of what costs the same whatever is done.

    """

    what: str
    quantity: float | None
    unit: str
    price: str
    window: float | None
    per_million: float | None = None
    per_month: float | None = None


def prices() -> dict[str, Any]:
    """Return the price list."""
    content: dict[str, Any] = json.loads(_PRICES.read_text())
    return content


def estimate(usage: Usage, listed: Mapping[str, Any]) -> list[CostLine]:
    """Return what each kind of use costs at these prices."""
    return [*_by_use(usage, listed), *_by_month(usage, listed)]


def total(lines: list[CostLine], what: str) -> float:
    """Return the sum of one of the columns ``window``, ``per_million`` and ``per_month``, what is known of it."""
    return sum(getattr(line, what) or 0.0 for line in lines)


def _by_use(usage: Usage, listed: Mapping[str, Any]) -> Iterator[CostLine]:
    counted = {
        "apiRequests": ("API Gateway", usage.api_requests, "requests"),
        "sqsRequests": ("SQS", usage.sqs_requests, "requests at most"),
        "writeUnits": ("DynamoDB, writes", usage.write_units, "write units"),
        "readUnits": ("DynamoDB, reads", usage.read_units, "read units"),
        "s3Puts": ("S3, puts", usage.s3_puts, "results"),
        "s3Gets": ("S3, gets", usage.s3_gets, "objects"),
        "lambdaRequests": ("Lambda, requests", usage.lambda_requests, "invocations"),
        "events": ("EventBridge", usage.events, "events"),
        "traces": ("X-Ray", usage.traces, "traces recorded"),
        "transitions": ("Step Functions", usage.transitions, "state transitions"),
    }
    for key, (what, quantity, unit) in counted.items():
        if quantity is None:
            continue
        price = listed["perMillion"][key]
        yield _by_quantity(usage, price / _MILLION, what, quantity, unit=unit, price=f"{price:g} a million")
    for architecture, quantity in sorted(usage.gb_seconds.items()):
        price = listed["perGbSecond"][architecture]
        said = f"{price * _MILLION:.4f} a million"
        yield _by_quantity(usage, price, f"Lambda, {architecture}", quantity, unit="GB-s", price=said)
    for key, what, spent, unit in (
        ("fargateVcpu", "Fargate, CPU", usage.vcpu_seconds, "vCPU-h"),
        ("fargateGb", "Fargate, memory", usage.container_gb_seconds, "GB-h"),
    ):
        for architecture, seconds in sorted(spent.items()):
            price = listed["perHour"][key][architecture]
            said = f"{price:g} an hour"
            yield _by_quantity(usage, price, f"{what}, {architecture}", seconds / _HOUR_S, unit=unit, price=said)
    price = listed["perLogGb"]
    gigabytes = None if usage.log_bytes is None else usage.log_bytes / _GB
    yield _by_quantity(usage, price, "Logs", gigabytes, unit="GB", price=f"{price:g} a GB")
    if usage.log_months is not None and gigabytes is not None:
        price, kept = listed["perLogGbMonth"], gigabytes * usage.log_months
        said = f"{price:g} a GB and month"
        yield _by_quantity(usage, price, "Logs, kept", kept, unit="GB-months at most", price=said)


def _by_quantity(
    usage: Usage, each: float, what: str, quantity: float | None, *, unit: str, price: str
) -> CostLine:
    if quantity is None:
        return CostLine(what, None, unit, price, None)
    cost = quantity * each
    per_million = cost / usage.jobs * _MILLION if usage.jobs else None
    return CostLine(what, quantity, unit, price, cost, per_million=per_million)


def _by_month(usage: Usage, listed: Mapping[str, Any]) -> Iterator[CostLine]:
    fixed = {
        "customMetric": ("Custom metrics", usage.custom_metrics, "metrics"),
        "alarmMetric": ("Alarms", usage.alarm_metrics, "metrics that alarms read"),
        "compositeAlarm": ("Composite alarms", usage.composite_alarms, "alarms"),
        "dashboard": ("Dashboards", usage.dashboards, "dashboards"),
    }
    for key, (what, quantity, unit) in fixed.items():
        price = listed["perMonth"][key]
        month = quantity * price
        yield CostLine(
            what, quantity, unit, f"{price:g} a month", month * usage.seconds / MONTH_S, per_month=month
        )
