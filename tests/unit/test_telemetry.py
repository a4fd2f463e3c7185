from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from sluice_core import metrics, problems
from sluice_core.metrics import NAMESPACE, Metric
from sluice_core.problems import Problem
from sluice_handlers.telemetry import Measurements, logger

if TYPE_CHECKING:
    from unit.resources import Output

CATALOGUE = [value for value in vars(metrics).values() if isinstance(value, Metric)]
PROBLEMS = [value for value in vars(problems).values() if isinstance(value, Problem)]


@pytest.fixture(autouse=True)
def stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAGE", "unit")


def directive(document: dict[str, Any]) -> dict[str, Any]:
    [only] = document["_aws"]["CloudWatchMetrics"]
    assert isinstance(only, dict)
    return only


def test_a_metric_becomes_one_emf_document(output: Output) -> None:
    with Measurements() as measured:
        measured.add(metrics.STATUS_READS)

    [document] = output.emf
    assert document["_aws"].keys() == {"Timestamp", "CloudWatchMetrics"}
    assert directive(document) == {
        "Namespace": "Sluice",
        "Dimensions": [["Stage"]],
        "Metrics": [{"Name": "StatusReads", "Unit": "Count"}],
    }
    assert {name: document[name] for name in ("Stage", "StatusReads")} == {"Stage": "unit", "StatusReads": [1.0]}


def test_metrics_with_and_without_a_job_type_do_not_share_dimensions(output: Output) -> None:
    with Measurements() as measured:
        measured.add(metrics.JOBS_COMPLETED, job_type="a")
        measured.add(metrics.RUN_TIME, 12.5, job_type="a")
        measured.add(metrics.JOBS_COMPLETED, job_type="b")
        measured.add(metrics.BATCH_ITEM_FAILURES, 3)
        measured.add(metrics.RUN_TIME, 7, job_type="a")

    documents = {document.get("JobType"): document for document in output.emf}
    assert len(output.emf) == 3
    # By type, to look at, and over all types, for alarms, which cannot add up series that they do not know.
    assert directive(documents["a"])["Dimensions"] == [["Stage", "JobType"], ["Stage"]]
    assert documents["a"]["RunTime"] == [12.5, 7.0]
    assert documents["b"]["JobsCompleted"] == [1.0]
    assert directive(documents[None])["Dimensions"] == [["Stage"]]
    assert documents[None]["BatchItemFailures"] == [3.0]


def test_nothing_measured_is_nothing_written(output: Output) -> None:
    with Measurements():
        pass

    assert output.text == ""


def test_what_was_measured_before_an_error_is_written(output: Output) -> None:
    def refuse() -> None:
        with Measurements() as measured:
            measured.add(metrics.AUTHORIZER_DENIALS)
            raise LookupError

    with pytest.raises(LookupError):
        refuse()

    assert output.values("AuthorizerDenials") == [1.0]


@pytest.mark.parametrize("count", [99, 100, 101, 250])
def test_more_values_than_a_document_holds_are_all_written_once(output: Output, count: int) -> None:
    with Measurements() as measured:
        for n in range(count):
            measured.add(metrics.RUN_TIME, n, job_type="a")

    assert output.values("RunTime") == list(range(count))
    assert {tuple(directive(one)["Dimensions"][0]) for one in output.emf} == {("Stage", "JobType")}
    assert all(one["Stage"] == "unit" and one["JobType"] == "a" for one in output.emf)


def test_what_was_written_is_not_written_again(output: Output) -> None:
    # Given an invocation that writes what is on record before it ends, for it may not live to
    with Measurements() as measured:
        measured.add(metrics.JOBS_COMPLETED, job_type="a")
        measured.write()
        assert output.values("JobsCompleted") == [1]
        measured.add(metrics.JOBS_COMPLETED, job_type="a")

    # Then each is there once
    assert output.values("JobsCompleted") == [1, 1]


def test_a_log_line_is_one_json_object(output: Output) -> None:
    logger.info("recorded", jobId="j1", jobType="weather-report")

    [line] = output.logs
    assert {name: line[name] for name in ("level", "message", "jobId", "jobType", "service")} == {
        "level": "INFO",
        "message": "recorded",
        "jobId": "j1",
        "jobType": "weather-report",
        "service": "sluice",
    }
    assert "location" not in line  # it would be billed on every line


def test_the_catalogue_is_fit_for_cloudwatch() -> None:
    names = [metric.name for metric in CATALOGUE]

    assert len(names) == len(set(names)) > 10
    assert all(re.fullmatch(r"[A-Z][A-Za-z]+", name) for name in names)
    assert all(metric.meaning for metric in CATALOGUE)
    assert {metric.unit.value for metric in CATALOGUE} <= {"Count", "Milliseconds", "Bytes"}
    assert NAMESPACE == "Sluice"


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_a_problem_is_rfc_9457_and_gives_nothing_away(problem: Problem) -> None:
    document = json.loads(problem.body(requestId="r-1"))

    assert document == {
        "type": f"urn:sluice:problem:{problem.name}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "requestId": "r-1",
    }
    assert 400 <= problem.status <= 599
    assert re.fullmatch(r"[a-z0-9-]+", problem.name)
    assert "arn:" not in problem.body()


def test_problem_types_are_told_apart() -> None:
    names = [problem.name for problem in PROBLEMS]

    assert len(names) == len(set(names)) > 8
