"""Whether a load test held: pure functions from the evidence to a list of checks.

``verdict.json`` is `as_document` of it; its schema is stable, and `version` grows with every change that breaks
a reader:

* ``version`` 1; ``scenario``, ``about``, ``stage``: what was run, and where
* ``held``: whether every check held; ``interrupted``: whether somebody ended it
* ``startedAt``, ``endedAt``: of the load, epoch seconds or null; ``asked``, ``accepted``: submissions; ``workers``
* ``checks``: each with ``group`` (requests, harness, thresholds, jobs, metrics, alarms, dashboard), ``name``,
  ``held``, ``expected`` and ``measured`` (as text), ``detail``, and ``jobs``: the ids that it is about, 20 at most
* ``figures``: every value that a threshold could be about, by its name, in its unit; null if nothing measured it
* ``counts``: each metric's ``name``, ``summed``, ``ledger``, ``client`` (null where there is none) and ``edge``
* ``errors``: failed requests by kind; ``notes``: what else a reader should know
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sluice_harness.loadtest import accounting, observed
from sluice_harness.loadtest.check import Check
from sluice_harness.loadtest.evidence import errors_by_kind
from sluice_harness.loadtest.fairness import fairness
from sluice_harness.loadtest.measures import measure
from sluice_harness.loadtest.scenarios import THRESHOLDS
from sluice_harness.review.figures import figure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sluice_harness.loadtest.evidence import Evidence
    from sluice_harness.loadtest.scenarios import Threshold

_VERSION = 1
# By which requests those are known who submit nothing; the hostile by what they were refused.
_READS = {"poller": "GET /job-status/{job-id} again", "lister": "GET /job-status"}
# Of whom fewer were to come than this, chance may have left out all.
_FEW = 5


@dataclass(frozen=True, slots=True)
class Verdict:
    """The checks; `notes` say what else a reader should know."""

    checks: Sequence[Check]
    notes: Sequence[str]

    @property
    def held(self) -> bool:
        """Whether all of them held."""
        return all(check.held for check in self.checks)

    @property
    def failed(self) -> list[Check]:
        """Those that did not."""
        return [check for check in self.checks if not check.held]


def judge(evidence: Evidence) -> Verdict:
    """Return the verdict on a run."""
    checks = [
        *requests(evidence),
        *harness(evidence),
        *thresholds(evidence),
        *accounting.jobs(evidence),
        *observed.metrics(evidence),
        *observed.alarms(evidence),
        *observed.dashboard(evidence),
    ]
    return Verdict(checks, [*fairness(evidence), *observed.notes(evidence)])


def requests(evidence: Evidence) -> Iterator[Check]:
    """Check that as many submissions were accepted as were asked for, and that all kinds of users came."""
    accepted = len(evidence.client.jobs)
    refused = evidence.client.run.refused if evidence.client.run else {}
    said = ", ".join(f"{count} {kind}" for kind, count in refused.items())
    yield Check(
        "requests",
        "submissions",
        held=accepted >= evidence.asked,
        expected=f"at least {evidence.asked:,}",
        measured=f"{accepted:,}",
        detail=f"refused: {said}" if said else "",
    )
    if wanted := _wanted(evidence):
        missing = sorted(kind for kind in wanted if not _came(evidence, kind))
        yield Check(
            "requests",
            "users",
            held=not missing,
            expected=", ".join(sorted(wanted)),
            measured="all" if not missing else f"nothing from {', '.join(missing)}",
        )


def _wanted(evidence: Evidence) -> set[str]:
    """Return the kinds of users that submit nothing and of whom some must have come."""
    shares = evidence.scenario.users
    others = {kind: share for kind, share in shares.items() if kind in {*_READS, "hostile"}}
    submitting = sum(shares.values()) - sum(others.values())
    return {kind for kind, share in others.items() if evidence.asked * share >= _FEW * submitting}


def _came(evidence: Evidence, kind: str) -> bool:
    run = evidence.client.run
    if kind == "hostile":
        return run is not None and sum(run.rejections.values()) > 0
    return any(second.name == _READS[kind] and second.count for second in evidence.client.seconds)


def harness(evidence: Evidence) -> Iterator[Check]:
    """Check that the load generator did its part, and that nobody stopped it."""
    client = evidence.client
    is_complete = client.run is not None and client.run.is_complete
    exceptions = client.run.exceptions if client.run else ()
    yield Check(
        "harness",
        "uninterrupted",
        held=not evidence.interrupted,
        expected="run to its end",
        measured="interrupted" if evidence.interrupted else "run to its end",
    )
    yield Check(
        "harness",
        "exit code",
        held=client.exit_code == 0,
        expected="0",
        measured="none: it was ended" if client.exit_code is None else str(client.exit_code),
        detail="Locust's own, which is not 0 after an exception or a failed request, either; see locust.log"
        if client.exit_code
        else "",
    )
    yield Check(
        "harness",
        "report",
        held=is_complete and not client.problems,
        expected="complete",
        measured="complete" if is_complete else "incomplete" if client.run else "missing",
        detail="; ".join(client.problems),
    )
    yield Check(
        "harness",
        "exceptions",
        held=not exceptions,
        expected="none",
        measured=f"{len(exceptions)} kinds" if exceptions else "none",
        detail="; ".join(exceptions),
    )


def thresholds(evidence: Evidence) -> Iterator[Check]:
    """Check each threshold of the scenario; one that nothing measured has not held."""
    for threshold in evidence.scenario.thresholds:
        yield _threshold(threshold, measure(threshold.name, evidence))


def _threshold(threshold: Threshold, value: float | None) -> Check:
    if threshold.at_most is not None:
        held, expected = value is not None and value <= threshold.at_most, f"≤ {figure(threshold.at_most)}"
    else:
        least = threshold.at_least or 0.0
        held, expected = value is not None and value >= least, f"≥ {figure(least)}"
    measured = "no data" if value is None else figure(value)
    return Check("thresholds", threshold.name, held=held, expected=expected, measured=measured)


def as_document(evidence: Evidence, verdict: Verdict) -> dict[str, Any]:
    """Return what ``verdict.json`` says; see above."""
    run = evidence.client.run
    return {
        "version": _VERSION,
        "scenario": evidence.scenario.name,
        "about": evidence.scenario.about,
        "stage": evidence.stage.name,
        "held": verdict.held,
        "interrupted": evidence.interrupted,
        "startedAt": run.started_at if run else None,
        "endedAt": run.ended_at if run else None,
        "asked": evidence.asked,
        "accepted": len(evidence.client.jobs),
        "workers": run.workers if run else None,
        "checks": [asdict(check) for check in verdict.checks],
        "figures": {name: measure(name, evidence) for name in THRESHOLDS},
        "counts": [asdict(count) for count in evidence.stage.counts],
        "errors": dict(errors_by_kind(evidence.client.seconds)),
        "notes": list(verdict.notes),
    }
