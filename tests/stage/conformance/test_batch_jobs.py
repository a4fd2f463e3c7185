"""Jobs of AWS Batch run as processes of this machine, and tell what becomes of them."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError
from stage.conformance import containers
from stage.conformance.functions import eventually, unique
from stage.conformance.test_ecs_tasks import OBEDIENT, SAY, marked, written
from stage.conformance.test_worker_processes import alive

if TYPE_CHECKING:
    from pathlib import Path

    from stage.conformance.containers import Site

OF_BATCH = {"AWS_BATCH_JOB_ID", "AWS_BATCH_JOB_ATTEMPT", "AWS_BATCH_JQ_NAME", "AWS_BATCH_CE_NAME"}


def named(site: Site, name: str, **request: object) -> list[str]:
    """Return the ids of the jobs that are listed by a name."""
    filters = [{"name": "JOB_NAME", "values": [name]}]
    client = site.engine.client("batch")
    answer = client.list_jobs(jobQueue=site.names["JobQueue"], filters=filters, **request)
    return [job["jobId"] for job in answer["jobSummaryList"]]


def test_a_job_runs_its_command_and_is_failed_by_its_exit_code(site: Site) -> None:
    # when
    job = site.submit(SAY)
    ended = site.becomes(site.job, job, "FAILED", "SUCCEEDED")

    # then
    assert (ended["status"], ended["statusReason"]) == ("FAILED", "Essential container in task exited")
    assert ended["container"]["exitCode"] == 7
    (attempt,) = ended["attempts"]
    assert attempt["container"]["exitCode"] == 7
    assert ended["createdAt"] <= ended["startedAt"] <= ended["stoppedAt"]

    # and it knew its job, and acted as the job's role
    said = json.loads(site.output(ended["container"]["logStreamName"])[0])
    environment = said["environment"]
    assert environment.keys() > OF_BATCH
    assert (environment["AWS_BATCH_JOB_ID"], environment["AWS_BATCH_JOB_ATTEMPT"]) == (job, "1")
    assert (environment["FROM"], environment["KEPT"]) == ("override", "yes")
    assert f"assumed-role/{site.names['TaskRole']}/" in said["caller"]
    assert said["may"] == "AccessDenied"


def test_each_change_of_a_job_is_an_event(site: Site) -> None:
    # when
    name = unique("told")
    job = site.submit("pass", jobName=name)

    # then (AWS Batch User Guide, "Batch job state change events"; there is none of the submission)
    arn = site.job(job)["jobArn"]
    told = site.told(arn, 4)
    assert [event["detail"]["status"] for event in told] == ["RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED"]
    last = told[-1]
    assert (last["source"], last["detail-type"]) == ("aws.batch", "Batch Job State Change")
    detail = last["detail"]
    assert (detail["jobId"], detail["jobName"], detail["jobArn"]) == (job, name, arn)
    assert detail["jobQueue"] == site.names["JobQueue"]
    assert detail["jobDefinition"] == site.names["JobDefinition"]
    assert detail["container"]["exitCode"] == 0
    assert isinstance(detail["stoppedAt"], int)
    assert detail["timeout"] == {"attemptDurationSeconds": 600}


def test_a_terminated_job_has_failed_for_the_reason_given(site: Site, tmp_path: Path) -> None:
    # given one that ends as if nothing were wrong
    job = site.submit(marked(OBEDIENT.replace("sys.exit(75)", "sys.exit(0)"), tmp_path / "mark"))
    processes = written(tmp_path / "mark")

    # when
    site.engine.client("batch").terminate_job(jobId=job, reason="no longer wanted")

    # then
    ended = site.becomes(site.job, job, "FAILED", "SUCCEEDED")
    assert (ended["status"], ended["statusReason"]) == ("FAILED", "no longer wanted")
    assert (ended["container"]["exitCode"], ended["isTerminated"]) == (0, True)
    assert eventually(lambda: not any(map(alive, processes)))


def test_a_killed_job_has_failed_with_137(site: Site, tmp_path: Path) -> None:
    # given
    job = site.submit(marked(OBEDIENT, tmp_path / "mark"))

    # when
    os.kill(written(tmp_path / "mark")[0], signal.SIGKILL)

    # then
    ended = site.becomes(site.job, job, "FAILED", "SUCCEEDED")
    assert (ended["status"], ended["container"]["exitCode"]) == ("FAILED", 137)


def test_a_job_that_takes_longer_than_an_attempt_may_is_ended(site: Site, tmp_path: Path) -> None:
    # given a definition that gives a second, where AWS takes no less than sixty
    batch = site.engine.client("batch")
    (known,) = batch.describe_job_definitions(jobDefinitionName=site.definition_name())["jobDefinitions"][-1:]
    kept = {name: known[name] for name in ("type", "containerProperties")}
    name = unique("short")
    batch.register_job_definition(jobDefinitionName=name, timeout={"attemptDurationSeconds": 1}, **kept)

    # when
    job = site.submit(marked(OBEDIENT, tmp_path / "mark"), jobDefinition=name)
    ended = site.becomes(site.job, job, "FAILED", "SUCCEEDED")

    # then
    assert (ended["status"], ended["statusReason"]) == ("FAILED", "Job attempt duration exceeded timeout")
    assert ended["container"]["exitCode"] == 75
    assert "isTerminated" not in ended


def test_jobs_run_by_the_vcpus_of_their_environment_and_are_found_by_name(site: Site, tmp_path: Path) -> None:
    # given as many jobs as there are vCPUs, and two more
    batch, name = site.engine.client("batch"), unique("Waits")
    marks = [tmp_path / f"mark{number}" for number in range(containers.VCPUS)]
    running = [site.submit(marked(OBEDIENT, mark), jobName=name) for mark in marks]
    for mark in marks:
        written(mark)
    waiting = [site.submit("pass", jobName=name) for _ in range(2)]
    assert {site.job(job)["status"] for job in waiting} == {"RUNNABLE"}

    # then a name finds those of every state, whatever its case, and a list without one those that run
    assert named(site, name.lower()) == named(site, f"{name[:-3]}*") == [*waiting[::-1], *running[::-1]]
    listed = batch.list_jobs(jobQueue=site.names["JobQueue"])["jobSummaryList"]
    assert {job["jobId"] for job in listed} == set(running)

    # when one that waits is terminated, another one cancelled, and then there is room
    batch.terminate_job(jobId=waiting[0], reason="too late")
    batch.cancel_job(jobId=running[0], reason="only for those that wait")
    never = site.job(waiting[0])
    for job in running:
        batch.terminate_job(jobId=job, reason="make room")

    # then that one has never run, and the other one does
    assert (never["status"], never["statusReason"]) == ("FAILED", "too late")
    assert site.becomes(site.job, waiting[1], "SUCCEEDED", "FAILED")["status"] == "SUCCEEDED"
    assert site.job(waiting[0]) == never
    assert "exitCode" not in never["container"]
    assert site.job(running[0])["statusReason"] == "make room"


@pytest.mark.parametrize("without", ["jobQueue", "jobDefinition"])
def test_a_job_of_nothing_is_refused(site: Site, without: str) -> None:
    with pytest.raises(ClientError) as caught:
        site.submit("pass", **{without: "none"})
    assert caught.value.response["Error"]["Code"] == "ClientException"
    assert "not found" in caught.value.response["Error"]["Message"]


def test_a_changed_definition_is_its_next_revision(site: Site) -> None:
    # given a stack whose definition says something else
    client = site.engine.client("cloudformation")
    template = client.get_template(StackName=site.stack)["TemplateBody"]
    changed = json.loads(json.dumps(template))
    container = changed["Resources"]["JobDefinition"]["Properties"]["ContainerProperties"]
    container["Environment"][1]["Value"] = "changed"
    name = site.definition_name()

    # when
    client.update_stack(StackName=site.stack, TemplateBody=json.dumps(changed), Capabilities=["CAPABILITY_IAM"])
    eventually(lambda: "PROGRESS" not in containers.state_of(client, site.stack)["StackStatus"])

    # then a name without a revision is that one, and the one before is gone
    job = site.submit("import os; print(os.environ['KEPT'])", jobDefinition=name)
    ended = site.becomes(site.job, job, "SUCCEEDED", "FAILED")
    assert ended["jobDefinition"].endswith(f"{name}:2")
    assert site.output(ended["container"]["logStreamName"]) == ["changed"]
    with pytest.raises(ClientError):
        site.submit("pass", jobDefinition=f"{name}:1")
    site.names["JobDefinition"] = ended["jobDefinition"]
