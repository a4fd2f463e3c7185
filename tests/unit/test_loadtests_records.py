"""What a load test's processes have seen: handed over once, put together, and written whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from answers import Answer, Complaint, unanswered, wrong_end, wrong_page, wrong_rejection, wrong_result
from collector import Collector, percentile
from records import Recorder, between_ms, new_record
from sluice_core import problems
from sluice_harness.description import User
from tokens import Owner

if TYPE_CHECKING:
    from pathlib import Path

    from records import JobRecord

from pacing import Arrival

OWNER = Owner(User("ann", "secret", []), 0, sub="ann-sub")


def record(job_id: str, **changes: Any) -> JobRecord:
    made = new_record(
        Arrival(0, 0.0, "submitter", 0), OWNER, job_id, intended_at=1_000.0, sent_at=1_001.0, is_quiet=False
    )
    made.update(changes)  # type: ignore[typeddict-item] # of the same keys
    return made


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- recording and merging


def test_what_was_handed_over_is_not_handed_over_again() -> None:
    # given a job and a request
    recorder = Recorder()
    recorder.accepted(record("one"))
    recorder.on_request("GET", 5.04)
    taken = recorder.take()
    assert (len(taken["jobs"]), len(taken["requests"])) == (1, 1)
    # when nothing happens, then there is nothing new, but the standing stays
    again = recorder.take()
    assert (again["jobs"], again["requests"]) == ([], [])
    assert again["standing"]["submitted"] == 1


def test_what_was_handed_over_does_not_change_with_what_comes_later() -> None:
    recorder = Recorder()
    job = record("one")
    recorder.accepted(job)
    taken = recorder.take()
    job["status"] = "COMPLETED"
    assert taken["jobs"][0]["status"] is None


def test_of_a_job_the_latest_counts_and_two_owners_may_use_one_id(tmp_path: Path) -> None:
    # given a job seen twice, and another owner's of the same id
    recorder, collector = Recorder(), Collector(2)
    job = record("one")
    recorder.accepted(job)
    collector.merge("a", recorder.take())
    job["status"] = "COMPLETED"
    recorder.changed(job)
    recorder.accepted(record("one", owner="ben-sub"))
    collector.merge("a", recorder.take())
    # when it is written
    collector.write_all(tmp_path, {})
    # then
    assert {(one["owner"], one["status"]) for one in lines(tmp_path / "jobs.jsonl")} == {
        ("ann-sub", "COMPLETED"),
        ("ben-sub", None),
    }
    assert collector.submitted == 2


def test_two_processes_requests_of_a_second_are_one_line(tmp_path: Path) -> None:
    # given two processes' requests in the same second, of which one failed
    collector = Collector(0)
    for node, times, errors in (("a", [1.0, 3.0], {}), ("b", [2.0], {"HTTP 503": 1})):
        seen = Recorder().take() | {"requests": [[100, "GET", times, errors]], "refused": errors}
        collector.merge(node, seen)
    # when it is written
    collector.write_all(tmp_path, {"scenario": "smoke"})
    # then
    (line,) = lines(tmp_path / "requests.jsonl")
    assert line == {
        "at": 100,
        "name": "GET",
        "count": 3,
        "p50Ms": 2.0,
        "p95Ms": 2.9,
        "maxMs": 3.0,
        "errors": {"HTTP 503": 1},
    }
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["requests"]["GET"] == {"count": 3, "failures": 1, "p50Ms": 2.0, "p95Ms": 2.9, "p99Ms": 3.0}
    assert (run["scenario"], run["refused"]) == ("smoke", {"HTTP 503": 1})
    assert {path.name for path in tmp_path.iterdir()} == {
        *("jobs.jsonl", "requests.jsonl", "progress.json", "run.json"),
    }


def test_progress_is_the_sum_and_a_run_is_over_when_every_process_is_done() -> None:
    # given two processes, one of which is done
    collector = Collector(10)
    recorders = {"a": Recorder(), "b": Recorder()}
    for node, recorder in recorders.items():
        recorder.accepted(record(node, phase="baseline"))
        recorder.is_done = node == "a"
        collector.merge(node, recorder.take())
    # then
    assert collector.progress() == {
        "submitted": 2,
        "followed": 0,
        "ended": 0,
        "errors": 0,
        "users": 0,
        "asked": 10,
        "phase": "baseline",
    }
    assert not collector.is_done(["a", "b"])
    assert collector.is_done(["a"])
    assert not collector.is_done(["a", "silent"])


def test_errors_are_counted_by_kind() -> None:
    recorder = Recorder()
    recorder.on_request("GET", 1.0, Complaint("HTTP 503", "busy"))
    recorder.on_request("GET", 1.0, ConnectionResetError())
    counted: dict[str, int] = {}
    for _, _, _, errors in recorder.take()["requests"]:
        counted |= errors
    assert counted == {"HTTP 503": 1, "ConnectionResetError": 1}
    assert recorder.errors == 2


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([5.0], 95, 5.0), ([0.0, 10.0], 50, 5.0), ([0.0, 1.0, 2.0, 100.0], 100, 100.0)],
)
def test_percentiles_lie_between_neighbours(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == expected


def test_the_service_s_times_are_told_apart_from_none() -> None:
    assert between_ms("2026-01-01T00:00:00.000Z", "2026-01-01T00:00:01.250Z") == 1_250
    assert between_ms("2026-01-01T00:00:00.000Z", None) is None


# --- what is right and what is not


def problem_answer(problem: problems.Problem, **changes: Any) -> Answer:
    document = json.loads(problem.body()) | changes
    return Answer(problem.status, {"Content-Type": problems.MEDIA_TYPE}, json.dumps(document).encode())


def test_the_right_rejection_is_no_complaint() -> None:
    assert wrong_rejection(problem_answer(problems.UNAUTHORIZED), problems.UNAUTHORIZED) is None


@pytest.mark.parametrize(
    "answer",
    [
        problem_answer(problems.FORBIDDEN),  # another status
        problem_answer(problems.BAD_REQUEST),  # the same status, another type
        problem_answer(problems.INVALID_BODY, type="about:blank"),
        Answer(400, {"Content-Type": "application/json"}, problems.INVALID_BODY.body().encode()),
        Answer(400, {"Content-Type": problems.MEDIA_TYPE}, b"no JSON"),
        Answer(400, {"Content-Type": problems.MEDIA_TYPE}, b"[]"),
        Answer(202, {"Content-Type": "application/json"}, b'{"jobId": "accepted"}'),
        Answer(500, {}, b""),
    ],
)
def test_any_other_answer_is_a_wrong_rejection(answer: Answer) -> None:
    complaint = wrong_rejection(answer, problems.INVALID_BODY)
    assert complaint is not None
    assert complaint.kind == "wrong rejection"


def test_a_timeout_is_counted_as_one_and_not_as_its_wrapping() -> None:
    wrapped = ConnectionError()
    wrapped.original = TimeoutError("slow")  # type: ignore[attr-defined] # as geventhttpclient does
    assert unanswered(wrapped).kind == "TimeoutError"
    assert unanswered(None).kind == "ConnectionError"


def page(*jobs: tuple[str, str]) -> Answer:
    shown = {"jobs": [{"jobId": job_id, "submittedAt": at} for job_id, at in jobs]}
    return Answer(200, {}, json.dumps(shown).encode())


def test_a_page_is_newest_first_and_repeats_nothing() -> None:
    assert wrong_page(page(("b", "2"), ("a", "1")), {"c"}) is None
    assert wrong_page(page(("a", "1"), ("b", "2")), set()) is not None
    assert wrong_page(page(("b", "2"), ("a", "1")), {"a"}) is not None
    assert wrong_page(Answer(200, {}, b"{}"), set()) is not None


def test_an_end_is_right_only_with_its_status_and_its_code() -> None:
    assert wrong_end({"status": "COMPLETED"}, "COMPLETED", None) is None
    assert wrong_end({"status": "FAILED", "error": {"code": "A"}}, "FAILED", "A") is None
    assert wrong_end({"status": "FAILED", "error": {"code": "B"}}, "FAILED", "A") is not None
    assert wrong_end({"status": "CANCELLED"}, "COMPLETED", None) is not None


def test_a_download_has_the_bytes_and_the_type_that_were_promised() -> None:
    result = {"bytes": 3, "contentType": "text/csv"}
    assert wrong_result(Answer(200, {"Content-Type": "text/csv"}, b"abc"), result) is None
    assert wrong_result(Answer(200, {"Content-Type": "text/csv"}, b"ab"), result) is not None
    assert wrong_result(Answer(200, {"Content-Type": "text/html"}, b"abc"), result) is not None
    assert wrong_result(Answer(403, {}, b"abc"), result) is not None
