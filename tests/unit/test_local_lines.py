"""The lines that `nox -s local` prints ask for what the stage has."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from dataclasses import replace
from typing import Any

import pytest
from sluice_harness import local
from sluice_harness.description import User
from unit import reviewed

STAGE = replace(reviewed.STAGE, users=[User("ann", "secret", [])])
WEATHER, OWN = "sluice_core.weather:WeatherReport", "bob.books:CloseBooks"


class Processor:
    """Boto3's client for functions, for a processor with these settings."""

    def __init__(self, **settings: str) -> None:
        self._settings = settings

    def get_function_configuration(self, **_: Any) -> Any:
        return {"Environment": {"Variables": self._settings}}


@pytest.fixture(autouse=True)
def signed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    token = f".{base64.urlsafe_b64encode(json.dumps({'sub': 'her'}).encode()).decode()}."
    monkeypatch.setattr(local, "sign_in", lambda *_: {"IdToken": token})


def printed(workloads: str, executors: str = "") -> str:
    return local.instructions(STAGE, "local", Processor(WORKLOADS=workloads, EXECUTORS=executors))


def submissions(lines: str) -> list[Any]:
    """What they would submit, by a shell's reading."""
    (job_type,) = re.findall(r"^TYPE=(.*)$", lines, re.MULTILINE)
    return [
        json.loads(body.replace("'$TYPE'", job_type)) for body in re.findall(r"submit-job'.* -d '(\{.*\})'", lines)
    ]


def test_a_stage_with_the_weather_s_executors_is_asked_for_long_work_there() -> None:
    lines = printed(f"weather-report={WEATHER},weather-task={WEATHER}", "weather-task=ecs")
    first, long, shortest = submissions(lines)
    assert "there are jobs of: weather-report (lambda), weather-task (ecs)" in lines
    assert (first["jobType"], first["parameters"]["records"]) == ("weather-report", 24)
    assert long == {"jobType": "weather-task", "parameters": {"workSeconds": 30}}
    assert shortest == {}


def test_the_weather_is_asked_for_what_other_work_does_not_take() -> None:
    # given a stage with own work, in a container, and the weather under another name
    lines = printed(f"close-books={OWN},rain={WEATHER}", "close-books=ecs")

    # then whatever has the weather's parameters is the weather, and a submission says which type it means
    assert {one["jobType"] for one in submissions(lines)} == {"rain"}


def test_a_stage_without_the_weather_is_asked_for_its_own_work_and_says_whose_parameters_these_are() -> None:
    lines = printed(f"close-books={OWN},close-flow={OWN}", "close-flow=stepfunctions")
    assert [one["jobType"] for one in submissions(lines)] == ["close-books", "close-flow", "close-books"]
    assert [one["parameters"] for one in submissions(lines)] == [{}, {}, {}]
    assert "parameters are the work's own" in lines
    assert "weather" not in lines
    assert "workSeconds" not in lines


@pytest.mark.parametrize(
    ("answer", "said", "error"),
    [
        ('{"jobId": "one"}', "one\n", ""),
        ('{"message": "Bad Request"}', "", "{'message': 'Bad Request'}\n"),
    ],
)
def test_a_refused_submission_shows_the_refusal(answer: str, said: str, error: str) -> None:
    # given what takes the job's id out of an answer
    (command, *_) = re.findall(r"\| (python3 -c .*)\)$", printed(f"weather-report={WEATHER}"), re.MULTILINE)

    # then of an answer without one all is shown, and no traceback
    done = subprocess.run(["bash", "-c", command], input=answer, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (said, error)
    assert (done.returncode == 0) == bool(said)
