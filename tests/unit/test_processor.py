from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from sluice_core.jobs import JobKey, JobStatus, StoredResult, Submission
from sluice_core.ledger import Attempt
from sluice_core.work_queue import read_work_message
from unit.lambda_events import ANN, BEN, handle, ids, job, request_record, sqs_record

if TYPE_CHECKING:
    from types import ModuleType

    from sluice_core.jobs import Job
    from sluice_core.ledger import JobLedger
    from unit.conftest import ClientMaker
    from unit.resources import Output, WorkQueue

NOW = 1_790_000_000_000
SECRET = "hunter2-secret"


def row(ledger: JobLedger, job_id: str, owner: str = ANN) -> Job:
    found = ledger.get(JobKey(owner, job_id.ljust(16, "-")))
    assert found is not None
    return found


def scripted(job_id: str, **parameters: Any) -> dict[str, Any]:
    return request_record(job_id, {"jobType": "scripted", "parameters": parameters})


def test_a_new_job_is_recorded_and_dispatched(
    processor: ModuleType, ledger: JobLedger, work_queue: WorkQueue, output: Output
) -> None:
    # Given a request
    record = request_record("new", {"jobType": "weather-report", "parameters": {"station": "Åre & <東京>"}})

    # When it is processed
    assert handle(processor, record) == []

    # Then it is on record, and its message carries all that the work needs
    found = row(ledger, "new")
    assert (found.status, found.job_type, found.submitted_at) == (JobStatus.SUBMITTED, "weather-report", NOW)
    [message] = work_queue.receive()
    assert read_work_message(message["Body"]) == Submission(
        found.key, "weather-report", {"station": "Åre & <東京>"}, NOW
    )
    assert message["Attributes"]["MessageGroupId"] == ANN
    # and that was counted and logged
    assert output.values("SubmissionsRecorded") == [1]
    [line] = output.logs
    assert (line["outcome"], line["jobId"], line["jobType"]) == ("recorded", found.key.job_id, "weather-report")


def test_a_full_batch_of_several_owners(
    processor: ModuleType, ledger: JobLedger, work_queue: WorkQueue, output: Output
) -> None:
    records = [request_record(f"job-{n}", {}, owner=(ANN, BEN)[n % 2]) for n in range(10)]

    assert handle(processor, *records) == []

    assert len(work_queue.receive()) == 10
    assert row(ledger, "job-3", BEN).status is JobStatus.SUBMITTED
    assert output.values("SubmissionsRecorded") == [1] * 10


def test_a_repeated_delivery_is_dispatched_again_while_it_may_not_have_been(
    processor: ModuleType, ledger: JobLedger, work_queue: WorkQueue, output: Output
) -> None:
    # Given a job that was recorded by an invocation which died before it dispatched
    record = scripted("again", n=1)
    ledger.record([job("again", n=1)])

    # When SQS delivers its message again
    assert handle(processor, record) == []

    # Then it is dispatched, and counted as neither a new job nor another submission
    assert work_queue.job_ids() == ["again".ljust(16, "-")]
    assert output.values("SubmissionsDuplicate") == []
    assert output.values("SubmissionsRecorded") == []


def test_another_submission_under_its_token_starts_nothing(
    processor: ModuleType, ledger: JobLedger, work_queue: WorkQueue, output: Output
) -> None:
    # Given a job on record whose client submitted it once more a second later
    ledger.record([job("again", n=1)])
    before = row(ledger, "again")
    again = request_record("again", {"jobType": "scripted", "parameters": {"n": 1}}, at=NOW + 1_000)

    # When that comes, then the job is left to the request that recorded it
    assert handle(processor, again) == []
    assert work_queue.receive() == []
    assert row(ledger, "again") == before
    assert output.values("SubmissionsDuplicate") == [1]
    assert output.values("SubmissionsRecorded") == output.values("SubmissionsConflicting") == []


@pytest.mark.parametrize("end", ["running", "completed"])
@pytest.mark.parametrize("later_ms", [0, 1_000])
def test_a_repetition_of_a_job_under_way_or_ended_is_only_acknowledged(
    processor: ModuleType, ledger: JobLedger, work_queue: WorkQueue, end: str, later_ms: int
) -> None:
    # Given a job that runs, or has ended
    done = job("done", n=1)
    attempt = Attempt(done.key, "mine")
    ledger.record([done])
    ledger.claim([attempt], NOW, NOW + 1000)
    if end == "completed":
        ledger.complete([(attempt, StoredResult("key", "text/plain", 1))], NOW)
    before = row(ledger, "done")

    # When its request comes once more
    repetition = request_record("done", {"jobType": "scripted", "parameters": {"n": 1}}, at=NOW + later_ms)
    assert handle(processor, repetition) == []

    # Then nothing happens
    assert row(ledger, "done") == before
    assert work_queue.receive() == []


