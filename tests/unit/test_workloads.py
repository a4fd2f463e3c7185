from __future__ import annotations

import sys
from threading import Event
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from sluice_core.weather import WeatherReport
from sluice_core.workloads import DEFAULT_WORKLOADS, PermanentError, WorkResult, load_workloads

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE = __name__


class Echo:
    parameters_schema: ClassVar[Mapping[str, Any]] = {"type": "object"}

    def run(self, job_id: str, parameters: Mapping[str, Any], stop: Event) -> WorkResult:
        return WorkResult(f"{job_id} {dict(parameters)} {stop.is_set()}".encode(), "text/plain", "txt")


class WithoutSchema:
    def run(self) -> None: ...


class WithoutRun:
    parameters_schema: ClassVar[Mapping[str, Any]] = {}


echo = Echo()


def test_the_default_is_the_weather_report() -> None:
    workloads = load_workloads(DEFAULT_WORKLOADS)

    assert list(workloads) == ["weather-report"]
    assert isinstance(workloads["weather-report"], WeatherReport)


def test_a_workload_of_one_s_own_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a module with a workload, named in the setting with some spaces
    monkeypatch.setitem(sys.modules, "my_work", sys.modules[HERE])
    workloads = load_workloads(f"{DEFAULT_WORKLOADS} , echo = my_work:Echo")

    # When it runs, then the result is its own
    assert sorted(workloads) == ["echo", "weather-report"]
    assert workloads["echo"].run("j1", {}, Event()) == WorkResult(b"j1 {} False", "text/plain", "txt")


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("", "expected 'job-type=package.module:Class'"),
        ("weather-report", "expected 'job-type=package.module:Class'"),
        ("a=b", "expected 'job-type=package.module:Class'"),
        ("a=:B", "expected 'job-type=package.module:Class'"),
        ("a=b:", "expected 'job-type=package.module:Class'"),
        ("=b:C", "expected 'job-type=package.module:Class'"),
        ("Not A Type=b:C", "workload 'Not A Type=b:C'"),
        (f"{DEFAULT_WORKLOADS},", "workload ''"),
        (f"{DEFAULT_WORKLOADS},{DEFAULT_WORKLOADS}", "'weather-report' is named twice"),
        ("a=no_such_module:C", "cannot load no_such_module:C .*No module named"),
        ("a=.relative:C", "expected 'job-type=package.module:Class'"),
        ("a=b.:C", "cannot load b.:C"),
        ("a=b:C:D", "expected 'job-type=package.module:Class'"),
        ("a=sluice_core.weather:Wether", "cannot load sluice_core.weather:Wether .*no attribute"),
        ("a=my_work:WithoutSchema", "lacks parameters_schema"),
        ("a=my_work:WithoutRun", "lacks run"),
        ("a=my_work:HERE", "lacks run and parameters_schema"),
        ("a=my_work:echo", "lacks a constructor"),
    ],
)
def test_a_wrong_setting_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch, setting: str, complaint: str) -> None:
    monkeypatch.setitem(sys.modules, "my_work", sys.modules[HERE])

    with pytest.raises(ValueError, match=complaint):
        load_workloads(setting)


def test_a_permanent_error_carries_its_code_and_message() -> None:
    error = PermanentError("NO_SUCH_STATION", "name another")

    assert (error.code, error.message) == ("NO_SUCH_STATION", "name another")
