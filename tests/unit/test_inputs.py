"""The input store: what a job asked for comes back as it was, from a place that is its own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError
from sluice_core.inputs import InputStore
from sluice_core.jobs import JobKey
from sluice_core.requests import MalformedMessage
from unit.lambda_events import ANN, BEN, job

if TYPE_CHECKING:
    from unit.resources import Bucket

JOB = job("the-job", at=1_790_000_000_000, text="Ö \ud800 \x00 “", nested={"a": [1, None, 2.5]})


@pytest.fixture
def inputs(bucket: Bucket) -> InputStore:
    return InputStore(bucket.s3, bucket.name)


def test_an_input_comes_back_as_it_was(inputs: InputStore) -> None:
    inputs.put(replace(JOB, start_token="start-1", is_again=True))

    found = inputs.get(JOB.key)

    # The start that it was put for is in it, too; whoever starts the job again says another
    assert found == replace(JOB, is_again=True)
    assert found.start_token == "start-1"
    assert found.digest == JOB.digest


def test_an_input_lies_under_its_owner_and_job(inputs: InputStore, bucket: Bucket) -> None:
    """The grants of a container's role, and the bucket's lifecycle, go by that."""
    inputs.put(JOB)

    [stored] = bucket.s3.list_objects_v2(Bucket=bucket.name)["Contents"]
    assert stored["Key"] == f"inputs/{ANN}/{JOB.key.job_id}.json"


def test_jobs_of_two_owners_do_not_meet(inputs: InputStore) -> None:
    other = replace(JOB, key=JobKey(BEN, JOB.key.job_id), parameters={"mine": True})
    inputs.put(JOB)
    inputs.put(other)

    assert inputs.get(JOB.key).parameters == JOB.parameters
    assert inputs.get(other.key).parameters == {"mine": True}


def test_whether_there_is_one_can_be_told_without_reading_it(inputs: InputStore) -> None:
    inputs.put(JOB)

    assert inputs.has(JOB.key)
    assert not inputs.has(JobKey(BEN, JOB.key.job_id))


def test_putting_it_again_changes_nothing(inputs: InputStore) -> None:
    inputs.put(JOB)
    inputs.put(JOB)

    assert inputs.get(JOB.key) == JOB


def test_an_input_that_is_deleted_is_gone_and_may_be_deleted_again(inputs: InputStore) -> None:
    inputs.put(JOB)
    for _ in range(2):
        inputs.delete(JOB.key)

    with pytest.raises(ClientError) as missing:
        inputs.get(JOB.key)
    assert missing.value.response["Error"]["Code"] == "NoSuchKey"


def test_what_is_no_input_is_said_to_be_none(inputs: InputStore, bucket: Bucket) -> None:
    bucket.s3.put_object(Bucket=bucket.name, Key=f"inputs/{ANN}/{JOB.key.job_id}.json", Body=b"{}")

    with pytest.raises(MalformedMessage, match="not a work message"):
        inputs.get(JOB.key)
