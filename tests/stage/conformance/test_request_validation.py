"""Bodies are validated against the method's models, as API Gateway does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from stage.conformance import apis

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

SCHEMA = {
    "$schema": "http://json-schema.org/draft-04/schema#",
    "type": "object",
    "additionalProperties": False,
    "required": ["kind"],
    "properties": {
        "kind": {"type": "string", "enum": ["a", "b"]},
        "size": {"type": "integer", "minimum": 1, "exclusiveMinimum": True},
        "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 3},
    },
}


def validated(engine: Engine, schema: dict[str, Any], model_type: str = "application/json") -> apis.Api:
    """An API that checks bodies of ``model_type`` and shows what was wrong."""
    owner = {"RestApiId": {"Ref": "Api"}}
    model = {**owner, "Name": "Body", "ContentType": "application/json", "Schema": schema}
    shown = '{"type": "$context.error.responseType", "why": "$context.error.validationErrorString"}'
    answer = {**owner, "ResponseType": "BAD_REQUEST_BODY", "ResponseTemplates": {"application/json": shown}}
    extra = {
        "Model": {"Type": "AWS::ApiGateway::Model", "Properties": model},
        "Check": {
            "Type": "AWS::ApiGateway::RequestValidator",
            "Properties": {**owner, "Name": "body", "ValidateRequestBody": True},
        },
        "Bad": {"Type": "AWS::ApiGateway::GatewayResponse", "Properties": answer},
    }
    method = {"RequestModels": {model_type: {"Ref": "Model"}}, "RequestValidatorId": {"Ref": "Check"}}
    return apis.deploy(engine, apis.mock("accepted"), method=method, extra=extra)


@pytest.fixture(scope="module")
def api(engine: Engine) -> apis.Api:
    return validated(engine, SCHEMA)


@pytest.mark.parametrize("body", ['{"kind": "a"}', '{"kind": "b", "size": 2, "name": "abc"}'])
def test_a_body_that_fits_the_model_passes(api: apis.Api, body: str) -> None:
    # given a validated API, when a fitting body is posted, then it reaches the integration
    assert api.post(body).text == "accepted"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("{}", 'object has missing required properties (["kind"])'),
        ("", 'object has missing required properties (["kind"])'),  # an empty body is an empty object
        ('{"kind": "c"}', 'instance value ("c") not found in enum'),
        ('{"kind": "a", "more": 1}', "properties which are not allowed by the schema: ["),
        ('{"kind": "a", "size": "1"}', "instance type (string) does not match any allowed primitive type"),
        ('{"kind": "a", "size": 1}', "is not strictly greater than the required minimum 1"),
        ('{"kind": "a", "name": "abcd"}', "is too long (length: 4, maximum allowed: 3)"),
        ('{"kind": "a", "name": "A"}', 'ECMA 262 regex "^[a-z]+$" does not match input string'),
        ("[]", "instance type (array) does not match any allowed primitive type (allowed: ["),
        ('{"kind": "a"', ""),
        ("not json", ""),
        ('{"kind": NaN}', ""),
    ],
)
def test_a_body_that_does_not_fit_is_refused(api: apis.Api, body: str, why: str) -> None:
    # given a validated API that shows what was wrong, when such a body is posted
    answer = api.post(body)

    # then it is refused as a bad body, for this reason
    assert answer.status_code == 400
    assert answer.json()["type"] == "BAD_REQUEST_BODY"
    assert why in answer.json()["why"]


def test_a_model_holds_for_its_content_type_alone(api: apis.Api) -> None:
    # given a model for application/json
    # when the type has parameters or another case, then the body is checked
    for declared in ("application/json; charset=utf-8", "Application/JSON"):
        assert api.post("{}", headers={"Content-Type": declared}).status_code == 400

    # when the body is of another type, then it is not: API Gateway skips the check
    assert api.post("{}", headers={"Content-Type": "text/plain"}).status_code != 400


def test_an_empty_body_fits_a_model_without_required_properties(engine: Engine) -> None:
    # given a model that requires nothing, when nothing is posted, then it passes
    assert validated(engine, {"type": "object"}).post("").text == "accepted"


def test_the_default_model_holds_for_every_content_type(engine: Engine) -> None:
    # given a model registered as $default
    api = validated(engine, SCHEMA, model_type="$default")

    # when a body of any type is posted, then it is checked
    assert api.post("{}", headers={"Content-Type": "text/plain"}).status_code == 400


def test_required_parameters_are_checked(engine: Engine) -> None:
    # given a method that requires a query parameter
    check = {"RestApiId": {"Ref": "Api"}, "ValidateRequestParameters": True}
    extra = {"Check": {"Type": "AWS::ApiGateway::RequestValidator", "Properties": check}}
    method = {
        "RequestValidatorId": {"Ref": "Check"},
        "RequestParameters": {"method.request.querystring.page": True},
    }
    api = apis.deploy(engine, apis.mock("accepted"), method=method, extra=extra)

    # when it is missing, then the request is refused, else it passes
    assert api.post("{}").status_code == 400
    assert api.post("{}", params={"page": "1"}).text == "accepted"


def test_turning_a_validator_off_takes_effect(engine: Engine) -> None:
    # given a validated API, when its validator is updated to check nothing
    api = validated(engine, SCHEMA)
    assert api.post("{}").status_code == 400
    change = {"op": "replace", "path": "/validateRequestBody", "value": "false"}
    engine.client("apigateway").update_request_validator(
        restApiId=api.physical["Api"], requestValidatorId=api.physical["Check"], patchOperations=[change]
    )

    # then bodies pass
    assert api.post("{}").text == "accepted"
