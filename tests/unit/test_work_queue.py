from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import boto3
import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError
from moto import mock_aws
from sluice_core.executors import Retry, Started
from sluice_core.jobs import JobKey, Submission
from sluice_core.requests import InvalidRequest, MalformedMessage
from sluice_core.slots import new_token
from sluice_core.work_queue import WorkQueueExecutor, read_work_message
from unit.lambda_events import ANN, BEN, job

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mypy_boto3_sqs import SQSClient
    from sluice_core.executors import StartResult
    from unit.resources import WorkQueue

MIB = 1_048_576


def put_off(results: Sequence[StartResult]) -> list[int]:
    """Return which of the jobs were not started; the others have a message each."""
    handles = [one.handle for one in results if isinstance(one, Started)]
    assert all(handles)
    assert len(set(handles)) == len(handles)
    return [n for n, one in enumerate(results) if isinstance(one, Retry)]


START_TOKEN = new_token(1_790_000_000_000)
# What a later start's message has besides.
ANEW = f',"again":true,"startToken":"{START_TOKEN}"'


@pytest.fixture
def executor(work_queue: WorkQueue) -> WorkQueueExecutor:
    return WorkQueueExecutor(work_queue.sqs, work_queue.url)


@pytest.fixture
def moto_sqs(monkeypatch: pytest.MonkeyPatch) -> Iterator[SQSClient]:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield boto3.client("sqs", region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")


def sized(number: int, size: int) -> Submission:
    """Return a job whose message has this many bytes."""
    empty = job(f"sized-{number:02}", blob="")
    wrapped = len(
        json.dumps(
            {
                "owner": ANN,
                "jobId": empty.key.job_id,
                "jobType": "scripted",
                "parameters": {"blob": ""},
                "submittedAt": empty.submitted_at,
            },
            separators=(",", ":"),
        )
    )
    return job(f"sized-{number:02}", blob="x" * (size - wrapped))


def anew(one: Submission) -> Submission:
    """Return a job as it is queued for a later start."""
    return replace(one, is_again=True, start_token=START_TOKEN)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"station": "Århus 東京 🌦 & <b> 100% + ?"},
        {"text": "line\nline\r\n\ttab \x00\x01\x1f\x7f \u2028"},
        {"quotes": "\"'\\ &MessageAttribute.1.Name=owner"},
        {"half a pair": "\ud800", "\udfff": ["\udc00\ud800"]},
        {"not characters": "\ufffe\uffff\U0001ffff"},
        {"written out": "\\ud800 \\\\uffff"},
        {"deep": {"list": [1, 2.5, None, True, {"": ""}]}, "big": 2**70, "small": 1e-300},
    ],
)
def test_a_job_survives_the_queue_as_it_was(
    executor: WorkQueueExecutor, work_queue: WorkQueue, parameters: dict[str, Any]
) -> None:
    # Given a job
    submission = Submission(JobKey(ANN, "j" * 16), "weather-report", parameters, 1_790_000_000_123)

    # When it is started
    executor.check(submission)
    assert put_off(executor.start([submission])) == []

    # Then the queue holds just that
    [message] = work_queue.receive()
    received = read_work_message(message["Body"])
    assert received == submission
    assert received.digest == submission.digest


def test_messages_are_grouped_by_owner_so_that_queues_are_fair(
    executor: WorkQueueExecutor, work_queue: WorkQueue
) -> None:
    executor.start([job("a"), job("b", owner=BEN)])

    groups = {one["Attributes"]["MessageGroupId"] for one in work_queue.receive()}
    assert groups == {ANN, BEN}


def test_nothing_to_start(executor: WorkQueueExecutor, work_queue: WorkQueue) -> None:
    assert executor.start([]) == []
    assert work_queue.receive() == []


@pytest.mark.parametrize("count", [10, 11, 31])
def test_many_jobs_go_in_calls_of_ten(moto_sqs: SQSClient, count: int) -> None:
    # moto refuses a batch of more than ten, as SQS does
    url = moto_sqs.create_queue(QueueName="work")["QueueUrl"]

    results = WorkQueueExecutor(moto_sqs, url).start([job(f"job-{n}") for n in range(count)])

    assert put_off(results) == []
    assert len(results) == count
    assert _depth(moto_sqs, url) == count


