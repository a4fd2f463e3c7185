"""What a run writes to the logs: one line a job in each function, little, and nothing that is the client's."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from stage.running import until

if TYPE_CHECKING:
    from stage.running import RunningStage

pytestmark = pytest.mark.xdist_group("broken_stage")

JOBS = 60
MOST_BYTES = 1_536
SECRET = "Reykjavik-hunter2"


def test_a_run_s_logs_are_small_and_tell_nothing(altered_stage: RunningStage) -> None:
    stage = altered_stage
    # Given jobs with a secret in their payload that wait in both queues, as a backlog does: what an invocation
    # writes is shared by its ten jobs
    carla = stage.newcomer(f"carla-{time.time_ns()}")
    since_ms = int(time.time() * 1000)
    with stage.unworked():
        with stage.paused():
            body = {"parameters": {"station": SECRET, "records": 3}}
            jobs = [carla.accepted(body) for _ in range(JOBS)]
        for job_id in jobs:
            stage.recorded(carla.sub, job_id)
    for job_id in jobs:
        carla.ended(job_id)

    # When everything that the functions and the API have logged since then is read
    names = vars_of(stage)
    per_job: dict[str, Counter[str]] = {}

    def all_reported() -> bool:
        for name, function in names.items():
            reported = [
                json.loads(line)["jobId"]
                for line in stage.log_lines(function, since_ms)
                if line.startswith("{") and '"outcome"' in line
            ]
            per_job[name] = Counter(one for one in reported if one in jobs)
        return all(len(per_job[name]) == JOBS for name in ("processor", "batchSimulator", "eventPublisher"))

    until(all_reported, "a line of every job in every function that handles it")
    lines = {name: stage.log_lines(function, since_ms) for name, function in names.items()}
    everything = "\n".join(line for said in lines.values() for line in said)

    # Then each function that handles a job has one line of it, and no other has any
    for name in ("processor", "batchSimulator", "eventPublisher"):
        assert set(per_job[name].values()) == {1}, name
    assert not any(per_job[name] for name in ("authorizer", "jobStatus", "cancelJob", "sweeper"))
    # and all that they wrote is little: without the reads, which are the clients' to make
    of_jobs = [line for name, said in lines.items() if name not in ("jobStatus", "sweeper") for line in said]
    per_job_bytes = sum(len(line.encode()) for line in of_jobs) / JOBS
    assert per_job_bytes <= MOST_BYTES, f"{per_job_bytes:.0f} bytes a job"
    # and neither the payload nor a token is in it, nor anything that looks like one
    for secret in (SECRET, carla.id_token, carla.access_token, "eyJ", "station"):
        assert secret not in everything


def vars_of(stage: RunningStage) -> dict[str, str]:
    functions = stage.description.functions
    names = {role: getattr(functions, role) for role in functions.__slots__}
    return {role: name for role, name in names.items() if name}
