"""The REST API around the submission: authorizer, model, the gateway's own answers, its stage."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from infra.assemblies import Assembly, logical_id
from sluice_core.requests import request_schema
from sluice_core.workloads import load_workloads
from sluice_infra.stages import stage_config

if TYPE_CHECKING:
    pass

pytestmark = pytest.mark.xdist_group("infra")

PROBLEM = "'application/problem+json'"


def test_verdicts_of_the_authorizer_are_cached_for_five_minutes(assembly: Assembly) -> None:
    authorizer = assembly.only("ApiGateway::Authorizer")
    assert authorizer["Type"] == "TOKEN"
    assert authorizer["IdentitySource"] == "method.request.header.Authorization"
    assert authorizer["AuthorizerResultTtlInSeconds"] == 300


@pytest.mark.parametrize("token", ["a.b.c", "Bearer a.b.c", "bearer a.b.c", "eyJh-_0.eyJz-_1.s1-_g"])
def test_what_looks_like_a_token_reaches_the_authorizer(assembly: Assembly, token: str) -> None:
    # API Gateway matches the whole header, as fullmatch does.
    assert re.fullmatch(assembly.only("ApiGateway::Authorizer")["IdentityValidationExpression"], token)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "Bearer",
        "Bearer ",
        "a",
        "a.b",
        "a.b.",
        ".b.c",
        "a.b.c.d",
        "Basic a.b.c",
        "Bearer  a.b.c",
        "a.b.c d",
        "a.b=.c",
    ],
)
def test_what_cannot_be_a_token_is_refused_before_any_function_runs(assembly: Assembly, token: str) -> None:
    assert not re.fullmatch(assembly.only("ApiGateway::Authorizer")["IdentityValidationExpression"], token)


def test_every_method_needs_the_authorizer(assembly: Assembly) -> None:
    # given the one authorizer
    (authorizer,) = assembly.of_type("ApiGateway::Authorizer")

    # then no method goes without it
    for name, method in assembly.of_type("ApiGateway::Method").items():
        assert method["AuthorizationType"] == "CUSTOM", name
        assert logical_id(method["AuthorizerId"]) == authorizer, name


def test_the_model_is_the_schema_that_core_checks_again(assembly: Assembly) -> None:
    # given the stage's workloads
    workloads = load_workloads(stage_config(assembly.stage).workloads)

    # then the gateway enforces their schema
    model = assembly.only("ApiGateway::Model")
    assert model["Schema"] == request_schema(workloads)
    assert model["ContentType"] == "application/json"


def test_submissions_are_validated_against_the_model(assembly: Assembly) -> None:
    # given the method that takes submissions
    submit = assembly.submit_method

    # then JSON bodies are held against the model, and no other content type has one
    (model,) = assembly.of_type("ApiGateway::Model")
    assert submit["RequestModels"] == {"application/json": {"Ref": model}}
    validator = assembly.resources[logical_id(submit["RequestValidatorId"])]
    assert validator["Type"] == "AWS::ApiGateway::RequestValidator"
    assert validator["Properties"]["ValidateRequestBody"] is True


def test_the_gateway_answers_in_problem_details(assembly: Assembly) -> None:
    for response in assembly.of_type("ApiGateway::GatewayResponse").values():
        # given one of the gateway's own answers
        kind, status = response["ResponseType"], response.get("StatusCode")

        # then it is a problem document of that status; the two defaults stand for several
        assert response["ResponseParameters"]["gatewayresponse.header.Content-Type"] == PROBLEM, kind
        (template,) = response["ResponseTemplates"].values()
        problem = json.loads(template)
        assert problem.get("status") == (None if status is None else int(status)), kind
        assert problem["type"].startswith("urn:sluice:problem:"), kind
        assert problem["requestId"] == "$context.extendedRequestId", kind
        assert {"title", "detail"} <= set(problem), kind
        assert (status is None) == kind.startswith("DEFAULT_"), kind


def test_every_kind_of_gateway_answer_is_ours(assembly: Assembly) -> None:
    # given the kinds we answer ourselves
    kinds = [each["ResponseType"] for each in assembly.of_type("ApiGateway::GatewayResponse").values()]

    # then the defaults are among them, so that no other kind is AWS's own words, and none is there twice
    assert {"DEFAULT_4XX", "DEFAULT_5XX"} <= set(kinds)
    assert len(set(kinds)) == len(kinds)


@pytest.mark.parametrize("kind", ["THROTTLED", "QUOTA_EXCEEDED"])
def test_a_throttled_client_is_told_when_to_come_back(assembly: Assembly, kind: str) -> None:
    responses = assembly.of_type("ApiGateway::GatewayResponse").values()
    (response,) = [each for each in responses if each["ResponseType"] == kind]
    assert response["StatusCode"] == "429"
    assert int(response["ResponseParameters"]["gatewayresponse.header.Retry-After"].strip("'")) > 0


def test_the_stage_is_throttled_as_its_settings_say(assembly: Assembly) -> None:
    config = stage_config(assembly.stage)
    (everything,) = assembly.only("ApiGateway::Stage")["MethodSettings"]
    assert (everything["HttpMethod"], everything["ResourcePath"]) == ("*", "/*")
    assert everything["ThrottlingRateLimit"] == config.throttle_rate > 0
    assert everything["ThrottlingBurstLimit"] == config.throttle_burst > 0


def test_the_stage_is_traced_and_measured(assembly: Assembly) -> None:
    stage = assembly.only("ApiGateway::Stage")
    assert stage["TracingEnabled"] is True
    assert stage["MethodSettings"][0]["MetricsEnabled"] is True


def test_payloads_are_never_logged(assembly: Assembly) -> None:
    # given the stage's execution logs, which would carry bodies, and its access log
    stage = assembly.only("ApiGateway::Stage")

    # then there are none of the former, and nothing of a request's in the latter
    for settings in stage["MethodSettings"]:
        assert settings.get("DataTraceEnabled") is not True
        assert settings.get("LoggingLevel", "OFF") == "OFF"
    assert not re.search(r"\$input|authorizer\.(claims|token)|header", stage["AccessLogSetting"]["Format"])


def test_access_logs_are_json_kept_for_a_while(assembly: Assembly) -> None:
    # given where the stage logs and in what form
    log = assembly.only("ApiGateway::Stage")["AccessLogSetting"]

    # then each line is JSON that finds the request, its caller and its trace again
    entry = json.loads(log["Format"])
    assert {"$context.extendedRequestId", "$context.status", "$context.xrayTraceId"} <= set(entry.values())
    group = assembly.resources[logical_id(log["DestinationArn"])]
    assert group["Type"] == "AWS::Logs::LogGroup"
    assert group["Properties"]["RetentionInDays"] == stage_config(assembly.stage).log_days


def test_a_changed_request_schema_is_a_new_deployment(variants: dict[str, Assembly]) -> None:
    # given that a deployment is a snapshot, which a changed model alone would not reach
    before, after = variants["unchanged"], variants["other_schema"]
    assert after.only("ApiGateway::Model") != before.only("ApiGateway::Model")
    assert after.of_type("ApiGateway::Method") == before.of_type("ApiGateway::Method")

    # then a change of the schema alone is a new snapshot
    assert set(after.of_type("ApiGateway::Deployment")).isdisjoint(before.of_type("ApiGateway::Deployment"))


def test_a_change_elsewhere_is_no_new_deployment(variants: dict[str, Assembly]) -> None:
    before, after = variants["unchanged"], variants["other_retention"]
    assert set(after.of_type("ApiGateway::Deployment")) == set(before.of_type("ApiGateway::Deployment"))


def test_a_deployment_waits_for_all_it_is_a_snapshot_of(assembly: Assembly) -> None:
    # given the one deployment
    (name,) = assembly.of_type("ApiGateway::Deployment")
    awaited = set(assembly.resources[name]["DependsOn"])

    # then it comes after the model, all methods and the grant that makes submissions work
    for kind in ("Model", "Method", "RequestValidator", "GatewayResponse"):
        assert set(assembly.of_type(f"ApiGateway::{kind}")) <= awaited
    (role,) = [each for each in assembly.of_type("IAM::Role") if "SubmitRole" in each]
    assert {
        each for each, policy in assembly.of_type("IAM::Policy").items() if {"Ref": role} in policy["Roles"]
    } <= awaited


def test_a_new_schema_takes_effect_after_those_who_read_submissions_know_it(assembly: Assembly) -> None:
    # given the aliases of the functions that parse what was submitted
    aliases = {
        name
        for name, alias in assembly.of_type("Lambda::Alias").items()
        for module in ("processor", "batch_simulator", "sweeper")
        if logical_id(alias["FunctionName"]) == assembly.function(module)[0]
    }
    assert len(aliases) == 3

    # then the deployment of the API, which has the schema, comes after them
    (name,) = assembly.of_type("ApiGateway::Deployment")
    assert aliases <= set(assembly.resources[name]["DependsOn"])


def test_fewer_requests_are_traced_than_by_default(assembly: Assembly) -> None:
    rule = assembly.only("XRay::SamplingRule")["SamplingRule"]
    assert (rule["FixedRate"], rule["ReservoirSize"]) == (stage_config("local").trace_rate, 1)
    # of this API's stage alone: a rule is the whole account's
    assert "restapis" in json.dumps(rule["ResourceARN"])
