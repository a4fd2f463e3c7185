"""The setting that says which executor runs a job type."""

from __future__ import annotations

import pytest
from sluice_core.executors import EXTERNAL, LAMBDA, parse_executors


@pytest.mark.parametrize(
    ("setting", "executors"),
    [
        ("", {}),
        (" , ,", {}),
        ("report=batch", {"report": "batch"}),
        (" report = batch ,\n video=ecs,", {"report": "batch", "video": "ecs"}),
        ("a=lambda,b=stepfunctions,c=batch,d=ecs", dict(zip("abcd", (LAMBDA, *EXTERNAL), strict=True))),
        ("9-lives=ecs", {"9-lives": "ecs"}),
    ],
)
def test_a_setting_names_an_executor_for_each_job_type(setting: str, executors: dict[str, str]) -> None:
    assert parse_executors(setting) == executors


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("report", "executor 'report': expected 'job-type=executor', entries separated by commas"),
        ("report=", "executor 'report=': expected"),
        ("=batch", "executor '=batch': expected"),
        ("report=batch=ecs", "executor 'report=batch=ecs': expected"),
        ("Report=batch", "executor 'Report=batch': expected"),
        ("-report=batch", "executor '-report=batch': expected"),
        (f"{'a' * 65}=batch", "expected 'job-type=executor'"),
        ("report batch", "expected 'job-type=executor'"),
        ("report=fargate", "executor 'report=fargate': there are lambda, stepfunctions, batch, ecs"),
        ("report=BATCH", "there are lambda, stepfunctions, batch, ecs"),
        ("report=batch,report=ecs", "the executor of 'report' is named twice"),
        ("a=batch,b=batch,a=batch", "the executor of 'a' is named twice"),
    ],
)
def test_a_setting_that_says_something_else_is_refused_with_what_is_wrong(setting: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_executors(setting)
