"""The evidence: the load generator's files, the ledger's tally of a window, and the run over time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from sluice_core.jobs import Job, JobError, JobStatus
from sluice_harness.loadtest.collect import tally
from sluice_harness.loadtest.evidence import RequestSecond, errors_by_kind, read_client
from sluice_harness.loadtest.timelines import Axis, timelines
from unit.judged import JOBS, START, alarm, client_side, evidence, key, row, scenario, stage_side

if TYPE_CHECKING:
    from pathlib import Path

JOB: dict[str, Any] = {
    "owner": "ann",
    "jobId": "job-00",
    "kind": "submitter",
    "isQuiet": True,
    "phase": "load",
    "expected": "COMPLETED",
    "intendedAt": 1.0,
    "sentAt": 2.0,
    "acceptedAt": 3.0,
    "visibleMs": None,
    "status": None,
    "endSeenAt": None,
    "submittedAt": None,
    "startedAt": None,
    "endedAt": None,
    "downloadMs": None,
    "bytes": None,
    "complaint": None,
}
SECOND = {"at": 1, "name": "GET", "count": 2, "p50Ms": 1.0, "p95Ms": 2.0, "maxMs": 2.0, "errors": {"HTTP 503": 1}}
RUN = {
    "scenario": "small",
    "startedAt": 1.0,
    "endedAt": 2.0,
    "workers": 1,
    "isComplete": True,
    "requests": {"GET": {"count": 2, "failures": 1, "p50Ms": 1.0, "p95Ms": 2.0, "p99Ms": 2.0}},
    "refused": {},
    "rejections": {"no token": 1},
    "exceptions": [{"message": "no", "traceback": "", "count": 2}],
}


def write(folder: Path, **files: Any) -> None:
    usual = {"jobs.jsonl": JOB, "requests.jsonl": SECOND, "run.json": RUN}
    for name, content in (usual | files).items():
        if content is not None:
            (folder / name).write_text(json.dumps(content) + "\n")


def test_the_load_generators_files_are_read(tmp_path: Path) -> None:
    # given what it writes
    write(tmp_path)

    # when it is read
    found = read_client(tmp_path, 0)

    # then it is all there
    assert (found.exit_code, found.problems) == (0, [])
    (job,) = found.jobs
    assert (job.key.owner, job.expected, job.status) == ("ann", JobStatus.COMPLETED, None)
    assert errors_by_kind(found.seconds) == {"HTTP 503": 1}
    assert found.run
    assert found.run.requests == {"GET": (2, 1)}
    assert found.run.exceptions == ["no (2 times)"]


def test_a_load_generator_that_died_left_no_last_word(tmp_path: Path) -> None:
    write(tmp_path, **{"run.json": None})
    found = read_client(tmp_path, 137)
    assert found.run is None
    assert any("run.json is not there" in problem for problem in found.problems)
    assert len(found.jobs) == 1


@pytest.mark.parametrize("broken", [{"run.json": {"startedAt": 1.0}}, {"jobs.jsonl": {**JOB, "expected": "DONE"}}])
def test_what_makes_no_sense_is_a_problem(tmp_path: Path, broken: dict[str, Any]) -> None:
    write(tmp_path, **broken)
    assert any("makes no sense" in problem for problem in read_client(tmp_path, 0).problems)


WINDOW = (1000.0 * START, 1000.0 * (START + 60))


@pytest.mark.parametrize(
    ("changes", "counted"),
    [
        ({}, {"SubmissionsRecorded": 1, "JobsStarted": 1, "JobsCompleted": 1}),
        (
            {"status": JobStatus.FAILED, "attempts": 3},
            {"SubmissionsRecorded": 1, "JobsStarted": 3, "JobsFailed": 1},
        ),
        (
            {"status": JobStatus.FAILED, "error": JobError("INVALID_REQUEST", "no"), "started_at": None},
            {"SubmissionsRejected": 1, "JobsFailed": 1},
        ),
        # Cancelled before its request was read: nobody knows what it asked for, and nobody recorded it.
        ({"status": JobStatus.CANCELLED, "digest": "", "started_at": None}, {"JobsCancelled": 1}),
        ({"submitted_at": 1000 * START - 1}, {"JobsStarted": 1, "JobsCompleted": 1}),
        ({"ended_at": 1000 * (START + 60)}, {"SubmissionsRecorded": 1, "JobsStarted": 1}),
    ],
)
def test_the_ledger_says_what_metrics_have_to_add_up_to(changes: dict[str, Any], counted: dict[str, int]) -> None:
    rows: list[Job] = [row(0, **changes)]
    assert {name: number for name, number in tally(rows, *WINDOW).items() if number} == counted


def points(chart: dict[str, Any], label: str) -> list[float | None]:
    (line,) = [line for line in chart["lines"] if line["label"] == label]
    return [value for _, value in line["points"]]


def test_a_run_over_time() -> None:
    # given ten jobs, one a second, each open for 150 ms
    found = evidence()
    axis = Axis.of(found)
    charts = timelines(found, axis)

    # then what happened in each second is in its bucket: arrivals, ends, and answers two seconds after each
    assert (axis.start, axis.end, axis.bucket) == (START, START + 11, 1)
    assert points(charts["rates"], "accepted") == [1.0] * JOBS + [0.0]
    assert points(charts["rates"], "completed") == [1.0] * JOBS + [0.0]
    assert points(charts["submit"], "p95") == [10.0] * JOBS + [None]
    assert points(charts["end-to-end"], "p50") == [None, None, *[2000.0] * (JOBS - 1)]
    assert points(charts["service"], "p99") == [150.0] * JOBS + [None]

    # and there is no chart of what was not
    assert charts.keys() == {"rates", "backlog", "submit", "end-to-end", "service"}


def test_the_backlog_and_its_age() -> None:
    # given a first job that never ends, and others that do after five seconds
    rows = {key(number): row(number, ended_at=1000 * (START + number + 5)) for number in range(JOBS)}
    rows[key(0)] = row(0, status=JobStatus.RUNNING, ended_at=None)
    found = evidence(stage=stage_side(rows=rows))

    # then it stays the oldest, and the others come and go
    chart = timelines(found, Axis.of(found))["backlog"]
    assert points(chart, "open jobs")[:8] == [1, 2, 3, 4, 5, 6, 6, 6]
    assert points(chart, "age of the oldest") == [
        float(second) for second in range(len(chart["lines"][0]["points"]))
    ]


def test_a_long_run_has_wider_buckets() -> None:
    rows = {**stage_side().rows, key(3): row(3, ended_at=1000 * (START + 1000))}
    axis = Axis.of(evidence(stage=stage_side(rows=rows)))
    assert axis.bucket == 6
    assert len(axis.starts) <= 180


def test_errors_are_shown_by_kind_and_owners_where_one_is_noisy() -> None:
    seconds = [RequestSecond(START + 1, "GET", 2, 1.0, 1.0, {"HTTP 503": 2})]
    found = evidence(client=client_side(seconds=seconds), scenario=scenario(noisy_share=0.9))
    charts = timelines(found, Axis.of(found))
    assert points(charts["errors"], "HTTP 503")[:3] == [0.0, 2.0, 0.0]
    assert points(charts["owners"], "noisy owner, p95")[0] == 150.0
    assert points(charts["owners"], "quiet owners, p95") == []


def test_an_alarm_that_fires_late_is_still_on_the_axis() -> None:
    # given one that fires twenty minutes of the stage's time after the beginning, which are two of ours
    found = evidence(stage=stage_side(alarms=[alarm("late", *["OK", "ALARM"] * 10)]))
    assert Axis.of(found).end == START + 120
