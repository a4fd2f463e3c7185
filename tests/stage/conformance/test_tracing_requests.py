"""What API Gateway, Lambda and SQS do with a request's trace: sample it, pass it on, write their part of it."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from stage.conformance import apis
from stage.conformance.functions import create_function, create_queue, invoke, unique
from stage.conformance.traces import awaited, new_id, new_root, read, traced

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

SHOW = """
import json, os
def handler(event, context):
    return {"statusCode": 200, "body": json.dumps([os.environ.get("_X_AMZN_TRACE_ID"), event["headers"]])}
"""
FAIL = """
def handler(event, context):
    raise LookupError("secret")
"""
HEADER = re.compile(r"Root=(1-[0-9a-f]{8}-[0-9a-f]{24});Parent=([0-9a-f]{16});Sampled=([01])")
PLAIN = "Action=SendMessage&MessageBody=x"
EXPLICIT = PLAIN + (
    "&MessageSystemAttribute.1.Name=AWSTraceHeader&MessageSystemAttribute.1.Value.DataType=String"
    "&MessageSystemAttribute.1.Value.StringValue=Root=1-5759e988-bd862e3fe1be46a994272793"
)


def to_queue(engine: Engine) -> tuple[apis.Api, str]:
    """An API that traces and sends what it gets to a queue, and the queue."""
    queue = apis.new_queue(engine)
    return traced(engine, apis.to_queue(queue, PLAIN), extra=apis.sender(queue)), queue


def to_function(engine: Engine, code: str, mode: str = "Active") -> apis.Api:
    """An API that traces, in front of a function."""
    integration = {"Type": "AWS_PROXY", "IntegrationHttpMethod": "POST", "Uri": apis.invocation()}
    extra = apis.function(code)
    extra["Function"]["Properties"]["TracingConfig"] = {"Mode": mode}
    return traced(engine, integration, extra=extra)


def headers_in(engine: Engine, queue: str) -> list[str]:
    """Receive what the queue holds, and return the trace headers."""
    sqs = engine.client("sqs")
    url, found = sqs.get_queue_url(QueueName=queue)["QueueUrl"], []
    asked = {"QueueUrl": url, "MaxNumberOfMessages": 10, "MessageSystemAttributeNames": ["AWSTraceHeader"]}
    while messages := sqs.receive_message(**asked).get("Messages"):
        found += [message["Attributes"]["AWSTraceHeader"] for message in messages]
    return found


def test_a_sampled_request_is_written_and_its_trace_goes_into_the_queue(engine: Engine) -> None:
    # given an API that traces, when a client sends a sampled request
    api, queue = to_queue(engine)
    root, parent = new_root(), new_id()
    answer = api.post({}, headers={"X-Amzn-Trace-Id": f"Root={root};Parent={parent};Sampled=1"})
    assert answer.status_code == 202

    # then the stage's segment tells of it, below the client's
    stage = awaited(engine, root)["AWS::ApiGateway::Stage"]
    assert re.fullmatch(r"api-\w+/prod", stage["name"])
    assert stage["parent_id"] == parent
    assert stage["http"]["request"]["method"] == "POST"
    assert stage["http"]["request"]["url"] == f"{api.url}/jobs/7"
    assert stage["http"]["response"] == {"status": 202, "content_length": len(answer.content)}
    assert stage["aws"]["api_gateway"]["request_id"] == answer.headers["x-amzn-requestid"]
    assert stage["annotations"]["aws:api_stage"] == "prod"

    # and so does the subsegment of its call, whose id and decision SQS took over from the call's own header
    (call,) = stage["subsegments"]
    assert (call["name"], call["namespace"], call["aws"]["operation"]) == ("SQS", "aws", "SendMessage")
    assert call["aws"]["resource_names"] == [queue]
    assert call["http"]["response"]["status"] == 200
    assert stage["start_time"] <= call["start_time"] <= call["end_time"] <= stage["end_time"]
    assert headers_in(engine, queue) == [f"Root={root};Parent={call['id']};Sampled=1"]


def test_a_request_that_its_client_does_not_sample_is_not_written(engine: Engine) -> None:
    # given an API that traces, when a client sends one request unsampled and one sampled
    api, queue = to_queue(engine)
    left_out, written = new_root(), new_root()
    for root, sampled in ((left_out, 0), (written, 1)):
        api.post({}, headers={"X-Amzn-Trace-Id": f"Root={root};Sampled={sampled}"})

    # then only the second is recorded, and both decisions went on
    awaited(engine, written)
    assert read(engine, left_out) == []
    found = {root: sampled for root, _, sampled in map(_parts, headers_in(engine, queue))}
    assert found == {left_out: "0", written: "1"}


def test_of_requests_that_nobody_decided_upon_few_are_sampled(engine: Engine) -> None:
    # given an API that traces, when requests without a header come
    api, queue = to_queue(engine)
    api.post({})
    (first,) = headers_in(engine, queue)

    # then its first one is sampled
    root, _, decision = _parts(first)
    assert decision == "1"
    assert awaited(engine, root)["AWS::ApiGateway::Stage"]["aws"]["xray"] == {"sampling_rule_name": "Default"}

    # and of many within a few seconds the first of each second, and about one in twenty of the others
    with httpx.Client() as client:
        for _ in range(80):
            client.post(f"{api.url}/jobs/7", content="{}", headers={"Content-Type": "application/json"})
    headers = [_parts(header) for header in headers_in(engine, queue)]
    decisions = Counter(sampled for _, _, sampled in headers)
    assert len(headers) == 80
    assert decisions["1"] <= 30


@pytest.mark.parametrize(("rate", "decision"), [(0, "0"), (1, "1")])
def test_a_rule_of_the_stages_own_decides_before_the_default_one(
    engine: Engine, rate: float, decision: str
) -> None:
    # given an API that traces, and a rule for all that its stage gets
    queue, name = apis.new_queue(engine), unique("rule")
    stage = {"Fn::Sub": "arn:aws:apigateway:us-east-1::/restapis/${Api}/stages/prod"}
    told = {
        "RuleName": name,
        "ResourceARN": stage,
        "FixedRate": rate,
        "ReservoirSize": 0,
        "Priority": 1,
        **dict.fromkeys(("Host", "HTTPMethod", "ServiceName", "ServiceType", "URLPath"), "*"),
    }
    rule = {"Type": "AWS::XRay::SamplingRule", "Properties": {"SamplingRule": told}}
    api = traced(engine, apis.to_queue(queue, PLAIN), extra={**apis.sender(queue), "Rule": rule})

    # when requests without a header come
    for _ in range(3):
        api.post({})

    # then its rate decides for each, the first too, and the segments name the rule
    headers = [_parts(header) for header in headers_in(engine, queue)]
    assert [sampled for _, _, sampled in headers] == [decision] * 3
    if rate:
        segment = awaited(engine, headers[0][0])["AWS::ApiGateway::Stage"]
        assert segment["aws"]["xray"] == {"sampling_rule_name": name}
    assert api.physical["Rule"].endswith(f":sampling-rule/{name}")


@pytest.mark.parametrize("tracing", [True, False])
def test_the_context_has_a_bare_trace_id_where_the_stage_traces(engine: Engine, tracing: bool) -> None:
    # given an API that shows what its context knows of the trace
    shown = apis.mock('{"context": "$context.xrayTraceId", "header": "$input.params(\'X-Amzn-Trace-Id\')"}')
    api = apis.deploy(engine, shown, stage={"TracingEnabled": tracing})

    # when it is called with a trace, then that is a trace id, and no header
    root = new_root()
    found = api.post("{}", headers={"X-Amzn-Trace-Id": f"Root={root}"}).json()
    assert found == {"context": root if tracing else "", "header": f"Root={root}"}

    # and without one, the back end is told of a new trace
    assert re.fullmatch(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24}", api.post("{}").json()["header"])


def test_a_traced_function_goes_on_with_its_requests_trace(engine: Engine) -> None:
    # given an API in front of a function with active tracing, when a sampled request comes
    root = new_root()
    answer = to_function(engine, SHOW).post("{}", headers={"X-Amzn-Trace-Id": f"Root={root};Sampled=1"})

    # then the gateway, Lambda and the function are below each other
    found = awaited(engine, root, 3)
    (call,) = found["AWS::ApiGateway::Stage"]["subsegments"]
    service, function = found["AWS::Lambda"], found["AWS::Lambda::Function"]
    assert (call["name"], call["aws"]["operation"], service["parent_id"]) == ("Lambda", "Invoke", call["id"])
    assert service["name"] == function["name"] == call["aws"]["function_name"]
    assert function["parent_id"] == service["id"]
    assert service["http"]["response"]["status"] == 200
    assert call["start_time"] <= service["start_time"] <= service["end_time"] <= call["end_time"]

    # and what the function writes itself is to be below its own segment
    header, received = answer.json()
    assert header == f"Root={root};Parent={function['id']};Sampled=1"
    assert received["x-amzn-trace-id"] == f"Root={root};Sampled=1"


def test_a_function_that_passes_tracing_through_writes_nothing(engine: Engine) -> None:
    root = new_root()
    api = to_function(engine, SHOW, "PassThrough")
    header, _ = api.post("{}", headers={"X-Amzn-Trace-Id": f"Root={root};Sampled=1"}).json()
    (stage,) = awaited(engine, root).values()
    assert header == f"Root={root};Parent={stage['subsegments'][0]['id']};Sampled=1"


def test_what_fails_is_marked(engine: Engine) -> None:
    # given an API in front of a function that raises, when it is called
    root = new_root()
    answer = to_function(engine, FAIL).post("{}", headers={"X-Amzn-Trace-Id": f"Root={root};Sampled=1"})

    # then the function has a fault and its cause, and so has the request
    found = awaited(engine, root, 3)
    assert answer.status_code == found["AWS::ApiGateway::Stage"]["http"]["response"]["status"] == 502
    assert found["AWS::ApiGateway::Stage"]["fault"] is True
    assert found["AWS::Lambda::Function"]["fault"] is True
    assert found["AWS::Lambda::Function"]["cause"]["exceptions"][0]["type"]


def test_a_refused_request_is_an_error(engine: Engine) -> None:
    # given an API whose integration takes JSON only, when a client sends something else
    api, _ = to_queue(engine)
    root = new_root()
    answer = api.post("x", headers={"X-Amzn-Trace-Id": f"Root={root};Sampled=1", "Content-Type": "text/csv"})

    # then the segment says so, and of no call
    stage = awaited(engine, root)["AWS::ApiGateway::Stage"]
    assert (answer.status_code, stage["error"], "fault" in stage) == (415, True, False)
    assert stage["subsegments"] == []


def test_invocations_that_nobody_decided_upon_are_sampled_sparingly(engine: Engine) -> None:
    # given a function with active tracing, when it is invoked often within a few seconds
    code = 'import os\ndef handler(event, context):\n    return os.environ["_X_AMZN_TRACE_ID"]\n'
    name = create_function(engine, code, TracingConfig={"Mode": "Active"})
    headers = [_parts(invoke(engine, name)) for _ in range(60)]

    # then the first is sampled and few of the others, and each has a trace of its own
    assert headers[0][2] == "1"
    assert Counter(sampled for _, _, sampled in headers)["1"] <= 25
    assert len({root for root, _, _ in headers}) == 60


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (PLAIN, "Root=1-65aa0000-0123456789abcdef01234567;Sampled=1"),
        (EXPLICIT, "Root=1-5759e988-bd862e3fe1be46a994272793"),
    ],
    ids=["the call's", "its own"],
)
def test_a_message_has_its_calls_trace_header_unless_it_has_one(engine: Engine, form: str, expected: str) -> None:
    # given a queue, when a message is sent by a call with a trace header
    url, _ = create_queue(engine)
    _call(url, form)

    # then the message has that one, or its own
    assert _received(engine, url) == [expected]


def test_a_batch_has_its_calls_trace_header(engine: Engine) -> None:
    url, _ = create_queue(engine)
    entry = "SendMessageBatchRequestEntry.1"
    _call(url, f"Action=SendMessageBatch&{entry}.Id=a&{entry}.MessageBody=x")
    assert _received(engine, url) == ["Root=1-65aa0000-0123456789abcdef01234567;Sampled=1"]


def test_a_header_that_is_none_is_left_out(engine: Engine) -> None:
    url, _ = create_queue(engine)
    _call(url, PLAIN, "nonsense")
    assert _received(engine, url) == [None]


def _call(url: str, form: str, header: str = "Root=1-65aa0000-0123456789abcdef01234567;Sampled=1") -> None:
    scope = "Credential=test/20260101/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=x"
    headers = {
        "Authorization": f"AWS4-HMAC-SHA256 {scope}",
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Amzn-Trace-Id": header,
    }
    assert httpx.post(url, content=form, headers=headers).status_code == 200


def _received(engine: Engine, url: str) -> list[Any]:
    answer = engine.client("sqs").receive_message(QueueUrl=url, MessageSystemAttributeNames=["All"])
    return [message["Attributes"].get("AWSTraceHeader") for message in answer["Messages"]]


def _parts(header: str) -> tuple[str, str, str]:
    found = HEADER.fullmatch(header)
    assert found, header
    return found[1], found[2], found[3]
