"""AWSTraceHeader, through either protocol, one by one and in batches, to receivers and functions."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from stage.conformance.functions import create_function, create_queue, eventually, log_lines

HEADER = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
ATTRIBUTE = {"AWSTraceHeader": {"DataType": "String", "StringValue": HEADER}}
SINGLE = {
    "Action": "SendMessage",
    "MessageBody": "x",
    "MessageSystemAttribute.1.Name": "AWSTraceHeader",
    "MessageSystemAttribute.1.Value.DataType": "String",
    "MessageSystemAttribute.1.Value.StringValue": HEADER,
}
ENTRY = "SendMessageBatchRequestEntry.1"
BATCH = {
    "Action": "SendMessageBatch",
    f"{ENTRY}.Id": "a",
    f"{ENTRY}.MessageBody": "x",
    f"{ENTRY}.MessageSystemAttribute.1.Name": "AWSTraceHeader",
    f"{ENTRY}.MessageSystemAttribute.1.Value.DataType": "String",
    f"{ENTRY}.MessageSystemAttribute.1.Value.StringValue": HEADER,
}


def received_header(engine: Any, url: str) -> str:
    names = ["All"]
    messages = engine.client("sqs").receive_message(QueueUrl=url, MessageSystemAttributeNames=names)["Messages"]
    header: str = messages[0]["Attributes"]["AWSTraceHeader"]
    return header


@pytest.mark.parametrize("form", [SINGLE, BATCH], ids=["single", "batch"])
def test_a_trace_header_sent_by_the_query_protocol_reaches_the_receiver(engine: Any, form: dict[str, str]) -> None:
    # given
    url, _ = create_queue(engine)
    scope = "Credential=test/20260101/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=x"

    # when
    answer = httpx.post(url, data=form, headers={"Authorization": f"AWS4-HMAC-SHA256 {scope}"})

    # then
    assert answer.status_code == httpx.codes.OK
    assert received_header(engine, url) == HEADER


def test_a_trace_header_of_a_batch_entry_reaches_the_receiver(engine: Any) -> None:
    # given
    url, _ = create_queue(engine)
    entry = {"Id": "a", "MessageBody": "x", "MessageSystemAttributes": ATTRIBUTE}

    # when
    engine.client("sqs").send_message_batch(QueueUrl=url, Entries=[entry])

    # then
    assert received_header(engine, url) == HEADER


def test_an_invocation_continues_the_trace_of_its_messages(engine: Any) -> None:
    # given
    code = """
import os
def handler(event, context):
    print("record", event["Records"][0]["attributes"].get("AWSTraceHeader"))
    print("variable", os.environ.get("_X_AMZN_TRACE_ID"))
"""
    name = create_function(engine, code)
    url, arn = create_queue(engine)
    engine.client("lambda").create_event_source_mapping(FunctionName=name, EventSourceArn=arn)

    # when
    engine.client("sqs").send_message(QueueUrl=url, MessageBody="x", MessageSystemAttributes=ATTRIBUTE)

    # then
    group = f"/aws/lambda/{name}"
    groups = engine.client("logs").describe_log_groups
    assert eventually(lambda: groups(logGroupNamePrefix=group)["logGroups"])
    lines = eventually(lambda: [line for line in log_lines(engine, group) if HEADER in line])
    assert lines == [f"record {HEADER}", f"variable {HEADER}"]
