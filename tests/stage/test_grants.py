"""Every function may do what it needs and nothing else: without any one of its grants it fails, with it it works.

This is the way from submission to result, and what clients call. `test_grants_recovery` has what comes after
failures, and `test_grants_platform` what Lambda does in a function's name.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

import httpx
import pytest
from sluice_harness.live_functions import live, release
from stage.answers import assert_problem
from stage.grants import assert_denied, proves, role_named, trusting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stage.grants import Grant
    from stage.running import Person, RunningStage

pytestmark = pytest.mark.xdist_group("broken_stage")

TOKENS = (f"a-job-without-a-grant-{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def stage(altered_stage: RunningStage) -> Iterator[RunningStage]:
    """The stage; what fails for want of a grant is delivered again soon."""
    with altered_stage.quick_redelivery(2):
        yield altered_stage


@pytest.fixture(scope="module")
def ann(stage: RunningStage) -> Person:
    return stage.person("ann")


def restart(stage: RunningStage, function: str) -> None:
    """Make the next invocation a cold start: some functions keep what they were once allowed."""
    lambda_ = stage.client("lambda")
    variables = lambda_.get_function_configuration(FunctionName=live(function))["Environment"]["Variables"]
    release(lambda_, function, Environment={"Variables": {**variables, "RESTARTED": str(time.time_ns())}})


def completes(person: Person, stage: RunningStage, job_id: str) -> bool:
    stage.recorded(person.sub, job_id)
    return bool(person.ended(job_id)["status"] == "COMPLETED")


@proves(
    ("ProcessorRole", "dynamodb:PartiQLInsert"),
    ("ProcessorRole", "sqs:SendMessage"),
    ("BatchSimulatorRole", "dynamodb:PartiQLUpdate"),
    ("BatchSimulatorRole", "s3:PutObject"),
)
def test_a_worker_without_a_grant_fails_until_it_has_it_again(
    stage: RunningStage, ann: Person, grant: Grant
) -> None:
    # Given a function of the pipeline that lacks a grant
    since_ms = time.time_ns() // 1_000_000
    with grant.missing():
        # When a job comes, then the function is denied, and the job does not end
        job_id = ann.accepted({"clientToken": next(TOKENS), "parameters": {"records": 1}})
        assert_denied(stage, grant.function, since_ms)
        row = stage.row(ann.sub, job_id)
        assert row is None or row["status"]["S"] in {"SUBMITTED", "RUNNING"}

    # And when the grant is back, the very same job completes
    assert completes(ann, stage, job_id)


@proves(("ProcessorRole", "dynamodb:GetItem"))
def test_a_processor_that_may_not_read_fails_on_a_duplicate(
    stage: RunningStage, ann: Person, grant: Grant
) -> None:
    # Given a job, and a processor that may not read the row that refuses a second one
    job_id = ann.accepted({"clientToken": next(TOKENS), "parameters": {"records": 1}})
    assert completes(ann, stage, job_id)
    since_ms = time.time_ns() // 1_000_000
    with grant.missing():
        # When the submission is repeated, then the function is denied
        ann.accepted({"clientToken": job_id, "parameters": {"records": 1}})
        assert_denied(stage, grant.function, since_ms)

    # And when the grant is back, the duplicate is acknowledged
    stage.drained()


@proves(("ProcessorRole", "dynamodb:UpdateItem"))
def test_a_processor_that_may_not_update_fails_on_a_conflict(
    stage: RunningStage, ann: Person, grant: Grant
) -> None:
    # Given a job, and a processor that may not note at it that its token was used for something else
    job_id = ann.accepted({"clientToken": next(TOKENS), "parameters": {"records": 1}})
    assert completes(ann, stage, job_id)
    since_ms = time.time_ns() // 1_000_000
    with grant.missing():
        # When that happens, then the function is denied
        ann.accepted({"clientToken": job_id, "parameters": {"records": 2}})
        assert_denied(stage, grant.function, since_ms)
        assert "conflicts" not in ann.status(job_id).json()

    # And when the grant is back, the conflict is noted
    stage.drained()
    assert len(ann.status(job_id).json()["conflicts"]) == 1


@proves(("JobStatusRole", "dynamodb:Query"), ("JobStatusRole", "dynamodb:BatchGetItem"))
def test_a_status_function_that_may_not_list_answers_a_problem(
    stage: RunningStage, ann: Person, grant: Grant
) -> None:
    # Given a job, and a status function that may not read the index, or the rows it leads to
    assert completes(ann, stage, ann.accepted({}))
    since_ms = time.time_ns() // 1_000_000
    with grant.missing():
        answer = ann.list()
        assert_denied(stage, grant.function, since_ms)

    # Then the answer gives nothing away, and the next one is right again
    assert_problem(answer, 502, "internal-error", stage, default=True)
    assert ann.list().json()["jobs"]


@proves(("CancelJobRole", "dynamodb:GetItem"), ("CancelJobRole", "dynamodb:PartiQLUpdate"))
def test_a_cancel_function_without_a_grant_cancels_nothing(stage: RunningStage, ann: Person, grant: Grant) -> None:
    # Given a job that waits, and a cancel function that may not read it, or not end it
    with stage.unworked():
        job_id = ann.accepted({"clientToken": next(TOKENS), "parameters": {"records": 1}})
        stage.recorded(ann.sub, job_id)
        since_ms = time.time_ns() // 1_000_000
        with grant.missing():
            answer = ann.cancel(job_id)
            assert_denied(stage, grant.function, since_ms)

        # Then the answer gives nothing away, and the job is as it was
        assert_problem(answer, 502, "internal-error", stage, default=True)
        assert ann.status(job_id).json()["status"] == "SUBMITTED"

        # And with the grant it is cancelled
        assert ann.cancel(job_id).json()["status"] == "CANCELLED"
    stage.drained()


@proves(("CancelJobRole", "dynamodb:PartiQLInsert"))
def test_a_cancel_function_that_may_not_record_cancels_nothing_unrecorded(
    stage: RunningStage, ann: Person, grant: Grant
) -> None:
    # Given a job whose request waits, and a cancel function that may not enter it in the table
    with stage.paused():
        job_id = ann.accepted({})
        since_ms = time.time_ns() // 1_000_000
        with grant.missing():
            answer = ann.cancel(job_id)
            assert_denied(stage, grant.function, since_ms)

        # Then the answer gives nothing away, and the job waits
        assert_problem(answer, 502, "internal-error", stage, default=True)
        assert ann.status(job_id).json()["status"] == "SUBMITTED"

        # And with the grant it is cancelled
        assert ann.cancel(job_id).json()["status"] == "CANCELLED"
    stage.drained()


@proves(("JobStatusRole", "dynamodb:GetItem"))
def test_a_status_function_that_may_not_read_answers_a_problem(
    stage: RunningStage, ann: Person, grant: Grant
) -> None:
    # Given a job, and a status function that may not read the table
    job_id = ann.accepted({})
    assert completes(ann, stage, job_id)
    since_ms = time.time_ns() // 1_000_000
    with grant.missing():
        answer = ann.status(job_id)
        assert_denied(stage, grant.function, since_ms)

    # Then the answer gives nothing away, and the next one is right again
    assert_problem(answer, 502, "internal-error", stage, default=True)
    assert ann.status(job_id).status_code == 200


def test_a_status_function_that_may_not_assume_its_role_answers_a_problem(
    stage: RunningStage, ann: Person
) -> None:
    # Given a completed job, and a cold status function that the role which signs downloads does not trust; that
    # trust is all the function needs (AWS STS API Reference, "AssumeRole")
    job_id = ann.accepted({})
    assert completes(ann, stage, job_id)
    function = stage.description.functions.jobStatus
    since_ms = time.time_ns() // 1_000_000
    with trusting(stage, role_named(stage, "DownloadRole"), {"Service": "ec2.amazonaws.com"}):
        restart(stage, function)
        answer = ann.status(job_id)
        assert_denied(stage, function, since_ms)

    # Then the answer gives nothing away, and the next one is right again
    assert_problem(answer, 502, "internal-error", stage, default=True)
    assert ann.status(job_id).json()["status"] == "COMPLETED"


@proves(("DownloadRole", "s3:GetObject"))
def test_a_download_role_that_may_not_read_makes_urls_that_open_nothing(
    stage: RunningStage, ann: Person, grant: Grant
) -> None:
    # Given the URL of a result
    job_id = ann.accepted({})
    assert completes(ann, stage, job_id)
    url = ann.status(job_id).json()["result"]["url"]

    # When the role that signed it may not read, then the URL is refused
    with grant.missing():
        assert httpx.get(url).status_code == 403

    # And with the grant it works
    assert httpx.get(url).status_code == 200


@proves(("ApiSubmitRole", "sqs:SendMessage"))
def test_an_api_that_may_not_send_accepts_nothing(stage: RunningStage, ann: Person, grant: Grant) -> None:
    # Given an API that may not send to the request queue
    token = next(TOKENS)
    body = {"clientToken": token, "parameters": {"records": 1}}
    with grant.missing():
        # Then a submission is refused, and there is no such job
        assert_problem(ann.submit(body), 503, "unavailable", stage)
        assert_problem(ann.status(token), 404, "not-found", stage)

    # And with the grant it is accepted
    assert completes(ann, stage, ann.accepted(body))


def test_the_api_may_do_one_thing(stage: RunningStage) -> None:
    # Given the role of the API's integration
    iam, role = stage.client("iam"), role_named(stage, "ApiSubmitRole")

    # Then it has one policy, which allows one action on one queue
    (name,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
    assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
    (statement,) = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Action"]) == ("Allow", "sqs:SendMessage")
    assert statement["Resource"].rpartition(":")[2] == stage.description.queues.request.url.rpartition("/")[2]
