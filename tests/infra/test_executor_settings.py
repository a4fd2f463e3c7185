"""What stages say of external executors, and what none can say."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from infra.variants import IMAGE
from sluice_core.executors import BATCH, ECS, STEP_FUNCTIONS
from sluice_harness.description import ROOT
from sluice_infra import stages
from sluice_infra.executor_settings import Containers, Workflows, retention_s
from sluice_infra.functions import TIMEOUTS_S, timeouts_s
from sluice_infra.stages import StageConfig, stage_config

pytestmark = pytest.mark.xdist_group("infra")

PROD = stage_config("prod")
TYPE = "weather-report"
DAY_S = 86_400


def containers(**settings: Any) -> dict[str, Any]:
    """A stage's settings, whose one job type runs in Batch."""
    return {"executors": f"{TYPE}=batch", "batch": replace(Containers(image=IMAGE), **settings)}


def test_stages_have_no_external_executor_unless_they_say_so() -> None:
    for name in ("prod", "staging", "dev", "local", "ann"):
        assert stage_config(name).external_executors == (), name


def test_an_executor_is_there_if_a_job_type_uses_it_or_it_drains() -> None:
    # given a stage with a job type on one, and another that drains
    config = replace(
        PROD,
        executors=f"{TYPE}=ecs",
        ecs=Containers(image=IMAGE),
        draining=(STEP_FUNCTIONS,),
    )
    assert config.external_executors == (STEP_FUNCTIONS, ECS)


def test_lambda_is_no_external_executor() -> None:
    assert replace(PROD, executors=f"{TYPE}=lambda").external_executors == ()


def test_one_stage_has_them_all_on_this_machine() -> None:
    # given the local stage with every executor
    longwork = stage_config("longwork")

    # then it is the same wherever it is to be deployed, and of the local stage's sizes
    assert longwork == stage_config("longwork", on_engine=True)
    assert longwork.external_executors == (STEP_FUNCTIONS, BATCH, ECS)
    assert longwork.bundle_target == "host"
    assert longwork.work_concurrency == stage_config("local").work_concurrency


def test_a_stage_has_the_functions_of_the_executors_that_it_has() -> None:
    # given stages with none, with containers and with workflows
    workflows = replace(PROD, executors=f"{TYPE}=stepfunctions")

    # then each has the functions it needs, with timeouts that Lambda takes
    assert timeouts_s(PROD) == TIMEOUTS_S
    shared = {*TIMEOUTS_S, "starter", "completion", "reconciler"}
    assert {*timeouts_s(replace(PROD, **containers()))} == shared
    assert {*timeouts_s(workflows)} == shared | {"workflow-step"}
    assert max(timeouts_s(workflows).values()) <= 900


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"executors": TYPE}, "executors must be 'job-type=executor' entries "),
        ({"executors": f"{TYPE}=kubernetes"}, "there are lambda, stepfunctions, batch, ecs"),
        ({"executors": f"{TYPE}=lambda,{TYPE}=batch"}, "named twice"),
        ({"executors": "video=lambda"}, f"of job types that are in workloads: {TYPE}"),
        ({"draining": ("kubernetes",)}, "draining must be executors that no job type uses: batch, ecs, step"),
        ({"draining": ("lambda",)}, "draining must be executors that no job type uses"),
        ({"draining": "batch"}, r"draining must be a tuple, whose last entry has a comma, too: \('batch',\), not"),
        ({**containers(), "draining": ("batch",)}, "draining must be .*: ecs, stepfunctions, not"),
        ({"executors": f"{TYPE}=batch"}, r"batch\.image must be ACCOUNT.*, with its digest, not ''"),
        ({"draining": ("ecs",)}, r"ecs\.image must be ACCOUNT"),
        (containers(image=IMAGE.partition("@")[0]), r"batch\.image must be"),
        (containers(image=IMAGE.replace("@sha256:", ":")), r"batch\.image must be"),
        (containers(image=f"python@sha256:{'1' * 64}"), r"batch\.image must be"),
        (containers(image=IMAGE[:-1]), r"batch\.image must be"),
        (containers(vcpu=3), r"batch\.vcpu must be one of 0\.25, 0\.5, 1, 2, 4, 8, 16, not 3"),
        (containers(vcpu=1, memory_mib=1_024), r"batch\.memory_mib must be 2,048-8,192 in steps of 1,024 with 1"),
        (containers(vcpu=8, memory_mib=17_408), r"batch\.memory_mib must be 16,384-61,440 in steps of 4,096"),
        (containers(vcpu=0.25, memory_mib=4_096), r"batch\.memory_mib must be"),
        (containers(max_running=0), r"batch\.max_running must be 1-1,000, not 0"),
        (containers(max_running=1_001), r"batch\.max_running must be 1-1,000"),
        (containers(timeout_s=59), r"batch\.timeout_s must be 60-1,209,600 seconds .*, not 59"),
        (
            {**containers(timeout_s=2 * DAY_S), "result_days": 3},
            r"result_days must be 4 or more: .*batch\.timeout_s",
        ),
        ({**containers(timeout_s=2 * DAY_S + 1), "result_days": 4}, r"result_days must be 5 or more"),
        (containers(timeout_s=1_209_601), r"batch\.timeout_s must be"),
        ({"draining": (STEP_FUNCTIONS,), STEP_FUNCTIONS: Workflows(max_running=0)}, r"stepfunctions\.max_running"),
    ],
)
def test_a_wrong_setting_is_named_with_what_it_may_be(settings: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ValueError, match=rf"^stage prod: .*{wanted}"):
        replace(PROD, **settings).check()


