"""The event publisher, on the records of a real table's stream; what it publishes is read from a real bus."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import fastjsonschema
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from sluice_core import events
from sluice_core.jobs import JobError, JobKey, StoredResult
from sluice_core.ledger import Attempt
from unit.lambda_events import ANN, BEN, failed_ids, gateway_id, job, row
from unit.wire_faults import TRANSIENT, Fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from sluice_core.ledger import JobLedger
    from unit.conftest import ClientMaker, Load, MakeQueue
    from unit.resources import Output, WorkQueue
    from unit.wire_faults import Wire

    Changes = Callable[[], list[dict[str, Any]]]

NOW = 1_790_000_000_000
SECRET = "hunter2-secret"
JOB = job("mine", at=NOW, secret=SECRET)
MINE = Attempt(JOB.key, "attempt-mine")
RESULT = StoredResult(f"results/{SECRET}.csv", "text/csv", 17)
is_valid_detail = fastjsonschema.compile(json.loads(json.dumps(events.DETAIL_SCHEMA)))


@pytest.fixture
def bus(engine: ClientMaker) -> str:
    name = f"bus-{uuid.uuid4().hex}"
    engine.client("events").create_event_bus(Name=name)
    return name


@pytest.fixture
def consumer(engine: ClientMaker, bus: str, make_queue: MakeQueue) -> WorkQueue:
    """Return a queue that a rule sends every event of ours."""
    queue = make_queue("consumer")
    client = engine.client("events")
    rule = f"rule-{uuid.uuid4().hex}"
    pattern = {"source": [events.SOURCE], "detail-type": [events.DETAIL_TYPE]}
    arn = client.put_rule(Name=rule, EventBusName=bus, EventPattern=json.dumps(pattern))["RuleArn"]
    queue.let_send("events.amazonaws.com", arn)
    client.put_targets(Rule=rule, EventBusName=bus, Targets=[{"Id": "queue", "Arn": queue.arn}])
    return queue


@pytest.fixture
def publisher(load: Load, bus: str) -> ModuleType:
    return load("event_publisher", EVENT_BUS=bus)


@pytest.fixture
def changes(engine: ClientMaker, table: str, ledger: JobLedger) -> Changes:
    """Read all that was changed so far, as Lambda delivers it."""
    assert ledger
    streams = engine.client("dynamodbstreams")
    arn = engine.client("dynamodb").describe_table(TableName=table)["Table"]["LatestStreamArn"]

    def read() -> list[dict[str, Any]]:
        [shard] = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
        iterator = streams.get_shard_iterator(
            StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        records: list[dict[str, Any]] = streams.get_records(ShardIterator=iterator)["Records"]
        return [record | {"eventSourceARN": arn} for record in records]

    return read


def publish(publisher: ModuleType, records: list[dict[str, Any]]) -> list[str]:
    return failed_ids(publisher.handler({"Records": records}, None))


def received(consumer: WorkQueue) -> list[dict[str, Any]]:
    """Take all events, and check what every one of them must be."""
    found = [json.loads(message["Body"]) for message in consumer.receive()]
    for event in found:
        assert (event["source"], event["detail-type"]) == ("Sluice", "Job Ended")
        is_valid_detail(event["detail"])
        assert SECRET not in json.dumps(event)
    return found


def details(consumer: WorkQueue) -> list[dict[str, Any]]:
    return [event["detail"] for event in received(consumer)]


def run(ledger: JobLedger) -> None:
    ledger.record([JOB])
    ledger.claim([MINE], NOW + 100, NOW + 60_000)


# --- each end


def test_a_completed_job_s_event(
    publisher: ModuleType, ledger: JobLedger, changes: Changes, *, consumer: WorkQueue, output: Output
) -> None:
    run(ledger)
    ledger.complete([(MINE, RESULT)], NOW + 200)

    assert publish(publisher, changes()) == []

    assert details(consumer) == [
        {
            "version": "1",
            "stage": "unit",
            "jobId": JOB.key.job_id,
            "owner": ANN,
            "jobType": "scripted",
            "status": "COMPLETED",
            "attempts": 1,
            "submittedAt": NOW,
            "startedAt": NOW + 100,
            "endedAt": NOW + 200,
            "resultBytes": 17,
            "contentType": "text/csv",
        }
    ]
    assert output.values("EventsPublished") == [1]


def test_a_failed_job_s_event_names_the_code_and_not_the_message(
    publisher: ModuleType, ledger: JobLedger, changes: Changes, consumer: WorkQueue
) -> None:
    run(ledger)
    ledger.fail([(MINE, JobError("BAD_STATION", SECRET))], NOW + 200)

    publish(publisher, changes())

    [detail] = details(consumer)
    assert (detail["status"], detail["errorCode"], detail["attempts"]) == ("FAILED", "BAD_STATION", 1)
    assert not {"resultBytes", "contentType"} & set(detail)


def test_a_cancelled_job_s_event(
    publisher: ModuleType, ledger: JobLedger, changes: Changes, consumer: WorkQueue
) -> None:
    ledger.record([JOB])
    ledger.cancel(JOB.key, NOW + 50)

    publish(publisher, changes())

    [detail] = details(consumer)
    assert (detail["status"], detail["attempts"], detail["endedAt"]) == ("CANCELLED", 0, NOW + 50)
    assert not {"startedAt", "errorCode", "resultBytes"} & set(detail)


@pytest.mark.parametrize("end", ["expired", "aborted", "rejected", "cancelled unrecorded"])
def test_every_other_way_to_end_has_one_event(
    publisher: ModuleType, ledger: JobLedger, changes: Changes, *, consumer: WorkQueue, end: str
) -> None:
    error = JobError("SOME_CODE", SECRET)
    unrecorded = JobKey(ANN, gateway_id(ANN, NOW))
    match end:
        case "expired":
            ledger.record([JOB])
            ledger.expire([JOB.key], error, NOW + 50)
        case "aborted":
            ledger.record([JOB])
            ledger.abort(JOB.key, error, NOW + 50)
        case "rejected":
            ledger.record_failed(JOB, error, NOW + 50)
        case _:
            ledger.record_cancelled(unrecorded, NOW, NOW + 50)

    publish(publisher, changes())

    [detail] = details(consumer)
    expected = ("CANCELLED", None) if end == "cancelled unrecorded" else ("FAILED", "SOME_CODE")
    assert (detail["status"], detail.get("errorCode")) == expected
    assert detail["endedAt"] == NOW + 50


def test_a_job_brought_back_has_an_event_for_each_end(
    publisher: ModuleType, ledger: JobLedger, changes: Changes, consumer: WorkQueue
) -> None:
    # Given a job that failed, was brought back, and completed
    run(ledger)
    ledger.fail([(MINE, JobError("BAD_STATION", "No."))], NOW + 200)
    ledger.reopen(row(ledger, JOB), NOW + 300, NOW + 10_000)
    second = Attempt(JOB.key, "second")
    ledger.claim([second], NOW + 400, NOW + 60_000)
    ledger.complete([(second, RESULT)], NOW + 500)

    publish(publisher, changes())

    failed, completed = details(consumer)
    assert (failed["status"], failed["endedAt"]) == ("FAILED", NOW + 200)
    assert (completed["status"], completed["endedAt"], completed["attempts"]) == ("COMPLETED", NOW + 500, 2)
    assert "errorCode" not in completed


# --- what is no end


def test_an_open_job_s_changes_are_nobody_s_business(
    publisher: ModuleType, ledger: JobLedger, changes: Changes, *, consumer: WorkQueue, wire: Wire, output: Output
) -> None:
    run(ledger)
    ledger.renew([MINE], NOW + 70_000)
    ledger.release([MINE])

    records = changes()
    assert len(records) == 4
    assert publish(publisher, records) == []

    assert received(consumer) == []
    assert wire.calls == []
    assert output.text == ""


def test_later_changes_of_an_ended_row_are_no_second_end(
    publisher: ModuleType,
    ledger: JobLedger,
    changes: Changes,
    *,
    consumer: WorkQueue,
    engine: ClientMaker,
    table: str,
) -> None:
    # Given a job that completed, was marked with a conflict, and expired
    run(ledger)
    ledger.complete([(MINE, RESULT)], NOW + 200)
    key = {"jobKey": {"S": str(JOB.key)}}
    engine.client("dynamodb").update_item(
        TableName=table,
        Key=key,
        UpdateExpression="ADD conflicts :one",
        ExpressionAttributeValues={":one": {"SS": ["1 r"]}},
    )
    engine.client("dynamodb").delete_item(TableName=table, Key=key)

    records = changes()
    assert [record["eventName"] for record in records] == ["INSERT", "MODIFY", "MODIFY", "MODIFY", "REMOVE"]
    publish(publisher, records)

    assert len(received(consumer)) == 1
    # nor are they when they come in a batch of their own
    assert publish(publisher, records[3:]) == []
    assert received(consumer) == []


def test_a_batch_read_again_is_published_again(
    publisher: ModuleType, ledger: JobLedger, changes: Changes, consumer: WorkQueue
) -> None:
    # At least once is what consumers are promised
    ledger.record([JOB])
    ledger.cancel(JOB.key, NOW)

    for _ in range(2):
        publish(publisher, changes())

    assert [detail["jobId"] for detail in details(consumer)] == [JOB.key.job_id] * 2


# --- many, and failures


def ended(ledger: JobLedger, number: int) -> list[str]:
    """End so many jobs, and return their ids in order."""
    jobs = [job(f"job-{n:02}", owner=(ANN, BEN)[n % 2]) for n in range(number)]
    ledger.record(jobs)
    for one in jobs:
        ledger.cancel(one.key, NOW)
    return [one.key.job_id for one in jobs]


def test_more_ends_than_a_call_takes_are_all_published_in_order(
    publisher: ModuleType, ledger: JobLedger, changes: Changes, *, consumer: WorkQueue, wire: Wire, output: Output
) -> None:
    ids = ended(ledger, 25)

    assert publish(publisher, changes()) == []

    assert [detail["jobId"] for detail in details(consumer)] == ids
    assert [len(call.parameters["Entries"]) for call in wire.made("PutEvents")] == [10, 10, 5]
    assert sum(output.values("EventsPublished")) == 25


def test_from_the_first_event_that_was_refused_the_batch_is_read_again(
    publisher: ModuleType, ledger: JobLedger, changes: Changes, *, consumer: WorkQueue, wire: Wire, output: Output
) -> None:
    # Given a bus that takes six of ten events, and refuses the fourth and the last three
    ids = ended(ledger, 12)
    records = changes()
    refused = {3, 7, 8, 9}
    entries = [{"ErrorCode": "ThrottlingException"} if n in refused else {"EventId": str(n)} for n in range(10)]
    wire.answer("PutEvents", {"FailedEntryCount": 4, "Entries": entries})

    # When they are published, then the report names the fourth end's sequence number alone
    [number] = publish(publisher, records)
    fourth = next(at for at, one in enumerate(records) if one["dynamodb"]["SequenceNumber"] == number)
    assert records[fourth]["dynamodb"]["NewImage"]["jobKey"]["S"].endswith(ids[3])
    assert records[fourth]["dynamodb"]["NewImage"]["status"]["S"] == "CANCELLED"
    assert output.values("EventsPublished") == [6]
    assert output.values("BatchItemFailures") == [4]
    [line] = [line for line in output.logs if "jobId" not in line]
    assert (line["message"], line["events"], line["codes"]) == ("not published", 4, ["ThrottlingException"])
    # A line for each that was published
    assert len([line for line in output.logs if line.get("outcome") == "published"]) == 6
    # and what comes behind them waits
    assert len(wire.made("PutEvents")) == 1

    # When Lambda reads on from there, then the rest is published
    assert publish(publisher, records[fourth:]) == []
    assert [detail["jobId"] for detail in details(consumer)] == ids[3:]


@pytest.mark.parametrize("fault", [*TRANSIENT, Fault.DENIED])
def test_a_bus_that_cannot_be_reached_fails_the_batch_which_lambda_reads_again(
    publisher: ModuleType, ledger: JobLedger, changes: Changes, *, consumer: WorkQueue, wire: Wire, fault: Fault
) -> None:
    ended(ledger, 2)
    wire.strike(fault, "PutEvents", times=1)

    with pytest.raises((ClientError, BotoCoreError)):
        publish(publisher, changes())

    received(consumer)
    assert publish(publisher, changes()) == []
    assert len(received(consumer)) == 2


@pytest.mark.parametrize("change", [{}, {"NewImage": {"jobKey": {"S": "x"}}}])
def test_a_row_of_unknown_shape_raises_or_is_no_end(publisher: ModuleType, change: dict[str, Any]) -> None:
    record = {"eventName": "MODIFY", "dynamodb": {"SequenceNumber": "1", **change}}

    if change:
        with pytest.raises(KeyError):
            publish(publisher, [record])
    else:
        assert publish(publisher, [record]) == []
