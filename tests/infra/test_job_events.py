"""Job events and the schedule: what is published, and by whom the dead letters are looked at."""

from __future__ import annotations

import json

import pytest
from infra.assemblies import Assembly
from sluice_core.jobs import JobStatus

pytestmark = pytest.mark.xdist_group("infra")


def test_the_table_streams_what_was_and_what_is(assembly: Assembly) -> None:
    (table,) = assembly.of_type("DynamoDB::Table").values()
    assert table["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}


def test_the_publisher_follows_every_end_state_and_loses_none(assembly: Assembly) -> None:
    # given the mapping of the table's stream
    publisher, _ = assembly.function("event_publisher")
    mappings = assembly.of_type("Lambda::EventSourceMapping").values()
    (stream,) = [mapping for mapping in mappings if assembly.invoked(mapping["FunctionName"]) == publisher]
    (table,) = assembly.of_type("DynamoDB::Table")
    assert stream["EventSourceArn"] == {"Fn::GetAtt": [table, "StreamArn"]}

    # then it begins with what was written before it, and is woken by end states only
    assert stream["StartingPosition"] == "TRIM_HORIZON"
    (criteria,) = stream["FilterCriteria"]["Filters"]
    wanted = json.loads(criteria["Pattern"])["dynamodb"]["NewImage"]["status"]["S"]
    assert set(wanted) == {status for status in JobStatus if not status.is_open}

    # and what fails is tried again for as long as the stream holds it
    assert stream["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert stream["BisectBatchOnFunctionError"] is True
    assert not {"MaximumRetryAttempts", "MaximumRecordAgeInSeconds"} & stream.keys()


def test_the_publisher_publishes_to_the_stages_bus_only(assembly: Assembly) -> None:
    (bus,) = assembly.of_type("Events::EventBus")
    assert assembly.allowed("event_publisher")["events:PutEvents"] == [{"Fn::GetAtt": [bus, "Arn"]}]
    _, publisher = assembly.function("event_publisher")
    assert publisher["Environment"]["Variables"]["EVENT_BUS"] == {"Ref": bus}


def test_the_sweeper_comes_every_minute(assembly: Assembly) -> None:
    # given the schedule
    (rule,) = assembly.of_type("Events::Rule").values()
    assert (rule["ScheduleExpression"], rule["State"]) == ("rate(1 minute)", "ENABLED")

    # then the sweeper is what it starts, and a missed sweep is not made up for: the next one is due
    (target,) = rule["Targets"]
    assert assembly.invoked(target["Arn"]) == assembly.function("sweeper")[0]
    assert target["RetryPolicy"] == {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60}


def test_the_sweeper_is_done_before_it_comes_again(assembly: Assembly) -> None:
    assert assembly.function("sweeper")[1]["Timeout"] <= 60