def test_large_jobs_go_in_calls_of_a_mebibyte(executor: WorkQueueExecutor, work_queue: WorkQueue) -> None:
    # Given jobs of which two, and then three, fill a call to the very byte
    jobs = [sized(n, size) for n, size in enumerate([MIB // 2, MIB // 2, MIB // 4, MIB // 4, MIB // 2, 1000])]

    assert put_off(executor.start(jobs)) == []

    assert work_queue.job_ids() == [one.key.job_id for one in jobs]


def test_a_byte_too_many_begins_another_call(executor: WorkQueueExecutor, work_queue: WorkQueue) -> None:
    assert put_off(executor.start([sized(0, MIB // 2), sized(1, MIB // 2 + 1)])) == []

    assert len(work_queue.receive()) == 2


def test_size_is_counted_in_bytes_and_not_in_characters(
    executor: WorkQueueExecutor, work_queue: WorkQueue
) -> None:
    wide = [job(f"wide-{n}", text="東" * (MIB // 6 + 1000)) for n in range(2)]

    assert put_off(executor.start(wide)) == []
    assert len(work_queue.receive()) == 2


def test_the_largest_job_passes_and_a_byte_more_is_refused_beforehand(
    executor: WorkQueueExecutor, work_queue: WorkQueue
) -> None:
    # Given a job that just fits, in the message of a later start, too: SQS itself takes it
    largest, larger = sized(0, MIB - len(ANEW)), sized(0, MIB - len(ANEW) + 1)
    executor.check(largest)
    assert put_off(executor.start([anew(largest)])) == []
    assert len(work_queue.receive()) == 1

    # When it is a byte larger, then SQS would refuse the whole call, so the job is refused before
    with pytest.raises(ClientError, match="BatchRequestTooLong"):
        executor.start([anew(larger)])
    with pytest.raises(InvalidRequest, match="too large") as caught:
        executor.check(larger)
    assert caught.value.submission == larger


def test_what_sqs_refuses_is_reported_and_the_rest_is_started(
    executor: WorkQueueExecutor, work_queue: WorkQueue
) -> None:
    # Given a queue that takes 1 KiB at most, and twelve jobs of which two are larger
    work_queue.sqs.set_queue_attributes(QueueUrl=work_queue.url, Attributes={"MaximumMessageSize": "1024"})
    jobs = [job(f"job-{n:02}", text="x" * (2000 if n in (3, 11) else 10)) for n in range(12)]

    # When they are started
    results = executor.start(jobs)

    # Then the two are to be tried again, and the ten are queued
    assert put_off(results) == [3, 11]
    assert work_queue.job_ids() == [one.key.job_id for n, one in enumerate(jobs) if n not in (3, 11)]


def test_a_call_that_is_not_answered_is_to_be_tried_again(
    executor: WorkQueueExecutor, work_queue: WorkQueue
) -> None:
    # Given a queue that cannot be reached
    with patch.object(work_queue.sqs, "send_message_batch", side_effect=ConnectTimeoutError(endpoint_url="sqs")):
        # When jobs are started, then nothing is known of them
        assert executor.start([job("a"), job("b")]) == [Retry("ConnectTimeoutError")] * 2


def test_a_delayed_job_waits(executor: WorkQueueExecutor, work_queue: WorkQueue) -> None:
    executor.start([job("a")], delay_s=60)

    assert work_queue.receive() == []


def test_the_start_that_a_job_takes_the_place_of_goes_with_it(
    executor: WorkQueueExecutor, work_queue: WorkQueue
) -> None:
    executor.start([replace(job("a"), start_token="t1", is_again=True)])

    [message] = work_queue.receive()
    received = read_work_message(message["Body"])
    assert (received.start_token, received.is_again) == ("t1", True)


def test_a_queue_that_is_gone_raises(executor: WorkQueueExecutor, work_queue: WorkQueue) -> None:
    work_queue.sqs.delete_queue(QueueUrl=work_queue.url)

    with pytest.raises(ClientError, match="NonExistentQueue"):
        executor.start([job("a")])


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "null",
        "[]",
        '"text"',
        "{}",
        '{"owner": "ann", "jobId": "j1", "jobType": "t", "parameters": {}}',
        '{"owner": "ann", "jobId": "j1", "jobType": "t", "parameters": {}, "submittedAt": "soon"}',
        '{"owner": "ann", "jobId": "j1", "jobType": "t", "parameters": {}, "submittedAt": null}',
    ],
)
def test_a_message_of_another_hand_is_malformed(body: str) -> None:
    with pytest.raises(MalformedMessage):
        read_work_message(body)


def _depth(sqs: SQSClient, url: str) -> int:
    answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
    return int(answer["Attributes"]["ApproximateNumberOfMessages"])