def test_the_same_token_twice_in_one_batch_is_one_job(
    processor: ModuleType, work_queue: WorkQueue, output: Output
) -> None:
    records = [scripted("twice", n=1), scripted("other"), scripted("twice", n=1)]

    assert handle(processor, *records) == []

    assert work_queue.job_ids() == ["other".ljust(16, "-"), "twice".ljust(16, "-")]
    assert output.values("SubmissionsRecorded") == [1, 1]


def test_the_same_token_of_two_owners_is_two_jobs(
    processor: ModuleType, ledger: JobLedger, work_queue: WorkQueue
) -> None:
    records = [request_record("token", {}, owner=owner) for owner in (ANN, BEN)]

    assert handle(processor, *records) == []

    assert len(work_queue.receive()) == 2
    assert row(ledger, "token", ANN).key != row(ledger, "token", BEN).key


@pytest.mark.parametrize(
    "body",
    [
        f'{{"parameters": {SECRET}',
        {"jobType": SECRET},
        {"jobType": "scripted", "parameters": {"do": SECRET}},
        {"jobType": "scripted", SECRET: 1},
        f'{{"jobType": "scripted", "parameters": {{"{SECRET}": {"[" * 5000}{"]" * 5000}}}}}',
    ],
)
def test_an_invalid_request_ends_where_its_client_looks(
    processor: ModuleType, ledger: JobLedger, work_queue: WorkQueue, output: Output, body: Any
) -> None:
    # Given a bad request between two good ones
    records = [scripted("before"), request_record("bad", body), scripted("after")]

    # When they are processed, then all are acknowledged, and the good ones start
    assert handle(processor, *records) == []
    assert work_queue.job_ids() == ["after".ljust(16, "-"), "before".ljust(16, "-")]

    # Then the bad one has failed, and says why without what
    found = row(ledger, "bad")
    assert found.status is JobStatus.FAILED
    assert found.error is not None
    assert found.error.code == "INVALID_REQUEST"
    assert SECRET not in found.error.message
    assert found.ended_at is not None
    assert SECRET not in output.text
    assert output.values("SubmissionsRejected") == [1]


def test_a_repeated_invalid_request_stays_failed(processor: ModuleType, ledger: JobLedger) -> None:
    handle(processor, request_record("bad", "{"))
    before = row(ledger, "bad")

    assert handle(processor, request_record("bad", "{")) == []
    assert row(ledger, "bad") == before


def test_an_invalid_request_does_not_end_a_job_of_the_same_token(processor: ModuleType, ledger: JobLedger) -> None:
    handle(processor, scripted("token"))

    assert handle(processor, request_record("token", "{")) == []

    assert row(ledger, "token").status is JobStatus.SUBMITTED


def test_a_job_too_large_for_the_work_queue_ends_failed(
    processor: ModuleType, ledger: JobLedger, work_queue: WorkQueue
) -> None:
    # Given a request within SQS's limit whose work message is beyond it: 1E9 becomes 1000000000.0
    body = f'{{"jobType": "scripted", "parameters": {{"numbers": [{",".join(["1E9"] * 200_000)}]}}}}'
    assert len(body) < 1_048_576

    assert handle(processor, request_record("large", body), scripted("small")) == []

    assert work_queue.job_ids() == ["small".ljust(16, "-")]
    found = row(ledger, "large")
    assert found.status is JobStatus.FAILED
    assert found.error is not None
    assert "too large" in found.error.message


@pytest.mark.parametrize("text", ["\\ud800", "\\uffff", "\\ufffe", "\\u0000"])
def test_text_that_sqs_cannot_carry_as_it_is_stops_no_batch(
    processor: ModuleType, work_queue: WorkQueue, text: str
) -> None:
    body = f'{{"jobType": "scripted", "parameters": {{"text": "{text}"}}}}'

    assert handle(processor, request_record("odd", body), scripted("even")) == []

    messages = [read_work_message(message["Body"]) for message in work_queue.receive()]
    assert {one.parameters.get("text") for one in messages} == {json.loads(f'"{text}"'), None}


def test_a_malformed_message_alone_is_left_in_the_queue(
    processor: ModuleType, work_queue: WorkQueue, output: Output
) -> None:
    # Given a message that the gateway did not write, between two that it did
    malformed = sqs_record(f'{{"parameters": {{"x": "{SECRET}"}}}}')
    records = [scripted("before"), malformed, scripted("after")]

    # When they are processed, then only its id is reported
    assert handle(processor, *records) == ids(malformed)
    assert len(work_queue.receive()) == 2
    assert output.values("BatchItemFailures") == [1]
    [line] = [one for one in output.logs if one["level"] == "ERROR"]
    assert line["messageId"] == malformed["messageId"]
    assert SECRET not in output.text


