from __future__ import annotations

from dataclasses import replace

import pytest
from sluice_core.callers import owner_tag
from sluice_core.jobs import JobKey, JobStatus, Submission, is_job_id, may_be_queued
from sluice_core.rows import new_row, read_row
from unit.lambda_events import ANN, BEN, gateway_id

NOW = 1_790_000_000_000
RETENTION_S = 4 * 86_400


def submission(job_type: str = "weather-report", **parameters: object) -> Submission:
    return Submission(JobKey(ANN, "j" * 16), job_type, parameters, NOW)


def test_an_owner_tag_is_short_stable_and_the_owner_s_own() -> None:
    # The gateway's ids outlive a deployment, so the tag may never change
    assert owner_tag("ann") == "49915e0d"
    assert owner_tag(ANN) != owner_tag(BEN)


@pytest.mark.parametrize("age_ms", [0, 5_000, RETENTION_S * 1000 - 1, -60_000])
def test_a_fresh_id_may_still_be_queued(age_ms: int) -> None:
    assert may_be_queued(JobKey(ANN, gateway_id(ANN, NOW - age_ms)), NOW, RETENTION_S)


@pytest.mark.parametrize("age_ms", [RETENTION_S * 1000, -60_001, 10 * RETENTION_S * 1000])
def test_an_id_that_is_too_old_or_of_the_future_is_not_queued(age_ms: int) -> None:
    assert not may_be_queued(JobKey(ANN, gateway_id(ANN, NOW - age_ms)), NOW, RETENTION_S)


def test_another_owner_s_id_is_not_queued() -> None:
    assert not may_be_queued(JobKey(BEN, gateway_id(ANN, NOW)), NOW, RETENTION_S)


@pytest.mark.parametrize(
    "job_id",
    [
        "",
        "nonsense",
        "my-client-token-0001",
        f"{NOW}",
        gateway_id(ANN, NOW) + "\n",
        gateway_id(ANN, NOW) + "0",
        gateway_id(ANN, NOW).upper(),
        gateway_id(ANN, NOW)[1:],
        gateway_id(ANN, NOW).replace(str(NOW), "١٧٩٠٠٠٠٠٠٠٠٠٠"),
        gateway_id(ANN, NOW).replace("-", "_"),
    ],
)
def test_other_forms_are_not_queued(job_id: str) -> None:
    # A client token has no time in it, so nothing can be said of one that is not on record
    assert not may_be_queued(JobKey(ANN, job_id), NOW, RETENTION_S)


def test_a_client_token_in_the_gateway_s_form_counts_as_the_gateway_s() -> None:
    # Its owner made it up, and it names no one else's job
    assert may_be_queued(JobKey(ANN, f"{NOW}-{'0' * 36}-{owner_tag(ANN)}"), NOW, RETENTION_S)


@pytest.mark.parametrize("job_id", [gateway_id(ANN, NOW), "a" * 16, "Z9-" * 21])
def test_ids_that_a_job_can_have(job_id: str) -> None:
    assert is_job_id(job_id)


@pytest.mark.parametrize(
    "job_id", ["", "a" * 15, "a" * 65, "a" * 15 + "#", "a" * 16 + "\n", "ä" * 16, "../../../../etc"]
)
def test_ids_that_no_job_can_have(job_id: str) -> None:
    assert not is_job_id(job_id)


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    one = submission(a=1, b={"x": [1, 2], "y": None})
    other = submission(b={"y": None, "x": [1, 2]}, a=1)

    assert one.digest == other.digest
    # Rows keep it for days, across deployments
    assert submission(records=5).digest == "7d959d2bcaeaf87fa0545b38b6fc1ae1"


@pytest.mark.parametrize(
    "other",
    [
        submission(),
        submission(a=2),
        submission(a="1"),
        submission(a=[1]),
        submission(a=1, b=1),
        submission("other-type", a=1),
    ],
)
def test_a_digest_tells_requests_apart(other: Submission) -> None:
    assert submission(a=1).digest != other.digest


def test_a_digest_tells_orders_of_a_list_apart() -> None:
    assert submission(a=[1, 2]).digest != submission(a=[2, 1]).digest


def test_a_digest_takes_any_text_that_json_can_carry() -> None:
    assert len(submission(a="æ日\ud800\n").digest) == 32


def test_a_digest_is_of_the_request_and_not_of_its_key_or_time() -> None:
    later = Submission(JobKey(BEN, "k" * 16), "weather-report", {"a": 1}, NOW + 1)

    assert later.digest == submission(a=1).digest


def test_open_and_end_states() -> None:
    assert [status for status in JobStatus if status.is_open] == ["SUBMITTED", "RUNNING"]


def test_a_key_is_written_with_its_owner_first() -> None:
    assert str(JobKey("ann", "j1")) == "ann#j1"


def test_a_row_of_before_there_were_holds_is_read_as_not_held() -> None:
    # Functions are updated one by one, so rows without one are met
    row = new_row(Submission(JobKey("ann", "a-job-of-old-days"), "scripted", {}, 1), 10)
    del row["heldUntil"]

    assert read_row(row).held_until == 0


def test_a_row_of_before_there_were_executors_is_read_as_never_started() -> None:
    row = new_row(Submission(JobKey("ann", "a-job-of-old-days"), "scripted", {}, 1), 10)
    del row["executor"], row["startToken"], row["starts"]

    job = read_row(row)

    assert (job.executor, job.start_token, job.starts, job.handle, job.executing) == ("", "", 0, "", "")


def test_a_row_says_who_runs_its_job_and_as_what() -> None:
    submission = Submission(JobKey("ann", "a-job-of-a-batch"), "scripted", {}, 1, executor="batch")
    assert read_row(new_row(submission, 10)).executor == "batch"

    job = read_row(
        {
            **new_row(submission, 10),
            "handle": {"S": "the-id"},
            "startToken": {"S": "start-3"},
            "starts": {"N": "3"},
            "executing": {"S": "batch"},
            "executingSince": {"N": "7"},
        }
    )

    assert (job.executor, job.handle, job.start_token, job.starts) == ("batch", "the-id", "start-3", 3)
    assert (job.executing, job.executing_since) == ("batch", 7)


def test_what_it_is_started_with_makes_no_other_job() -> None:
    one = submission(a=1)

    assert replace(one, executor="batch", start_token="start-1") == one
    assert replace(one, executor="batch", start_token="start-1").digest == one.digest
