"""AWS/ApiGateway: what a REST API says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from stage.conformance import apis
from stage.conformance.metrics import statistic, total

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

GATEWAY = "AWS/ApiGateway"
SLOW = """
import time
def handler(event, context):
    time.sleep(0.2)
    return {"statusCode": int(event["body"]), "body": ""}
"""


def deploy(engine: Engine, **setting: Any) -> apis.Api:
    """An API whose function takes 200 ms and answers with the status that it is sent."""
    integration = {"Type": "AWS_PROXY", "IntegrationHttpMethod": "POST", "Uri": apis.invocation()}
    stage = {"MethodSettings": [{"ResourcePath": "/*", "HttpMethod": "*", **setting}]} if setting else {}
    return apis.deploy(engine, integration, extra=apis.function(SLOW), stage=stage)


def api_name(engine: Engine, api: apis.Api) -> str:
    return str(engine.client("apigateway").get_rest_api(restApiId=api.physical["Api"])["name"])


def test_requests_and_errors_are_counted(engine: Engine) -> None:
    # given an API that answers two requests well, one with 404 and one with 503
    api = deploy(engine)
    for status in ("200", "202", "404", "503"):
        assert str(api.post(status).status_code) == status
    name = api_name(engine, api)

    # then each dimension set has them, and an average is a rate
    for where in ({"ApiName": name}, {"ApiName": name, "Stage": "prod"}):
        kinds = ("Count", "4XXError", "5XXError")
        assert [total(engine, GATEWAY, kind, **where) for kind in kinds] == [4, 1, 1]
        assert statistic(engine, GATEWAY, "Count", "SampleCount", **where) == 4
        assert statistic(engine, GATEWAY, "5XXError", "Average", **where) == 0.25


def test_latency_includes_the_integrations(engine: Engine) -> None:
    # given an API whose function takes 200 ms
    api = deploy(engine)
    api.post("200")
    name = api_name(engine, api)

    # then both latencies are in milliseconds, the gateway's the longer one
    latency = statistic(engine, GATEWAY, "Latency", "Minimum", ApiName=name)
    of_integration = statistic(engine, GATEWAY, "IntegrationLatency", "Minimum", ApiName=name)
    assert latency is not None
    assert of_integration is not None
    assert 200 <= of_integration <= latency < 5000


def test_a_refused_request_has_no_integration_latency(engine: Engine) -> None:
    # given an API that asks for a signature
    integration = {"Type": "AWS_PROXY", "IntegrationHttpMethod": "POST", "Uri": apis.invocation()}
    method = {"AuthorizationType": "AWS_IAM"}
    api = apis.deploy(engine, integration, extra=apis.function(SLOW), method=method)

    # when a request has none
    assert api.post("200").status_code == 403
    name = api_name(engine, api)

    # then it is the client's error, and nobody was asked
    assert total(engine, GATEWAY, "4XXError", ApiName=name) == 1
    assert total(engine, GATEWAY, "IntegrationLatency", ApiName=name) is None


@pytest.mark.parametrize("detailed", [True, False])
def test_methods_are_told_apart_where_the_stage_says_so(engine: Engine, detailed: bool) -> None:
    # given a stage with detailed metrics, or without
    api = deploy(engine, MetricsEnabled=detailed)
    api.post("200")
    name = api_name(engine, api)

    # then its methods have metrics of their own, or none
    where = {"ApiName": name, "Stage": "prod", "Method": "POST", "Resource": "/jobs/{id}"}
    assert total(engine, GATEWAY, "Count", **where) == (1 if detailed else None)