def test_jobs_that_the_queue_refuses_are_reported_and_start_later(
    processor: ModuleType, ledger: JobLedger, work_queue: WorkQueue, output: Output
) -> None:
    # Given a work queue that takes 1 KiB at most
    work_queue.sqs.set_queue_attributes(QueueUrl=work_queue.url, Attributes={"MaximumMessageSize": "1024"})
    large = [scripted("large", text="x" * 2000), scripted("large", text="x" * 2000)]

    # When a job is larger, then both of its messages are reported, and the others start
    assert handle(processor, scripted("small"), *large) == ids(*large)
    assert work_queue.job_ids() == ["small".ljust(16, "-")]
    assert output.values("BatchItemFailures") == [2]

    # When the queue takes it again, then its redelivery starts it
    work_queue.sqs.set_queue_attributes(QueueUrl=work_queue.url, Attributes={"MaximumMessageSize": "4096"})
    assert handle(processor, *large) == []
    assert work_queue.job_ids() == ["large".ljust(16, "-")]
    assert row(ledger, "large").status is JobStatus.SUBMITTED


def test_nothing_is_lost_when_the_work_queue_is_gone(
    processor: ModuleType, ledger: JobLedger, work_queue: WorkQueue
) -> None:
    # Given no work queue
    work_queue.sqs.delete_queue(QueueUrl=work_queue.url)
    records = [scripted("one"), scripted("two")]

    # When requests come, then the invocation fails, and Lambda will deliver all of them again
    with pytest.raises(ClientError, match="NonExistentQueue"):
        handle(processor, *records)
    assert row(ledger, "one").status is JobStatus.SUBMITTED

    # When there is a queue again, then their redelivery starts them
    work_queue.sqs.create_queue(QueueName=work_queue.url.rpartition("/")[2])
    assert handle(processor, *records) == []
    assert work_queue.job_ids() == ["one".ljust(16, "-"), "two".ljust(16, "-")]


def test_nothing_is_dispatched_when_the_table_is_gone(
    processor: ModuleType, engine: ClientMaker, table: str, work_queue: WorkQueue
) -> None:
    engine.client("dynamodb").delete_table(TableName=table)

    with pytest.raises((ClientError, RuntimeError), match="ResourceNotFound"):
        handle(processor, scripted("one"))

    assert work_queue.receive() == []


@pytest.mark.usefixtures("ledger")
def test_payloads_and_ids_stay_out_of_logs_and_dimensions(processor: ModuleType, output: Output) -> None:
    handle(processor, scripted("quiet", secret=SECRET), scripted("quiet", secret=SECRET))
    handle(processor, scripted("quiet", secret=SECRET), request_record("bad", {"parameters": [SECRET]}))

    assert SECRET not in output.text
    dimensions = {tuple(one["_aws"]["CloudWatchMetrics"][0]["Dimensions"][0]) for one in output.emf}
    assert dimensions == {("Stage",), ("Stage", "JobType")}
    assert {one["Stage"] for one in output.emf} == {"unit"}
    assert {one["JobType"] for one in output.emf if "JobType" in one} == {"scripted"}
    assert not [one for one in output.logs if one["level"] == "DEBUG"]


def test_an_invalid_request_that_was_brought_back_ends_again(processor: ModuleType, ledger: JobLedger) -> None:
    # Given a request that ended FAILED, and that an operator has brought back without mending it
    request = request_record("bad", {"jobType": "scripted", "parameters": 7})
    assert handle(processor, request) == []
    first = row(ledger, "bad")
    ledger.reopen(first, 10, 20)

    # When it comes back, then its job ends again and shows both ends
    assert handle(processor, request) == []
    again = row(ledger, "bad")
    assert (again.status, again.error) == (JobStatus.FAILED, first.error)
    assert len(again.history) == 1
    assert again.conflicts == ()


def test_a_request_that_was_invalid_once_runs_when_it_is_brought_back(
    processor: ModuleType, ledger: JobLedger, work_queue: WorkQueue
) -> None:
    # Given a job that is FAILED because its request was invalid, for a schema that has been mended since
    assert handle(processor, request_record("once", {"parameters": 7})) == []
    ledger.reopen(row(ledger, "once"), 10, 20)

    # When the request comes back and is valid now, then it is started
    assert handle(processor, scripted("once")) == []
    assert work_queue.job_ids() == [JobKey(ANN, "once".ljust(16, "-")).job_id]
    assert row(ledger, "once").conflicts == ()
