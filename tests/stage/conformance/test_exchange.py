"""One `$context` per request: the ids, addresses and headers that only the gateway may set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from stage.conformance import apis

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

SHOW = """{
  "source": "$context.identity.sourceIp", "forwarded": "$input.params('X-Forwarded-For')",
  "proto": "$input.params('X-Forwarded-Proto')",
  "header": "$input.params('X-Amzn-Trace-Id')"
}"""
EVENT = """
import json
def handler(event, context):
    return {"statusCode": 200, "body": json.dumps(event)}
"""


@pytest.fixture(scope="module")
def shown(engine: Engine) -> apis.Api:
    return apis.deploy(engine, apis.mock(SHOW))


def test_a_client_cannot_choose_its_address(shown: apis.Api) -> None:
    # given an API that shows where a request came from, when the client claims to be elsewhere
    found = shown.post("{}", headers={"X-Forwarded-For": "9.9.9.9", "X-Forwarded-Proto": "https"}).json()

    # then the gateway's own word counts
    assert (found["source"], found["forwarded"], found["proto"]) == ("127.0.0.1", "127.0.0.1", "http")


def test_a_trace_the_client_began_goes_on(shown: apis.Api) -> None:
    # given a client that traces, when it sends its header, then the same trace reaches the templates
    trace = "Root=1-65aa0000-0123456789abcdef01234567;Parent=0123456789abcdef;Sampled=1"
    found = shown.post("{}", headers={"X-Amzn-Trace-Id": trace}).json()
    assert found["header"] == trace


def test_each_request_has_its_own_ids(shown: apis.Api) -> None:
    # given an API, when it is called twice, then ids and traces differ
    first, second = shown.post("{}"), shown.post("{}")
    assert first.headers["x-amzn-requestid"] != second.headers["x-amzn-requestid"]
    assert first.headers["x-amz-apigw-id"] != second.headers["x-amz-apigw-id"]
    assert first.json()["header"] != second.json()["header"]


def test_a_function_is_told_the_same(engine: Engine) -> None:
    # given a proxied function that shows its event, when it is called
    integration = {"Type": "AWS_PROXY", "IntegrationHttpMethod": "POST", "Uri": apis.invocation()}
    api = apis.deploy(engine, integration, extra=apis.function(EVENT))
    answer = api.post("{}", headers={"X-Forwarded-For": "9.9.9.9"})

    # then its context is the gateway's
    told = answer.json()["requestContext"]
    assert told["requestId"] == answer.headers["x-amzn-requestid"]
    assert told["extendedRequestId"] == answer.headers["x-amz-apigw-id"]
    assert told["identity"]["sourceIp"] == "127.0.0.1"
    assert told["path"] == f"{api.path}/jobs/7"
    assert told["domainName"] == engine.url.removeprefix("http://")


def test_a_failure_of_the_gateway_says_nothing(engine: Engine) -> None:
    # given a broken selection pattern, when the integration answers
    integration = apis.mock("{}")
    integration["IntegrationResponses"].append({"StatusCode": "400", "SelectionPattern": "(["})
    answer = apis.deploy(engine, integration).post("{}")

    # then the client gets the gateway's error, not the engine's words
    assert (answer.status_code, answer.json()) == (500, {"message": "Internal server error"})
