"""The service's objectives, and the alarms on how fast their error budgets burn.

Availability: of the submissions, those that were neither refused with a 5xx nor ended FAILED by no fault of their
own. Latency: of the completed jobs that ``lambda`` ran, those within a time. A burn rate of 1 spends the budget of
30 days in 30 days; an alarm looks at two windows, so that it fires on what matters and stops when it is over
(Google's SRE Workbook, "Alerting on SLOs").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluice_core import metrics

from sluice_infra.alarm_specs import HOUR, MINUTE, AlarmSpec, CompositeSpec, Series, Severity, own

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sluice_infra.stages import StageConfig

# Burn rate of a 30-day budget: 2 % of it in an hour, 5 % in six (SRE Workbook, "Alerting on SLOs", table 5-8).
_BURNS = (
    ("fast", Severity.CRITICAL, 14.4, "1h", "5m"),
    ("slow", Severity.WARNING, 6.0, "6h", "30m"),
)
# One or two failures are no trend, however few the jobs were.
_FEWEST_BAD = 3
_WINDOWS = {"5m": 5 * MINUTE, "30m": 30 * MINUTE, "1h": HOUR, "6h": 6 * HOUR}


def burn_alarms() -> list[CompositeSpec]:
    """Return the alarms on burn rates: each fires while both of its windows do."""
    return [
        CompositeSpec(
            name=f"{objective}-{speed}-burn",
            runbook=f"{objective}-burn",
            severity=severity,
            means=f"The {objective} objective's error budget burns {factor:g} times too fast, and still does.",
            children=(f"{objective}-burn-{long}", f"{objective}-burn-{short}"),
            needs_all=True,
        )
        for objective in ("availability", "latency")
        for speed, severity, factor, long, short in _BURNS
    ]


def burn_windows(config: StageConfig) -> Iterator[AlarmSpec]:
    """Return the alarms on single windows, which notify nobody."""
    for _, severity, factor, *windows in _BURNS:
        for window in windows:
            yield _burn("availability", severity, factor, window, _availability(config))
            yield _burn("latency", severity, factor, window, _latency(config))


def _burn(
    objective: str,
    severity: Severity,
    factor: float,
    window: str,
    indicator: tuple[Mapping[str, Series], str],
) -> AlarmSpec:
    series, expression = indicator
    return AlarmSpec(
        name=f"{objective}-burn-{window}",
        runbook=f"{objective}-burn",
        severity=severity,
        means=f"In the last {window}, the {objective} objective's error budget burnt {factor:g} times too fast.",
        series=series,
        expression=expression,
        threshold=factor,
        period_s=_WINDOWS[window],
        notifies=False,
    )


def _availability(config: StageConfig) -> tuple[Mapping[str, Series], str]:
    """Of the submissions: those refused with a 5xx, and the jobs that failed by no fault of their own."""
    bad = {
        "refused": Series("AWS/ApiGateway", "5XXError", "Sum", _SUBMIT),
        "exhausted": own(metrics.JOBS_FAILED_RETRIES_EXHAUSTED, "Sum"),
        "lost": own(metrics.JOBS_FAILED_WORKER_LOST, "Sum"),
        "unprocessed": own(metrics.JOBS_FAILED_NOT_PROCESSED, "Sum"),
    }
    if config.external_executors:
        bad["unstarted"] = own(metrics.JOBS_FAILED_NOT_STARTED, "Sum")
    # SUM takes those of its series that are there; a failure that never was has none.
    failed = f"FILL(SUM([{', '.join(bad)}]), 0)"
    ended = f"FILL(SUM([{', '.join([*bad, 'completed'])}]), 0)"
    budget = round(1 - config.thresholds.availability_objective, 9)
    burn = f"IF({failed} < {_FEWEST_BAD}, 0, {failed} / {ended}) / {budget:g}"
    return {**bad, "completed": own(metrics.JOBS_COMPLETED, "Sum")}, burn


def _latency(config: StageConfig) -> tuple[Mapping[str, Series], str]:
    """Of the completed jobs that ``lambda`` ran: those that took longer than the objective allows."""
    series = {
        "within": own(metrics.END_TO_END, f"PR(:{config.thresholds.latency_ms})"),
        "jobs": own(metrics.END_TO_END, "SampleCount"),
    }
    late = "(100 - FILL(within, 100))"
    budget = round(100 * (1 - config.thresholds.latency_objective), 9)
    return series, f"IF(FILL(jobs, 0) * {late} / 100 < {_FEWEST_BAD}, 0, {late}) / {budget:g}"


_SUBMIT = {
    "ApiName": "${ApiName}",
    "Stage": "${Stage}",
    "Method": "${SubmitMethod}",
    "Resource": "${SubmitResource}",
}