@pytest.mark.parametrize(
    ("result_days", "timeout_s", "expected_s"),
    [
        (30, 3_600, 13 * DAY_S),  # a day before its dead-letter queue would lose it
        (15, DAY_S, 13 * DAY_S),
        (15, DAY_S + 1, 13 * DAY_S - 1),
        (7, 3_600, 6 * DAY_S - 3_600),
        (4, 2 * DAY_S, DAY_S),  # the least that a stage may have
    ],
)
def test_a_queue_keeps_a_job_for_as_long_as_its_row_has_time_to_wait(
    result_days: int, timeout_s: int, expected_s: int
) -> None:
    config = replace(PROD, result_days=result_days, **containers(timeout_s=timeout_s))
    assert retention_s(config, BATCH) == expected_s


@pytest.mark.parametrize(
    ("vcpu", "memory_mib"), [(0.25, 512), (0.25, 2_048), (0.5, 1_024), (1, 2_048), (4, 30_720), (16, 122_880)]
)
def test_sizes_that_fargate_has_are_taken(vcpu: float, memory_mib: int) -> None:
    replace(PROD, **containers(vcpu=vcpu, memory_mib=memory_mib)).check()


def test_what_no_job_type_uses_may_be_unset() -> None:
    StageConfig(name="ann", ecs=Containers(image="anything")).check()


def test_the_page_s_lines_can_be_pasted() -> None:
    # given what the page has a reader write for executors, with work and an image that there are
    section = (ROOT / "docs" / "configuring.md").read_text().partition("## Executors")[2].partition("\n## ")[0]
    lines = re.sub(r"ours\.\w+:\w+", "sluice_core.weather:WeatherReport", section)
    lines = lines.replace("sha256:...", f"sha256:{'1' * 64}")
    pasted = [eval(f"{{{one}}}", vars(stages)) for one in re.findall(r"```python\n(.*?)```", lines, re.DOTALL)]

    # then stages may be so: one with an executor, then with another, while the first one drains
    configs = [one["dev"] for one in pasted]
    for config in configs:
        config.check()
    assert [config.external_executors for config in configs] == [(BATCH,), (BATCH, ECS)]
    assert [config.draining for config in configs] == [(), (BATCH,)]
