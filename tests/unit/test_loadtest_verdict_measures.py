"""What thresholds are about: percentiles from the schedule's moment on, rates, shares, what quiet owners feel."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sluice_core.jobs import JobStatus
from sluice_harness.loadtest.evidence import Evidence
from sluice_harness.loadtest.fairness import fairness
from sluice_harness.loadtest.measures import measure, percentile
from sluice_harness.loadtest.scenarios import THRESHOLDS
from unit.judged import START, client_job, client_side, evidence, key, row, scenario, stage_side


def test_percentiles_lie_between_the_closest_ranks() -> None:
    assert percentile([1.0, 2.0], 50) == 1.5
    assert percentile([3.0], 99) == 3.0
    assert percentile([], 50) is None


def test_every_threshold_of_a_file_is_measured() -> None:
    # given a run of which everything but quiet owners is known, then each name has a value
    measured = {name: measure(name, evidence()) for name in THRESHOLDS}
    assert {name for name, value in measured.items() if value is None} == {"quiet_p95_ratio"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("submit_p50_ms", 10),
        ("visible_p95_ms", 1000),
        ("queue_wait_p95_ms", 100),
        ("run_p95_ms", 50),
        ("end_to_end_p99_ms", 2000),
        ("download_p95_ms", 5),
        ("unexpected_answers_share", 0),
        ("submissions_per_s", 10 / 9.01),
        ("completions_per_s", 10 / 9.15),
    ],
)
def test_a_measured_value(name: str, value: float) -> None:
    assert measure(name, evidence()) == pytest.approx(value)


def test_a_client_that_was_kept_waiting_counts_from_when_it_wanted_to_send() -> None:
    # given a submission that the schedule wanted five seconds before it could be sent
    late = client_job(0, intended_at=1000.0 * START - 5000)
    assert measure("submit_p99_ms", evidence(client=client_side(jobs=[late]))) == 5010


def test_only_requests_count_as_answers() -> None:
    # given one request in ten that failed, and times of jobs, which are no requests
    run = client_side().run
    assert run
    failing = replace(run, requests={"GET /job-status": (10, 1), "job: end to end": (10, 10)})
    assert measure("unexpected_answers_share", evidence(client=client_side(run=failing))) == 0.1


def test_nothing_measures_what_never_happened() -> None:
    nothing = evidence(client=client_side(jobs=[]), stage=stage_side(rows={}))
    names = [name for name in THRESHOLDS if name != "unexpected_answers_share"]
    assert [measure(name, nothing) for name in names] == [None] * len(names)


def noisy(baseline_ms: float, load_ms: float) -> Evidence:
    """Return a run whose quiet owners' jobs took so long, alone and beside a noisy one that took a minute."""
    jobs = [
        client_job(
            number,
            is_quiet=is_quiet,
            phase=phase,
            end_seen_at=1000.0 * (START + number) + took,
        )
        for number, (is_quiet, phase, took) in enumerate(
            [(True, "baseline", baseline_ms), (True, "load", load_ms), (False, "load", 60_000.0)]
        )
    ]
    return evidence(scenario=scenario(noisy_share=0.9), client=client_side(jobs=jobs))


def test_the_ratio_is_of_quiet_owners_alone() -> None:
    assert measure("quiet_p95_ratio", noisy(1000, 1500)) == 1.5


def test_a_ratio_needs_a_baseline() -> None:
    found = noisy(1000, 1500)
    found = replace(found, client=client_side(jobs=found.client.jobs[1:]))
    assert measure("quiet_p95_ratio", found) is None


def test_the_report_says_what_quiet_owners_felt_and_what_aws_does() -> None:
    said = " ".join(fairness(noisy(1000, 1500)))
    assert "1 s alone, 1.5 s beside the noisy owner" in said
    assert "MessageGroupId" in said
    assert "local stage" in said


def test_without_a_noisy_owner_nothing_is_said_of_fairness() -> None:
    assert list(fairness(evidence())) == []


def test_a_job_that_failed_has_no_end_to_end_time() -> None:
    jobs = [client_job(0, status=JobStatus.FAILED)]
    assert measure("end_to_end_p95_ms", evidence(client=client_side(jobs=jobs))) is None


def test_a_job_that_never_started_waited_for_nothing() -> None:
    rows = {key(0): row(0, started_at=None, ended_at=None)}
    assert measure("queue_wait_p95_ms", evidence(stage=stage_side(rows=rows))) is None
