"""Each check of a load test's verdict: it holds for a good run, and not once the one thing is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from sluice_core.jobs import JobError, JobStatus
from sluice_harness.loadtest.evidence import Evidence, Letter, MetricCount
from sluice_harness.loadtest.scenarios import Threshold
from sluice_harness.loadtest.verdict import as_document, judge
from unit.judged import (
    JOBS,
    alarm,
    client_job,
    client_side,
    evidence,
    key,
    result_key,
    row,
    scenario,
    stage_side,
)


def failed(found: Evidence) -> dict[str, str]:
    """Return the checks that did not hold, with what they measured and say."""
    return {
        f"{check.group}: {check.name}": f"{check.measured} {check.detail}".strip() for check in judge(found).failed
    }


def with_rows(**changes: Any) -> Evidence:
    """Return a run whose fourth job has another row."""
    rows = {**stage_side().rows, key(3): row(3, **changes)}
    return evidence(stage=stage_side(rows=rows))


def test_a_good_run_holds() -> None:
    verdict = judge(evidence())
    assert verdict.held
    assert {check.group for check in verdict.checks} == {
        *("requests", "harness", "thresholds", "jobs", "metrics", "alarms", "dashboard")
    }


def test_too_few_submissions() -> None:
    assert failed(evidence(asked=JOBS + 1)) == {"requests: submissions": f"{JOBS}"}


def test_users_that_did_nothing() -> None:
    # given scenarios in which readers and attackers come beside each submission
    for kind, name in (
        ("poller", "GET /job-status/{job-id} again"),
        ("lister", "GET /job-status"),
        ("hostile", ""),
    ):
        users = {"submitter": 0.5, kind: 0.5}
        found = evidence(scenario=scenario(users=users))

        # when nobody of that kind has come, then
        assert failed(found) == {"requests: users": f"nothing from {kind}"}

        # when somebody has, then
        run = found.client.run
        assert run is not None
        if kind == "hostile":
            side = replace(found.client, run=replace(run, rejections={"no token": 1}))
        else:
            side = replace(
                found.client, seconds=[*found.client.seconds, replace(found.client.seconds[0], name=name)]
            )
        assert failed(replace(found, client=side)) == {}


def test_the_interruption_of_a_run() -> None:
    assert failed(evidence(interrupted=True)) == {"harness: uninterrupted": "interrupted"}


@pytest.mark.parametrize(
    ("changes", "check", "said"),
    [
        ({"exit_code": 1}, "harness: exit code", "1"),
        ({"exit_code": None}, "harness: exit code", "ended"),
        ({"problems": ["jobs.jsonl: nothing"]}, "harness: report", "jobs.jsonl: nothing"),
    ],
)
def test_a_load_generator_that_did_not_do_its_part(changes: dict[str, Any], check: str, said: str) -> None:
    found = failed(evidence(client=client_side(**changes)))
    assert found.keys() == {check}
    assert said in found[check]


def test_a_load_generator_that_died() -> None:
    # given that there is no run.json, and so nothing to count failed requests by
    shares = scenario(thresholds=(Threshold("unexpected_answers_share", at_most=1.0),))
    found = failed(evidence(scenario=shares, client=client_side(run=None)))

    # then neither the report nor the threshold holds
    assert found == {"harness: report": "missing", "thresholds: unexpected_answers_share": "no data"}


def test_a_worker_that_said_no_last_word() -> None:
    run = client_side().run
    assert run
    assert failed(evidence(client=client_side(run=replace(run, is_complete=False)))) == {
        "harness: report": "incomplete"
    }


def test_an_exception_in_the_load_generator() -> None:
    run = client_side().run
    assert run
    raised = replace(run, exceptions=["ValueError: no (3 times)"])
    found = failed(evidence(client=client_side(run=raised)))
    assert found == {"harness: exceptions": "1 kinds ValueError: no (3 times)"}


@pytest.mark.parametrize(
    ("threshold", "held"),
    [
        (Threshold("submit_p95_ms", at_most=10), True),
        (Threshold("submit_p95_ms", at_most=9.9), False),
        (Threshold("submissions_per_s", at_least=1.1), True),
        (Threshold("submissions_per_s", at_least=1.2), False),
        (Threshold("quiet_p95_ratio", at_most=1000), False),  # nobody was quiet
    ],
)
def test_a_threshold(threshold: Threshold, held: bool) -> None:
    found = failed(evidence(scenario=scenario(thresholds=(threshold,))))
    assert found.keys() == (set() if held else {f"thresholds: {threshold.name}"})


def test_a_job_without_a_row() -> None:
    # given a job that was accepted and is not in the ledger
    rows = {one: job for one, job in stage_side().rows.items() if one != key(3)}
    verdict = judge(evidence(stage=stage_side(rows=rows)))

    # then it is named
    (check,) = verdict.failed
    assert check.name == "on record"
    assert check.jobs == ("job-03",)
    assert "not in the ledger" in check.detail


def test_a_job_that_nobody_will_end() -> None:
    found = failed(with_rows(status=JobStatus.SUBMITTED, started_at=None, ended_at=None, result=None))
    assert "lost: still SUBMITTED, and its message is in neither queue" in found["jobs: ended"]
    assert "its client saw COMPLETED" in found["jobs: ended as its client saw"]


def test_a_queue_that_did_not_drain() -> None:
    # given a job that is open, and a message that may be its own
    rows = {**stage_side().rows, key(3): row(3, status=JobStatus.RUNNING, ended_at=None)}
    found = failed(evidence(stage=stage_side(rows=rows, left={"request": 0, "work": 2})))

    # then nobody says that it is lost
    assert found["jobs: queues empty"] == "2 in the work queue"
    assert "lost" not in found["jobs: ended"]


def test_a_job_that_ended_otherwise_than_it_had_to() -> None:
    found = failed(with_rows(status=JobStatus.FAILED, error=JobError("WORKER_LOST", "gone"), result=None))
    assert "job-03 of ann: FAILED, not COMPLETED: WORKER_LOST" in found["jobs: ended as expected"]
    assert found.keys() == {*("jobs: ended as expected", "jobs: ended as its client saw", "jobs: one result each")}


def test_poison_has_to_fail() -> None:
    # given a job that should have failed and did
    jobs = [*client_side().jobs[1:], client_job(0, expected=JobStatus.FAILED, status=JobStatus.FAILED)]
    rows = {**stage_side().rows, key(0): row(0, status=JobStatus.FAILED, result=None)}
    results = {one: there for one, there in stage_side().results.items() if one != key(0)}
    fine = evidence(client=client_side(jobs=jobs), stage=stage_side(rows=rows, results=results))

    # then it holds, and does not if it completed
    assert failed(fine) == {}
    found = failed(evidence(client=client_side(jobs=jobs)))
    assert "COMPLETED, not FAILED" in found["jobs: ended as expected"]


def test_what_a_client_complains_of() -> None:
    jobs = [client_job(0, complaint="job lost"), *client_side().jobs[1:]]
    found = failed(evidence(client=client_side(jobs=jobs)))
    assert found == {"jobs: followed without complaint": "1 not so job-00 of ann: job lost"}


def test_a_job_that_was_run_twice() -> None:
    # given a second attempt that nobody gave back, and the object that it stored
    rows = {**stage_side().rows, key(3): row(3, attempts=2)}
    results = {**stage_side().results, key(3): [result_key(3), result_key(3, "b")]}
    found = failed(evidence(stage=stage_side(rows=rows, results=results)))

    # then both are told
    assert found.keys() == {"jobs: run once", "jobs: one result each"}
    assert "job-03 of ann: 2 attempts" in found["jobs: run once"]
    assert "its work was done 2 times" in found["jobs: one result each"]


def test_a_second_attempt_after_one_that_was_given_back_is_right() -> None:
    rows = {**stage_side().rows, key(3): row(3, attempts=2)}
    assert failed(evidence(stage=stage_side(rows=rows, retried=1))) == {}


def test_a_result_that_is_not_there() -> None:
    results = {**stage_side().results, key(3): [result_key(3, "another")]}
    found = failed(evidence(stage=stage_side(results=results)))
    assert "job-03 of ann: its result is not in the bucket" in found["jobs: one result each"]


@pytest.mark.parametrize(
    ("letters", "said"),
    [
        ([Letter("work", key(3), is_ours=False)], "1 of jobs"),
        ([Letter("work", None, is_ours=True)], "1 malformed in the work queue's"),
    ],
)
def test_a_dead_letter_that_should_not_be(letters: list[Letter], said: str) -> None:
    assert failed(evidence(stage=stage_side(letters=letters))) == {"jobs: dead letters": said}


def test_malformed_messages_have_to_be_set_aside_in_both_queues() -> None:
    both = [Letter(queue, None, is_ours=True) for queue in ("request", "work")]
    assert failed(evidence(malformed=1, stage=stage_side(letters=both))) == {}
    assert failed(evidence(malformed=1, stage=stage_side(letters=both[:1]))).keys() == {"jobs: dead letters"}


@pytest.mark.parametrize(
    ("count", "held"),
    [
        (MetricCount("JobsCompleted", 10.0, 10), True),
        (MetricCount("JobsCompleted", 9.0, 10), False),
        (MetricCount("JobsCompleted", 11.0, 10), False),
        (MetricCount("JobsCompleted", None, 10), False),
        (MetricCount("JobsFailed", None, 0), True),
        (MetricCount("JobsCompleted", 12.0, 10, edge=2), True),
        (MetricCount("JobsCompleted", 13.0, 10, edge=2), False),
        (MetricCount("ClientSubmissions", 10.0, 10, client=10), True),
        (MetricCount("ClientSubmissions", 10.0, 10, client=11), False),
        (MetricCount("ClientSubmissions", 9.0, 10, client=10), False),
    ],
)
def test_a_count_has_to_be_the_same_wherever_it_is_taken(count: MetricCount, held: bool) -> None:
    found = failed(evidence(stage=stage_side(counts=[count])))
    assert found.keys() == (set() if held else {f"metrics: {count.name}"})


def test_an_alarm_that_had_to_fire_and_did_not() -> None:
    demanding = scenario(expected_alarms=frozenset({"quiet", "nowhere"}))
    found = failed(evidence(scenario=demanding))
    assert found == {
        "alarms: quiet": "did not fire: OK it is OK",
        "alarms: nowhere": "did not fire: there is no such alarm",
    }


def test_an_alarm_that_fired_and_had_not_to() -> None:
    found = failed(evidence(stage=stage_side(alarms=[alarm("loud", "ALARM", "OK")])))
    assert found == {"alarms: no others": "loud loud: because of ALARM"}


@pytest.mark.parametrize("role", ["expected_alarms", "allowed_alarms"])
def test_an_alarm_that_fired_and_may(role: str) -> None:
    knowing = scenario(**{role: frozenset({"loud"})})
    assert failed(evidence(scenario=knowing, stage=stage_side(alarms=[alarm("loud", "ALARM")]))) == {}


def test_an_alarm_that_was_in_alarm_before_did_not_fire_and_is_noted() -> None:
    before = replace(alarm("stuck"), state="ALARM")
    verdict = judge(evidence(stage=stage_side(alarms=[before])))
    assert verdict.held
    assert any("stuck" in note for note in verdict.notes)


def test_a_widget_without_data() -> None:
    blind = [("operations: Jobs has no data", "Sluice JobsCompleted")]
    found = failed(evidence(stage=stage_side(blind=blind)))
    assert found.keys() == {"dashboard: widgets fed"}
    assert "operations: Jobs has no data: Sluice JobsCompleted" in found["dashboard: widgets fed"]


def test_a_dashboard_that_is_not_there() -> None:
    assert failed(evidence(stage=stage_side(widgets=0))).keys() == {"dashboard: widgets fed"}


def test_the_document_has_all_that_a_reader_was_promised() -> None:
    # given a run that did not hold
    found = evidence(asked=JOBS + 1)

    # when it is written
    document = json.loads(json.dumps(as_document(found, judge(found))))

    # then it says so, and why
    assert document["version"] == 1
    assert (document["held"], document["interrupted"]) == (False, False)
    assert (document["scenario"], document["asked"], document["accepted"]) == ("small", JOBS + 1, JOBS)
    assert document["figures"]["submit_p95_ms"] == 10
    assert document["figures"]["quiet_p95_ratio"] is None
    (check,) = [check for check in document["checks"] if not check["held"]]
    assert check.keys() == {"group", "name", "held", "expected", "measured", "detail", "jobs"}
    assert (check["group"], check["measured"]) == ("requests", "10")
