"""What two versions share while a release shifts traffic (docs/releasing.md): each reads what the other writes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from sluice_core.jobs import JobKey, JobStatus, Submission
from sluice_core.requests import MalformedMessage, read_provenance
from sluice_core.rows import new_row, read_row
from sluice_core.work_queue import read_work_message, work_message
from unit.lambda_events import request_record

KEY = JobKey("ann", "job-1")
SUBMISSION = Submission(KEY, "weather-report", {}, 1_790_000_000_000)
MESSAGE: dict[str, Any] = {
    "owner": "ann",
    "jobId": "job-1",
    "jobType": "weather-report",
    "parameters": {},
    "submittedAt": 1_790_000_000_000,
}


def test_a_later_version_s_request_is_read() -> None:
    record = request_record("my-client-token-0001", {})
    now = read_provenance(record)
    record["messageAttributes"]["region"] = {"stringValue": "eu-central-1", "dataType": "String"}

    assert read_provenance(record) == now


def test_a_later_version_s_work_message_is_read() -> None:
    assert read_work_message(json.dumps({**MESSAGE, "priority": 7})) == SUBMISSION


def test_a_work_message_says_which_start_it_is_in_the_place_of() -> None:
    again = replace(SUBMISSION, start_token="start-1")

    assert json.loads(work_message(SUBMISSION)) == MESSAGE
    assert json.loads(work_message(again)) == {**MESSAGE, "startToken": "start-1"}
    assert read_work_message(work_message(again)).start_token == "start-1"
    assert read_work_message(json.dumps(MESSAGE)).start_token == ""


@pytest.mark.parametrize("member", MESSAGE)
def test_work_messages_cannot_do_without_what_they_have_always_had(member: str) -> None:
    with pytest.raises(MalformedMessage, match="not a work message of this version"):
        read_work_message(json.dumps({name: value for name, value in MESSAGE.items() if name != member}))


def test_a_later_version_s_row_is_read() -> None:
    row = {**new_row(SUBMISSION, retention_s=60), "priority": {"N": "7"}}

    assert read_row(row).status is JobStatus.SUBMITTED


def test_a_row_of_a_version_that_knew_less_is_read() -> None:
    # Given a row without what is not there in every state, or was not always
    row = new_row(SUBMISSION, retention_s=60)
    for name in ("leaseUntil", "heldUntil", "executor", "startToken", "starts"):
        del row[name]

    # Then it is a job all the same
    assert read_row(row).key == KEY


def test_a_status_that_nobody_knows_is_an_error() -> None:
    row = {**new_row(SUBMISSION, retention_s=60), "status": {"S": "PAUSED"}}

    with pytest.raises(ValueError, match="PAUSED"):
        read_row(row)
